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
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        if __opts__["test"] and _is_pending(settings):
            ret["comment"] = "The API would have been asked once the wanted container is in charge."
            return ret
        _wait_for_answer(settings)
        ret["comment"] = f"The Image API answers at {settings['self_url']}."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _is_pending(settings):
    """Whether the run would put another container in charge, so that today's answer says little."""
    want, _ = __salt__["glance_container.desired"](settings, look=False)
    return want is None or not __salt__["glance_container.serves"](want["hash"])


def stores_work(name):
    """
    Make sure that images go up and come back in every store, also in those that were broken before
    the container was replaced. Never reports changes; asks until it has seen that once.

    In test mode it tries nothing, because only an image that is written tells: its result is None
    where it would have tried, and True where the container in charge was seen to work before.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        if __salt__["glance_store_proof.holds"]():
            ret["comment"] = "An image went through every store since the container was started."
            return ret
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "An image would have gone through every store."
            return ret
        found = __salt__["glance_check.after"](settings)
        if found["broken"]:
            raise CommandExecutionError("\n".join(found["broken"].values()))
        __salt__["glance_store_proof.remember"]()
        ret["comment"] = f"An image went through {', '.join(found['works'])} and came back."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _wait_for_answer(settings):
    """
    Ask until it answers; only once where the container runs for longer already. One that the
    engine starts again and again is always young.
    """
    deadline = time.monotonic() + LOADING
    while True:
        try:
            return __salt__["glance_api.answers"](settings)
        except CommandExecutionError:
            if _age() > LOADING or time.monotonic() > deadline:
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
