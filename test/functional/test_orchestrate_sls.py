"""The orchestrations as Salt compiles them on the master, from any plan."""

import json

import pytest

from support import session
from support.salt_loaders import Loaders

pytestmark = pytest.mark.cluster

MODES = ["deploy", "upgrade", "rollback"]
# Stands for Salt's own module: what the runners of the master would answer.
RUNNERS = """
import json

def is_running(fun):
    return []

def note(*what):
    with open({log!r}, "a") as file:
        file.write(json.dumps(what) + "\\n")

def sync_modules(**how):
    note("sync_modules", how, None)

def sync_states(**how):
    note("sync_states", how, None)

def runner(name, arg=None, kwarg=None, **more):
    note(name, arg, kwarg)
    return json.loads({answer!r})
"""
STEPS = [
    {
        "id": 'ctl1: 50 % of "it" can take {what} the pillar says',
        "phase": "precheck",
        "do": "function",
        "hosts": ["ctl1", "ctl2"],
        "fun": "glance_host.precheck",
    },
    {"id": "ctl1 runs", "phase": "host", "do": "state", "hosts": ["ctl1"], "sls": ["glance"]},
    {
        "id": "ctl1 is put back",
        "phase": "start",
        "do": "state",
        "hosts": ["ctl1", "ctl2"],
        "sls": ["glance.upgrade.start_old"],
        "onfail": ["ctl1 runs"],
    },
    {
        "id": "all is confirmed",
        "phase": "confirm",
        "do": "runner",
        "fun": "salt.cmd",
        "arg": ["glance_orchestrate.confirm", "upgrade"],
    },
]


@pytest.fixture
def compiled(tmp_path):
    """A function: plan -> the states of an orchestration in their order."""

    def compile_(plan, mode="deploy", pillar=None, failure=None, **more):
        plan = {
            "refusals": [],
            "nothing": False,
            "release": "2026.2",
            "summary": "So.",
            "pause": None,
            **plan,
        }
        look = failure or {"plan": plan, "hosts": ["ctl1", "ctl2"], "patience": 60}
        answer = json.dumps(look)
        log = tmp_path / "asked"
        log.unlink(missing_ok=True)
        folder = tmp_path / "modules"
        folder.mkdir(exist_ok=True)
        (folder / "saltutil.py").write_text(RUNNERS.format(log=str(log), answer=answer))
        with Loaders(docker_url="unix:///nobody") as loaders:
            folders = [str(folder), str(session.ROOT / "_modules")]
            loaders.pillar(pillar or {}, module_dirs=folders)
            low = loaders.modules["state.show_low_sls"](f"glance.orchestrate.{mode}", **more)
        assert all(isinstance(one, dict) for one in low), low
        asked = [json.loads(line) for line in log.read_text().splitlines()]
        return low, asked

    return compile_


def by_id(low):
    return {one["__id__"]: one for one in low}


@pytest.mark.parametrize("mode", MODES)
def test_every_step_of_a_plan_is_one_state(compiled, mode):
    low, asked = compiled({"steps": STEPS}, mode)
    assert [one["__id__"] for one in low] == [
        *(step["id"] for step in STEPS),
        f"The {mode} is reported",
    ]
    assert [f"{one['state']}.{one['fun']}" for one in low] == [
        "salt.function",
        "salt.state",
        "salt.state",
        "salt.runner",
        "glance_orchestrate.reported",
    ]
    assert [name for name, _, _ in asked] == [
        "sync_modules",
        "sync_states",
        "salt.cmd",
    ], "the modules are those of the file server before one is asked"
    assert all(how == {"saltenv": "base", "refresh": False} for _, how, _ in asked[:2])
    assert asked[2][1] == ["glance_orchestrate.plan", mode]


def test_a_dry_run_asks_hosts_what_they_would_change_and_does_nothing_else(compiled):
    low, asked = compiled({"steps": STEPS}, "upgrade", test=True)
    assert [one["__id__"] for one in low] == ["ctl1 runs", "The upgrade is reported"]
    assert asked[2][2]["test"] is True
    assert low[-1]["plan"]["steps"] == STEPS


def test_each_step_waits_for_the_one_before_it(compiled):
    low = by_id(compiled({"steps": STEPS})[0])
    first, second, back, last = (step["id"] for step in STEPS)
    assert "require" not in low[first]
    assert low[second]["require"] == [{"salt": first}]
    assert low[back]["onfail_any"] == [{"salt": second}] and "require" not in low[back]
    assert low[last]["require"] == [{"salt": second}], "what is for failures only is passed over"
    report = low["The deploy is reported"]
    assert "require" not in report, "it comes whatever happened before"
    assert report["plan"]["steps"] == STEPS


def test_a_step_reaches_its_hosts_and_no_other(compiled):
    low = by_id(compiled({"steps": STEPS})[0])
    for step in STEPS[:3]:
        assert low[step["id"]]["tgt"] == step["hosts"]
        assert low[step["id"]]["tgt_type"] == "list"
    assert low["ctl1 runs"]["sls"] == ["glance"] and low["ctl1 runs"]["queue"] is True


def test_no_configuration_of_a_daemon_ends_a_run_early_or_makes_a_step_dry(compiled):
    """What is for failures, and the report, come in spite of ``failhard`` of the master."""
    for test in (False, True):
        low = by_id(compiled({"steps": STEPS}, "upgrade", test=test)[0])
        report = low.pop("The upgrade is reported")
        assert report["order"] > max(one["order"] for one in low.values())
        assert {one["failhard"] for one in low.values()} == {False}
        assert low["ctl1 runs"]["test"] is test, "whatever the minion's own configuration says"


def test_a_refusal_leaves_nothing_but_its_sentences(compiled):
    low, _ = compiled({"refusals": ['ctl1: no: "never".', "ctl2: # no"], "steps": []})
    (state,) = low
    assert f"{state['state']}.{state['fun']}" == "glance_orchestrate.refused"
    assert state["reasons"] == ['ctl1: no: "never".', "ctl2: # no"]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("'glance_x.plan' is not available.", "'glance_x.plan' is not available."),
        ("Exception occurred in runner:\nTraceback ...\nKeyError: 'a'\n", "KeyError: 'a'"),
    ],
)
def test_a_look_that_fails_is_told_in_a_sentence(compiled, failure, reason):
    low, _ = compiled({}, failure=failure)
    (state,) = low
    assert f"{state['state']}.{state['fun']}" == "glance_orchestrate.refused"
    assert state["reasons"] == [f"The hosts could not be looked at: {reason}"]


def test_the_group_of_the_masters_own_pillar_is_handed_on(compiled):
    group = ["ctl2", "ctl1"]
    for pillar, handed in (({"glance": {"glance_api_group": group}}, group), ({}, None)):
        _, asked = compiled({"steps": STEPS}, pillar=pillar)
        assert asked[2][2] == {"group": handed, "test": False, "saltenv": "base", "again": False}


def test_a_step_knows_the_release_that_was_planned_and_a_nested_run_whose_part_it_is(compiled):
    low, asked = compiled({"steps": STEPS}, pillar={"glance_orchestration": {"again": True}})
    told = {"glance_orchestration": {"synced": True, "release": "2026.2"}}
    assert by_id(low)["ctl1 runs"]["pillar"] == told
    assert asked[2][2]["again"] is True
