"""
Which images lie in a data directory, and which of them a change would put out of reach.
"""

import os
import re

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_datadir"

MOUNT = "/var/lib/glance"  # of the data in the container
SHOWN = 5  # images that a sentence names
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def __virtual__():
    return __virtualname__


def images(folder):
    """
    Ids of the images whose data lies below a data directory of the host.

    folder
        Absolute path, or None for a volume that does not exist.

    Raises CommandExecutionError when they cannot be listed.
    """
    inside = f"{folder}/images"
    try:
        found = __salt__["glance_marks.allowed"]((inside, folder or "/"), os.listdir, inside)
        return sorted(one for one in found if _ID.match(one))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise CommandExecutionError(
            f"The images in {folder} cannot be listed ({err.strerror}): check the share there."
        ) from err


def _named(ids):
    """
    How many images, and some of them by id. Pure.

    ids
        List of image ids.
    """
    count = "1 image" if len(ids) == 1 else f"{len(ids)} images"
    more = ", ..." if len(ids) > SHOWN else ""
    return f"{count} ({', '.join(ids[:SHOWN])}{more})"


def out_of_reach(settings):
    """
    What the wanted container would not reach of the images that there are; empty if all is well.

    A container that is there is compared by its directory; where there is none, some images that
    the database knows in the file store are looked for (those that ``glance_schema.look`` has
    named in this run).

    settings
        Result of ``glance_settings.get``.

    Returns one sentence without what to do.
    """
    wanted = settings["glance_file_datadir_volume"]
    new = _on_host(wanted)
    present = _in_use()
    if present:
        if os.path.realpath(present) == os.path.realpath(new or "/nowhere"):
            return ""
        lost = sorted({*images(present)} - {*images(new)})
        text = f"{_named(lost)} in {present}, which Glance uses now, are not in {wanted}"
        return text if lost else ""
    known = __context__.get("glance_schema.files", [])
    if known and not {*known} & {*images(new)}:
        return (
            f"Of the images that the database knows in files, {_named(known)} are not in {wanted}"
        )
    return ""


def left_behind():
    """
    Which images lie in the directory of the present container; an empty text if none do. Not
    knowing it keeps nobody from leaving.
    """
    present = _in_use()
    try:
        found = images(present) if present else []
    except CommandExecutionError as err:
        return str(err)
    if not found:
        return ""
    return (
        f"{_named(found)} in {present} on this host can be downloaded without it only if another"
        " host that runs the API sees the same files."
    )


def _in_use():
    """Directory of the host that the present container has its images in, or None."""
    name = __salt__["glance_container.facts"]()["name"]
    present = __salt__["glance_engine.inspect"](name)
    mounts = present["mounts"] if present else []
    return next((one["path"] for one in mounts if one["target"] == MOUNT), None)


def _on_host(place):
    return place if place.startswith("/") else __salt__["glance_engine.volume_path"](place)
