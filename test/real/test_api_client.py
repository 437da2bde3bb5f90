"""The API client against real Glance: the deep check, what it says of faults, background work."""

import contextlib
import http.server
import json
import threading
import time
import uuid

import pytest
from salt.exceptions import CommandExecutionError

import glance_api
import glance_cache
import glance_check
import glance_http
import glance_log
import glance_process
import glance_screen

pytestmark = pytest.mark.one_host

PORT = 19292
SOURCE_PORT = 18080  # from where images may be imported
PART = 64 * 1024
STAGED = 32 * 1024 * 1024  # bytes; long enough to be seen on the way into the store
LIMIT = 60
POLL = 0.1

# The oldest and the newest release: eventlet with tasks of its time, and uWSGI.
both_releases = pytest.mark.parametrize(
    "release", ["2026.2", pytest.param("2023.2", marks=pytest.mark.soak)]
)

# Without Keystone nobody owns a task, which the schema does not allow; a test may.
NULLABLE_OWNER = """
import sqlite3
database = sqlite3.connect("/var/lib/glance/glance.sqlite")
version, = database.execute("PRAGMA schema_version").fetchone()
database.execute("PRAGMA writable_schema = 1")
change = "replace(sql, 'owner VARCHAR(255) NOT NULL', 'owner VARCHAR(255)')"
database.execute(f"UPDATE sqlite_master SET sql = {change} WHERE name = 'tasks'")
database.execute(f"PRAGMA schema_version = {version + 1}")
database.commit()
"""


class Node:
    """A node whose container was started by hand, as the formula's modules see it."""

    def __init__(self, glance):
        self.glance = glance
        self.settings = {
            "api_address": glance.address,
            "glance_api_listen_port": glance.port,
            "listen": f"{glance.address}:{glance.port}",
            "api_scheme": "http",
            "self_url": glance.url,
            "keystone": False,
            "trial": True,
            "glance_api_hosts": ["one"],
            "enable_glance_image_cache": False,
            "stores": [
                {"name": name, "type": name, "options": {}, "secrets": []}
                for name in ("file", "http")
            ],
            "default_store": "file",
        }

    def table(self):
        return {
            "glance_check.deep": glance_check.deep,
            "glance_check.stores": glance_check.stores,
            "glance_process.boot": glance_process.boot,
            "glance_process.started": glance_process.started,
            "glance_log.position": glance_log.position,
            "glance_log.reason": glance_log.reason,
            "glance_cache.health": glance_cache.health,
            "glance_jobs.warnings": lambda settings: [],  # no scheduler is part of this
            "glance_http.request": glance_http.request,
            "glance_http.project": glance_http.project,
            "glance_screen.make": glance_screen.make,
            "glance_settings.get": lambda: self.settings,
            "glance_settings.masked": str,
            "glance_container.facts": self.facts,
            "glance_container.execute": self.execute,
            "glance_engine.inspect": self.inspect,
        }

    def facts(self):
        self.glance.container.reload()
        attrs = self.glance.container.attrs
        return {
            "state": self.glance.container.status,
            "name": self.glance.container.name,
            "id": self.glance.container.id,
            "image": attrs["Config"]["Image"],
            "release": self.glance.release,
            "spec": None,
            "started_at": attrs["State"]["StartedAt"],
            "health": None,
            "leftovers": [],
            "labels": {},
        }

    def inspect(self, name):
        self.glance.container.reload()
        mounts = self.glance.container.attrs["Mounts"]
        return {"mounts": [{"target": m["Destination"], "path": m.get("Source")} for m in mounts]}

    def execute(self, argv, user="root"):
        done = self.glance.container.exec_run(argv, user=user)
        return {"rc": done.exit_code, "output": done.output.decode()}

    def ask(self, method, path, expect, body=None):
        headers = {"Content-Type": "application/octet-stream"}
        answer = glance_http.request(
            self.settings, "test", method, path, body, headers, expect=(expect,)
        )
        return json.loads(answer["body"]) if answer["body"].startswith("{") else answer["body"]

    def allow_imports(self):
        assert self.execute(["python3", "-c", NULLABLE_OWNER])["rc"] == 0

    def new_image(self, **more):
        asked = {"name": "imported", "disk_format": "raw", "container_format": "bare", **more}
        return self.ask("POST", "/v2/images", 201, asked)["id"]

    def wait_for(self, image_id, status):
        deadline = time.monotonic() + LIMIT
        while True:
            now = self.ask("GET", f"/v2/images/{image_id}", 200)["status"]
            if now == status:
                return
            assert time.monotonic() < deadline, f"{now} instead of {status}"
            time.sleep(POLL)


@pytest.fixture
def node(glance_by_hand, address, monkeypatch):
    """A function: release and options -> Node, which the client then asks."""

    def start(release, **more):
        glance = glance_by_hand(release, address(1), "glance_api", port=PORT, **more)
        made = Node(glance)
        for module in (glance_api, glance_check, glance_log):
            monkeypatch.setattr(module, "__salt__", made.table(), raising=False)
        return made

    return start


@contextlib.contextmanager
def slow_source(address, parts):
    """A web server whose one file comes in parts, each after the test's permission."""
    permission = threading.Semaphore(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(parts * PART))
            self.end_headers()
            for _ in range(parts):
                permission.acquire(timeout=LIMIT)
                self.wfile.write(b"x" * PART)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer((address, SOURCE_PORT), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://{address}:{SOURCE_PORT}/image", permission
        finally:
            permission.release(parts)
            server.shutdown()


def timed(call):
    began = time.monotonic()
    assert call() is True
    return time.monotonic() - began


def wait_for_the_end(found):
    deadline = time.monotonic() + LIMIT
    while glance_api.unfinished(only=found["tasks"])["tasks"]:
        assert time.monotonic() < deadline
        time.sleep(POLL)


def deep_check_fails(**more):
    with pytest.raises(CommandExecutionError) as caught:
        glance_api.deep_check(**more)
    return str(caught.value)


@both_releases
def test_a_working_node(node, release):
    here = node(release)
    user = here.new_image(name="glance-formula-check-of-a-user", os_hidden=True)
    left = str(uuid.uuid4())
    host = " ".join(glance_check._this_process().split()[:2])
    killed = f"glance-formula-check {host} {2**22 + 1} 1"
    mark = {"tags": ["glance-formula-check", killed], "os_hidden": True}
    here.new_image(id=left, name=f"glance-formula-check-{left}", **mark)

    steps = glance_api.deep_check(probe=True)["steps"]
    assert {"create", "upload", "download", "delete"} <= set(steps)
    assert here.ask("GET", "/v2/images", 200)["images"] == []
    hidden = here.ask("GET", "/v2/images?os_hidden=true", 200)["images"]
    assert [one["id"] for one in hidden] == [user]

    assert min(timed(glance_api.answers) for _ in range(5)) < 0.2
    assert glance_api.verify()["stores"]["file"].startswith("works, ")
    told = deep_check_fails(stores=["nosuch"])
    assert "fails at step 'upload (nosuch)' with HTTP 4" in told
    hidden = here.ask("GET", "/v2/images?os_hidden=true", 200)["images"]
    assert [one["id"] for one in hidden] == [user]

    assert glance_api.drain() is True
    assert glance_api.drained() is True
    assert "the node is drained" in glance_api.probe_once()["reason"]
    glance_api.resume()
    assert glance_api.probe_once() == {"ok": True, "reason": ""}

    screen = glance_api.status()
    assert screen["answers"].startswith("yes, in ")
    assert screen["release"] == release


@both_releases
def test_imports_in_progress(node, release, address):
    # SQLite refuses one of two writers that meet, and Glance then forgets the import.
    here = node(release, workers=1)
    here.allow_imports()
    since = here.facts()["started_at"]
    image = here.new_image()
    here.ask("PUT", f"/v2/images/{image}/stage", 204, "x" * STAGED)
    # Nobody works on what is only staged.
    assert glance_api.unfinished(since=since) == {"tasks": [], "images": []}

    here.ask("POST", f"/v2/images/{image}/import", 202, {"method": {"name": "glance-direct"}})
    found = glance_api.unfinished(since=since)
    assert [one["id"] for one in found["images"]] == [image]
    here.settings["glance_api_hosts"] = ["one", "two"]
    assert glance_api.unfinished(staged=[image], only=found["tasks"])["tasks"] == found["tasks"]
    here.wait_for(image, "active")
    wait_for_the_end(found)

    with slow_source(address(1), parts=4) as (url, permission):
        image = here.new_image()
        method = {"name": "web-download", "uri": url}
        here.ask("POST", f"/v2/images/{image}/import", 202, {"method": method})
        found = glance_api.unfinished(since=since)
        assert image in [one["id"] for one in found["images"]]
        here.wait_for(image, "importing")
        permission.release(1)
        found = glance_api.unfinished(only=found["tasks"])
        assert found["images"] == [{"id": image, "name": "imported", "status": "importing"}]
        assert glance_api.unfinished(since="2099-01-01T00:00:00Z")["tasks"] == []
        permission.release(3)
        here.wait_for(image, "active")
    wait_for_the_end(found)


def test_a_node_without_its_store_and_its_database(node):
    here = node("2026.2")
    images = "/var/lib/glance/images"
    here.execute(["chown", "-R", "root:root", images])
    here.execute(["chmod", "0755", images])
    told = deep_check_fails()
    assert "fails at step 'upload' with HTTP 503" in told
    assert "user glance may not write to the store" in told
    assert here.ask("GET", "/v2/images?os_hidden=true", 200)["images"] == []

    here.execute(["mv", "/var/lib/glance/glance.sqlite", "/var/lib/glance/away.sqlite"])
    told = deep_check_fails()
    assert "fails at step 'list' with HTTP 500" in told
    assert "the database hangs, is down, refuses the password or has no schema" in told
    assert glance_api.probe_once()["ok"] is False
    with pytest.raises(CommandExecutionError, match="the database hangs, is down"):
        glance_api.answers()
