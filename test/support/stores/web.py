"""A web server whose files are images that Glance knows by their address only."""

import hashlib
import os
import socket
import uuid
from pathlib import Path

from support.authority import Authority
from support.docker_engine import archive
from support.session import address
from support.stores.server import Server

STRANGER = 218  # of session.address: the same files, with a certificate that nobody trusts
NOBODY = 221  # nothing listens there
PROGRAM = Path(__file__).with_name("web_server.py")


class Web(Server):
    """Plain and with TLS at ``address``; with a stranger's certificate at ``stranger``."""

    image = "s3"  # for its Python
    number = 217

    def __init__(self, engine, authority):
        super().__init__(engine)
        self.stranger, self.nobody = address(STRANGER), address(NOBODY)
        files = {
            "/web_server.py": PROGRAM.read_text(encoding="utf8"),
            "/own.pem": "".join(authority.issue(self.address)),
            "/stranger.pem": "".join(Authority("A stranger").issue(self.stranger)),
            "/srv/empty": "",
        }
        places = [f"80:{self.address}", f"443:{self.address}:/own.pem"]
        places.append(f"443:{self.stranger}:/stranger.pem")
        self.run(["/web_server.py", *places], files, entrypoint=["python3"])

    def is_ready(self):
        for place in ((self.address, 80), (self.address, 443), (self.stranger, 443)):
            with socket.socket() as probe:
                if probe.connect_ex(place):
                    return False
        return True

    def publish(self, size):
        """Put a new file of random content there; return its name and its SHA-512."""
        name, data = str(uuid.uuid4()), os.urandom(1024) * (size // 1024)
        self.container.put_archive("/srv", archive({name: data}))
        return name, hashlib.sha512(data).hexdigest()

    def pillar(self, **more):
        """Keys below ``glance:`` with which its addresses may be given to Glance.

        Glance would refuse them as loopback addresses; those of a server elsewhere need no key.
        """
        hosts = [self.address, self.stranger, self.nobody]
        return {
            "glance_enable_interoperable_image_import": "yes",
            "glance_image_import": {"import_filtering_opts": {"allowed_hosts": hosts}},
            **more,
        }
