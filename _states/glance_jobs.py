"""
The jobs that keep Glance in order as a state.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_jobs"


def __virtual__():
    return __virtualname__


def scheduled(name):
    """
    Make sure that exactly the jobs that the pillar asks for are scheduled on this minion.

    name
        What the state is called in the output.
    """
    return _arranged(
        name, lambda: __salt__["glance_jobs.wanted"](__salt__["glance_settings.get"]())
    )


def absent(name):
    """
    Make sure that no job of Glance is scheduled on this minion.

    name
        What the state is called in the output.
    """
    return _arranged(name, dict)


def _arranged(name, wanted):
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        jobs = wanted()
        if jobs and not __opts__["test"]:
            __salt__["glance_jobs.renew"]()
        ret["changes"] = __salt__["glance_jobs.compare"](jobs)
        said = f"Scheduled: {', '.join(sorted(jobs))}." if jobs else "No job is scheduled."
        if not ret["changes"]:
            ret["comment"] = said
        elif __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "The schedule would have been changed."
        else:
            __salt__["glance_jobs.arrange"](jobs)
            ret["comment"] = f"The schedule was changed. {said}"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
