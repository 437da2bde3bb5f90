"""
Processes of this host, so that what a run has made tells whether that run still lives.
"""

import os

__virtualname__ = "glance_process"


def __virtual__():
    return __virtualname__


def mark():
    """
    What to write on a thing that belongs to this process: ``PID-START``, never the same again
    before the next boot.
    """
    return f"{os.getpid()}-{_started(os.getpid())}"


def another_lives(text):
    """
    Whether a mark is that of a process which still lives and is not this one.

    text
        Result of :py:func:`mark`, or anything else.
    """
    pid, _, started = str(text).partition("-")
    return text != mark() and pid.isdigit() and started == _started(pid)


def _started(pid):
    """When a process was started, in ticks since the boot; None when it has ended."""
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
