"""A Ceph cluster: one monitor, one OSD in memory, the pool ``images``."""

from support.stores.server import Server

KEYRING = "ceph.client.glance.keyring"


class Ceph(Server):
    """A cluster; its files have Kolla's names for the cluster ``name``."""

    image = "ceph"

    def __init__(self, engine, number, name="ceph"):
        self.number, self.name = number, name
        super().__init__(engine)
        self.run([self.address])

    def is_ready(self):
        return self.container.exec_run(["test", "-e", "/etc/ceph/ready"])[0] == 0

    def files(self, user="glance"):
        """Configuration and keyring as an operator has them for a client."""
        keyring = self.execute("ceph", "auth", "get", f"client.{user}")
        fsid = self.execute("ceph", "fsid").strip()
        mons = f"[v2:{self.address}:3300/0,v1:{self.address}:6789/0]"
        return {
            f"{self.name}.conf": f"[global]\nfsid = {fsid}\nmon host = {mons}\n"
            "auth client required = cephx\n",
            f"{self.name}.client.{user}.keyring": keyring,
        }

    def images(self):
        """Names of the images in the pool."""
        return self.execute("rbd", "ls", "images").split()

    def pillar(self, **more):
        """Keys below ``glance:`` with which images go there."""
        return {
            "glance_backend_ceph": "yes",
            "glance_custom_config": self.files(),
            **more,
        }
