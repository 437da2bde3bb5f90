"""
Begin and end of an orchestration, as states of the master: refused, or reported.
"""

__virtualname__ = "glance_orchestrate"

WITHIN = "again"  # the phase of a plan that is a run of its own


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

    Reads the results of all steps out of this very run, and ends its lock. Where a run within this
    one has planned and done the rest, its report is told. With ``test=True`` it tells the plan.
    Never reports changes.

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
    phases = {step["id"]: step["phase"] for step in plan["steps"]}
    # Salt passes over what waits for a failed step, and over what is for failures only.
    done = [
        one
        for one in __running__.values()
        if one.get("__id__") in phases and one.get("__state_ran__", True)
    ]
    results = {one["__id__"]: _result(one) for one in done}
    for one in done:
        words = _words(one) if phases[one["__id__"]] == WITHIN else None
        if words:
            return {**ret, "result": one["result"], "comment": f"{plan['summary']}\n{words}"}
    report = __salt__["glance_report.make"](plan, mode, hosts, results)
    ret.update(result=report["ok"], comment="\n".join(report["lines"]))
    return ret


def _words(one):
    """The last words of a function of the master: its error, or the report of a run; or None."""
    told = (one.get("changes") or {}).get("return")
    if not hasattr(told, "items"):
        return None
    if "Error" in told:
        return told["Error"]
    said = [_states(states) for states in (told.get("data") or {}).values()]
    lists = [states for states in said if isinstance(states, list) and states]
    return lists[0][-1]["comment"] if lists else None


def _result(one):
    changes = one.get("changes") or {}
    by_host = changes.get("ret", changes)
    hours, minutes, seconds = (one.get("start_time") or "0:0:0").split(":")
    return {
        "result": one["result"],
        "comment": _words(one) or one["comment"],
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
