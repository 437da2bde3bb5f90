"""
What Glance's log says about one request: the reason of a store's driver, which the API keeps from
its clients.

``pick`` is pure; the rest reads the log file in the volume of the container in charge.
"""

import os
import re

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_log"

LOGS = "/var/log/kolla"
FILE = "glance/glance-api.log"
TAIL = 1024 * 1024  # bytes that are searched at most
LENGTH = 300  # letters of a reason

_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d [\d:.,]+ (?P<pid>\d+) (?P<level>[A-Z]+) (?P<logger>[\w.]+) (?P<text>.*)$"
)
_CONTEXT = re.compile(r"^\[(?P<context>[^\]]*)\] ?(?P<text>.*)$")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w+)(?:: (?P<text>.*))?$")
_DISABLED = re.compile(r"Failed to configure store correctly: (.*?)\.? *Disabling add method")
#: What Glance says about any failure.
_EMPTY = ("Failed to upload image data due to", "Error in store configuration. Adding images")


def __virtual__():
    return __virtualname__


def position():
    """
    Where the log ends now, in bytes; 0 when there is none.
    """
    try:
        return os.path.getsize(_path())
    except (OSError, CommandExecutionError):
        return 0


def reason(since, request_id=None):
    """
    Why a request failed, in the words of the library that did not work; empty when nobody says.

    since
        Result of :py:func:`position` before the request.
    request_id
        How the log names the request; without it everything since then counts.
    """
    try:
        with open(_path(), "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, end) if since <= end else 0, end - TAIL))
            text = file.read().decode("utf-8", "replace")
            file.seek(max(0, end - TAIL))
            everything = file.read().decode("utf-8", "replace")
    except (OSError, CommandExecutionError):
        return ""
    found = __salt__["glance_settings.masked"](pick(text, request_id, everything))
    return found if len(found) <= LENGTH else found[:LENGTH] + "…"


def pick(text, request_id=None, everything=""):
    """
    The reason in a piece of Glance's log, as it stands there. Pure.

    text
        What was logged since the request began.
    request_id
        As for :py:func:`reason`.
    everything
        The end of the log, for what was said when the API started.
    """
    exceptions, messages = _said(text, request_id)
    if not (exceptions or messages) and request_id:
        exceptions, messages = _said(text, None)
    found = (exceptions or messages or [""])[-1]
    if "StoreAddDisabled" in text:
        found = (_DISABLED.findall(everything) or [found])[-1]
    return " ".join(found.split()).rstrip(".: ")


def _said(text, request_id):
    """Exceptions with a text, and other complaints, in their order."""
    exceptions, messages, pid = [], [], None
    for raw in text.splitlines():
        line = _LINE.match(raw)
        if not line:
            continue
        context = _CONTEXT.match(line["text"])
        if context:
            ours = request_id is None or request_id in context["context"]
            pid = line["pid"] if ours else None
            said = context["text"]
        else:
            # A line of a traceback, which does not repeat the request.
            ours, said = line["pid"] == pid, line["text"]
        if not ours or line["level"] not in ("WARNING", "ERROR", "CRITICAL"):
            continue
        exception = _EXCEPTION.match(said)
        if exception and (exception["text"] or "").strip():
            exceptions.append(f"{exception['name']}: {exception['text']}")
        elif context and not said.startswith(_EMPTY):
            messages.append(said.partition(": Traceback")[0])
    return exceptions, messages


def _path():
    """The log file on this host."""
    present = __salt__["glance_engine.inspect"](__salt__["glance_container.facts"]()["name"])
    places = [one["path"] for one in (present or {}).get("mounts", []) if one["target"] == LOGS]
    if not places or not places[0]:
        raise OSError("no log volume")
    return os.path.join(places[0], FILE)
