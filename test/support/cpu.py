"""CPU time that processes have used, with what their ended children had."""

import contextlib
import resource

import psutil


def family(pid):
    """Process ids of a process and all its descendants."""
    root = psutil.Process(pid)
    return {root.pid, *(one.pid for one in root.children(recursive=True))}


def seconds(pids):
    """
    CPU seconds (user and system) of processes so far, and of the commands that this one has run.

    A child that ends adds its own to its parent's, so the difference of two calls with the same
    families is what was used between them.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    commands = resource.getrusage(resource.RUSAGE_CHILDREN)
    return total + commands.ru_utime + commands.ru_stime
