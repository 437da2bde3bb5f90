"""
What this minion remembers between runs, only to save work: files in its cache directory.

Nothing depends on it. What cannot be read or written is found out again.
"""

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
    Keep something under a file name.

    file
        File name.
    content
        A mapping without secrets.
    """
    path = os.path.join(__opts__["cachedir"], file)
    try:
        with open(f"{path}.part", "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(f"{path}.part", path)
    except OSError as err:
        log.warning("glance: %s cannot be written (%s); it is found out again", path, err.strerror)
