"""
What an orchestration has done: each host done, failed or untouched, with seconds, and the command
to go on. Pure.
"""

import re

__virtualname__ = "glance_report"

NOT_RUN = "One or more requisite failed"
#: Phases whose steps change a host; all other steps belong to the whole group.
HOST_PHASES = ("host", "stop")
BACK = "start_old"  # the phase that makes good what "stop" has done, after a failure
LONGEST = 600  # characters of a reason


def __virtual__():
    return __virtualname__


def announce(plan, mode):
    """
    The plan in words, for ``test=True``. Pure.

    plan
        Result of a planner.
    mode
        ``deploy``, ``upgrade`` or ``rollback``.

    Returns lines.
    """
    if plan["nothing"]:
        return [plan["summary"]]
    lines = [f"The {mode} would go like this: {plan['summary']}"]
    lines += [f"  {line}" for line in plan.get("hosts", [])]
    lines += [f"  {number}. {_shown(step)}" for number, step in enumerate(plan["steps"], 1)]
    return [*lines, *([plan["pause"]] if plan["pause"] else [])]


def _shown(step):
    return step["id"] + (" (only after a failure)" if step.get("onfail") else "")


def make(plan, mode, hosts, results):
    """
    The report of a run. Pure.

    plan
        What ``glance_orchestrate.plan`` returns as ``plan``.
    mode
        ``deploy``, ``upgrade`` or ``rollback``.
    hosts
        All minion ids of the group, in order.
    results
        ``{step id: {"result", "comment", "seconds", "start", "hosts": {minion id: [states]}}}`` of
        the steps that have run; a state is ``{"id", "result", "comment"}``.

    Returns ``{"ok", "lines"}``.
    """
    if plan["nothing"]:
        return {"ok": True, "lines": [plan["summary"]]}
    done, failed, planned, back = [], [], {}, {}
    for step in plan["steps"]:
        outcome = _outcome(results.get(step["id"]))
        if step["phase"] in HOST_PHASES:
            for host in step["hosts"]:
                planned.setdefault(host, []).append(_of_host(outcome, host))
        elif step["phase"] == BACK and outcome["state"] != "untouched":
            for host in step["hosts"]:
                back[host] = "as before" if _of_host(outcome, host) == "done" else "failed"
        if outcome["state"] == "failed":
            failed.append((step, outcome))
        elif outcome["state"] == "done":
            done.append((step, outcome))
    ok = not failed and len(done) == len([one for one in plan["steps"] if not one.get("onfail")])
    words = {host: back.get(host) or _word(planned.get(host)) for host in hosts}
    look = plan["look"]
    total = look["seconds"] + sum(outcome["seconds"] for _, outcome in [*done, *failed])
    lines = [_headline(plan, mode, ok, failed, total)]
    lines += _hosts(words)
    lines += _outage(plan, results)
    lines.append("Seconds of each step:")
    lines.append(f"  {look['seconds']:8.1f}  All hosts were looked at")
    for host, parts in look["hosts"].items():
        told = ", ".join(f"{part} {seconds} s" for part, seconds in parts.items())
        lines.append(f"            {host}: {told}")
    for step, outcome in sorted([*done, *failed], key=lambda one: plan["steps"].index(one[0])):
        lines.append(f"  {outcome['seconds']:8.1f}  {step['id']}")
        lines += [f"            {line}" for line in outcome["said"]]
    if ok and plan["pause"]:
        lines.append(plan["pause"])
    if not ok:
        lines.append(
            "When that is put right, go on with 'salt-run state.orchestrate"
            f" glance.orchestrate.{mode}'."
        )
    return {"ok": ok, "lines": lines}


def _outcome(result):
    if result is None:
        return {"state": "untouched", "seconds": 0.0, "said": [], "bad": []}
    seconds = result["seconds"]
    if result["result"] is False:
        bad, said = _reasons(result)
        return {"state": "failed", "seconds": seconds, "said": said, "bad": bad}
    return {"state": "done", "seconds": seconds, "said": _said(result), "bad": []}


def _reasons(result):
    """The minions on which a step failed, and why, in one sentence each."""
    bad, said = [], []
    for host, states in result["hosts"].items():
        if isinstance(states, str):
            text = states
        else:
            wrong = [
                one
                for one in states
                if one["result"] is False and not one["comment"].startswith(NOT_RUN)
            ]
            if not wrong:
                continue
            text = wrong[0]["comment"]
        bad.append(host)
        said.append(f"{host}: {_short(text)}")
    return bad, said or [_short(result["comment"])]


def _said(result):
    """What the states of each host tell about a replacement, a backup, a migration."""
    return [
        f"{host}: {_short(one['comment'])}"
        for host, states in result["hosts"].items()
        if not isinstance(states, str)
        for one in states
        if one.get("changed") and one["comment"]
    ]


def _of_host(outcome, host):
    if outcome["state"] == "failed" and outcome["bad"] and host not in outcome["bad"]:
        return "done"
    return outcome["state"]


def _word(states):
    if not states:
        return "unchanged"
    if "failed" in states:
        return "failed"
    return states[0] if len(set(states)) == 1 else "begun"


def _headline(plan, mode, ok, failed, total):
    if ok:
        return f"The {mode} is finished ({total:.1f} s). {plan['summary']}"
    if not failed:
        return f"The {mode} did not come to its end."
    step, outcome = failed[0]
    return f"The {mode} stopped at the step '{step['id']}': {'; '.join(outcome['said'])}"


def _hosts(words):
    lines = []
    for word in ("done", "failed", "begun", "as before", "untouched", "unchanged"):
        names = [host for host, one in words.items() if one == word]
        if names:
            lines.append(f"  {word}: {', '.join(names)}")
    return lines


def _outage(plan, results):
    """Seconds between the beginning of the step that stops the service and its return."""
    marks = {}
    for step in plan["steps"]:
        result = results.get(step["id"])
        state = _outcome(result)["state"]
        if step.get("outage") == "begins" and state != "untouched":
            if state == "done" and not _said(result):
                return ["The API was down already when this run began."]
            marks["begins"] = result["start"]
        elif step.get("outage") == "ends" and state == "done":
            marks["ends"] = result["start"] + result["seconds"]
    if len(marks) < 2:
        return []
    seconds = (marks["ends"] - marks["begins"]) % 86400
    return [f"The API was down for {seconds:.1f} s at most."]


def _short(text):
    """One line; the log lines of a container that failed stay in the step's own output."""
    first = re.sub(r"^ERROR( executing '[^']*')?: ", "", str(text))
    first = re.split(r"\s*Its last log lines:", first)[0]
    words = " ".join(first.split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
