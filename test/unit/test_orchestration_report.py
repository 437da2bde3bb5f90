"""The end of an orchestration in words: done, failed, untouched, seconds, how to go on."""

import pytest

import glance_report

pytestmark = pytest.mark.cluster

GROUP = ["ctl1", "ctl2", "ctl3"]
NOT_RUN = "One or more requisite failed: glance.orchestrate.deploy.ctl2 runs Glance"


def step(phase, *hosts, **more):
    return {"id": f"{phase} {' '.join(hosts)}", "phase": phase, "hosts": list(hosts), **more}


def plan(*steps, pause=None):
    return {
        "steps": list(steps),
        "nothing": not steps,
        "summary": "They get what the pillar says.",
        "pause": pause,
        "look": {"seconds": 3.5, "hosts": {"ctl1": {"database": 1.5, "proof": 1.0}}},
    }


def result(ok=True, comment="", start=0.0, seconds=2.0, **hosts):
    return {"result": ok, "comment": comment, "seconds": seconds, "start": start, "hosts": hosts}


def state(ok, comment, changed=False):
    return {"id": "one", "result": ok, "comment": comment, "changed": changed}


STEPS = [step("precheck", *GROUP), *(step("host", name) for name in GROUP)]


def make(results, steps=STEPS, mode="deploy", **more):
    return glance_report.make(plan(*steps, **more), mode, GROUP, results)


def test_a_deploy_that_worked():
    replaced = state(
        True, "The container was replaced by hand-over (newcomer healthy in 9 s).", True
    )
    done = {one["id"]: result() for one in STEPS}
    done["host ctl2"] = result(seconds=11.0, ctl2=[state(True, "It is valid."), replaced])
    report = make(done)
    assert report == {
        "ok": True,
        "lines": [
            "The deploy is finished (20.5 s). They get what the pillar says.",
            "  done: ctl1, ctl2, ctl3",
            "Seconds of each step:",
            "       3.5  All hosts were looked at",
            "            ctl1: database 1.5 s, proof 1.0 s",
            "       2.0  precheck ctl1 ctl2 ctl3",
            "       2.0  host ctl1",
            "      11.0  host ctl2",
            f"            ctl2: {replaced['comment']}",
            "       2.0  host ctl3",
        ],
    }


def test_a_host_that_fails_ends_it_and_the_rest_is_untouched():
    states = [
        state(True, "It is valid."),
        state(False, "It was taken away again, because it exited.\n Its last log lines:\n  boom"),
        state(False, NOT_RUN),
    ]
    report = make(
        {
            "precheck ctl1 ctl2 ctl3": result(),
            "host ctl1": result(),
            "host ctl2": result(False, "Run failed on minions: ctl2", ctl2=states),
        }
    )
    assert report["ok"] is False
    lines = report["lines"]
    assert lines[0] == (
        "The deploy stopped at the step 'host ctl2': ctl2: It was taken away again, because it"
        " exited."
    )
    assert lines[1:4] == ["  done: ctl1", "  failed: ctl2", "  untouched: ctl3"]
    assert lines[-1] == (
        "When that is put right, go on with 'salt-run state.orchestrate glance.orchestrate.deploy'."
    )


def test_a_precheck_that_fails_touches_nobody():
    report = make(
        {
            "precheck ctl1 ctl2 ctl3": result(
                False, "Running function failed", ctl2="ERROR: The image is not there."
            ),
        }
    )
    assert report["lines"][0].endswith("ctl2: The image is not there.")
    assert report["lines"][1] == "  untouched: ctl1, ctl2, ctl3"


def test_only_the_minion_that_fails_in_a_step_for_several_is_called_failed():
    steps = [step("stop", *GROUP)]
    wrong = result(
        False,
        "Run failed on minions: ctl2",
        ctl1=[state(True, "Stopped.", True)],
        ctl2=[state(False, "The engine is away.")],
        ctl3=[state(True, "Stopped.", True)],
    )
    lines = make({"stop ctl1 ctl2 ctl3": wrong}, steps, "upgrade")["lines"]
    assert lines[1:3] == ["  done: ctl1, ctl3", "  failed: ctl2"]


def test_a_minion_that_did_not_return_is_named():
    gone = result(False, "Run failed on minions: ctl1", ctl1="Minion did not return. [No response]")
    lines = make({"host ctl1": gone}, [step("host", "ctl1")])["lines"]
    assert "ctl1: Minion did not return." in lines[0]
    assert "  failed: ctl1" in lines
    assert "  unchanged: ctl2, ctl3" in lines


def test_a_run_whose_steps_are_missing_is_not_called_finished():
    report = make({"precheck ctl1 ctl2 ctl3": result()})
    assert report["ok"] is False
    assert report["lines"][0] == "The deploy did not come to its end."


def test_the_outage_of_a_legacy_upgrade_is_told_in_seconds_also_over_midnight():
    steps = [step("stop", *GROUP, outage="begins"), step("sync", "ctl1")]
    steps.append(step("start", *GROUP, outage="ends"))
    results = {
        steps[0]["id"]: result(start=86390.0, seconds=5, ctl1=[state(True, "Stopped.", True)]),
        steps[1]["id"]: result(start=86395.0, seconds=10),
        steps[2]["id"]: result(start=5.0, seconds=7),
    }
    report = make(results, steps, "upgrade")
    assert "The API was down for 22.0 s at most." in report["lines"]
    results[steps[0]["id"]] = result(start=86390.0, seconds=5)
    report = make(results, steps, "upgrade")
    assert "The API was down already when this run began." in report["lines"]


LEGACY = [
    step("stop", *GROUP, outage="begins"),
    step("sync", "ctl1"),
    step("start_old", *GROUP, outage="ends", onfail=["stop ctl1 ctl2 ctl3", "sync ctl1"]),
    step("host", *GROUP, outage="ends"),
]


def test_what_was_stopped_and_started_again_is_as_before():
    results = {
        LEGACY[0]["id"]: result(start=10.0, seconds=5, ctl1=[state(True, "Stopped.", True)]),
        LEGACY[1]["id"]: result(False, ctl1=[state(False, "The database is away.")]),
        LEGACY[2]["id"]: result(start=20.0, seconds=4),
    }
    lines = make(results, LEGACY, "upgrade")["lines"]
    assert lines[:3] == [
        "The upgrade stopped at the step 'sync ctl1': ctl1: The database is away.",
        "  as before: ctl1, ctl2, ctl3",
        "The API was down for 14.0 s at most.",
    ]
    assert lines[-1].startswith("When that is put right, go on with")
    places = [
        lines.index(f"{at:>10}  {one['id']}")
        for at, one in zip((5.0, 2.0, 4.0), LEGACY[:3], strict=True)
    ]
    assert places == sorted(places), "in the order in which they were run"


def test_who_does_not_come_back_is_called_failed():
    results = {
        LEGACY[0]["id"]: result(False, ctl2=[state(False, "The engine is away.")]),
        LEGACY[2]["id"]: result(False, ctl2=[state(False, "The engine is away.")]),
    }
    lines = make(results, LEGACY, "upgrade")["lines"]
    assert lines[1:3] == ["  failed: ctl2", "  as before: ctl1, ctl3"]


def test_a_step_for_failures_only_is_not_missed_and_a_pause_is_told():
    steps = [step("host", "ctl1"), step("start", "ctl1", onfail=["host ctl1"])]
    report = make({"host ctl1": result()}, steps, "upgrade", pause="This is a pause.")
    assert report["ok"] and report["lines"][-1] == "This is a pause."


def test_the_plan_is_told_in_test_mode():
    assert glance_report.announce(plan(*STEPS[:2], pause="A pause."), "deploy") == [
        "The deploy would go like this: They get what the pillar says.",
        "  1. precheck ctl1 ctl2 ctl3",
        "  2. host ctl1",
        "A pause.",
    ]
    for_failures = step("start_old", "ctl1", onfail=["host ctl1"])
    hosts = ["ctl1: 2023.2 is replaced", "ctl2: as wanted"]
    told = {**plan(STEPS[1], for_failures), "hosts": hosts}
    assert glance_report.announce(told, "upgrade")[1:] == [
        "  ctl1: 2023.2 is replaced",
        "  ctl2: as wanted",
        "  1. host ctl1",
        "  2. start_old ctl1 (only after a failure)",
    ]
    assert glance_report.announce(plan(), "deploy") == ["They get what the pillar says."]
