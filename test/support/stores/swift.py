"""A Swift that speaks TLS, with its user and service in a Keystone."""

import http.client
import socket
import ssl

from support.stores.server import Server

PORT = 8080
PASSWORD = "glance-in-swift"


class Swift(Server):
    """All its servers in one container; images go to the project service."""

    image = "swift"
    number = 212

    def __init__(self, engine, authority, keystone):
        super().__init__(engine)
        self.keystone, keystone_url = keystone, keystone.url
        self._tls = ssl.create_default_context(cadata=authority.certificate)
        both = "".join(authority.issue(self.address))
        command = [self.address, keystone_url, "/certificate.pem"]
        self.run(command, {"/certificate.pem": both})

    def register(self):
        """Make its users and its service known."""
        keystone = self.keystone
        keystone.user("swift", "swiftpass")
        keystone.user("images", PASSWORD)
        service = keystone.ensure("service", "swift", type="object-store")
        url = f"https://{self.address}:{PORT}/v1/AUTH_%(project_id)s"
        if not keystone.ask("GET", f"endpoints?service_id={service}")["endpoints"]:
            for interface in ("public", "internal"):
                endpoint = {"interface": interface, "service_id": service, "url": url}
                endpoint["region_id"] = "RegionOne"
                keystone.ask("POST", "endpoints", {"endpoint": endpoint})

    def is_ready(self):
        # The proxy is the last of its servers to listen.
        for port in (PORT, 6200, 6201, 6202):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, port)):
                    return False
        return True

    def objects(self):
        """Names of the images in the container."""
        token = self.keystone.token("images", PASSWORD, "service")
        project = self.keystone.find("project", "service")
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=10, context=self._tls)
        try:
            connection.request("GET", f"/v1/AUTH_{project}/glance", headers={"X-Auth-Token": token})
            return connection.getresponse().read().decode().split()
        finally:
            connection.close()

    def pillar(self, **more):
        """Keys below ``glance:`` with which images go there."""
        return {
            "glance_backend_swift": "yes",
            "glance_swift_auth_url": f"{self.keystone.url}/v3",
            "glance_swift_user": "service:images",
            "glance_swift_password": PASSWORD,
            "glance_swift_endpoint_type": "internalURL",
            **more,
        }
