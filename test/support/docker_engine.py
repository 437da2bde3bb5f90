"""The Docker engine of a test session, with its SDK client and what tests do to it."""

import contextlib
import io
import os
import signal
import tarfile
import time

import docker
import docker.errors

from support import session
from support.engines import POLL, STOP_LIMIT, Engine, alive

KEEP = "glance-testbed.keep"  # label of containers and volumes that outlive a reset
CLIENT_TIMEOUT = 120  # seconds
SERVICES = {"mariadb": "mariadb:10.11", "keystone": "keystone:30.0.0", "haproxy": "haproxy:2.6"}


def archive(files, uid=0, gid=0):
    """Return a tar of {path: text or bytes or (text, mode)}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(data), mode, int(time.time())
            entry.uid, entry.gid = uid, gid
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class TestEngine(Engine):
    """An engine of which the tests may do what they like with everything inside."""

    __test__ = False

    _client = None

    @property
    def client(self):
        """The SDK client; valid over restarts of the engine."""
        if self._client is None:
            self._client = docker.DockerClient(
                base_url=self.url, version="auto", timeout=CLIENT_TIMEOUT
            )
        return self._client

    def image(self, name):
        """Return the reference of an image that is in this engine now, made if need be.

        name
            A release (``2026.2``), one with the client libraries of all stores
            (``2026.2-stores``), ``mariadb``, ``keystone`` or ``haproxy``.
        """
        session.script("images", "--engine", self.number, name)
        reference = SERVICES.get(name, f"glance-api:{name}")
        self.client.images.get(reference)
        return reference

    def store_image(self, *names):
        """Bring images of storage servers here, made if need be; see support/stores."""
        session.script("images", "--engine", self.number, *names)

    def run(self, image, name=None, **more):
        """Start a container on the host's network; return it. Takes the SDK's arguments."""
        more.setdefault("detach", True)
        return self.client.containers.run(image, name=name, network_mode="host", **more)

    def derive(self, base, tag, files=None, changes=()):
        """Make an image from another one by putting files into it; return its reference.

        files
            {absolute path: text, bytes or (text, mode)}.
        changes
            Dockerfile instructions, such as ``CMD ["false"]``.
        """
        made = self.client.containers.create(base, network_mode="host")
        try:
            if files:
                made.put_archive("/", archive(files))
            repository, _, version = tag.rpartition(":")
            made.commit(repository, version, changes="\n".join(changes) or None)
        finally:
            made.remove(force=True)
        return tag

    def reset(self):
        """Remove every container and volume but those that are labelled to be kept."""
        self.start()
        for made in self.client.containers.list(all=True, sparse=True):
            if KEEP not in (made.attrs.get("Labels") or {}):
                with contextlib.suppress(docker.errors.NotFound):
                    made.remove(force=True, v=True)
        for volume in self.client.volumes.list():
            if KEEP not in (volume.attrs.get("Labels") or {}):
                with contextlib.suppress(docker.errors.APIError):
                    volume.remove(force=True)

    def reboot(self):
        """Kill -9 the engine and all container processes, then start the engine again."""
        self.crash()
        self.start()

    def restart(self):
        """Stop the engine in good order and start it again."""
        self.stop()
        self.start()

    def kill(self, container):
        """Kill -9 the first process of a container from outside, as the kernel would."""
        container.reload()
        pid = container.attrs["State"]["Pid"]
        if pid:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + STOP_LIMIT
            while alive(pid) and time.monotonic() < deadline:
                time.sleep(POLL)
