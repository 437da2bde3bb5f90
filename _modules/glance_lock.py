"""
One orchestration at a time: a lock on the master, with an owner and an expiry.

The lock belongs to a process. When that process has ended, however it ended, the lock counts for
nothing; one of another machine, which shares the folder, counts until it expires.
"""

import contextlib
import fcntl
import json
import os
import socket
import time

import salt.utils.user

__virtualname__ = "glance_lock"

FILE = "glance-orchestrate.lock"


def __virtual__():
    return __virtualname__


def take(what, seconds, again=False):
    """
    Take the lock for this process, unless a living one holds it.

    what
        What it is for: ``deploy``, ``upgrade`` or ``rollback``.
    seconds
        After which it expires for other machines.
    again
        Whether this is a step of the run that holds the lock. Another run may be of this very
        process, too: Salt's reactor starts them as threads.

    Returns None, or the lock of the other one: ``{"owner", "since", "expires", "dead"}``.
    """
    with _file() as file:
        present = _read(file)
        mine = again and present and present["own"]
        if present and not mine and not present["dead"]:
            return _shown(present)
        now = time.time()
        _write(
            file,
            {
                "owner": f"{what} by {salt.utils.user.get_specific_user()}, process {os.getpid()}"
                f" on {socket.gethostname()}",
                "since": now,
                "expires": now + seconds,
                "process": _process(os.getpid()),
            },
        )
    return None


def look():
    """
    The lock of another process, or None; ``dead`` tells that it counts for nothing.

    Returns ``{"owner", "since", "expires", "dead"}``, times in UTC.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd glance_lock.look
    """
    with _file() as file:
        present = _read(file)
    return None if not present or present["own"] else _shown(present)


def held():
    """
    Whether this very process has the lock.
    """
    with _file() as file:
        present = _read(file)
    return bool(present and present["own"])


def release():
    """
    Give the lock back if this process holds it.

    Returns whether it did.
    """
    with _file() as file:
        present = _read(file)
        own = bool(present and present["own"])
        if own:
            _write(file, None)
    return own


def sentence(lock):
    """
    What a lock means for the one who comes later. Pure.

    lock
        Result of :py:func:`look`.
    """
    return (
        f"Another orchestration is in progress ({lock['owner']}, since {lock['since']}): wait for"
        " its end and start again; if its machine is gone for good, the lock expires at"
        f" {lock['expires']}."
    )


@contextlib.contextmanager
def _file():
    path = os.path.join(__opts__["cachedir"], FILE)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _read(file):
    file.seek(0)
    try:
        lock = json.load(file)
    except ValueError:
        return None  # empty, or cut by a full disk
    if not lock:
        return None
    owner, here = lock["process"], _process(os.getpid())
    lock["own"] = owner == here
    if owner[:2] == here[:2]:
        lock["dead"] = _process(owner[2]) != owner
    elif owner[0] == here[0]:
        lock["dead"] = True  # this machine was started again since
    else:
        lock["dead"] = lock["expires"] < time.time()
    return lock


def _write(file, lock):
    file.seek(0)
    file.truncate()
    json.dump(lock, file)
    file.flush()


def _shown(lock):
    shown = {key: lock[key] for key in ("owner", "dead")}
    for key in ("since", "expires"):
        shown[key] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(lock[key]))
    return shown


def _process(pid):
    """Machine, its boot, process id and that process's start: nothing else is ever the same."""
    boot, started = __salt__["glance_process.boot"](), __salt__["glance_process.started"](pid)
    return [_machine(), boot, pid, started]


def _machine():
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()
