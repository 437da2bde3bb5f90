"""Transfers and imports that last until a test lets them end.

The load (support/load.py) is broad but random. What is here is in progress at a chosen moment
for certain, and proves it: each piece of work knows when it began and ended.
"""

import contextlib
import hashlib
import http.client
import http.server
import json
import os
import socket
import threading
import time
import urllib.parse
from pathlib import Path

MIB = 1024 * 1024
TRICKLE = 0.25  # seconds between two drops of a slow transfer
DROP, GULP = 4 * 1024, 32 * 1024  # bytes of a drop, up and down; uWSGI gives up slower readers
POLL = 0.1  # seconds between two looks at an import
PYTHON = "/var/lib/kolla/venv/bin/python3"  # of the images; uWSGI does not tell Glance which
RECEIVE = 64 * 1024  # bytes that the kernel may receive for a slow download ahead of its reader
KERNEL = 5 * MIB  # bytes of a download that may wait in the server's kernel, sent already
PATIENCE = 180  # seconds until a request or import is given up
QEMU_IMG = """#!/bin/sh
until [ -e /run/import-gate/open ]; do sleep 0.1; done
echo '{"format": "raw", "virtual-size": 1048576}'
"""


class Gate:
    """Imports wait in their conversion step while it is closed.

    folder
        An empty folder, for a ``qemu-img`` that waits for the gate and then finds every image to
        be raw already; :py:attr:`pillar` mounts it, or :py:attr:`volumes`.
    web
        ADDRESS:PORT that web-download may read from.
    """

    def __init__(self, folder, web):
        self.web = web
        self._gate = Path(folder) / "gate"
        self._gate.mkdir()
        self._gate.chmod(0o755)
        self._program = Path(folder) / "qemu-img"
        self._program.write_text(QEMU_IMG, encoding="utf8")
        self._program.chmod(0o755)

    @property
    def _options(self):
        host, _, port = self.web.rpartition(":")
        return {
            "image_import_opts": {"image_import_plugins": "[image_conversion]"},
            "image_conversion": {"output_format": "raw"},
            "import_filtering_opts": {
                "allowed_schemes": "[http]",
                "allowed_hosts": [host],
                "allowed_ports": [int(port)],
            },
        }

    @property
    def _mounts(self):
        """{path here: path in the container}"""
        return {
            str(self._program): "/usr/local/bin/qemu-img",
            str(self._gate): "/run/import-gate",
        }

    @property
    def pillar(self):
        """Keys that make Glance convert images by it, and read from the web server."""
        return {
            "glance_enable_interoperable_image_import": True,
            "glance_image_import": self._options,
            "glance_api_extra_volumes": [
                f"{here}:{there}:ro" for here, there in self._mounts.items()
            ],
        }

    @property
    def options(self):
        """The same for a Glance by hand: {section: {option: text}}; needs :py:attr:`volumes`."""
        made = {
            section: {
                name: f"[{','.join(map(str, value))}]" if isinstance(value, list) else value
                for name, value in options.items()
            }
            for section, options in self._options.items()
        }
        return {**made, "wsgi": {"python_interpreter": PYTHON}}

    @property
    def volumes(self):
        """Its mounts, as the Docker SDK takes them."""
        return {here: {"bind": there, "mode": "ro"} for here, there in self._mounts.items()}

    def close(self):
        """From now on imports wait."""
        (self._gate / "open").unlink(missing_ok=True)

    def open(self):
        """Let the imports go on."""
        (self._gate / "open").touch()


class Straddle:
    """Slow transfers and imports on an API.

    :py:meth:`prepare`, :py:meth:`begin`, then, at the earliest when they all shall have ended,
    :py:meth:`release`; then :py:meth:`errors` and :py:meth:`across`.

    url, token
        The API, and a token or None.
    gate
        The Gate of its imports; None leaves the imports out.
    headers
        Of all requests, such as those that tell a Glance without Keystone who asks.
    """

    def __init__(self, url, token=None, gate=None, headers=None):
        self.host = urllib.parse.urlsplit(url)
        self.headers = {**(headers or {}), **({"X-Auth-Token": token} if token else {})}
        self.gate = gate
        self.content = os.urandom(2 * MIB)
        # What the server has handed to its kernel is no longer in progress for the server.
        self.big = os.urandom(4 * KERNEL)
        self.kinds = {
            "upload": lambda found: self._upload(found, chunked=False),
            "upload_chunked": lambda found: self._upload(found, chunked=True),
            "download": self._download,
        }
        if gate:
            self.kinds |= {"import_direct": self._direct, "import_web": self._web}
        self.images, self.found, self.threads = {}, {}, []
        self.released, self.abandoned = threading.Event(), threading.Event()
        # Two imports that begin in one moment can deadlock in the database: Glance answers one
        # of them with 500 (image_set_property_atomic is not tried again), whoever replaces it.
        self._one_by_one = threading.Lock()
        self._server = None

    # The work as a whole

    def prepare(self):
        """Make the images, upload and stage what is to be downloaded and imported."""
        for kind in self.kinds:
            body = {"name": f"straddle-{kind}", "disk_format": "raw", "container_format": "bare"}
            self.images[kind] = json.loads(self._ask("POST", "/v2/images", 201, body))["id"]
        self._ask("PUT", self._path("download", "file"), 204, self.big)
        if self.gate:
            self._ask("PUT", self._path("import_direct", "stage"), 204, self.content)
            self._serve()
        return self

    def begin(self):
        """Start all of it, and wait until all of it is in progress."""
        if self.gate:
            self.gate.close()
        for kind in self.kinds:
            self.found[kind] = {"began": None, "ended": None, "error": None}
            thread = threading.Thread(target=self._work, args=[kind], name=kind, daemon=True)
            self.threads.append(thread)
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while not all(one["began"] for one in self.found.values()):
            assert time.monotonic() < deadline, f"not everything begins: {self.found}"
            time.sleep(POLL)

    def wait_past(self, moment):
        """Wait until all of it was seen in progress after a moment, as far as it can be seen."""
        deadline = time.monotonic() + PATIENCE
        seen = [self.found[kind] for kind in self.kinds if not kind.startswith("upload")]
        while any(one["ended"] is None or one["ended"] <= moment for one in seen):
            assert time.monotonic() < deadline, f"not in progress any more: {self.found}"
            time.sleep(POLL)

    def release(self, imports=True):
        """Let all of it end, or all but the imports."""
        self.released.set()
        if self.gate and imports:
            self.gate.open()

    def abandon(self):
        """Wait no longer for imports."""
        self.abandoned.set()
        self.release()

    def move(self, url):
        """From now on the API is at another address, for what is not in progress yet."""
        self.results()
        self.host = urllib.parse.urlsplit(url)

    def results(self):
        """Wait for the end; return {kind: {"began", "ended", "error"}}, as of time.time()."""
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} goes on after {PATIENCE} s"
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        return self.found

    def across(self, moment):
        """Kinds that were in progress at a moment."""
        return {
            kind
            for kind, found in self.results().items()
            if found["began"] < moment < found["ended"]
        }

    def errors(self):
        """{kind: reason} of what failed, looking also at the images afterwards."""
        errors = {kind: one["error"] for kind, one in self.results().items() if one["error"]}
        for kind in self.kinds:
            if kind not in errors:
                with self._noted(errors, kind):
                    self._check(kind)
        return errors

    def _work(self, kind):
        found = self.found[kind]
        with self._noted(found, "error"):
            self.kinds[kind](found)
        found["ended"] = found["ended"] or time.time()
        found["began"] = found["began"] or found["ended"]

    @contextlib.contextmanager
    def _noted(self, where, key):
        try:
            yield
        except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
            where[key] = f"{type(error).__name__}: {error}"

    # Requests

    def _path(self, kind, what=""):
        return f"/v2/images/{self.images[kind]}" + (f"/{what}" if what else "")

    def _connect(self):
        return http.client.HTTPConnection(self.host.hostname, self.host.port, timeout=PATIENCE)

    def _ask(self, method, path, expected, body=None, **more):
        """One request; its answer's body."""
        headers = {"Content-Type": "application/octet-stream", **self.headers}
        if isinstance(body, dict):
            headers["Content-Type"], body = "application/json", json.dumps(body)
        with contextlib.closing(self._connect()) as connection:
            connection.request(method, path, body, headers, **more)
            return self._answer(connection, expected)

    @staticmethod
    def _answer(connection, expected):
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == expected, f"status {answer.status}: {body[:300]}"
        return body

    def _parts(self, found=None):
        """The content: half of it, then drop by drop until released, then the rest."""
        sent = len(self.content) // 2
        yield self.content[:sent]
        if found is not None:
            found["began"] = time.time()
        while not self.released.wait(TRICKLE):
            yield self.content[sent : sent + DROP]
            sent += DROP
        yield self.content[sent:]

    def _upload(self, found, chunked):
        kind = "upload_chunked" if chunked else "upload"
        headers = {"Content-Type": "application/octet-stream", **self.headers}
        if not chunked:
            headers["Content-Length"] = str(len(self.content))
        with contextlib.closing(self._connect()) as connection:
            # Without a length http.client sends chunks.
            connection.request("PUT", self._path(kind, "file"), self._parts(found), headers)
            found["ended"] = time.time()  # the last part was sent; the answer is still to come
            self._answer(connection, 204)
        found["ended"] = time.time()

    def _download(self, found):
        digest, left = hashlib.sha512(), len(self.big)
        with contextlib.closing(self._connect()) as connection:
            connection.sock = socket.socket(
                socket.AF_INET6 if ":" in self.host.hostname else socket.AF_INET
            )
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect((self.host.hostname, self.host.port))
            connection.request("GET", self._path("download", "file"), headers=self.headers)
            answer = connection.getresponse()
            assert answer.status == 200, f"status {answer.status}: {answer.read()[:300]}"
            while part := answer.read(GULP):
                digest.update(part)
                left -= len(part)
                found["began"] = found["began"] or time.time()
                if left > KERNEL:
                    found["ended"] = time.time()
                self.released.wait(TRICKLE)
        assert not left, f"ended {left} bytes short"
        assert digest.digest() == hashlib.sha512(self.big).digest(), "sha512 differs"

    # Imports: in progress while Glance says so

    def _direct(self, found):
        self._import("import_direct", found, {"name": "glance-direct"})

    def _web(self, found):
        method = {"name": "web-download", "uri": f"http://{self.gate.web}/content"}
        self._import("import_web", found, method)

    def _import(self, kind, found, method):
        with self._one_by_one:
            self._ask("POST", self._path(kind, "import"), 202, {"method": method})
        found["began"] = time.time()
        deadline = time.monotonic() + PATIENCE
        while True:
            asked = time.time()
            seen = json.loads(self._ask("GET", self._path(kind), 200))
            if seen["status"] == "active":
                return
            assert not seen.get("os_glance_failed_import"), f"the import failed: {seen}"
            assert time.monotonic() < deadline, f"the import does not end: {seen}"
            assert not self.abandoned.is_set(), f"the import goes on: {seen}"
            found["ended"] = asked
            time.sleep(POLL)

    def _serve(self):
        parts, length = self._parts, len(self.content)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                for part in parts():
                    self.wfile.write(part)

            def log_message(self, *_):
                pass

        address, _, port = self.gate.web.rpartition(":")
        self._server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _check(self, kind):
        """The image afterwards: active, and its content what was sent."""
        sent = self.big if kind == "download" else self.content
        seen = json.loads(self._ask("GET", self._path(kind), 200))
        assert seen["status"] == "active", f"status {seen['status']}"
        assert seen["os_hash_value"] == hashlib.sha512(sent).hexdigest(), "another sha512 is told"
        body = self._ask("GET", self._path(kind, "file"), 200)
        assert hashlib.sha512(body).digest() == hashlib.sha512(sent).digest(), "sha512 differs"
