"""
What happens on this host while it happens: events on the master's bus, and lines in the log.

Follow them on the master with ``salt-run state.event 'glance/*'``. The tag is
``glance/MINION_ID/PHASE``; the data is ``{"phase", "state", "seconds", "text"}``: ``state`` is
``begins``, ``ends`` or ``failed``, ``seconds`` is how long the phase took (None when it begins),
``text`` is one sentence or empty, without secrets.
"""

import logging
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_progress"

_SILENT = "glance_progress.silent_until"
PAUSE = 60  # seconds of silence after an event that could not be sent


def __virtual__():
    return __virtualname__


def tell(phase, state, seconds=None, text=""):
    """
    Tell the master, when one is connected, and the log how far the work on this host is.

    phase
        What is done, in few words, such as ``pull`` or ``newcomer healthy``.
    state
        ``begins``, ``ends`` or ``failed``.
    seconds
        How long it took.
    text
        One sentence more; no secrets.

    Returns the tag of the event, None when no event was sent.
    """
    took = "" if seconds is None else f" after {seconds} s"
    log.info("glance: %s %s%s. %s", phase, state, took, text)
    if not _connected():
        return None
    tag = f"glance/{__opts__['id']}/{phase.replace(' ', '-')}"
    data = {"phase": phase, "state": state, "seconds": seconds, "text": text}
    if not __salt__["event.send"](tag, data):
        # Each try would cost a second; the work does not wait for a minion that has gone.
        __context__[_SILENT] = time.monotonic() + PAUSE
        return None
    return tag


def told(phase, work, *arguments, text="", fault=None):
    """
    Call a function and tell that it begins, and that it ends or has failed.

    phase
        As for :py:func:`tell`.
    work
        The function.
    arguments
        What it is given.
    text
        One sentence more where it begins and ends; no secrets.
    fault
        For work that fails without raising: function of its result that returns why it is none,
        empty when it is good.

    Returns what the function returns, and raises what it raises.
    """
    began = time.monotonic()
    tell(phase, "begins", text=text)
    try:
        result = work(*arguments)
    except (CommandExecutionError, SaltInvocationError) as err:
        reason = " ".join(str(err).split())
        tell(phase, "failed", round(time.monotonic() - began, 1), reason)
        raise
    why = fault(result) if fault else ""
    took = round(time.monotonic() - began, 1)
    tell(phase, "failed" if why else "ends", took, why or text)
    return result


def _connected():
    """Whether this is a job of a minion that a master drives: anything else waits in vain."""
    return (
        __opts__.get("file_client") == "remote"
        and __opts__.get("master_type") != "disable"
        and __opts__.get("__cli") != "salt-call"
        and not __opts__.get("local")
        and time.monotonic() >= __context__.get(_SILENT, 0)
    )
