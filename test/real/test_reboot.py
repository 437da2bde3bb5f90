"""Containers that die, engines that restart, hosts that lose power: the service comes back."""

import pytest

from support.deployed import wait_for
from support.killing import Client, Victim, event, line
from support.sturdy import assert_repaired, assert_whole, edit, standing

pytestmark = pytest.mark.one_host

BACK = 60  # seconds until a service answers after a restart of everything
CHECKED, SWITCHED = line("checking it deeply"), line("new connections go to")


def let_go():
    """The incumbent has lost its restart policy: the newcomer is in charge."""
    return event("update", count=2)


# Made anew for each run, since a point counts what it has seen.
POINTS = {"checked": lambda: CHECKED, "switched": lambda: SWITCHED, "in charge": let_go}


@pytest.fixture
def glance(deploy):
    return standing(deploy)


def answers(glance):
    wait_for(lambda: glance.get("/v2/images", timeout=30)[0] == 200, BACK, "an answer")


def newcomer_of(glance):
    return next(one for one in glance.containers() if one.name != "glance_api")


def incumbent_of(glance):
    return next(one for one in glance.containers() if one.name == "glance_api")


def test_reboot_between_switch_and_stop(glance):
    """The one that is in charge comes up, and only that one; the next run removes the other."""
    big = glance.kept.upload(48)
    victim = Victim(glance, **edit()).reach(event("start"))
    slow = glance.kept.slowly(big)
    victim.kill_at(let_go())
    newcomer = newcomer_of(glance)
    glance.engine.reboot()
    answers(glance)
    assert slow.cut()
    assert {one.name: one.status for one in glance.containers()} == {
        newcomer.name: "running",
        "glance_api": "exited",
    }
    with Client(glance) as client:
        assert_repaired(glance)
    assert client.failures == []
    assert glance.container.id == newcomer.id


@pytest.mark.soak
def test_engine_restart(glance):
    """In good order: everything comes back by itself, and nothing is to be done."""
    before = glance.container.id
    glance.engine.restart()
    result = glance.apply()  # at once, while the service still loads
    assert (result.rc, result.changed) == (0, []), result.comments
    assert glance.container.id == before
    assert_whole(glance)


@pytest.mark.soak
def test_engine_killed_alone(glance):
    """An engine that finds containers of a former life stops them for good: the run starts one."""
    glance.engine.kill_daemon()
    glance.engine.start()
    assert "The container was started" in assert_repaired(glance)


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_reboot_at_other_points(glance, point, at_once):
    """Also when the next run comes before anything answers."""
    Victim(glance, **edit()).kill_at(POINTS[point]())
    glance.engine.reboot()
    if not at_once:
        answers(glance)
    assert_repaired(glance)


DEATHS = {
    "docker kill": lambda glance, container: container.kill(),
    "SIGKILL": lambda glance, container: glance.engine.kill(container),
}


@pytest.mark.soak
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("who", [incumbent_of, newcomer_of])
def test_death_before_the_switch(glance, death, who):
    """Whoever is left serves; a run that fails for it is repaired by the next one."""
    run = Victim(glance, **edit()).reach(CHECKED)
    dead = who(glance)
    DEATHS[death](glance, dead)
    code = run.end()
    assert code == (0 if who is incumbent_of else 2), run.output
    answers(glance)
    assert_repaired(glance)


@pytest.mark.soak
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("who", [incumbent_of, newcomer_of])
def test_death_after_the_switch(glance, death, who):
    """A slow transfer holds the incumbent, so that both are there."""
    big = glance.kept.upload(48)
    run = Victim(glance, **edit()).reach(event("start"))
    slow = glance.kept.slowly(big)
    run.reach(let_go())
    with Client(glance) as client:
        DEATHS[death](glance, who(glance))
        if who is incumbent_of:
            assert run.end() == 0, run.output
            assert slow.cut()
        else:
            assert run.end() == 2, run.output
            assert "is in charge again" in run.output
            slow.end()
    # Only what was inside the dead one may be lost.
    assert len(client.failures) <= 1, client.failures
    assert_repaired(glance)
