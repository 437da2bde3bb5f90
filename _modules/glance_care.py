"""
What all jobs that keep Glance in order have in common: one at a time on a minion, never an
unhandled error, a report to the master, and a memory for the operator's screen.
"""

import contextlib
import datetime
import fcntl
import json
import logging
import os
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_care"

# Failed runs in a row, and missed ones, that are worth a warning.
FAILURES, MISSED = 2, 3
NICE = "5"  # the service comes first, but a busy host must not starve a job
GRACE = 5  # seconds that a script gets to say what hangs, before it is killed


def __virtual__():
    return __virtualname__


def take(job, work, quiet=False):
    """
    Do the work of a job, and report.

    job
        Name such as ``cache/clean``; the event is ``glance/cache/clean``.
    work
        Function without arguments; returns a report: ``{"result", "comment", ...}``, with
        ``skipped`` when there was nothing to do for a while.
    quiet
        Whether nothing is remembered and no event is sent, as for a dry run.

    Returns the report with ``seconds``. Never raises: an error, too, is a report with ``result``
    False and its reason in ``comment``, for the master hears of an error in a scheduled job only
    that there was one. The return code is then 1.
    """
    began = time.monotonic()
    try:
        with _lock(job) as free:
            report = work() if free else skip(f"another {job} is at work on this minion.")
    except (CommandExecutionError, SaltInvocationError) as err:
        report = {"result": False, "comment": str(err)}
    except Exception as err:
        log.exception("The job %s ended in an error", job)
        report = {"result": False, "comment": f"{type(err).__name__}: {err}"}
    report["seconds"] = round(time.monotonic() - began, 1)
    if not report["result"]:
        __context__["retcode"] = 1
    if not quiet:
        _remember(job, report)
        _tell(job, report)
    return report


def skip(reason):
    """
    The report of a job that did nothing. Pure.

    reason
        Why, as the end of a sentence.
    """
    return {"result": True, "comment": f"Skipped: {reason}", "skipped": reason}


def ask(script, timeout, *arguments):
    """
    Run one of the formula's scripts in the glance-api container that serves; its answer.

    script
        File name below ``glance/files``. It is given the arguments, and answers with JSON; it may
        import ``inside.py``.
    timeout
        Seconds it may take; it is told these by an argument of its own.
    arguments
        Texts; the first one says what to do, the seconds follow it.

    Returns the answer; ``{"skipped": reason}`` when no container serves, or two of them as in a
    hand-over. Raises CommandExecutionError with the script's own sentence when it failed.
    """
    serving = [one["name"] for one in __salt__["glance_engine.containers"]() if one["running"]]
    if len(serving) != 1:
        two = f"{' and '.join(serving)} both serve, as in a hand-over."
        return {"skipped": two if serving else "no glance-api container runs on this minion."}
    texts = {name: __salt__["glance_oneshot.script"](name) for name in ("inside.py", script)}
    text = __salt__["glance_oneshot.program"](texts)
    work, *more = arguments
    command = ["nice", "-n", NICE, "python3", "-c", text, work, str(timeout), *more]
    result = __salt__["glance_engine.execute"](
        serving[0], command, "glance", timeout + GRACE, script
    )
    try:
        answer = json.loads(result["output"].strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise CommandExecutionError(
            f"{script} in the container {serving[0]} ended with code {result['rc']} and no answer;"
            f" its last words: {__salt__['glance_oneshot.last_lines'](result, 3)}"
        ) from None
    if answer.get("error"):
        raise CommandExecutionError(answer["error"])
    return answer


def remembered(job):
    """
    How the last runs of a job went on this minion.

    job
        As for :py:func:`take`.

    Returns ``{"failures": number in a row, "success": seconds since the epoch, "last": report}``.
    """
    memory = {"failures": 0, "success": 0, "last": {}}
    return {**memory, **__salt__["glance_memory.recall"](_file(job, "json"))}


def health(job, interval):
    """
    A job on the operator's screen.

    job
        As for :py:func:`take`.
    interval
        Seconds between two runs; 0 when it is not known.

    Returns ``{"text", "warnings"}``.
    """
    return describe(job, remembered(job), interval, time.time())


def describe(job, memory, interval, now):
    """
    The same, for a memory. Pure.

    job, interval
        As for :py:func:`health`.
    memory
        Result of :py:func:`remembered`.
    now
        Seconds since the epoch.
    """
    last, warnings = memory["last"], []
    if not last:
        return {"text": "no run yet", "warnings": warnings}
    if memory["failures"] >= FAILURES:
        reason = last["comment"].rstrip(".")
        warnings.append(f"The last {memory['failures']} runs of {job} failed: {reason}.")
    idle = now - memory["success"]
    if memory["success"] and interval and idle > MISSED * interval and not warnings:
        hours = round(idle / 3600, 1)
        why = last.get("skipped") or "it is not scheduled, or the minion did not run"
        warnings.append(f"The last run of {job} was {hours} h ago: {why.rstrip('.')}.")
    return {"text": f"{last['time']}: {last['comment']}", "warnings": warnings}


def _file(job, end):
    return f"glance_{job.replace('/', '_')}.{end}"


@contextlib.contextmanager
def _lock(job):
    """Whether this is the only run; the kernel frees the lock when its process ends, however."""
    with open(os.path.join(__opts__["cachedir"], _file(job, "lock")), "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remember(job, report):
    """Keep how it went; what cannot be kept is not worth a failure."""
    memory = remembered(job)
    if not report.get("skipped"):
        memory["failures"] = 0 if report["result"] else memory["failures"] + 1
        memory["success"] = time.time() if report["result"] else memory["success"]
    now = datetime.datetime.now(datetime.timezone.utc)
    memory["last"] = {**report, "time": now.isoformat(timespec="seconds")}
    __salt__["glance_memory.keep"](_file(job, "json"), memory)


def _tell(job, report):
    """Send the report to the master, where there is one."""
    if __opts__.get("file_client") == "local":
        return
    try:
        __salt__["event.send"](f"glance/{job}", report)
    except Exception as err:  # whatever the transport raises: the work itself is done
        log.warning("The event glance/%s could not be sent: %s", job, err)
