"""
Where the copies of the image cache lie: on a disk of this host alone, with room for them.

On a filesystem that several hosts share, the nodes would count and remove each other's copies.
"""

import os
import re

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_cache_place"

# Kinds of filesystems that other hosts may have mounted, too.
SHARED = re.compile(
    r"^(nfs4?|cifs|smb3|smbfs|ceph|glusterfs|lustre|gpfs|ocfs2|gfs2?|beegfs|orangefs|pvfs2|afs|9p"
    r"|davfs|fuse\.(?!fuse-overlayfs|mergerfs|ntfs|ext).*)$"
)
_PARTS = ("incomplete", "invalid", "queue")
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


def __virtual__():
    return __virtualname__


def _refusal(volume, kind, driver="local"):
    """
    Why copies may not lie there, or None. Pure.

    volume
        glance:glance_cache_volume.
    kind
        Kind of the filesystem.
    driver
        Docker's driver of the volume.
    """
    if driver != "local":
        what = f"a volume of the driver {driver}"
    elif SHARED.match(kind):
        what = f"on a filesystem ({kind}) that other hosts may share"
    else:
        return None
    return (
        f"glance:glance_cache_volume is {volume}, {what}: each host needs its own copies, so name a"
        " volume or directory on a disk of this host."
    )


def crowded(max_bytes, used, free, text):
    """
    A sentence when the disk has no room for what the cache may hold, or None. Pure.

    max_bytes
        glance:glance_cache_max_size.
    used, free
        Bytes of the copies that are there, and that are free.
    text
        Function: bytes -> text.
    """
    if max_bytes <= used + free:
        return None
    return (
        f"glance:glance_cache_max_size is {text(max_bytes)}, but its disk has room for"
        f" {text(used + free)} only: the cleaning keeps the copies below that."
    )


def look(settings):
    """
    Where the copies will lie.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"folder", "kind", "used", "free"}``. Raises CommandExecutionError when they must not
    lie there.
    """
    volume = settings["glance_cache_volume"]
    folder, driver, kind = volume, "local", ""
    if not volume.startswith("/"):
        found = __salt__["glance_engine.volume"](volume)
        folder, driver, kind = found["folder"], found["driver"], found["kind"]
    there = os.path.realpath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        # A volume that mounts something itself is mounted only while it is used.
        kind = kind or __salt__["glance_marks.filesystem"](file.read(), there)["type"]
    problem = _refusal(volume, kind, driver)
    if problem:
        raise CommandExecutionError(problem)
    disk = os.statvfs(there)
    used = 0
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            used = sum(_size(one) for one in entries if one.is_file())
    return {"folder": folder, "kind": kind, "used": used, "free": disk.f_bavail * disk.f_frsize}


def present(settings):
    """
    Whether copies, or the volume for them, are here.

    settings
        Result of ``glance_settings.get``.
    """
    volume = settings["glance_cache_volume"]
    if volume.startswith("/"):
        return bool(_own(volume))
    return __salt__["glance_engine.volume_exists"](volume)


def remove(settings):
    """
    Remove the volume; of a directory only what the cache has put there.

    settings
        Result of ``glance_settings.get``.
    """
    volume = settings["glance_cache_volume"]
    if not volume.startswith("/"):
        __salt__["glance_engine.remove_volume"](volume)
        return
    for path in _own(volume):
        __salt__["file.remove"](path)
    if not os.listdir(volume) and not os.path.ismount(volume):
        os.rmdir(volume)


def _size(entry):
    """Bytes of a file; 0 when it has gone meanwhile, as copies and journals of SQLite do."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _own(folder):
    """Paths of what Glance's cache makes in its directory."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    ours = (one for one in names if one in _PARTS or one == "cache.db" or _UUID.match(one))
    return [os.path.join(folder, one) for one in ours]
