"""
Processes of this host, so that what a run has made tells whether that run still lives.

A process id comes again, and the same start after another boot: only both of them with the boot
are those of one process.
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
    return f"{os.getpid()}-{started(os.getpid())}"


def another_lives(text):
    """
    Whether a mark is that of a process which still lives and is not this one.

    text
        Result of :py:func:`mark`, or anything else.
    """
    pid, _, start = str(text).partition("-")
    return text != mark() and pid.isdigit() and start == started(pid)


def started(pid):
    """
    When a process was started, in ticks since the boot; None when it has ended.

    pid
        Its id, as a number or a text.
    """
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] == "Z" else fields[19]


def boot():
    """
    The id of this boot of the host.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
