"""The plan of a deploy: which hosts, in which order, and every refusal in its sentence."""

import pytest

import glance_deploy
import glance_group
import glance_lock

pytestmark = pytest.mark.cluster

GROUP = ["ctl1", "ctl2", "ctl3"]


def host(name, change=True, serves=True, **more):
    running = {"name": "glance_api", "release": "2026.2", "serves": serves}
    return {
        "id": name,
        "answers": True,
        "settings": {"glance_api_group": GROUP},
        "faults": [],
        "runs_api": True,
        "running": running if serves is not None else None,
        "change": change,
        "would": [],
        "drained_at": [],
        **more,
    }


def plan(*hosts, lock=None):
    facts = {"mode": "deploy", "hosts": list(hosts), "lock": lock}
    parts = {
        "glance_lock.sentence": glance_lock.sentence,
        "glance_group.refusals": glance_group.refusals,
    }
    return glance_deploy.plan(facts, parts)


def phases(made):
    return [(step["phase"], *step["hosts"]) for step in made["steps"]]


def test_every_host_is_checked_before_one_is_touched_and_each_gets_its_own_step():
    made = plan(*map(host, GROUP))
    assert phases(made) == [
        ("precheck", *GROUP),
        ("host", "ctl1"),
        ("host", "ctl2"),
        ("host", "ctl3"),
    ]
    assert [step["do"] for step in made["steps"]] == ["function", "state", "state", "state"]
    assert {tuple(step["sls"]) for step in made["steps"][1:]} == {("glance",)}
    assert made["summary"] == "ctl1, ctl2 and ctl3 get what the pillar says, one after the other."
    ids = [step["id"] for step in made["steps"]]
    assert len(set(ids)) == len(ids)


def test_an_unchanged_host_is_in_no_step():
    made = plan(host("ctl1", change=False), host("ctl2"), host("ctl3", change=False))
    assert phases(made) == [("precheck", "ctl2"), ("host", "ctl2")]


def test_a_finished_deploy_plans_nothing():
    made = plan(*(host(name, change=False) for name in GROUP))
    assert made["nothing"] and not made["steps"] and not made["refusals"]
    assert made["summary"] == (
        "ctl1, ctl2 and ctl3 run Glance as the pillar says: nothing is to be done."
    )


def test_on_fresh_hosts_the_first_of_the_group_begins():
    made = plan(*(host(name, serves=None) for name in GROUP))
    assert phases(made)[1:] == [("host", "ctl1"), ("host", "ctl2"), ("host", "ctl3")]


def test_a_host_that_does_not_serve_comes_before_those_that_do():
    made = plan(host("ctl1"), host("ctl2", serves=False), host("ctl3"))
    assert phases(made)[1:] == [("host", "ctl2"), ("host", "ctl1"), ("host", "ctl3")]


def test_the_host_that_registers_for_all_comes_before_everybody():
    first = host("ctl1", would=["Glance is registered in Keystone", "Glance API runs"])
    made = plan(first, host("ctl2", serves=False), host("ctl3"))
    assert phases(made)[1:] == [("host", "ctl1"), ("host", "ctl2"), ("host", "ctl3")]


def test_a_host_that_leaves_the_service_comes_last():
    made = plan(host("ctl1", runs_api=False), host("ctl2"), host("ctl3", serves=False))
    assert phases(made)[1:] == [("host", "ctl3"), ("host", "ctl2"), ("host", "ctl1")]


def test_a_host_that_is_down_stops_all_before_anything_is_touched():
    made = plan(host("ctl1"), host("ctl2", answers=False), host("ctl3"))
    assert made["steps"] == []
    assert made["refusals"] == [
        "ctl2 does not answer: start its salt-minion, or take it out of glance:glance_api_group"
        " when it is gone for good."
    ]


def test_all_faults_of_all_hosts_are_told_at_once():
    made = plan(
        host("ctl1", faults=["One.", "Two."]), host("ctl2"), host("ctl3", faults=["Three."])
    )
    assert made["refusals"] == ["ctl1: One.", "ctl1: Two.", "ctl3: Three."]


def test_hosts_must_agree_on_the_group():
    other = host("ctl2", settings={"glance_api_group": ["ctl2", "ctl1"]})
    (sentence,) = plan(host("ctl1"), other, host("ctl3"))["refusals"]
    assert sentence.startswith(
        "ctl2: its pillar has glance:glance_api_group ctl2, ctl1, and this orchestration works on"
        " ctl1, ctl2, ctl3:"
    )


@pytest.mark.parametrize("dead", [True, False])
def test_only_a_living_orchestration_is_in_the_way(dead):
    lock = {"owner": "upgrade by root", "since": "now", "expires": "later", "dead": dead}
    assert bool(plan(host("ctl1", settings={}), lock=lock)["refusals"]) is not dead


@pytest.mark.parametrize("seen", [GROUP, GROUP[:2]])
def test_hosts_that_have_not_read_each_others_marks_do_so_before_any_is_touched(seen):
    sharing = {"needed": True, "shared": False, "hosts": {name: name in seen for name in GROUP}}
    made = plan(
        host("ctl1", change=False, sharing=sharing),
        host("ctl2", change=False, sharing=sharing),
        host("ctl3", sharing=sharing),
    )
    all_three = [("sharing", *GROUP)] * 3 * (seen != GROUP)
    assert phases(made) == [("precheck", "ctl3"), *all_three, ("host", "ctl3")]
    if all_three:
        functions = [step["fun"] for step in made["steps"] if step["phase"] == "sharing"]
        assert functions == [
            "glance_sharing.write",
            "glance_sharing.read",
            "glance_host.shares_images",
        ]
    off = {"needed": False, "shared": False, "hosts": dict.fromkeys(GROUP, False)}
    made = plan(*(host(name, sharing=off) for name in GROUP))
    assert "sharing" not in [phase for phase, *_ in phases(made)]
