"""Runs of salt-call that are killed with SIGKILL: the service goes on, the next run repairs."""

import contextlib
import random
import sqlite3
import subprocess
import time

import pytest

from support.killing import Client, Victim, event, line
from support.sturdy import adopt, assert_repaired, edit, prepared, standing

pytestmark = pytest.mark.one_host

BIG = 48  # MiB of the image that is read slowly over a switch


def is_ending(name):
    return name.endswith("_ending")


POINTS = {
    "in the proof of the configuration": lambda: event("start", one_shot="proof"),
    "in the making of the database": lambda: event("start", one_shot="schema"),
    "the newcomer is made": lambda: event("create"),
    "the newcomer is started": lambda: event("start"),
    "the newcomer is checked": lambda: line("checking it deeply"),
    "switched": lambda: line("new connections go to"),
    "the newcomer has its restart policy": lambda: event("update"),
    "the incumbent has lost its restart policy": lambda: event("update", count=2),
    "the incumbent is renamed": lambda: event("rename", is_ending),
    "the incumbent is told to stop": lambda: event("kill", is_ending),
    "the incumbent has stopped": lambda: event("die", is_ending),
    "the incumbent is removed": lambda: event("destroy", is_ending),
    "the newcomer has its name": lambda: event("rename", lambda name: name == "glance_api"),
}
# Steps after which a run has more than a second to go, however fast the machine is.
EARLY = {
    "the run has begun": lambda: line(""),
    **{
        name: POINTS[name]
        for name in (
            "in the proof of the configuration",
            "the newcomer is made",
            "the newcomer is started",
            "the newcomer is checked",
            "switched",
            "the newcomer has its restart policy",
            "the incumbent has lost its restart policy",
        )
    },
}


@pytest.fixture
def glance(deploy):
    return standing(deploy)


def database_of(glance):
    """What a first database holds by now: names of tables, and number of namespaces."""
    volume = glance.engine.client.volumes.get("glance").attrs["Mountpoint"]
    try:
        link = sqlite3.connect(f"file:{volume}/glance.sqlite?mode=ro", uri=True, timeout=0.05)
        with contextlib.closing(link):
            rows = link.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {row[0] for row in rows}
            if "metadef_namespaces" not in tables:
                return tables, 0
            return tables, link.execute("SELECT COUNT(*) FROM metadef_namespaces").fetchone()[0]
    except sqlite3.Error:
        return set(), 0


@pytest.mark.soak
def test_killed_while_the_first_database_is_made(deploy):
    """The container that makes it goes on; the next run waits for it and goes on from there."""
    glance = prepared(deploy, apply=False)
    Victim(glance).kill_at(POINTS["in the making of the database"]())
    (working,) = glance.engine.client.containers.list(filters={"label": "glance.oneshot=schema"})
    result = glance.apply()
    glance.comment(result)
    assert "Glance schema is bootstrapped" not in result.changed
    assert working.id not in [one.id for one in glance.engine.client.containers.list(all=True)]
    adopt(glance)
    assert_repaired(glance)


@pytest.mark.soak
@pytest.mark.parametrize("tables", ["nothing", "first", "last", "definitions"])
def test_engine_killed_while_the_first_database_is_made(deploy, tables):
    """Nothing is stored in it yet, so the next run goes on from whatever is there."""
    reached = {
        "nothing": lambda tables, namespaces: True,
        "first": lambda tables, namespaces: tables,
        "last": lambda tables, namespaces: tables and "metadef_namespaces" in tables,
        "definitions": lambda tables, namespaces: namespaces > 3,
    }[tables]
    glance = prepared(deploy, apply=False)
    victim = Victim(glance).reach(POINTS["in the making of the database"]())
    deadline = time.monotonic() + 60
    while not reached(*database_of(glance)):
        assert time.monotonic() < deadline
    glance.engine.crash()
    assert victim.end() == 2
    assert "does not answer" in victim.output
    glance.engine.start()
    glance.comment(glance.apply())
    assert database_of(glance)[1] > 25
    adopt(glance)
    assert_repaired(glance)


def test_killed_before_the_switch(glance):
    """While the newcomer is checked: the next run checks it again and goes on with it."""
    with Client(glance) as client:
        Victim(glance, **edit()).kill_at(POINTS["the newcomer is checked"]())
        names = {one.name: one.id for one in glance.containers()}
        newcomer = names.pop(next(name for name in names if name != "glance_api"))
        assert list(names) == ["glance_api"]
        assert "replaced by hand-over" in assert_repaired(glance)
    assert client.failures == []
    assert client.requests > 50
    assert glance.container.id == newcomer


def test_killed_between_switch_and_stop(glance):
    """A slow transfer holds the incumbent: neither the kill nor the next run cuts it."""
    big = glance.kept.upload(BIG)
    with Client(glance) as client:
        victim = Victim(glance, **edit()).reach(POINTS["the newcomer is started"]())
        slow = glance.kept.slowly(big)
        victim.kill_at(POINTS["the incumbent has lost its restart policy"]())
        assert len(glance.containers()) == 2
        second = Victim(glance).reach(POINTS["switched"]())
        assert slow.reads
        assert len(glance.containers()) == 2
        slow.end()
        assert second.end() == 0, second.output
        assert_repaired(glance)
    assert client.failures == []


def test_killed_between_removal_and_rename(glance):
    """The newcomer is alone and has not got its name yet."""
    with Client(glance) as client:
        Victim(glance, **edit()).kill_at(POINTS["the incumbent is removed"]())
        (alone,) = glance.containers()
        assert alone.name not in ("glance_api", "glance_api_ending")
        assert "left open was finished" in assert_repaired(glance)
    assert client.failures == []


@pytest.mark.soak
@pytest.mark.parametrize("point", [name for name in POINTS if "making" not in name])
def test_killed_at_every_point(glance, point):
    with Client(glance) as client:
        Victim(glance, **edit()).kill_at(POINTS[point]())
        assert_repaired(glance)
    assert client.failures == []


@pytest.mark.soak
@pytest.mark.parametrize("point", [name for name in POINTS if "making" not in name])
def test_killed_and_the_edit_taken_back(glance, point):
    """The next run goes back to what was there, whatever the killed one had reached."""
    before = glance.pillar.get("glance_api_healthcheck_retries")
    with Client(glance) as client:
        Victim(glance, **edit()).kill_at(POINTS[point]())
        glance.change(glance_api_healthcheck_retries=before)
        assert_repaired(glance)
    assert client.failures == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_instant(glance, seed):
    """The seed tells after which step, and how soon after it, this run dies."""
    dice = random.Random(seed)
    step, instant = dice.choice(list(EARLY)), dice.uniform(0, 1)
    with Client(glance) as client:
        victim = Victim(glance, **edit()).reach(EARLY[step]())
        with pytest.raises(subprocess.TimeoutExpired):  # it is at work still
            victim.process.wait(instant)
        victim.kill()
        assert_repaired(glance)
    assert client.failures == [], (step, instant)
