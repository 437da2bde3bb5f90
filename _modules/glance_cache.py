"""
Cleaning the image cache of this node, by schedule or by hand.

What goes and what stays is decided in ``glance_cache_plan``; looking and removing is done by
``glance/files/cache.py`` inside the running container, with the cache driver of the release.
"""

import contextlib
import datetime
import fcntl
import json
import logging
import os
import socket
import time
import urllib.parse

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_cache"

EVENT = "glance/cache/clean"
# Seconds that looking, and that removing, may take. Less than a file must have rested before it
# counts as left behind: what a hand-over that begins meanwhile writes is never touched.
TIMEOUT = 45
BATCH = 200  # steps for one call into the container; they are an argument of limited length
LISTED = 20  # entries of what stays that are told one by one
CONNECT = 3  # seconds that another node has to answer


def __virtual__():
    return __virtualname__


def clean(timeout=TIMEOUT, test=False):
    """
    Remove what does not belong into this node's image cache, then prune it to its size.

    First what database and directory do not agree on, copies of deleted images, and the rows of
    nodes that left the group; then copies that were never completed; then the least recently
    used ones. What is being cached or served stays. Nothing is done while two containers serve,
    as in a hand-over, and when another cleaning is at work.

    timeout
        Seconds that looking, and that removing, may take.
    test
        Only tell what would be removed.

    Returns ``{"result", "comment"}`` and, when it came to that, ``freed_bytes``, ``freed``,
    ``left``, ``bytes``, ``limit_bytes`` and ``seconds``; ``skipped`` tells why nothing was done.
    The same is sent as event ``glance/cache/clean``. Never raises: a failure has ``result``
    False, its reason in ``comment``, and return code 1.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_cache.clean
        salt 'ctl*' glance_cache.clean test=True
    """
    began = time.monotonic()
    try:
        with _alone():
            report = _clean(int(timeout), test)
    except _Skipped as err:
        report = {"result": True, "comment": f"Skipped: {err}", "skipped": str(err)}
    except (CommandExecutionError, SaltInvocationError) as err:
        report = {"result": False, "comment": str(err)}
    except Exception as err:  # the scheduler would only say "Unhandled exception"
        log.exception("The cleaning of the image cache ended in an error")
        report = {"result": False, "comment": f"{type(err).__name__}: {err}"}
    report["seconds"] = round(time.monotonic() - began, 1)
    if not report["result"]:
        __context__["retcode"] = 1
    if not test:
        _remember(report)
        _tell(report)
    return report


def status(timeout=TIMEOUT):
    """
    What this node's image cache holds, what the next cleaning would do, and how the last one went.

    timeout
        Seconds it may take.

    Returns a dictionary of short texts.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_cache.status
    """
    text = __salt__["glance_cache_plan.text"]
    memory = remembered()
    screen = {
        "last cleaning": memory["last"].get("comment") or "none yet",
        "cleaned": memory["last"].get("time") or "never",
        "failures in a row": memory["failures"],
    }
    try:
        seen = _look(_the_container(), int(timeout))
        plan = _plan(seen)
    except _Skipped as err:
        return {"cache": str(err), **screen}
    return {
        "cache": f"on, driver {seen['driver']}, node {seen['node']}",
        "size": f"{text(plan['bytes'])} of {text(plan['limit'])}",
        "disk": f"{text(seen['disk']['free'])} of {text(seen['disk']['total'])} free",
        "copies": len(seen["files"]),
        "being cached": sum(one["open"] for one in seen["incomplete"]),
        "being served": sum(one["open"] for one in seen["files"]),
        "to be removed": [f"{one['kind']} {one['id']}: {one['why']}" for one in plan["steps"]],
        "stays": [f"{one['id']}: {one['why']}" for one in plan["stays"]],
        **screen,
    }


def remembered():
    """
    How the last cleanings of this node went.

    Returns ``{"failures": number in a row, "success": seconds since the epoch, "last": report}``.
    """
    memory = {"failures": 0, "success": 0, "last": {}}
    with contextlib.suppress(FileNotFoundError, ValueError), open(_memory(), "rb") as file:
        memory.update(json.load(file))
    return memory


def health(settings):
    """
    The cache on the operator's screen: how its cleaning goes.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"text", "warnings"}``. Asks neither the container nor the database.
    """
    if not settings["enable_glance_image_cache"]:
        return {"text": "off", "warnings": []}
    interval = 0 if settings["glance_cache_clean_cron"] else settings["glance_cache_clean_interval"]
    return __salt__["glance_cache_plan.health"](remembered(), interval, time.time())


class _Skipped(Exception):
    """Nothing is to be done now; the text says why."""


def _clean(timeout, test):
    seen = _look(_the_container(), timeout)
    plan = _plan(seen)
    done = {"removed": [], "kept": []}
    size = plan["bytes"]
    until = time.monotonic() + timeout
    steps = [] if test else plan["steps"]
    for start in range(0, len(steps), BATCH):
        left = round(until - time.monotonic())
        if left < 1:
            late = range(start, len(steps))
            done["kept"] += [{"step": number, "why": "the time was up"} for number in late]
            break
        # A hand-over may have begun since.
        some = _ask(_the_container(), left, "remove", json.dumps(steps[start : start + BATCH]))
        done["removed"] += [start + number for number in some["removed"]]
        done["kept"] += [{**one, "step": start + one["step"]} for one in some["kept"]]
        size = some["bytes"]
    if test:
        done["removed"] = list(range(len(plan["steps"])))
        size -= sum(one["bytes"] for one in plan["steps"] if one["kind"] == "file")
    report = __salt__["glance_cache_plan.summary"](plan, done, size)
    comment = __salt__["glance_cache_plan.sentence"](report, test)
    report["left"] = report["left"][:LISTED]
    return {"result": True, "comment": comment, **report}


def _plan(seen):
    alone, gone = _nodes(seen["others"])
    return __salt__["glance_cache_plan.make"](seen, (), gone, alone)


def _nodes(others):
    """Whether this is the only node of the group, and the URLs of those that left it."""
    if not others:
        return False, []
    try:
        settings = __salt__["glance_settings.get"]()
    except SaltInvocationError:
        return False, []  # who is in the group is not known
    hosts = settings["glance_api_hosts"]
    if settings["minion_id"] != hosts[0]:
        return False, []  # the first one looks after the others' rows
    alone = len(hosts) == 1
    return alone, __salt__["glance_cache_plan.nodes_gone"](others, alone, _answers)


def _answers(url):
    """Whether something listens where a node did."""
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 9292), CONNECT).close()
    except OSError:
        return False
    return True


def _the_container():
    """Name of the one container that serves."""
    serving = [one["name"] for one in __salt__["glance_engine.containers"]() if one["running"]]
    if not serving:
        raise _Skipped("no glance-api container runs on this minion.")
    if len(serving) > 1:
        raise _Skipped(f"{' and '.join(serving)} share the cache, as in a hand-over.")
    return serving[0]


def _look(container, timeout):
    seen = _ask(container, timeout, "look")
    if seen.get("off"):
        raise _Skipped("the glance-api that runs has no cache.")
    return seen


def _ask(container, timeout, *arguments):
    """Run the script in the container; its answer."""
    text = __salt__["glance_oneshot.script"]("cache.py")
    work, *more = arguments
    command = ["timeout", "-s", "KILL", str(timeout + 5), "nice", "-n", "19"]
    command += ["python3", "-c", text, work, str(timeout), *more]
    result = __salt__["glance_engine.execute"](container, command, "glance")
    answer = __salt__["glance_oneshot.answer"](result, f"{work} (image cache)")
    if answer.get("error"):
        raise CommandExecutionError(answer["error"])
    return answer


# One at a time, and what is known of the last ones


@contextlib.contextmanager
def _alone():
    """Hold the lock of this minion; the kernel lets go of it when the process ends, however."""
    with open(os.path.join(__opts__["cachedir"], "glance_cache.lock"), "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Skipped("another cleaning is at work on this minion.") from None
        yield


def _memory():
    return os.path.join(__opts__["cachedir"], "glance_cache.json")


def _remember(report):
    """Keep how it went for the operator's screen; what cannot be kept is not worth a failure."""
    memory = remembered()
    if not report.get("skipped"):
        memory["failures"] = 0 if report["result"] else memory["failures"] + 1
    if report["result"] and not report.get("skipped"):
        memory["success"] = time.time()
    now = datetime.datetime.now(datetime.timezone.utc)
    memory["last"] = {**report, "time": now.isoformat(timespec="seconds")}
    partial = f"{_memory()}.{os.getpid()}"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(memory, file)
        os.replace(partial, _memory())
    except OSError as err:
        log.warning("The result of the cleaning cannot be kept: %s", err)
        with contextlib.suppress(OSError):
            os.unlink(partial)


def _tell(report):
    """Send the report to the master, where there is one."""
    if __opts__.get("file_client") == "local":
        return
    try:
        __salt__["event.send"](EVENT, report)
    except Exception as err:  # whatever the transport raises: the cleaning itself is done
        log.warning("The event %s could not be sent: %s", EVENT, err)
