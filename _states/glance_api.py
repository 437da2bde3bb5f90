"""
The serving Image API as a state.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_api"


def __virtual__():
    return __virtualname__


def answers(name):
    """
    Make sure that this node's own API answers, database included. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["runs_api"]:
            ret["comment"] = f"The API runs on {', '.join(settings['glance_api_hosts'])} only."
            return ret
        if __opts__["test"] and __salt__["glance_container.facts"]()["state"] != "running":
            ret["comment"] = "The API would have been asked once its container runs."
            return ret
        __salt__["glance_api.answers"](settings)
        ret["comment"] = f"The Image API answers at {settings['self_url']}."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret
