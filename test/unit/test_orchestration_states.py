"""The states of the master: what they read out of a run, and what they say."""

import pytest

import glance_report
from support.states import state_module

pytestmark = pytest.mark.cluster

STEP = {"id": "ctl1 runs", "phase": "host", "hosts": ["ctl1"]}
LOOK = {"seconds": 1.0, "hosts": {}}
PLAN = {"steps": [STEP], "nothing": False, "summary": "So.", "pause": None, "look": LOOK}
NESTED = {
    "second": {"__id__": "B", "__run_num__": 1, "result": False, "comment": "It exited.",
               "changes": {}},
    "first": {"__id__": "A", "__run_num__": 0, "result": True, "comment": "Fine.", "changes": {}},
}  # fmt: skip


def reported(changes, result=False, plan=PLAN, test=False, start_time="01:02:03.5", passed_over=()):
    released = []
    functions = {
        "glance_report.make": glance_report.make,
        "glance_report.announce": glance_report.announce,
        "glance_lock.release": lambda: released.append(True),
    }
    module = state_module("glance_orchestrate", functions, test)
    module.__running__ = {
        "salt_|-ctl1 runs_|-ctl1 runs_|-state": {
            "__id__": "ctl1 runs",
            "result": result,
            "comment": "Run failed on minions: ctl1",
            "changes": changes,
            "duration": 1500.0,
            "start_time": start_time,
        },
        # As Salt notes what it has not run.
        **{
            f"salt_|-{one}_|-{one}_|-state": {
                "__id__": one,
                "__state_ran__": False,
                "result": True,
                "comment": "State was not run because onfail req did not change",
                "changes": {},
                "duration": 0.001,
                "start_time": start_time,
            }
            for one in passed_over
        },
    }
    ret = module.reported("It is reported", "deploy", ["ctl1"], plan)
    assert released == ([] if test else [True])
    assert ret["changes"] == {}
    return ret


def test_the_first_state_that_failed_is_the_reason():
    ret = reported({"ctl1": NESTED, "out": "highstate"})
    assert ret["result"] is False
    assert "stopped at the step 'ctl1 runs': ctl1: It exited." in ret["comment"]
    assert "       1.5  ctl1 runs" in ret["comment"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ret": {"ctl1": "ERROR: No image."}}, "ctl1: No image."),
        ({"ret": {"ctl1": "ERROR executing 'glance_host.precheck': One."}}, "ctl1: One."),
        ({"ctl1": False}, "ctl1: its minion gave no result; it may still be at work"),
        ({"return": {"Error": "Old ones run."}}, "Old ones run."),
        ({}, "Run failed on minions: ctl1"),
    ],
)
def test_a_function_a_runner_or_a_minion_that_is_gone(changes, reason):
    assert f"stopped at the step 'ctl1 runs': {reason}" in reported(changes)["comment"]


@pytest.mark.parametrize("result", [True, False])
def test_the_report_of_a_run_within_this_one_is_told(result):
    plan = {**PLAN, "steps": [{**STEP, "phase": "again"}], "summary": "It is pulled first."}
    last = {**NESTED["second"], "comment": "The upgrade ...\n  ctl1: so"}
    changes = {"return": {"data": {"master": {**NESTED, "second": last}}, "retcode": 1}}
    ret = reported(changes, result=result, plan=plan)
    assert ret["result"] is result
    assert ret["comment"] == "It is pulled first.\nThe upgrade ...\n  ctl1: so"


def test_a_run_within_this_one_that_did_not_even_begin_is_a_failed_step():
    plan = {**PLAN, "steps": [{**STEP, "phase": "again"}]}
    ret = reported({"return": {"data": {"master": ["Rendering failed"]}}}, plan=plan)
    assert "stopped at the step 'ctl1 runs'" in ret["comment"] and ret["result"] is False


def test_a_run_that_worked():
    assert reported({"ctl1": {"one": {**NESTED["first"]}}}, result=True)["result"] is True


def test_what_is_for_failures_only_and_was_passed_over_is_no_failure():
    back = {**STEP, "id": "ctl1 is put back", "phase": "start_old", "onfail": [STEP["id"]]}
    plan = {**PLAN, "steps": [STEP, back]}
    worked = {"ctl1": {"one": {**NESTED["first"]}}}
    ret = reported(worked, result=True, plan=plan, passed_over=[back["id"]])
    assert ret["result"] is True and "The deploy is finished" in ret["comment"]
    assert back["id"] not in ret["comment"]


def test_a_step_that_was_passed_over_is_not_done():
    later = {**STEP, "id": "ctl2 runs", "hosts": ["ctl2"]}
    plan = {**PLAN, "steps": [STEP, later]}
    worked = {"ctl1": {"one": {**NESTED["first"]}}}
    ret = reported(worked, result=True, plan=plan, passed_over=[later["id"]])
    assert ret["result"] is False and "did not come to its end" in ret["comment"]


def test_a_dry_run_tells_the_plan_and_keeps_the_lock():
    ret = reported({}, result=None, test=True)
    assert ret["result"] is None and "1. ctl1 runs" in ret["comment"]
    nothing = {**PLAN, "nothing": True, "steps": []}
    assert reported({}, result=None, test=True, plan=nothing)["result"] is True


def test_a_refusal_fails_with_its_sentences():
    module = state_module("glance_orchestrate", {})
    ret = module.refused("Nothing was touched", ["One.", "Two."])
    assert ret == {
        "name": "Nothing was touched",
        "result": False,
        "changes": {},
        "comment": "One.\nTwo.",
    }
