"""VMware's own simulator of a vCenter, with TLS and a login; DC0 has two datastores."""

import socket

from support.stores.server import Server

PORT = 443
USER, PASSWORD = "glance", "glance-in-vcenter"
DATASTORES = ("LocalDS_0", "LocalDS_1")


class VCenter(Server):
    """Keeps files below /tmp of its container."""

    image = "vcenter"
    number = 213

    def __init__(self, engine, authority):
        super().__init__(engine)
        certificate, key = authority.issue(self.address)
        command = ["-listen", f"{self.address}:{PORT}", "-username", USER, "-password", PASSWORD]
        command += ["-certificate", "/certificate.pem", "-key", "/key.pem"]
        self.run(command, {"/certificate.pem": certificate, "/key.pem": key})

    def is_ready(self):
        with socket.socket() as probe:
            return probe.connect_ex((self.address, PORT)) == 0

    def files(self, datastore):
        """Names of the images in a datastore."""
        command = f"ls /tmp/govcsim-DC0-{datastore}-*/openstack_glance 2>/dev/null || true"
        return self.execute("sh", "-c", command).split()

    def pillar(self, **more):
        """Keys below ``glance:`` with which images go there."""
        return {
            "glance_backend_vmware": "yes",
            "vmware_vcenter_host_ip": self.address,
            "vmware_vcenter_host_username": USER,
            "vmware_vcenter_host_password": PASSWORD,
            "vmware_vcenter_name": "DC0",
            "vmware_datastore_name": DATASTORES[0],
            **more,
        }
