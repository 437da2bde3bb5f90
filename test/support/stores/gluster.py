"""A GlusterFS volume, mounted on this machine as often as there are hosts to share it."""

import contextlib
import os
import subprocess
import tempfile

from docker.types import Mount

from support.deployed import wait_for
from support.stores.server import Server


class Gluster(Server):
    """Server and clients in one container; what they mount shows on the machine.

    mounts
        A folder for each host; every one is a mount of its own of the same volume.
    """

    image = "gluster"
    number = 216

    def __init__(self, engine, hosts=("one", "two")):
        super().__init__(engine)
        self.folder = tempfile.mkdtemp(prefix="gl-shared-")
        # What is mounted below must come out of the container, and nothing else changes.
        subprocess.run(["mount", "--bind", self.folder, self.folder], check=True)
        subprocess.run(["mount", "--make-shared", self.folder], check=True)
        self.mounts = {name: f"{self.folder}/{name}" for name in hosts}
        self.run(
            [self.address, *hosts],
            cap_add=["SYS_ADMIN"],
            devices=["/dev/fuse"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            mounts=[Mount("/mnt", self.folder, type="bind", propagation="rshared")],
        )

    def is_ready(self):
        return self.container.exec_run(["test", "-e", "/ready"])[0] == 0

    def unmount(self, name):
        """Take one host's mount away, under whoever uses it."""
        self.execute("umount", "-l", f"/mnt/{name}")

    def mount(self, name):
        """Mount it again."""
        self.execute("mount", "-t", "glusterfs", f"{self.address}:/images", f"/mnt/{name}")

    @contextlib.contextmanager
    def brickless(self):
        """While this lasts the server is down; what mounts it stays mounted."""
        self._volume("stop")
        try:
            yield
        finally:
            self._volume("start")
            # The clients connect again by themselves.
            wait_for(lambda: all(map(os.path.isdir, self.mounts.values())), 60, "a mount")

    @contextlib.contextmanager
    def read_only(self):
        """While this lasts nobody may write."""
        self._volume("set", "features.read-only", "on")
        try:
            yield
        finally:
            self._volume("set", "features.read-only", "off")

    def _volume(self, action, *arguments):
        self.execute("gluster", "--mode=script", "volume", action, "images", *arguments)

    def close(self):
        """End it and leave nothing mounted."""
        self.container.remove(force=True, v=True)
        for place in (*self.mounts.values(), self.folder):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        for place in (*self.mounts.values(), self.folder):
            subprocess.run(["rmdir", place], check=False, capture_output=True)
