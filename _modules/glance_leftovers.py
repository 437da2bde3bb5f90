"""
What killed runs left on this host beside the service: one-shot containers and folders.

Left-over containers of the service itself are the business of ``glance_replace``.
"""

import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_leftovers"

ONE_SHOT_LABEL = "glance.oneshot"
# One-shot containers that change the database are left to end.
REPLACEMENT = "replacement"  # who drained a container (glance_replace)
WORKS_ON_DATABASE = ("schema", "database")


def __virtual__():
    return __virtualname__


def find(settings):
    """
    One-shot containers that no run waits for, configuration snapshots that none mounts, and a
    container that a run has taken out of the load balancer to replace it.

    To be asked when no one-shot container is meant to run. Only looks.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"containers": [names], "folders": [paths], "drained": [sentence]}``.
    """
    one_shots = __salt__["glance_engine.containers"](ONE_SHOT_LABEL)
    working = [
        one["labels"][ONE_SHOT_LABEL]
        for one in one_shots
        if one["running"] and one["labels"][ONE_SHOT_LABEL] in WORKS_ON_DATABASE
    ]
    ours = __salt__["glance_engine.containers"]()
    used = {one["labels"].get("glance.spec") for one in ours} | set(working)
    folder = settings["snapshot_dir"]
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        names = []
    except OSError as err:
        raise CommandExecutionError(
            f"The folder {folder} cannot be read: {err.strerror}; check glance:node_config."
        ) from err
    return {
        "containers": [
            one["name"] for one in one_shots if one["labels"][ONE_SHOT_LABEL] not in working
        ],
        "folders": [os.path.join(folder, name) for name in names if name not in used],
        "drained": [
            f"{one['name']} is drained for its replacement"
            for one in ours
            if one["running"] and __salt__["glance_api.drained_by"](one["pid"]) == REPLACEMENT
        ],
    }


def remove(settings):
    """
    Remove what :py:func:`find` finds.

    settings
        Result of ``glance_settings.get``.

    Returns what was removed, as ``find`` does.
    """
    found = find(settings)
    for name in found["containers"]:
        __salt__["glance_engine.remove"](name)
    for path in found["folders"]:
        __salt__["file.remove"](path)
    if found["drained"]:
        __salt__["glance_api.resume"]()
    return found
