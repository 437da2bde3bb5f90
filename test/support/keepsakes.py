"""Images whose content is known, for tests that must find them intact; and a slow reader of one."""

import hashlib
import http.client
import json
import os
import socket
import threading
import time

MIB = 1024 * 1024
PIECE = 32 * 1024
PAUSE = 0.2  # seconds between two pieces; a server must be able to write every few seconds
WINDOW = 64 * 1024  # bytes on their way, so that a slow reader makes a slow writer


class Keepsakes:
    """Uploads images to a deployment and compares them later.

    deployed
        The deployment (support/deployed.py).
    """

    def __init__(self, deployed):
        self._deployed, self.sums = deployed, {}

    def upload(self, mib=2):
        """Upload an image of random content; return its id."""
        ask, data = self._deployed.ask, os.urandom(int(mib * MIB))
        body = json.dumps({"disk_format": "raw", "container_format": "bare", "name": "kept"})
        headers = {"Content-Type": "application/json"}
        status, answer = ask("POST", "/v2/images", body, headers)
        assert status == 201, answer
        image = json.loads(answer)["id"]
        headers = {"Content-Type": "application/octet-stream"}
        status, answer = ask("PUT", f"/v2/images/{image}/file", data, headers, timeout=60)
        assert status == 204, answer
        self.sums[image] = hashlib.sha512(data).hexdigest()
        return image

    def check(self):
        """Make sure that every image is active and comes back as it went up."""
        for image, wanted in self.sums.items():
            status, shown = self._deployed.get(f"/v2/images/{image}")
            assert status == 200, shown
            shown = json.loads(shown)
            assert (shown["status"], shown["os_hash_value"]) == ("active", wanted)
            status, data = self._deployed.get(f"/v2/images/{image}/file", timeout=60)
            assert status == 200
            assert hashlib.sha512(data).hexdigest() == wanted

    def slowly(self, image):
        """Begin to read an image slowly; return a SlowReader."""
        return SlowReader(self._deployed, image, self.sums[image])


class SlowReader:
    """Reads an image in small pieces until told to hurry."""

    def __init__(self, deployed, image, wanted):
        self._wanted, self._sum, self._hurry = wanted, hashlib.sha512(), threading.Event()
        self._connection = http.client.HTTPConnection(deployed.address, deployed.port, timeout=60)
        self._connection.sock = socket.socket()
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        self._connection.sock.settimeout(60)
        self._connection.sock.connect((deployed.address, deployed.port))
        self._connection.request("GET", f"/v2/images/{image}/file")
        self._answer = self._connection.getresponse()
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while piece := self._answer.read(PIECE):
                self._sum.update(piece)
                if not self._hurry.is_set():
                    time.sleep(PAUSE)
        except (OSError, http.client.HTTPException) as error:
            self.error = error
        finally:
            self._connection.close()

    @property
    def reads(self):
        """Whether it is still going on."""
        return self._thread.is_alive()

    def end(self):
        """Read the rest at once; make sure that all of it is right."""
        self._hurry.set()
        self._thread.join(60)
        assert not self.reads
        assert self.error is None
        assert self._sum.hexdigest() == self._wanted

    def cut(self):
        """Whether it was cut before its end."""
        self._hurry.set()
        self._thread.join(60)
        return self._sum.hexdigest() != self._wanted
