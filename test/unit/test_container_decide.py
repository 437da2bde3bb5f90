"""What follows from the containers that are found: one table of worlds and verdicts."""

import itertools

import pytest

import glance_container

pytestmark = pytest.mark.one_host

WANT = "new"


def world(*rows):
    """Containers from (name, spec, running, restart policy), oldest first."""
    return [
        {
            "name": name,
            "running": running,
            "restart_policy": policy,
            "created": str(age),
            "started_at": f"life {age}",
            "status": "running" if running else "exited",
            "labels": {"glance.spec": spec},
        }
        for age, (name, spec, running, policy) in enumerate(rows)
    ]


OLD = ("glance_api", "old", True, "unless-stopped")
OLD_LET_GO = ("glance_api", "old", True, "no")
OLD_DEAD = ("glance_api", "old", False, "unless-stopped")
NEW = ("glance_api_new", "new", True, "unless-stopped")
NEW_UNPROVED = ("glance_api_new", "new", True, "no")
OLD_ENDING = ("glance_api_old_ending", "old", True, "no")
NEW_DEAD = ("glance_api_new", "new", False, "no")
DONE = ("glance_api", "new", True, "unless-stopped")
OTHER = ("glance_api_other", "other", True, "no")
OTHER_IN_CHARGE = ("glance_api_other", "other", True, "unless-stopped")

CASES = {
    "nothing is here": ((), "start", None, None, []),
    "it runs": ((DONE,), "nothing", "glance_api", None, []),
    "it runs under a newer spec": ((OLD,), "replace", "glance_api", None, []),
    "it is dead": ((OLD_DEAD,), "start", "glance_api", None, []),
    "killed before the newcomer was checked": (
        (OLD, NEW_UNPROVED), "replace", "glance_api", "glance_api_new", []),
    "killed between the two restart policies": (
        (OLD, NEW), "replace", "glance_api", "glance_api_new", []),
    "killed while the old one stops": (
        (OLD_ENDING, NEW), "finish", "glance_api_new", None, ["glance_api_old_ending"]),
    "killed while the old one stops, to be drained": (
        (OLD_ENDING,), "start", "glance_api_old_ending", None, []),
    "all are dead after the switch": (
        (("glance_api_old_ending", "old", False, "no"), ("glance_api_new", "new", False, "always")),
        "start", "glance_api_new", None, ["glance_api_old_ending"]),
    "killed while the old one ends its transfers": (
        (OLD_LET_GO, NEW), "finish", "glance_api_new", None, ["glance_api"]),
    "rebooted between switch and stop": (
        (("glance_api", "old", False, "no"), NEW), "finish", "glance_api_new", None,
        ["glance_api"]),
    "rebooted before the switch": (
        (OLD, NEW_DEAD), "replace", "glance_api", None, ["glance_api_new"]),
    "killed between removal and rename": ((NEW,), "finish", "glance_api_new", None, []),
    "killed during a first start": ((NEW_UNPROVED,), "finish", "glance_api_new", None, []),
    "edited again after a kill before the switch": (
        (OLD, OTHER), "replace", "glance_api", None, ["glance_api_other"]),
    "edited again after a kill after the switch": (
        (OLD_LET_GO, OTHER_IN_CHARGE), "replace", "glance_api_other", None, ["glance_api"]),
    "edit taken back after a kill before the switch": (
        (DONE, OTHER), "finish", "glance_api", None, ["glance_api_other"]),
    "policy changed by hand": (
        (("glance_api", "new", True, "always"),), "finish", "glance_api", None, []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decide(case):
    rows, do, incumbent, newcomer, retire = CASES[case]
    verdict = glance_container.decide(world(*rows), WANT, "unless-stopped")
    assert verdict == {
        "do": do, "incumbent": incumbent, "newcomer": newcomer, "retire": retire
    }  # fmt: skip


def test_one_that_was_started_again_after_it_was_told_to_stop_is_in_charge():
    """A reboot, or a restart of the engine, while it stopped to be replaced."""
    (old,) = world(("glance_api", "old", True, "always"))
    old["name"] = glance_container.ending_name(old)
    assert glance_container.decide([old], WANT, "unless-stopped")["do"] == "start"
    old["started_at"] = "another life"
    verdict = glance_container.decide([old], WANT, "unless-stopped")
    assert (verdict["do"], verdict["incumbent"]) == ("replace", old["name"])
    (new,) = world(NEW_UNPROVED)
    assert glance_container.decide([old, new], WANT, "")["incumbent"] == "glance_api_new"


def test_every_container_is_accounted_for():
    """In no world is a container forgotten, or the one in charge taken away."""
    kinds = itertools.product(
        ("glance_api", "glance_api_a", "glance_api_new"),
        ("old", "new"),
        (True, False),
        ("no", "unless-stopped"),
    )
    for rows in itertools.combinations(list(kinds), 2):
        if rows[0][0] == rows[1][0]:
            continue
        verdict = glance_container.decide(world(*rows), WANT, "unless-stopped")
        named = {verdict["incumbent"], verdict["newcomer"], *verdict["retire"]} - {None}
        assert named == {row[0] for row in rows}
        assert verdict["incumbent"] not in verdict["retire"]
        if any(row[2] for row in rows):
            running = {row[0] for row in rows if row[2]}
            assert verdict["incumbent"] in running, "a living container stays in charge"


def test_another_release_is_refused_with_the_command():
    containers = world(DONE)
    containers[0]["labels"]["glance.release"] = "2026.1"
    assert glance_container.refusal(containers, False, "2026.1") is None
    sentence = glance_container.refusal(containers, False, "2026.2")
    assert "This host runs Glance 2026.1" in sentence
    assert "salt-run state.orchestrate glance.orchestrate.upgrade" in sentence


def test_a_foreign_container_is_refused():
    assert "did not make" in glance_container.refusal([], True, "2026.2")
