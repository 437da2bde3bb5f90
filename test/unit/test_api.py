"""The running API: deep check, answers, background work, draining and the operator's screen."""

import os
import subprocess
import time
import uuid

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_api
import glance_check
import glance_http
import glance_process
import glance_screen
from support.fake_api import PROJECT, FakeApi, html, serve

pytestmark = pytest.mark.one_host

NOW = 1_800_000_000
FACTS = {
    "state": "running",
    "name": "glance_api",
    "id": "0123456789abcdef",
    "image": "registry/glance-api:2026.2",
    "release": "2026.2",
    "spec": "5ec5ec",
    "database": "sqlite:///var/lib/glance/glance.sqlite",
    "restarts": 0,
    "started_at": "2027-01-13T06:59:00.123456789Z",
    "health": "healthy",
    "leftovers": [],
    "labels": {"glance.spec": "5ec5ec"},
}


class Minion:
    """Salt's function table of a minion whose container does what a test says."""

    def __init__(self, api, settings):
        self.api, self.settings, self.fault = api, settings, None
        self.facts = dict(FACTS)
        self.cache = {"text": "off", "warnings": []}
        self.files = set()
        self.staged = ["staged-image"]
        self.reads_the_mark = True
        self.log, self.asked_log = "", []

    def table(self):
        return {
            "glance_check.deep": glance_check.deep,
            "glance_check.stores": glance_check.stores,
            "glance_log.position": lambda: 0,
            "glance_log.reason": self.reason,
            "glance_http.request": glance_http.request,
            "glance_http.project": glance_http.project,
            "glance_process.boot": glance_process.boot,
            "glance_process.started": glance_process.started,
            "glance_screen.make": glance_screen.make,
            "glance_settings.get": self.get,
            "glance_cache.health": lambda settings: self.cache,
            "glance_jobs.warnings": lambda settings: [],
            "glance_container.facts": lambda: self.facts,
            "glance_container.execute": self.execute,
        }

    def reason(self, since, request_id):
        self.asked_log.append(request_id)
        return self.log

    def get(self):
        if self.fault:
            raise SaltInvocationError(self.fault)
        return self.settings

    def execute(self, argv, user="root"):
        assert user == "root"
        if self.facts["state"] != "running":
            raise CommandExecutionError("No glance-api container runs on this minion.")
        path = argv[-1]
        if argv[0] == "ls":
            return {"rc": 0, "output": "\n".join(self.staged) + "\n"}
        if argv[0] == "touch":
            self.files.add(path)
        if argv[0] == "rm":
            self.files.discard(path)
        if self.reads_the_mark:
            self.api.faults = {"GET /healthcheck": (503, "DISABLED BY FILE")} if self.files else {}
        return {"rc": int(argv[0] == "test" and path not in self.files), "output": ""}


@pytest.fixture(params=[False, True], ids=["trial", "keystone"])
def minion(request, monkeypatch):
    glance_http._tokens.clear()
    api = FakeApi(keystone=request.param)
    with serve(api) as settings:
        made = Minion(api, settings)
        for module in (glance_api, glance_check):
            monkeypatch.setattr(module, "__salt__", made.table(), raising=False)
        yield made


def fails(*args, **more):
    with pytest.raises(CommandExecutionError) as caught:
        glance_api.deep_check(*args, **more)
    return str(caught.value)


# The deep check


def test_a_deep_check_leaves_nothing(minion):
    result = glance_api.deep_check()
    steps = ["token", "list", "leftovers", "formats", "create", "upload", "show", "download"]
    steps.append("delete")
    assert list(result["steps"]) == steps
    assert 0 < result["seconds"] < 5
    assert minion.api.images == {}


def test_the_check_image_is_private_and_hidden(minion):
    minion.api.faults["PUT"] = (410, "")
    minion.api.faults["DELETE"] = (500, "")
    fails()
    (image,) = minion.api.images.values()
    assert image["name"] == f"glance-formula-check-{image['id']}"
    assert (image["visibility"], image["os_hidden"]) == ("private", True)


def test_a_deep_check_of_named_stores(minion):
    result = glance_api.deep_check(stores=["file", "rbd"])
    assert {"upload (file)", "upload (rbd)", "delete (rbd)"} <= set(result["steps"])
    assert minion.api.images == {}


@pytest.mark.parametrize("step", ["PUT", "GET /v2/images/[^/]+/file", "GET /v2/images/[^/]+$"])
def test_a_failed_deep_check_leaves_nothing(minion, step):
    minion.api.faults[step] = (500, html(500, "Internal Server Error", "The server has erred."))
    assert "HTTP 500 (The server has erred):" in fails()
    assert minion.api.images == {}


def test_a_create_whose_answer_was_lost_leaves_nothing(minion, monkeypatch):
    answer = minion.api.answer

    def created_but_cut(method, path, query, body, headers):
        status, content = answer(method, path, query, body, headers)
        return (500, "") if method == "POST" and "auth" not in path else (status, content)

    monkeypatch.setattr(minion.api, "answer", created_but_cut)
    assert "step 'create'" in fails()
    assert minion.api.images == {}


def test_bytes_that_come_back_changed(minion):
    minion.api.faults["GET /v2/images/[^/]+/file"] = (200, "something else")
    assert "does not keep images intact: the check image came back changed (14 bytes for" in fails()
    assert minion.api.images == {}


def test_a_wrong_hash(minion, monkeypatch):
    image = {"status": "active", "os_hash_algo": "sha512", "os_hash_value": "0"}
    minion.api.faults["GET /v2/images/[^/]+$"] = (200, image)
    assert "the check image has another sha512 than what was uploaded; check the store" in fails()


def test_an_image_that_does_not_become_active(minion):
    minion.api.faults["GET /v2/images/[^/]+$"] = (200, {"status": "queued"})
    assert "the check image has status queued after an upload that succeeded" in fails()


# Leftovers


def check_image(minion, pid=None, started="1", age=0, **more):
    image_id = str(uuid.uuid4())
    host = glance_check._this_process().split()[:2]
    mark = " ".join(["glance-formula-check", *host, str(pid or os.getpid()), started])
    made = {
        "name": f"glance-formula-check-{image_id}",
        "os_hidden": True,
        "tags": ["glance-formula-check", mark],
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age)),
        **more,
    }
    minion.api.add_image(image_id, **made)
    return image_id


def test_leftovers_of_killed_checks_are_removed(minion):
    check_image(minion)  # this process id, but an earlier process
    check_image(minion, pid=2**22 + 1)
    check_image(minion, age=601, started=glance_process.started(os.getpid()))
    check_image(minion, age=601, tags=["glance-formula-check", "glance-formula-check h b 1 1"])
    glance_api.deep_check()
    assert minion.api.images == {}


def test_what_is_not_left_over_stays(minion):
    kept = {
        check_image(minion, started=glance_process.started(os.getpid())),  # runs right now
        check_image(minion, tags=["glance-formula-check", "glance-formula-check h b 1 1"]),
        check_image(minion, age=900, name="glance-formula-check-of-a-user"),
        check_image(minion, age=900, owner="somebody else"),
        check_image(minion, age=900, tags=[]),
        check_image(minion, age=900, os_hidden=False),
    }
    glance_api.deep_check()
    assert set(minion.api.images) == kept


# Answers


def test_answers(minion):
    assert glance_api.answers() is True
    paths = [one for one in minion.api.requests if "auth" not in one]
    assert paths == ["GET /healthcheck", "GET /v2/images?limit=1"]


def test_answers_not(minion):
    minion.api.faults["GET /v2"] = (500, "")
    with pytest.raises(CommandExecutionError, match="the database hangs, is down"):
        glance_api.answers()


def test_a_probe_needs_no_token(minion):
    assert glance_api.probe_once(probe=False) == {"ok": True, "reason": ""}
    assert minion.api.requests == ["GET /healthcheck", "GET /v2/images?limit=1"]


@pytest.mark.parametrize("line", ["GET /healthcheck", "GET /v2"])
def test_a_probe_of_what_did_not_load(minion, line):
    minion.api.faults[line] = (500, "Internal Server Error")
    found = glance_api.probe_once(probe=False)
    assert found["ok"] is False
    assert "HTTP 500 (Internal Server Error)" in found["reason"]


def test_a_probe_of_nothing(minion):
    minion.settings["glance_api_listen_port"] = 1
    found = glance_api.probe_once(probe=False)
    assert found["ok"] is False
    assert found["reason"].endswith("step 'health check': nothing listens there.")


# Every store


def test_verify(minion):
    result = glance_api.verify()
    assert result["stores"]["http"] == "read-only, not checked"
    assert result["stores"]["file"].startswith("works, ")
    assert result["api"] == minion.settings["self_url"]


# Background work


def add_task(minion, name, image, hidden=False, **more):
    task = {
        "id": name,
        "type": "api_image_import",
        "status": "processing",
        "created_at": "2026-11-21T10:00:00Z",
        "input": {"image_id": image},
        **more,
    }
    minion.api.tasks[name] = task
    held = {"status": "importing", "name": f"name of {image}", "os_glance_import_task": name}
    minion.api.add_image(image, **held, os_hidden=hidden, updated_at=task["created_at"])


def test_nothing_is_unfinished(minion):
    minion.api.add_image("of a user")
    add_task(minion, "done", "image", status="success")
    add_task(minion, "long gone", "other")
    del minion.api.tasks["long gone"]
    assert glance_api.unfinished() == {"tasks": [], "images": []}


def test_imports_in_progress(minion):
    minion.api.page = 2
    for number in range(5):
        add_task(minion, f"t{number}", f"i{number}")
    add_task(minion, "queued", "i5", status="pending", hidden=True)
    add_task(minion, "hash", "i6", type="location_import")
    found = glance_api.unfinished()
    assert found["tasks"] == ["t0", "t1", "t2", "t3", "t4", "hash", "queued"]
    assert {"id": "i3", "name": "name of i3", "status": "importing"} in found["images"]
    assert len(found["images"]) == 7


def test_tasks_are_not_listed(minion):
    add_task(minion, "one", "image")
    glance_api.unfinished()
    asked = [one for one in minion.api.requests if one.startswith("GET /v2/tasks")]
    assert asked == ["GET /v2/tasks/one"]


def test_what_an_earlier_container_left_is_not_waited_for(minion):
    add_task(minion, "old", "i1", created_at="2026-11-21T09:59:59Z")
    add_task(minion, "older", "i2", created_at="2026-11-20T10:00:00Z")
    minion.api.images["i2"]["updated_at"] = "2026-11-21T10:00:01Z"
    add_task(minion, "new", "i3")
    found = glance_api.unfinished(since="2026-11-21T10:00:00.987654321Z")
    assert found["tasks"] == ["new"]


def test_only_what_was_seen_before(minion):
    add_task(minion, "one", "image")
    add_task(minion, "two", "other", status="failure")
    add_task(minion, "three", "third")
    found = glance_api.unfinished(only=["one", "two", "gone"])
    assert found["tasks"] == ["one"]


def test_an_image_that_is_gone(minion):
    add_task(minion, "one", "image")
    del minion.api.images["image"]
    assert glance_api.unfinished(only=["one"]) == {"tasks": ["one"], "images": []}


def test_imports_of_other_hosts(minion):
    minion.settings["glance_api_hosts"] = ["one", "two"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    add_task(minion, "here", "staged-image")
    add_task(minion, "elsewhere", "other-image")
    add_task(minion, "young", "young-image", created_at=now)
    add_task(minion, "waiting", "third-image", status="pending")
    add_task(minion, "hash", "fourth-image", type="location_import")
    tasks = glance_api.unfinished()["tasks"]
    assert sorted(tasks) == ["hash", "here", "waiting", "young"]
    minion.facts["state"] = "stopped"  # nobody can look into its staging directory
    assert "elsewhere" in glance_api.unfinished()["tasks"]


def test_tasks_that_may_not_be_seen(minion):
    add_task(minion, "one", "image")
    minion.api.faults["GET /v2/tasks"] = (403, "You are not authorized.")
    with pytest.raises(CommandExecutionError, match="'show' with HTTP 403"):
        glance_api.unfinished()


@pytest.mark.parametrize("since", ["yesterday", "2026-11-21", "2026-11-21T10:00:00+05:00", 5])
def test_a_time_that_is_none(minion, since):
    with pytest.raises(SaltInvocationError, match="is not a UTC time such as 2026-11-21T22:41:00Z"):
        glance_api.unfinished(since=since)


# Draining


def test_drain_and_resume(minion):
    assert glance_api.drained() is False
    assert glance_api.drain() is True
    assert minion.files == {"/etc/glance/healthcheck_disable"}
    assert glance_api.drained() is True
    assert "the node is drained" in glance_api.probe_once(probe=False)["reason"]
    assert glance_api.resume() is True
    assert glance_api.drained() is False
    assert glance_api.probe_once(probe=False)["ok"]


def test_a_drain_that_is_there_keeps_its_word(minion, monkeypatch, tmp_path):
    """The word is one, whatever a shell would make of it."""

    def execute(argv, user):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        minion.api.faults = {"GET /healthcheck": (503, "DISABLED BY FILE")}
        return {"rc": done.returncode, "output": done.stdout + done.stderr}

    mark = tmp_path / "a mark"
    monkeypatch.setattr(glance_api, "DRAIN_FILE", str(mark))
    monkeypatch.setitem(glance_api.__salt__, "glance_container.execute", execute)
    for word in ("$(who) it's; %s", "another", ""):
        assert glance_api.drain(by=word) is True
        assert mark.read_text() == "$(who) it's; %s\n"


def test_a_health_check_that_cannot_be_drained(minion):
    minion.reads_the_mark = False
    with pytest.raises(CommandExecutionError, match="This node cannot be drained"):
        glance_api.drain()
    assert minion.files == set()


def test_a_command_that_fails_in_the_container(minion, monkeypatch):
    execute = "glance_container.execute"
    answer = {"rc": 1, "output": "touch: no space left\n"}
    monkeypatch.setitem(glance_api.__salt__, execute, lambda argv, user: answer)
    with pytest.raises(CommandExecutionError, match="ended with 1: touch: no space left.$"):
        glance_api.drain()


def test_nothing_runs(minion):
    minion.facts = {"state": "absent", "name": "glance_api", "leftovers": []}
    assert glance_api.drained() is False
    with pytest.raises(CommandExecutionError, match="No glance-api container runs"):
        glance_api.drain()


# The operator's screen


def test_the_screen(minion):
    screen = glance_api.status()
    assert screen.pop("answers").startswith("yes, in ")
    assert screen.pop("container").startswith("glance_api (0123456789ab), running for ")
    trial = ["Trial mode: this host alone, SQLite, no Keystone, loopback only."]
    assert screen == {
        "address": minion.settings["self_url"],
        "cache": "off",
        "database": "sqlite:///var/lib/glance/glance.sqlite",
        "drained": "no",
        "health": "healthy",
        "image": "registry/glance-api:2026.2",
        "leftovers": "none",
        "release": "2026.2",
        "schema": "not checked",
        "spec": "5ec5ec",
        "stores": "file (file), http (http); default file",
        "warnings": "none" if minion.api.keystone else trial,
    }


def test_the_screen_of_a_node_in_trouble(minion):
    glance_api.drain()
    trouble = {"health": "unhealthy", "leftovers": ["glance_api_5ec"], "restarts": 2}
    minion.facts.update(trouble, release=None)
    screen = glance_api.status()
    assert screen["answers"].startswith("no: The Glance API at")
    assert screen["drained"] == "yes, glance_api.resume ends it"
    assert screen["leftovers"] == "glance_api_5ec"
    assert screen["release"] == "unknown"
    assert screen["warnings"][:3] == [
        "An interrupted replacement left containers: state.apply glance repairs it.",
        "The engine's health check of glance_api fails.",
        "glance_api was restarted 2 times by the engine.",
    ]


def test_the_screen_with_nothing_deployed(minion):
    minion.facts = {"state": "absent", "name": "glance_api", "leftovers": []}
    screen = glance_api.status()
    assert screen["container"] == "none: state.apply glance deploys one"
    assert screen["answers"] == "not asked"
    assert "image" not in screen


def test_the_screen_of_a_foreign_container(minion):
    minion.facts = {"state": "foreign", "name": "glance_api", "leftovers": []}
    assert glance_api.status()["container"] == "glance_api was not made by this formula"


def test_the_screen_of_a_stopped_container(minion):
    minion.facts["state"] = "stopped"
    screen = glance_api.status()
    assert screen["container"] == "glance_api (0123456789ab), stopped"
    assert "The container is stopped: state.apply glance starts it." in screen["warnings"]


def test_the_screen_with_a_bad_pillar(minion):
    minion.fault = "glance:nosuch is not known"
    screen = glance_api.status()
    assert screen["answers"] == "not asked"
    assert screen["warnings"] == ["The pillar is not valid: glance:nosuch is not known"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (59, "59 s"), (3600, "1 h"), (3725, "1 h 2 min"), (90061, "1 d 1 h")],
)
def test_duration(seconds, text):
    assert glance_screen._duration(seconds) == text


def test_project_of_the_check(minion):
    glance_api.deep_check()
    wanted = f"owner={PROJECT}" if minion.api.keystone else "limit=100"
    assert any(wanted in one for one in minion.api.requests if "tag=" in one)
