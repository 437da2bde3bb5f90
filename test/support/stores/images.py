"""Images through a deployed Glance, with the digest of what was sent."""

import hashlib
import json
import os

CHUNK = 1024 * 1024
LIMIT = 120  # seconds that one transfer may take


class Image:
    """One that was uploaded.

    id, size, digest
        Of its data; the digest is SHA-512.
    """

    def __init__(self, glance, store=None, size=16 * CHUNK):
        self.glance, self.size = glance, size
        data = os.urandom(CHUNK) * (size // CHUNK)
        self.digest = hashlib.sha512(data).hexdigest()
        record = {"name": store or "default", "disk_format": "raw", "container_format": "bare"}
        self.id = json.loads(self._ask("POST", "/v2/images", 201, json.dumps(record)))["id"]
        headers = {"Content-Type": "application/octet-stream"}
        if store:
            headers["X-Image-Meta-Store"] = store
        self._ask("PUT", f"/v2/images/{self.id}/file", 204, data, headers)

    def _ask(self, method, path, expect, body=None, headers=None):
        kind = {"Content-Type": "application/json"}
        status, answer = self.glance.ask(method, path, body, headers or kind, timeout=LIMIT)
        assert status == expect, (method, path, status, answer, self.glance.logs())
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
