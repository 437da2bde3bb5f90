"""All storage servers of the tests, started side by side."""

import functools

from support.authority import Authority
from support.stores.ceph import Ceph
from support.stores.s3 import S3
from support.stores.swift import Swift
from support.stores.vcenter import DATASTORES, VCenter
from support.stores.web import Web

RELEASE = "2026.2-stores"
IMAGES = ("s3", "swift", "vcenter", "ceph")
#: Where the containers' system keeps the authorities it trusts; the test images are Debian's.
DISTRO = {"kolla_base_distro": "debian"}
ONE = {"glance_api_workers": 1}  # each connects to all of the stores when it starts


class Stores:
    """The servers, and the pillar that leads to them.

    authority
        Who signed the certificates of those that speak TLS.
    s3, swift, ceph, cold, vcenter, web
        The servers; ``cold`` is a second Ceph cluster.
    """

    def __init__(self, engine, keystone):
        """Start all; ``keystone`` is a function that returns a running one."""
        engine.store_image(*IMAGES)
        self.authority = Authority()
        self.ceph = Ceph(engine, 214)
        self.cold = Ceph(engine, 215, "cold")
        self.s3 = S3(engine, self.authority)
        self.vcenter = VCenter(engine, self.authority)
        self.web = Web(engine, self.authority)
        running = keystone()
        self.swift = Swift(engine, self.authority, running)
        self.swift.register()
        for server in (self.s3, self.vcenter, self.web, self.swift, self.ceph, self.cold):
            server.wait()

    @property
    def trust(self):
        """Keys below ``glance:`` that make Glance trust the servers."""
        return {
            **DISTRO,
            **ONE,
            "glance_ca_certificates": {"stores.crt": self.authority.certificate},
        }

    def ceph_files(self):
        """Configuration and keyrings of both clusters."""
        return {**self.ceph.files(), **self.cold.files()}

    def pillar(self, **more):
        """Keys below ``glance:`` for all stores at once, with names and weights of their own."""
        return {
            **self.trust,
            **self.s3.pillar(),
            **self.swift.pillar(),
            **self.vcenter.pillar(),
            **self.web.pillar(),
            "glance_vmware_datastores": [f"DC0:{DATASTORES[0]}:100", f"DC0:{DATASTORES[1]}:200"],
            "glance_backend_file": "yes",
            "glance_backend_ceph": "yes",
            "glance_custom_config": self.ceph_files(),
            "glance_ceph_backends": [
                {"name": "rbd", "type": "rbd"},
                {"name": "archive", "type": "rbd", "cluster": "cold"},
            ],
            **more,
        }

    def held(self, glance, name):
        """Names of what lies on the server of a store."""
        if name == "file":
            return glance.container.exec_run("ls /var/lib/glance/images").output.decode().split()
        places = {
            "rbd": self.ceph.images,
            "archive": self.cold.images,
            "swift": self.swift.objects,
            "vmware": functools.partial(self.vcenter.files, DATASTORES[1]),  # of more weight
            "s3": self.s3.objects,
        }
        return places[name]()

    def deployed(self, deploy, first=None):
        """A Glance that got every store at once, Ceph as the default; the present one if it serves.

        deploy
            The fixture.
        first
            Called with the Glance when it has the file store alone.
        """
        made = deploy(RELEASE, production=True, reuse="edited", **self.trust)
        if "glance_backend_ceph" not in made.pillar:
            if first:
                first(made)
            made.edit(**self.pillar(glance_default_backend="rbd"))
        return made
