"""Which engine and which addresses this run of the tests uses."""

import atexit
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.engines import work_folder

ROOT = Path(__file__).resolve().parents[2]
TESTBED = ROOT / "test" / "testbed"
ENGINE_NUMBER = int(os.environ.get("GLANCE_TESTBED_ENGINE", "1"))
SERVICES_NUMBER = ENGINE_NUMBER + 100  # the engine of MariaDB and Keystone
BUILD_LIMIT = 1200  # seconds that the making of one image may take


def address(host=1):
    """Return a loopback address that only this run uses; `host` from 1 to 254."""
    return f"127.0.{ENGINE_NUMBER * 10}.{host}"


@functools.cache
def file_root():
    """Return a folder with what a clone has, for ``file_roots``, but without its history.

    Salt walks all of it for each list of files, and the history of a clone of a folder of this
    machine has a file for each object.
    """
    folder = tempfile.mkdtemp(prefix="gl-formula-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    hidden = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=hidden, dirs_exist_ok=True)
    return folder


def script(name, *arguments, limit=BUILD_LIMIT):
    """Run one of the testbed's scripts; return what it printed, raise with its messages."""
    done = subprocess.run(
        [TESTBED / name, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"test/testbed/{name} failed ({done.returncode}): {done.stderr[-4000:]}")
    return done.stdout


def claim():
    """Make sure that no other run uses the same engine; return the lock to keep."""
    path = work_folder() / "lock" / f"session-{ENGINE_NUMBER}"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+", encoding="utf8")  # noqa: SIM115 - kept open: it is the lock
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        raise RuntimeError(
            f"another run (pid {owner}) uses engine {ENGINE_NUMBER}: "
            "set GLANCE_TESTBED_ENGINE to another number from 1 to 25"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
