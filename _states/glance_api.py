"""
The serving Image API as a state.
"""

import datetime
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_api"

LOADING = 60  # seconds that a container which the engine has just started may take
POLL = 0.5  # seconds between two questions


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
        _wait_for_answer(settings)
        ret["comment"] = f"The Image API answers at {settings['self_url']}."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _wait_for_answer(settings):
    """Ask until it answers; only once where the container runs for longer already."""
    while True:
        try:
            return __salt__["glance_api.answers"](settings)
        except CommandExecutionError:
            if _age() > LOADING:
                raise
        time.sleep(POLL)


def _age():
    """Seconds since the engine started the container in charge."""
    began = __salt__["glance_container.facts"]().get("started_at")
    if not began:
        return LOADING + 1
    # Engines tell nanoseconds, which this Python may not read.
    moment = datetime.datetime.fromisoformat(f"{began[:19]}+00:00")
    return (datetime.datetime.now(datetime.timezone.utc) - moment).total_seconds()
