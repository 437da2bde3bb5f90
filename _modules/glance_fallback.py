"""
What serves when a newcomer is not fit: the old container goes on, or is started again.
"""

import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_fallback"

NAME = "glance_api"
RELEASE_LABEL = "glance.release"  # see glance_container.wanted
POLL = 0.5  # seconds between two looks at a condition
COME_BACK = 60  # seconds an old container gets to serve again
LOOK_AGAIN = 60  # seconds in which a database that cannot be looked at may come back


def __virtual__():
    return __virtualname__


def undo(settings, want, name, err, back_to, born=None, held=None):
    """
    Remove a newcomer that is not fit and leave the old container in charge.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.
    name
        Name of the newcomer.
    err
        Why it is not fit.
    back_to
        Name of the old container; None when there is none.
    born
        When the old one was started, if it was in charge all the time.
    held
        When the newcomer was started, if it may hold connections of clients: these end first.

    Returns the error to raise, with the newcomer's last words unless ``err`` has a ``reason``.
    """
    words, present = last_words(name), __salt__["glance_engine.inspect"](name)
    lives = bool(held and present and present["running"] and present["started_at"] == held)
    try:
        cut = _take_away(settings, want, name, back_to, lives)
    except CommandExecutionError as later:
        return CommandExecutionError(f"{name} is not fit, because {str(err).rstrip('.')}; {later}")
    there = __salt__["glance_engine.inspect"](back_to) if back_to else None
    if not there:
        outcome = "nothing else ran on this host"
    elif not _serves_on(there):
        _, outcome = bring_back(settings, want, back_to)
    else:
        __salt__["glance_newcomer.keep_charge"](back_to, want)
        outcome = f"{back_to} went on serving all the time and no request failed"
        if held or there["started_at"] != born:
            outcome = f"{back_to} is in charge again"
        if not lives and (held or there["started_at"] != born):
            outcome += f"; requests that were inside {name} were lost"
        __salt__["glance_steering.release"](settings, back_to)
    if cut:
        outcome += f"; cut at glance:glance_drain_timeout: {', '.join(cut)}"
    try:
        __salt__["glance_leftovers.remove"](settings)
    except CommandExecutionError as later:
        outcome += f"; then {str(later).rstrip('.')}"
    # Where a driver's own words say why, those of the container tell no more.
    words = "" if getattr(err, "reason", "") else f" Its last log lines:{words}"
    return CommandExecutionError(
        f"The new glance-api container was taken away again, because {str(err).rstrip('.')};"
        f" {outcome}.{words}"
    )


def _take_away(settings, want, name, back_to, lives):
    """Remove a newcomer; what clients have in it ends first. Returns what had to be cut."""
    there = __salt__["glance_engine.inspect"](back_to) if back_to else None
    if lives and there and _serves_on(there):
        # That may take minutes, in which the host may be rebooted.
        __salt__["glance_newcomer.keep_charge"](back_to, want)
        return __salt__["glance_retire.remove"](settings, name, back_to)
    cut = __salt__["glance_retire.leave"](settings, name)["cut"] if lives else []
    __salt__["glance_engine.remove"](name)
    return cut


def _serves_on(container):
    ending = __salt__["glance_container.is_ending"](container["name"])
    return container["running"] and not ending


def bring_back(settings, want, name):
    """
    Start an old container again, as after a failed newcomer.

    One of another release stays stopped when the schema has become one that it does not know. A
    database that cannot be looked at is no reason: it serves as soon as that is back.

    settings
        Result of ``glance_settings.get``.
    want
        What was wanted instead, or at least ``{"policy", "spec", "labels"}``.
    name
        Container name.

    Returns whether it serves, and a sentence without its full stop.
    """
    settings = __salt__["glance_steering.reached"](settings, name)
    unknown = ""
    try:
        present = __salt__["glance_engine.inspect"](name)
        if present["labels"].get(RELEASE_LABEL) != want["labels"].get(RELEASE_LABEL):
            unfit, unknown = _unfit(settings, present)
            if unfit:
                return False, f"{name} was not started again, because {unfit}"
        if name != NAME and not __salt__["glance_engine.inspect"](NAME):
            __salt__["glance_engine.rename"](name, NAME)
            name = NAME
        __salt__["glance_newcomer.outlive_a_reboot"](name, want["policy"])
        __salt__["glance_engine.start"](name)
        __salt__["glance_newcomer.keep_charge"](name, want)
        deadline = time.monotonic() + COME_BACK
        while time.monotonic() < deadline:
            if __salt__["glance_steering.listeners"](settings, name):
                if __salt__["glance_api.drained"]():
                    __salt__["glance_api.resume"]()
                if __salt__["glance_api.probe_once"](settings, probe=False)["ok"]:
                    return True, f"{name} was started again and serves{unknown}"
            time.sleep(POLL)
    except CommandExecutionError as err:
        return False, f"{name} could not be started again ({str(err).rstrip('.')})"
    return False, (
        f"{name} was started again but did not answer within {COME_BACK} seconds{unknown}"
    )


def _unfit(settings, container):
    """Why a container must not serve, or None; and what to say when that could not be told."""
    deadline = time.monotonic() + LOOK_AGAIN
    while True:
        try:
            return __salt__["glance_schema.unfit"](settings, container), ""
        except (CommandExecutionError, SaltInvocationError) as err:
            reason = str(err).partition("\n")[0].rstrip(".")
            # What the pillar asks for does not change while it is waited for.
            if isinstance(err, SaltInvocationError) or time.monotonic() > deadline:
                return None, f", although its schema could not be looked at ({reason})"
        time.sleep(POLL)


def last_words(name):
    """
    The last log lines of a container, each on a line of its own.

    name
        Container name.
    """
    try:
        lines = __salt__["glance_engine.logs"](name).splitlines()
    except CommandExecutionError as err:
        return f" (unknown: {str(err).rstrip('.')})"
    return "".join(f"\n    {line}" for line in lines) or " (it wrote none)"
