"""
What this minion remembers between runs: files in its cache directory.

Nothing depends on it. What cannot be read or written is found out again, or not told.
"""

import contextlib
import json
import logging
import os

log = logging.getLogger(__name__)

__virtualname__ = "glance_memory"


def __virtual__():
    return __virtualname__


def recall(file):
    """
    What was kept under a file name; an empty mapping when there is nothing.

    file
        File name.
    """
    try:
        with open(os.path.join(__opts__["cachedir"], file), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def keep(file, content):
    """
    Keep something under a file name; what cannot be kept is not worth a failure.

    file
        File name.
    content
        A mapping without secrets.
    """
    path = os.path.join(__opts__["cachedir"], file)
    partial = f"{path}.{os.getpid()}"
    try:
        with open(partial, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(partial, path)
    except OSError as err:
        log.warning("glance: %s cannot be written (%s), so it is not kept", path, err.strerror)
        with contextlib.suppress(OSError):
            os.unlink(partial)
