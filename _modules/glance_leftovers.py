"""
What killed runs left on this host beside the service: one-shot containers and folders.

Left-over containers of the service itself are the business of ``glance_replace``.
"""

import json
import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_leftovers"

ONE_SHOT_LABEL = "glance.oneshot"
# Folders with the configuration of containers before, when glance:node_config was another one.
FORMER_LABEL = "glance.former"
CONFIG_MOUNT = "/var/lib/kolla/config_files"
SNAPSHOTS = "/glance-api.d"  # end of the name of every folder with snapshots


def __virtual__():
    return __virtualname__


def former(settings):
    """
    Folders with snapshots that other containers than today's mount or have mounted: those of a
    ``glance:node_config`` that was changed.

    settings
        Result of ``glance_settings.get``.
    """
    found = set()
    for one in __salt__["glance_engine.containers"]():
        found.update(json.loads(one["labels"].get(FORMER_LABEL, "[]")))
        found.add(os.path.dirname(_snapshot(one)))
    found.discard(settings["snapshot_dir"])
    return sorted(one for one in found if one.endswith(SNAPSHOTS))


def find(settings, before=()):
    """
    One-shot containers that no run waits for, configuration that none mounts, and a container
    that a run has taken out of the load balancer to replace it.

    To be asked when no one-shot container is meant to run. Only looks.

    settings
        Result of ``glance_settings.get``.
    before
        What :py:func:`former` returned before containers were removed.

    Returns ``{"containers": [names], "folders": [paths], "drained": [sentence], "balancers":
    [sentence]}``; the last two are drains by the health check and at HAProxy's admin sockets.
    Raises CommandExecutionError when the folder of the configurations cannot be read.
    """
    one_shots = __salt__["glance_engine.containers"](ONE_SHOT_LABEL)
    working = [one for one in one_shots if __salt__["glance_engine.is_left_alone"](one)]
    ours = __salt__["glance_engine.containers"]()
    used = {one["labels"].get("glance.spec") for one in ours}
    used |= {os.path.basename(_snapshot(one)) for one in working}
    folder = settings["snapshot_dir"]
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        names = []
    except OSError as err:
        raise CommandExecutionError(
            f"The folder {folder} cannot be read: {err.strerror}; check glance:node_config."
        ) from err
    mounted = {os.path.dirname(_snapshot(one)) for one in ours}
    old = [
        path
        for one in {*former(settings), *before} - mounted
        for path in (one.removesuffix(".d"), one)
        if os.path.isdir(path)
    ]
    return {
        "containers": [one["name"] for one in one_shots if one not in working],
        "folders": [
            os.path.join(folder, name)
            for name in names
            if name not in used
            and not __salt__["glance_process.another_lives"](name.partition(".")[2])
        ]
        + sorted(old),
        **_drained(settings, [one for one in ours if one["running"]]),
    }


def _drained(settings, running):
    """
    Drains that no run needs: those that an operator has not asked for. Where nothing serves,
    HAProxy had better send nothing.
    """
    by = {one["name"]: __salt__["glance_api.drained_by"](one["pid"]) for one in running}
    meant = not running or "" in by.values()
    return {
        "drained": [
            f"{name} is drained for its replacement"
            for name in by
            if __salt__["glance_drain.is_ours"](by[name])
        ],
        "balancers": [] if meant else __salt__["glance_balancer.drained"](settings),
    }


def remove(settings, before=()):
    """
    Remove what :py:func:`find` finds.

    settings, before
        As for :py:func:`find`.

    Returns what was removed, as ``find`` does.
    """
    found = find(settings, before)
    for name in found["containers"]:
        __salt__["glance_engine.remove"](name)
    for path in found["folders"]:
        __salt__["file.remove"](path)
    if found["drained"]:
        __salt__["glance_api.resume"]()
    if found["balancers"]:
        __salt__["glance_balancer.ready"](settings)
    return found


def _snapshot(container):
    """The folder on the host with the configuration of a container."""
    mounts = container.get("mounts", [])
    paths = [one["path"] for one in mounts if one["target"] == CONFIG_MOUNT]
    return paths[0] if paths else ""
