"""A small Image API and Keystone in this process, for tests of the client that talks to them.

It keeps images and tasks in memory and can be told to fail: ``faults`` maps the beginning of
"METHOD /path" to ``(status, body)``, to ``"hang"`` or to ``"cut"`` (close in mid-answer).
"""

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
import time
import urllib.parse

PASSWORD = "s3cret-password"
TOKEN = "token-of-glance"
PROJECT = "id-of-project-service"


def html(status, title, text):
    """An error page as webob makes it."""
    head = f"<html>\n <head>\n  <title>{status} {title}</title>\n </head>\n"
    return f"{head} <body>\n  <h1>{status} {title}</h1>\n  {text}<br /><br />\n </body>\n</html>"


class FakeApi:
    """What the server knows, and how it was asked."""

    def __init__(self, keystone=False):
        self.keystone = keystone
        self.token = TOKEN
        self.images = {}
        self.tasks = {}
        self.data = {}
        self.faults = {}
        self.page = 1000
        self.header_names = str  # how their letters are written
        self.formats = {"disk_format": [None, "ami", "raw"], "container_format": [None, "bare"]}
        self.requests = []
        self.source_ports = []
        self.released = threading.Event()

    def settings(self, address, port, **more):
        listen = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        scheme = more.get("api_scheme", "http")
        return {
            "api_address": address,
            "glance_api_listen_port": port,
            "listen": listen,
            "api_scheme": scheme,
            "self_url": f"{scheme}://{listen}",
            "keystone": self.keystone,
            "trial": not self.keystone,
            "keystone_internal_url": f"http://{listen}",
            "glance_keystone_user": "glance",
            "glance_keystone_password": PASSWORD,
            "default_user_domain_id": "default",
            "default_project_domain_id": "default",
            "openstack_cacert": "",
            "glance_api_hosts": ["one"],
            "enable_glance_image_cache": False,
            "stores": [
                {"name": "file", "type": "file", "options": {}, "secrets": []},
                {"name": "http", "type": "http", "options": {}, "secrets": []},
            ],
            "default_store": "file",
            **more,
        }

    def add_image(self, image_id, **more):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.images[image_id] = {
            "id": image_id,
            "name": image_id,
            "status": "active",
            "owner": PROJECT if self.keystone else None,
            "os_hidden": False,
            "tags": [],
            "created_at": now,
            "updated_at": now,
            **more,
        }

    def answer(self, method, path, query, body, headers):
        """``(status, structure or text)`` of one request."""
        if path == "/healthcheck":
            return 200, "OK"
        if path == "/v3/auth/tokens":
            return self._authenticate(body)
        if self.keystone and headers.get("X-Auth-Token") != self.token:
            return 401, html(401, "Unauthorized", "This server could not verify you.")
        parts = path.strip("/").split("/")[1:]
        if parts[0] == "schemas":
            return 200, {"properties": {key: {"enum": val} for key, val in self.formats.items()}}
        if parts[0] == "tasks":
            return self._task(parts)
        return self._image(method, parts, query, body, headers)

    def _authenticate(self, body):
        asked = json.loads(body)["auth"]
        user = asked["identity"]["password"]["user"]
        wanted = {"name": "glance", "password": PASSWORD, "domain": {"id": "default"}}
        if user != wanted or asked["scope"]["project"]["name"] != "service":
            told = "The request you have made requires authentication."
            return 401, {"error": {"code": 401, "message": told, "title": "Unauthorized"}}
        return 201, {"token": {"project": {"id": PROJECT, "name": "service"}}}

    def _task(self, parts):
        task = self.tasks.get(parts[1]) if len(parts) == 2 else None
        return (200, task) if task else (404, html(404, "Not Found", "No such task."))

    def _list(self, query):
        rows = [one for one in self.images.values() if self._shown(one, query)]
        begin = int(query.get("marker", 0))
        end = begin + min(int(query["limit"]), self.page)
        page = {"images": rows[begin:end]}
        if end < len(rows):
            page["next"] = f"/v2/images?{urllib.parse.urlencode({**query, 'marker': end})}"
        return 200, page

    def _image(self, method, parts, query, body, headers):
        if method == "POST":
            asked = json.loads(body)
            wrong = [key for key, val in self.formats.items() if asked[key] not in val]
            if wrong:
                return 400, html(400, "Bad Request", f"Invalid {wrong[0]}")
            self.add_image(asked["id"], **{**asked, "status": "queued"})
            return 201, self.images[asked["id"]]
        if len(parts) == 1:
            return self._list(query)
        image = self.images.get(parts[1])
        if image is None:
            return 404, html(404, "Not Found", "No image found with ID.")
        if method == "PUT":
            digest = hashlib.sha512(body).hexdigest()
            image.update(status="active", os_hash_algo="sha512", os_hash_value=digest)
            image["stores"] = headers.get("X-Image-Meta-Store", "file")
            self.data[parts[1]] = body
            return 204, ""
        if method == "DELETE":
            del self.images[parts[1]]
            return 204, ""
        if len(parts) < 3:
            return 200, image
        return 200, self.data[parts[1]].decode("utf-8", "surrogateescape")

    @staticmethod
    def _shown(image, query):
        wanted_hidden = query.get("os_hidden", "false") == "true"
        return (
            image["os_hidden"] is wanted_hidden
            and query.get("tag", next(iter(image["tags"]), None)) in [*image["tags"], None]
            and query.get("owner", image["owner"]) == image["owner"]
            and image["updated_at"] >= query.get("updated_at", "").removeprefix("gte:")
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    def _serve(self):
        api = self.server.api
        path, _, rest = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        line = f"{self.command} {self.path}"
        api.requests.append(line)
        api.source_ports.append(self.client_address[1])
        fault = next((val for key, val in api.faults.items() if re.match(key, line)), None)
        if fault == "hang":
            api.released.wait(30)
            return
        if fault == "cut":
            self._reply(200, "only a part", length=1000)
            return
        query = dict(urllib.parse.parse_qsl(rest))
        self._reply(*(fault or api.answer(self.command, path, query, body, self.headers)))

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _reply(self, status, content, length=None):
        text = content if isinstance(content, str) else json.dumps(content)
        data = text.encode("utf-8", "surrogateescape")
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(length or len(data)))
        if status == 201 and self.path.endswith("/auth/tokens"):
            self.send_header(self.server.api.header_names("X-Subject-Token"), self.server.api.token)
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass  # a client that gave up is part of the tests


@contextlib.contextmanager
def serve(api, address="127.0.0.1", tls=None, **more):
    """Serve a FakeApi on a free port; yields the settings that lead to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = type("_OneFamily", (_Server,), {"address_family": family})
    with kind((address, 0), _Handler) as server:
        server.api = api
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            more["api_scheme"] = "https"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield api.settings(address, server.server_address[1], **more)
        finally:
            api.released.set()
            server.shutdown()
