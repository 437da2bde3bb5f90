"""The cleaning job: one at a time, never raises, remembers and tells how it went."""

import fcntl
import json
import logging
import re
import socket
import urllib.parse
import uuid

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_cache
import glance_cache_list
import glance_cache_plan
import glance_care
import glance_memory

pytestmark = pytest.mark.cache

OWN = "http://10.0.0.1:9292"
SERVICE = {"name": "glance_api", "running": True}
OTHER = {"name": "glance_api_0123", "running": True}


class Minion:
    """A minion whose container answers as the script would."""

    def __init__(self, folder):
        self.containers, self.orphans, self.fault = [SERVICE], 1, None
        self.others, self.hosts, self.pillar_fault = [], ["one"], None
        self.listed, self.images, self.requested, self.refused = [], {}, [], None
        self.asked, self.events, self.after_look = [], [], None
        self.opts = {"cachedir": str(folder), "file_client": "remote"}

    def table(self):
        return {
            "glance_cache_plan.make": glance_cache_plan.make,
            "glance_cache_plan.nodes_gone": glance_cache_plan.nodes_gone,
            "glance_cache_plan.summary": glance_cache_plan.summary,
            "glance_cache_plan.sentence": glance_cache_plan.sentence,
            "glance_cache_plan.text": glance_cache_plan.text,
            "glance_care.take": glance_care.take,
            "glance_care.ask": glance_care.ask,
            "glance_care.skip": glance_care.skip,
            "glance_care.remembered": glance_care.remembered,
            "glance_memory.recall": glance_memory.recall,
            "glance_memory.keep": glance_memory.keep,
            "glance_cache_list.find": glance_cache_list.find,
            "glance_cache_list.missing": glance_cache_list.missing,
            "glance_cache_list.crowded": glance_cache_list.crowded,
            "glance_cache_list.request": glance_cache_list.request,
            "glance_http.request": self.request,
            "glance_engine.containers": lambda: self.containers,
            "glance_engine.execute": self.execute,
            "glance_oneshot.last_lines": lambda result, count: f"{result['output']} ({count})",
            "glance_oneshot.script": lambda name: f"text of {name}",
            "glance_oneshot.program": lambda texts: " and ".join(texts.values()),
            "glance_settings.get": self.settings,
            "event.send": lambda tag, data: self.events.append((tag, data)),
        }

    def settings(self):
        if self.pillar_fault:
            raise SaltInvocationError(self.pillar_fault)
        return {
            "minion_id": "one",
            "glance_api_hosts": self.hosts,
            "glance_cache_images": self.listed,
        }

    def request(self, settings, step, method, path, expect=(200,)):
        """The API: {name or id: images}, or an error that is raised."""
        if method == "PUT":
            if path.endswith(self.refused or "none"):
                raise CommandExecutionError("It is gone.")
            self.requested.append(path)
            return {"status": 202, "body": ""}
        name = urllib.parse.unquote_plus(path.rpartition("/")[2].partition("&")[0])
        name = re.sub(r'^images\?name=in:"(.*)"$', r"\1", name)
        found = self.images[name]
        if isinstance(found, Exception):
            raise found
        if "?" in path:
            return {"status": 200, "body": json.dumps({"images": found})}
        return {"status": 200 if found else 404, "body": json.dumps(found[0] if found else {})}

    def execute(self, name, command, user, timeout, what):
        assert (name, user, what) == ("glance_api", "glance", "cache.py")
        assert command[command.index("-c") + 1] == "text of inside.py and text of cache.py"
        work, seconds, *rest = command[command.index("-c") + 2 :]
        assert timeout > int(seconds), "the script gets the time to say what hangs"
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
    made.functions = made.table()
    for module in (glance_cache, glance_cache_list, glance_care, glance_memory):
        monkeypatch.setattr(module, "__salt__", made.functions, raising=False)
        monkeypatch.setattr(module, "__opts__", made.opts, raising=False)
        monkeypatch.setattr(module, "__context__", {}, raising=False)
    for module in (glance_care, glance_memory):
        monkeypatch.setattr(module, "log", logging.getLogger("silent"))
    logging.getLogger("silent").disabled = True
    return made


def retcode():
    return glance_care.__context__.get("retcode", 0)


def test_it_removes_reports_remembers_and_tells(minion):
    report = glance_cache.clean()
    assert report["result"] is True
    assert report["freed"] == {"orphans": {"count": 1, "bytes": 10}}
    assert minion.asked == ["look", "remove"]
    assert retcode() == 0
    assert minion.events == [("glance/cache/clean", report)]
    memory = glance_care.remembered("cache/clean")
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
    assert glance_care.remembered("cache/clean")["last"] == {}


@pytest.mark.parametrize(
    ("containers", "word"),
    [
        ([], "no glance-api container runs"),
        ([{**SERVICE, "running": False}], "no glance-api container runs"),
        ([SERVICE, OTHER], "glance_api and glance_api_0123 both serve, as in a hand-over"),
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
    minion.containers = [SERVICE]
    minion.after_look = lambda: minion.containers.append(OTHER)
    report = glance_cache.clean()
    assert minion.asked == ["look"]
    assert (report["freed"], len(report["left"])) == ({}, 1)
    assert "both serve, as in a hand-over" in report["left"][0]["why"]


def test_two_at_once_are_one(minion, tmp_path):
    with open(tmp_path / "glance_cache_clean.lock", "a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another cache/clean" in glance_cache.clean()["skipped"]
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
    assert glance_care.remembered("cache/clean")["failures"] == 2
    minion.fault = None
    glance_cache.clean()
    assert glance_care.remembered("cache/clean")["failures"] == 0


def test_what_the_script_says_is_the_reason(minion):
    minion.look = lambda: {"error": "Glance's cache could not read the database: gone."}
    assert glance_cache.clean()["comment"] == "Glance's cache could not read the database: gone."


def test_a_script_without_an_answer_is_told_by_its_end(minion):
    minion.functions["glance_engine.execute"] = lambda *_: {"rc": 1, "output": "hm"}
    words = "ended with code 1 and no answer; its last words: hm (3)"
    assert words in glance_cache.clean()["comment"]


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

    monkeypatch.setattr(glance_memory.os, "replace", full)
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
    report = glance_cache.clean()
    assert (minion.asked == ["look", "remove"]) is removed
    assert ("The pillar is not valid" in report["comment"]) is bool(fault)


def test_a_silent_node_of_a_group_has_left_and_one_that_listens_has_not(minion):
    with socket.create_server(("127.0.0.1", 0)) as alive, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in (alive, silent)]
        minion.others = [{"url": url, "images": 1, "idle": 10**6} for url in urls]
        minion.hosts, minion.orphans = ["one", "two"], 0
        glance_cache.clean()
    assert [(one["id"], one["forget"]) for one in minion.steps] == [(urls[1], False)]


def image(number, size=10, status="active"):
    return {"id": str(uuid.UUID(int=number)), "size": size, "status": status}


def test_images_of_the_list_are_asked_for_where_they_are_missing(minion):
    there, missing, named = image(0), image(1000), image(2000)
    minion.listed = [there["id"], missing["id"], 'a "name", quoted']
    minion.images = {there["id"]: [there], missing["id"]: [missing]}
    minion.images['a \\"name\\", quoted'] = [named, image(3000, status="queued")]
    report = glance_cache.clean()
    assert report["result"] is True, report
    assert report["requested"] == [missing["id"], named["id"]]
    assert minion.requested == [f"/v2/cache/{one}" for one in report["requested"]]


def test_one_that_goes_meanwhile_keeps_none_of_the_others_away(minion):
    gone, missing = image(1000), image(2000)
    minion.listed, minion.refused = [gone["id"], missing["id"]], gone["id"]
    minion.images = {one["id"]: [one] for one in (gone, missing)}
    report = glance_cache.clean()
    assert report["result"] is False
    assert report["comment"].endswith(" It is gone.")
    assert minion.requested == [f"/v2/cache/{missing['id']}"]


def test_a_dry_run_asks_for_none(minion):
    minion.listed, minion.images = ["new"], {"new": [image(1000)]}
    assert glance_cache.clean(test=True)["requested"] == [image(1000)["id"]]
    assert minion.requested == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "lists new, but no image is active under that name: upload it"),
        ([image(1), image(2)], "but 2 images are active under that name: write its id there"),
        (CommandExecutionError("The API is down."), "The API is down."),
        ([image(1000, size=101)], "take 101 bytes, and the cache may hold 100 bytes"),
    ],
)
def test_a_list_that_cannot_be_kept_is_a_failure_after_the_cleaning(minion, found, words):
    minion.listed, minion.images = ["new"], {"new": found}
    report = glance_cache.clean()
    assert report["result"] is False
    assert words in report["comment"]
    assert report["freed"]["orphans"]["count"] == 1
