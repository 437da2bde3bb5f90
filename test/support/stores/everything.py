"""All storage servers of the tests, started side by side."""

from support.authority import Authority
from support.stores.ceph import Ceph
from support.stores.s3 import S3
from support.stores.swift import Swift
from support.stores.vcenter import DATASTORES, VCenter

IMAGES = ("s3", "swift", "vcenter", "ceph")
#: Where the containers' system keeps the authorities it trusts; the test images are Debian's.
DISTRO = {"kolla_base_distro": "debian"}


class Stores:
    """The servers, and the pillar that leads to them.

    authority
        Who signed the certificates of those that speak TLS.
    s3, swift, ceph, cold, vcenter
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
        running = keystone()
        self.swift = Swift(engine, self.authority, running)
        self.swift.register()
        for server in (self.s3, self.vcenter, self.swift, self.ceph, self.cold):
            server.wait()

    @property
    def trust(self):
        """Keys below ``glance:`` that make Glance trust the servers."""
        return {**DISTRO, "glance_ca_certificates": {"stores.crt": self.authority.certificate}}

    def pillar(self, **more):
        """Keys below ``glance:`` for all stores at once, with names and weights of their own."""
        return {
            **self.trust,
            **self.s3.pillar(),
            **self.swift.pillar(),
            **self.vcenter.pillar(),
            "glance_vmware_datastores": [f"DC0:{DATASTORES[0]}:100", f"DC0:{DATASTORES[1]}:200"],
            "glance_backend_file": "yes",
            "glance_backend_ceph": "yes",
            "glance_custom_config": {**self.ceph.files(), **self.cold.files()},
            "glance_ceph_backends": [
                {"name": "rbd", "type": "rbd"},
                {"name": "archive", "type": "rbd", "cluster": "cold"},
            ],
            **more,
        }
