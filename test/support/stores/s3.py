"""An S3 server (moto) that speaks TLS; any key and secret open it, unless it is guarded."""

import contextlib
import http.client
import json
import re
import ssl
import urllib.parse

from support.stores.server import Server

PORT = 5000
BUCKET = "glance"
#: By this the server tells which of its services is meant; it is not checked.
SCOPE = "x/20260101/us-east-1/iam/aws4_request"
IAM = f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=, Signature=x"


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
        self._key = None
        self.run(command, files, entrypoint=["moto_server"])

    def ask(self, method, path, body="", headers=None):
        """Return status and text of a request; 0 and nothing when there is no answer."""
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=10, context=self._tls)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def is_ready(self):
        return self.ask("PUT", f"/{BUCKET}")[0] == 200

    def objects(self):
        """Names of the images in the bucket."""
        return re.findall("<Key>([^<]*)</Key>", self.ask("GET", f"/{BUCKET}")[1])

    @property
    def key(self):
        """Name and secret of the key of a user who may do everything."""
        if not self._key:
            allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            self._iam("CreateUser")
            self._iam("PutUserPolicy", PolicyName="all", PolicyDocument=policy)
            told = self._iam("CreateAccessKey")
            self._key = tuple(
                re.search(f"<{name}>(.*)</{name}>", told)[1]
                for name in ("AccessKeyId", "SecretAccessKey")
            )
        return self._key

    def _iam(self, action, **more):
        order = {"Action": action, "Version": "2010-05-08", "UserName": "glance", **more}
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": IAM}
        status, told = self.ask("POST", "/", urllib.parse.urlencode(order), kind)
        assert status == 200, told
        return told

    @contextlib.contextmanager
    def guarded(self):
        """While this lasts it checks keys and signatures."""
        assert self.ask("POST", "/moto-api/reset-auth", "0")[0] == 200
        try:
            yield
        finally:
            assert self.ask("POST", "/moto-api/reset-auth", "inf")[0] == 200

    def pillar(self, **more):
        """Keys below ``glance:`` with which images go there."""
        return {
            "glance_backend_s3": "yes",
            "glance_backend_s3_url": f"https://{self.address}:{PORT}",
            "glance_backend_s3_bucket": BUCKET,
            "glance_backend_s3_access_key": self.key[0],
            "glance_backend_s3_secret_key": self.key[1],
            **more,
        }
