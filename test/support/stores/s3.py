"""An S3 server (moto) that speaks TLS; any key and secret open it."""

import http.client
import re
import ssl

from support.stores.server import Server

PORT = 5000
BUCKET = "glance"


class S3(Server):
    """Holds its data in memory."""

    image = "s3"
    number = 211

    def __init__(self, engine, authority):
        super().__init__(engine)
        certificate, key = authority.issue(self.address)
        self._tls = ssl.create_default_context(cadata=authority.certificate)
        command = ["-H", self.address, "-p", str(PORT)]
        command += ["-c", "/certificate.pem", "-k", "/key.pem"]
        files = {"/certificate.pem": certificate, "/key.pem": key}
        self.run(command, files, entrypoint=["moto_server"])

    def ask(self, method, path):
        """Return the status of a request; 0 when there is no answer."""
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=10, context=self._tls)
        try:
            connection.request(method, path, headers={"Content-Length": "0"})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def is_ready(self):
        return self.ask("PUT", f"/{BUCKET}") == 200

    def objects(self):
        """Names of the images in the bucket."""
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=10, context=self._tls)
        try:
            connection.request("GET", f"/{BUCKET}")
            answer = connection.getresponse().read().decode()
        finally:
            connection.close()
        return re.findall("<Key>([^<]*)</Key>", answer)

    def pillar(self, **more):
        """Keys below ``glance:`` with which images go there."""
        return {
            "glance_backend_s3": "yes",
            "glance_backend_s3_url": f"https://{self.address}:{PORT}",
            "glance_backend_s3_bucket": BUCKET,
            "glance_backend_s3_access_key": "access-key",
            "glance_backend_s3_secret_key": "secret-key",
            **more,
        }
