"""The cleaning job: one at a time, never raises, remembers and tells how it went."""

import fcntl
import json
import logging
import socket
import uuid

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_cache
import glance_cache_plan
import glance_oneshot

pytestmark = pytest.mark.cache

OWN = "http://10.0.0.1:9292"
SERVICE = {"name": "glance_api", "running": True}
OTHER = {"name": "glance_api_0123", "running": True}


class Minion:
    """A minion whose container answers as the script would."""

    def __init__(self, folder):
        self.containers, self.orphans, self.fault = [SERVICE], 1, None
        self.others, self.hosts, self.pillar_fault = [], ["one"], None
        self.asked, self.events, self.after_look = [], [], None
        self.opts = {"cachedir": str(folder), "file_client": "remote"}

    def table(self):
        return {
            "glance_cache_plan.make": glance_cache_plan.make,
            "glance_cache_plan.nodes_gone": glance_cache_plan.nodes_gone,
            "glance_cache_plan.summary": glance_cache_plan.summary,
            "glance_cache_plan.sentence": glance_cache_plan.sentence,
            "glance_cache_plan.text": glance_cache_plan.text,
            "glance_engine.containers": lambda: self.containers,
            "glance_engine.execute": self.execute,
            "glance_oneshot.script": lambda name: f"text of {name}",
            "glance_oneshot.answer": glance_oneshot.answer,
            "glance_settings.get": self.settings,
            "event.send": lambda tag, data: self.events.append((tag, data)),
        }

    def settings(self):
        if self.pillar_fault:
            raise SaltInvocationError(self.pillar_fault)
        return {"minion_id": "one", "glance_api_hosts": self.hosts}

    def execute(self, name, command, user):
        assert (name, user) == ("glance_api", "glance")
        assert command[command.index("-c") + 1] == "text of cache.py"
        work, seconds, *rest = command[command.index("-c") + 2 :]
        assert int(command[3]) > int(seconds), "the script gets the time to say what hangs"
        self.asked.append(work)
        if self.fault:
            raise self.fault
        answer = self.look() if work == "look" else self.remove(json.loads(rest[0]))
        if self.after_look and work == "look":
            self.after_look()
        return {"rc": 0, "output": f"noise\n{json.dumps(answer)}"}

    def look(self):
        orphans = [str(uuid.UUID(int=number)) for number in range(self.orphans)]
        files = [{"id": one, "bytes": 10, "age": 99, "open": False} for one in orphans]
        return {
            "driver": "centralized_db",
            "node": OWN,
            "files": files,
            "rows": [],
            "images": {},
            "incomplete": [],
            "invalid": [],
            "queue": [],
            "others": self.others,
            "max_bytes": 100,
            "stall_seconds": 100,
            "disk": {"total": 1000, "free": 900},
        }

    def remove(self, steps):
        self.steps = steps
        return {"removed": list(range(len(steps))), "kept": [], "bytes": 0}


@pytest.fixture
def minion(tmp_path, monkeypatch):
    made = Minion(tmp_path)
    monkeypatch.setattr(glance_cache, "__salt__", made.table(), raising=False)
    monkeypatch.setattr(glance_cache, "__opts__", made.opts, raising=False)
    monkeypatch.setattr(glance_cache, "__context__", {}, raising=False)
    monkeypatch.setattr(glance_cache, "log", logging.getLogger("silent"))
    logging.getLogger("silent").disabled = True
    return made


def retcode():
    return glance_cache.__context__.get("retcode", 0)


def test_it_removes_reports_remembers_and_tells(minion):
    report = glance_cache.clean()
    assert report["result"] is True
    assert report["freed"] == {"orphans": {"count": 1, "bytes": 10}}
    assert minion.asked == ["look", "remove"]
    assert retcode() == 0
    assert minion.events == [("glance/cache/clean", report)]
    memory = glance_cache.remembered()
    assert memory["failures"] == 0
    assert memory["success"] > 0
    assert memory["last"]["comment"] == report["comment"]


def test_nothing_to_do_takes_one_look(minion):
    minion.orphans = 0
    assert glance_cache.clean()["freed_bytes"] == 0
    assert minion.asked == ["look"]


def test_a_dry_run_removes_and_tells_nothing(minion):
    report = glance_cache.clean(test=True)
    assert report["comment"].startswith("Would remove 1 orphans (10 bytes)")
    assert minion.asked == ["look"]
    assert minion.events == []
    assert glance_cache.remembered()["last"] == {}


@pytest.mark.parametrize(
    ("containers", "word"),
    [
        ([], "no glance-api container runs"),
        ([{**SERVICE, "running": False}], "no glance-api container runs"),
        ([SERVICE, OTHER], "glance_api and glance_api_0123 share the cache, as in a hand-over"),
    ],
)
def test_it_skips_and_says_why(minion, containers, word):
    minion.containers = containers
    report = glance_cache.clean()
    assert report["result"] is True
    assert word in report["skipped"]
    assert minion.asked == []
    assert retcode() == 0
    assert word in glance_cache.status()["cache"]


def test_a_hand_over_that_begins_meanwhile_stops_it(minion):
    minion.after_look = lambda: minion.containers.append(OTHER)
    try:
        assert "share the cache" in glance_cache.clean()["skipped"]
    finally:
        minion.containers.remove(OTHER)
    assert minion.asked == ["look"]


def test_two_at_once_are_one(minion, tmp_path):
    with open(tmp_path / "glance_cache.lock", "a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another cleaning" in glance_cache.clean()["skipped"]
    assert glance_cache.clean()["result"] is True
    assert "skipped" not in glance_cache.clean(), "the lock goes with its holder"


@pytest.mark.parametrize(
    "fault",
    [CommandExecutionError("The engine is gone."), OSError(28, "No space left on device")],
)
def test_a_failure_is_an_answer_with_its_reason(minion, fault):
    minion.fault = fault
    report = glance_cache.clean()
    assert report["result"] is False
    assert str(fault) in report["comment"]
    assert retcode() == 1
    assert minion.events[0][1]["result"] is False


def test_failures_in_a_row_are_counted_and_a_skip_changes_nothing(minion):
    minion.fault = CommandExecutionError("The engine is gone.")
    glance_cache.clean()
    minion.containers = []
    glance_cache.clean()
    minion.containers = [SERVICE]
    glance_cache.clean()
    assert glance_cache.remembered()["failures"] == 2
    minion.fault = None
    glance_cache.clean()
    assert glance_cache.remembered()["failures"] == 0


def test_what_the_script_says_is_the_reason(minion):
    minion.look = lambda: {"error": "Glance's cache could not read the database: gone."}
    assert glance_cache.clean()["comment"] == "Glance's cache could not read the database: gone."


def test_a_script_that_is_killed_is_told_by_its_last_words(minion, monkeypatch):
    killed = {**minion.table(), "glance_engine.execute": lambda *_: {"rc": 137, "output": "hm"}}
    monkeypatch.setattr(glance_cache, "__salt__", killed)
    assert (
        "ended with code 137 and no answer; its last lines: hm" in glance_cache.clean()["comment"]
    )


def test_a_glance_without_a_cache_is_no_failure(minion):
    minion.look = lambda: {"off": True}
    assert "has no cache" in glance_cache.clean()["skipped"]


def test_many_steps_go_in_several_calls(minion):
    minion.orphans = 2 * glance_cache.BATCH + 1
    report = glance_cache.clean()
    assert minion.asked == ["look", "remove", "remove", "remove"]
    assert report["freed"]["orphans"]["count"] == minion.orphans
    assert report["left"] == []


def test_a_result_that_cannot_be_kept_is_no_failure(minion, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(glance_cache.os, "replace", full)
    assert glance_cache.clean()["result"] is True


def test_without_a_master_no_event_is_waited_for(minion):
    minion.opts["file_client"] = "local"
    glance_cache.clean()
    assert minion.events == []


GONE = {"url": "http://10.0.0.2:9292", "images": 1, "idle": 5}


@pytest.mark.parametrize(
    ("hosts", "fault", "removed"),
    [
        (["one"], None, True),
        (["two", "one"], None, False),
        (["one"], "glance:glance_api_prot is not known", False),
        (["one", "two"], None, False),
    ],
    ids=["alone", "not the first", "pillar not valid", "read a moment ago"],
)
def test_rows_of_other_nodes(minion, hosts, fault, removed):
    minion.others, minion.hosts, minion.pillar_fault = [GONE], hosts, fault
    minion.orphans = 0
    glance_cache.clean()
    assert (minion.asked == ["look", "remove"]) is removed


def test_a_silent_node_of_a_group_has_left_and_one_that_listens_has_not(minion):
    with socket.create_server(("127.0.0.1", 0)) as alive, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in (alive, silent)]
        minion.others = [{"url": url, "images": 1, "idle": 10**6} for url in urls]
        minion.hosts, minion.orphans = ["one", "two"], 0
        glance_cache.clean()
    assert [(one["id"], one["forget"]) for one in minion.steps] == [(urls[1], False)]
