"""A loopback image registry for real pulls, missing tags and pulls that hang."""

import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from support.engines import work_folder

PORT = 5000
HANGING_PORT = 5001
SILENT_PORT = 5002
START_LIMIT = 15  # seconds until the registry answers
POLL = 0.05  # seconds between two questions

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}:{port}", secret: testbed}}
"""


class Silent:
    """A TCP port that takes connections and never answers."""

    def __init__(self, address, port):
        self.reference = f"{address}:{port}"
        self.connections = []
        self._socket = socket.create_server((address, port), backlog=64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self._socket.accept()[0])

    def close(self):
        """Close the port and what came in."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self.connections:
            connection.close()


class Hanging(http.server.ThreadingHTTPServer):
    """A registry that says hello and never answers anything else."""

    daemon_threads = True

    def __init__(self, address, port):
        self.reference = f"{address}:{port}"
        self.asked = []
        self.ended = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/v2/":
                    self.send_response(200)
                    self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                server.asked.append(self.path)
                server.ended.wait()
                self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        super().__init__((address, port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        """Let go of everybody who waits."""
        self.ended.set()
        self.shutdown()
        self.server_close()


class Registry:
    """A running registry.

    host
        ADDRESS:PORT, the first part of a reference in it.
    hanging
        ADDRESS:PORT of a registry that greets and then never answers: a pull waits for ever.
    silent
        ADDRESS:PORT that takes connections and never says a word: the engine gives up by itself
        after about 25 seconds.
    """

    def __init__(self, engine, address, port=PORT):
        self.engine = engine
        self.address = address
        self.port = port
        self.host = f"{address}:{port}"
        self.hanging = None
        self.silent = None
        self.servers = []
        self._process = None
        # Layers are kept between sessions: compressing them takes longest.
        self._store = work_folder() / "registry"
        self._folder = None

    def __enter__(self):
        self._store.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="registry-"))
        text = CONFIG.format(root=self._store, address=self.address, port=self.port)
        (self._folder / "config.yml").write_text(text, encoding="utf8")
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self._folder / "config.yml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()
        self.servers = [Hanging(self.address, HANGING_PORT), Silent(self.address, SILENT_PORT)]
        self.hanging, self.silent = (server.reference for server in self.servers)
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.close()
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self):
        deadline = time.monotonic() + START_LIMIT
        while self._ask("GET", "/v2/")[0] != 200:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "log").read_text(encoding="utf8")
                raise AssertionError(f"no registry on {self.host}: {log[-1000:]}")
            time.sleep(POLL)

    def _ask(self, method, path, headers=None):
        connection = http.client.HTTPConnection(self.address, self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except OSError:
            return 0, {}, b""
        finally:
            connection.close()

    def reference(self, name, tag):
        """Return the reference of an image here, such as HOST/openstack.kolla/glance-api:2026.2."""
        return f"{self.host}/{name}:{tag}"

    def push(self, image, name="openstack.kolla/glance-api", tag=None, *, keep=False):
        """Push an image of the engine; return its reference here.

        keep
            Leave the new name in the engine too; else the next pull is a real one (layers that
            another image has are not transferred again, as everywhere).
        """
        tag = tag or image.rpartition(":")[2]
        repository = f"{self.host}/{name}"
        client = self.engine.client
        client.images.get(image).tag(repository, tag)
        for line in client.images.push(repository, tag, stream=True, decode=True):
            if "error" in line:
                raise AssertionError(f"push of {repository}:{tag}: {line['error']}")
        if not keep:
            client.images.remove(f"{repository}:{tag}")
        return f"{repository}:{tag}"

    def digest(self, name, tag):
        """Return the digest of a tag, or None when there is no such tag."""
        accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        status, headers, _ = self._ask("HEAD", f"/v2/{name}/manifests/{tag}", accept)
        return headers.get("Docker-Content-Digest") if status == 200 else None

    def tags(self, name="openstack.kolla/glance-api"):
        """Return the tags of a repository."""
        status, _, body = self._ask("GET", f"/v2/{name}/tags/list")
        return (json.loads(body)["tags"] or []) if status == 200 else []

    def delete(self, name, tag):
        """Take a tag away (and every other tag of the same manifest)."""
        digest = self.digest(name, tag)
        if digest:
            self._ask("DELETE", f"/v2/{name}/manifests/{digest}")
