"""
Begin and end of an orchestration, as states of the master: refused, or reported.
"""

__virtualname__ = "glance_orchestrate"


def __virtual__():
    return __virtualname__


def refused(name, reasons):
    """
    Nothing is touched, and why. Always fails.

    name
        What the state is called in the output.
    reasons
        Sentences.
    """
    return {"name": name, "result": False, "changes": {}, "comment": "\n".join(reasons)}


def reported(name, mode, hosts, plan):
    """
    The end of an orchestration: every host done, failed or untouched, and the command to go on.

    Reads the results of all steps out of this very run, and ends its lock. With ``test=True`` it
    tells the plan. Never reports changes.

    name
        What the state is called in the output.
    mode
        ``deploy``, ``upgrade`` or ``rollback``.
    hosts
        Minion ids of the group.
    plan
        Result of the planner.
    """
    ret = {"name": name, "result": True, "changes": {}}
    if __opts__["test"]:
        ret["comment"] = "\n".join(__salt__["glance_report.announce"](plan, mode))
        ret["result"] = True if plan["nothing"] else None
        return ret
    __salt__["glance_lock.release"]()
    steps = {step["id"] for step in plan["steps"]}
    results = {
        one["__id__"]: _result(one)
        for one in __running__.values()
        # Salt passes over what waits for a failed step, and over what is for failures only.
        if one.get("__id__") in steps and one.get("__state_ran__", True)
    }
    report = __salt__["glance_report.make"](plan, mode, hosts, results)
    ret.update(result=report["ok"], comment="\n".join(report["lines"]))
    return ret


def _result(one):
    changes = one.get("changes") or {}
    by_host = changes.get("ret", changes)
    hours, minutes, seconds = (one.get("start_time") or "0:0:0").split(":")
    return {
        "result": one["result"],
        "comment": one["comment"],
        "seconds": float(one.get("duration") or 0) / 1000,
        "start": int(hours) * 3600 + int(minutes) * 60 + float(seconds),
        "hosts": {
            host: _states(said) for host, said in by_host.items() if host not in ("out", "return")
        },
    }


def _states(said):
    """The states of one minion in their order, or the text of its error."""
    if said is False:
        return "its minion gave no result; it may still be at work"
    if not hasattr(said, "items"):
        return str(said)
    states = [one for one in said.values() if hasattr(one, "items") and "result" in one]
    return [
        {
            "id": one.get("__id__"),
            "result": one["result"],
            "comment": str(one.get("comment") or ""),
            "changed": bool(one.get("changes")),
        }
        for one in sorted(states, key=lambda one: one.get("__run_num__", 0))
    ]
