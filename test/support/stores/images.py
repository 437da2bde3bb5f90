"""Images through a deployed Glance, with the digest of what they are made of."""

import hashlib
import json
import os

from support.deployed import wait_for

CHUNK = 1024 * 1024
LIMIT = 120  # seconds that one transfer may take


class Image:
    """One that was uploaded, or was to be.

    id, size, digest
        Of its data; the digest is SHA-512.
    expect
        HTTP statuses of the upload, 204 unless told otherwise.
    """

    def __init__(self, glance, store=None, size=16 * CHUNK, expect=(204,)):
        data = os.urandom(CHUNK) * (size // CHUNK)
        self._create(glance, store or "default", size, hashlib.sha512(data).hexdigest())
        headers = {"Content-Type": "application/octet-stream"}
        if store:
            headers["X-Image-Meta-Store"] = store
        self._ask("PUT", f"/v2/images/{self.id}/file", expect, data, headers)

    def _create(self, glance, name, size, digest):
        self.glance, self.size, self.digest = glance, size, digest
        record = {"name": name, "disk_format": "raw", "container_format": "bare"}
        self.id = json.loads(self._ask("POST", "/v2/images", 201, json.dumps(record)))["id"]

    def _ask(self, method, path, expect, body=None, headers=None):
        kind = {"Content-Type": "application/json"}
        status, answer = self.glance.ask(method, path, body, headers or kind, timeout=LIMIT)
        expected = expect if isinstance(expect, tuple) else (expect,)
        assert status in expected, (method, path, status, answer, self.glance.logs())
        return answer

    @property
    def record(self):
        """What Glance knows of it."""
        return json.loads(self._ask("GET", f"/v2/images/{self.id}", 200))

    def check(self):
        """Download and compare it."""
        record = self.record
        assert (record["status"], record["size"]) == ("active", self.size)
        assert record["os_hash_value"] == self.digest
        back = self._ask("GET", f"/v2/images/{self.id}/file", 200)
        assert hashlib.sha512(back).hexdigest() == self.digest

    def delete(self):
        """Remove it."""
        self._ask("DELETE", f"/v2/images/{self.id}", 204)


class Located(Image):
    """One of which Glance gets to know only where it lies.

    digest
        What Glance is told beforehand when ``told`` is true, else what it should find out.
    expect
        HTTP status of the order.
    """

    def __init__(self, glance, url, size, digest, told=False, expect=202):
        self._create(glance, url, size, digest)
        order = {"url": url}
        if told:
            order["validation_data"] = {"os_hash_algo": "sha512", "os_hash_value": digest}
        self._ask("POST", f"/v2/images/{self.id}/locations", expect, json.dumps(order))

    @property
    def task(self):
        """The latest of Glance's tasks about it."""
        return json.loads(self._ask("GET", f"/v2/images/{self.id}/tasks", 200))["tasks"][0]

    def wait(self):
        """Wait until Glance has worked it in; return its task."""
        wait_for(lambda: self.task["status"] in ("success", "failure"), LIMIT, f"{self.task}")
        return self.task


class Imported(Located):
    """One that Glance downloads from an address into a store."""

    def __init__(self, glance, url, size, digest, store):
        self._create(glance, url, size, digest)
        order = {"method": {"name": "web-download", "uri": url}, "stores": [store]}
        self._ask("POST", f"/v2/images/{self.id}/import", 202, json.dumps(order))
