"""Runs of salt-call that are killed with SIGKILL: the service goes on, the next run repairs."""

import pytest

from support.killing import Client, Victim, event, line
from support.sturdy import assert_repaired, edit, standing

pytestmark = pytest.mark.one_host

BIG = 48  # MiB of the image that is read slowly over a switch


def is_ending(name):
    return name.endswith("_ending")


POINTS = {
    "in the proof of the configuration": lambda: event("start", one_shot="proof"),
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


@pytest.fixture
def glance(deploy):
    return standing(deploy)


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
