"""
Proof that the hosts of a group see the same images, where these lie in a directory.

Each host keeps a mark in the directory of the images: a random word of its own, and the words of
the others that it has read there. Two hosts that have read each other's word see one directory,
whatever it is called and whatever it is mounted from; and what one shares with a second and the
second with a third, all three share. A host may run the API when it is the first of the group, or
when it shares the directory with the first.

The own word is also kept on the host's own disk. A directory without it is not the one that this
host has used before: a share that is not mounted, for example. Nothing is written into it then.
"""

import errno
import logging
import os
import secrets
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_sharing"

#: Filesystems that several hosts can mount at the same time.
SHARED_TYPES = frozenset((
    "nfs", "nfs4", "ceph", "fuse.ceph", "fuse.ceph-fuse", "glusterfs", "fuse.glusterfs", "cifs",
    "smb3", "ocfs2", "gfs2", "lustre", "beegfs", "gpfs", "fuse.sshfs", "fuse.juicefs",
    "fuse.moosefs", "fuse.mfs",
))  # fmt: skip
POLL = 1  # seconds between two looks at the others' marks
#: Seconds that a host of the group which has left no mark yet is waited for: it may be joining in
#: this very moment, and can only do so when somebody reads its mark.
JOINING = 15
#: What a look at a file says that is not there, or whose share is gone.
GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTCONN)


def __virtual__():
    return __virtualname__


# ------------------------------------------------------------------ pure


def connected(one, other, marks):
    """
    Whether two hosts are proved to see the same directory. Pure.

    one, other
        Minion ids.
    marks
        ``{minion id: {"nonce": its word, "seen": {minion id: word that it has read}}}``.
    """
    reached, new = {one}, [one]
    while new:
        here = new.pop()
        for there in marks:
            if there not in reached and _mutual(here, there, marks):
                reached.add(there)
                new.append(there)
    return other in reached


def _refusal(settings, found):
    """
    Why the API may not run on this directory, whoever else uses it; empty if it may. Pure.

    settings
        Result of ``glance_settings.get``.
    found
        ``{"exists": bool, "filesystem": {"mount", "type"}, "known": whether this host has used
        the directory, "marked": whether its mark is there}``.
    """
    place = settings["glance_file_datadir_volume"]
    if found["known"] and not found["marked"]:
        return (
            f"The directory {place} (glance:glance_file_datadir_volume) is not the one that this"
            " host has used: its mark is not there, so nothing was written; mount the share, or if"
            " the directory was emptied on purpose, call 'glance_sharing.forget' on this host."
        )
    if len(settings["glance_api_group"]) == 1:
        return ""
    if not found["exists"]:
        return (
            f"The directory {place} (glance:glance_file_datadir_volume) does not exist on this"
            " host: mount the share there."
        )
    kind, mount = found["filesystem"]["type"], found["filesystem"]["mount"]
    if kind not in SHARED_TYPES and not settings["glance_file_datadir_shared"]:
        return (
            f"The directory {place} (glance:glance_file_datadir_volume) lies on {kind}, mounted at"
            f" {mount}, which other hosts cannot see, and glance:glance_api_group has several:"
            " mount the share there, name one host only, or set glance:glance_file_datadir_shared"
            " to yes if hosts share this filesystem."
        )
    return ""


def _missing(settings, marks):
    """
    What this host and the first one have not read of each other, in one sentence. Pure.

    settings
        Result of ``glance_settings.get``.
    marks
        As for :py:func:`connected`.
    """
    first, place = settings["schema_host"], settings["glance_file_datadir_volume"]
    if first in marks:
        what = f"{first} has not read yet what this host wrote into {place}"
    else:
        what = f"this host sees nothing in {place} that {first} wrote there"
    return (
        f"It is not proved that this host shares its images with {first}, the first host of"
        f" glance:glance_api_group: {what}"
    )


# ------------------------------------------------------------------ for orchestrations


def write():
    """
    Leave this host's mark in the directory of the images, if it has none there.

    Returns ``{"needed": whether the images lie in a directory, "changed": bool}``. Raises
    CommandExecutionError when the API may not run on this directory.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_sharing.write
    """
    settings = __salt__["glance_settings.get"]()
    if not settings["datadir_marker"]:
        return {"needed": False, "changed": False}
    return {"needed": True, "changed": bool(mark(settings))}


def read():
    """
    Read the marks of the other hosts, and note in the own one which were read.

    Returns the minion ids of the hosts whose marks are there.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_sharing.read
    """
    settings = __salt__["glance_settings.get"]()
    return sorted(_look(settings)) if settings["datadir_marker"] else []


def verified():
    """
    Whether this host is proved to share the images with the others of its group, by what the
    hosts have written and read so far. Changes nothing.

    Returns ``{"needed": whether the images lie in a directory, "shared": with all of them, "runs":
    whether the API may run here, "hosts": {minion id: bool}, "why": sentence}``. A host that is
    alone shares its images when another one could have them mounted at the same time.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_sharing.verified
    """
    settings = __salt__["glance_settings.get"]()
    group, me = settings["glance_api_group"], settings["minion_id"]
    if not settings["datadir_marker"]:
        unshared = settings["file_unshared"]
        why = __salt__["glance_backend.elsewhere"](settings)
        if not why:
            place = settings["glance_file_datadir_volume"]
            why = (
                f"The images lie in the volume {place} of one host."
                if settings["file_unshared"]
                else "No images lie in a directory."
            )
        hosts = {one: one == me or not unshared for one in group}
        told = {"shared": not unshared, "runs": settings["runs_api"], "hosts": hosts, "why": why}
        return {"needed": False, **told}
    problem, marks, reachable = "", {}, settings["glance_file_datadir_shared"]
    try:
        found = __salt__["glance_marks.look_around"](settings)
        reachable = reachable or found["filesystem"]["type"] in SHARED_TYPES
        problem = _refusal(settings, found)
        marks = {} if problem else __salt__["glance_marks.read"](settings)
    except CommandExecutionError as err:
        problem = str(err)
    hosts = {one: one == me or connected(me, one, marks) for one in group}
    runs = not problem and hosts[settings["schema_host"]]
    place = settings["glance_file_datadir_volume"]
    if problem:
        why = problem
    elif not runs:
        why = f"{_missing(settings, marks)}."
    elif not all(hosts.values()):
        others = ", ".join(one for one in group if not hosts[one])
        why = f"It is not proved yet that {others} can see the images in {place}."
    elif reachable:
        why = f"All hosts of the group see the images in {place}."
    else:
        why = f"The images in {place} lie on a filesystem of this host alone."
    shared = not problem and reachable and all(hosts.values())
    return {"needed": True, "shared": shared, "runs": runs, "hosts": hosts, "why": why}


def forget():
    """
    Forget the directory that this host has used, because it was emptied or replaced on purpose.

    Returns whether there was anything to forget.

    CLI Example:

    .. code-block:: bash

        salt ctl1 glance_sharing.forget
    """
    return __salt__["glance_marks.forget"](__salt__["glance_settings.get"]())


# ------------------------------------------------------------------ for states


def mark(settings, test=False):
    """
    Leave this host's mark in the directory, and read those of the others.

    settings
        Result of ``glance_settings.get``.
    test
        Only look.

    Returns the changes. Raises CommandExecutionError when the API may not run on this directory.
    """
    found = __salt__["glance_marks.look_around"](settings)
    problem = _refusal(settings, found)
    if problem:
        raise CommandExecutionError(problem)
    changes = {}
    if not found["known"]:
        path = f"{__salt__['glance_marks.folder'](settings)}/{settings['minion_id']}"
        changes = {path: {"old": None, "new": "marked by this host"}}
    if not test:
        if not found["known"]:
            mine = {"nonce": secrets.token_hex(16), "seen": {}}
            __salt__["glance_marks.write"](settings, mine)
            __salt__["glance_marks.remember"](settings, mine["nonce"])
        __salt__["glance_marks.settle"](settings)
        _look(settings)
    return changes


def _look(settings):
    """
    Read the marks of the other hosts of the group, and note in the own one what was read.

    settings
        Result of ``glance_settings.get``.

    Returns the marks, as :py:func:`connected` takes them.
    """
    marks, me = __salt__["glance_marks.read"](settings), settings["minion_id"]
    seen = {one: marks[one]["nonce"] for one in sorted(marks) if one != me}
    if me in marks and seen != marks[me]["seen"]:
        marks[me] = {**marks[me], "seen": seen}
        __salt__["glance_marks.write"](settings, marks[me])
    return marks


def await_proof(settings, patience):
    """
    Wait until this host is proved to share the images with the first one of the group; then, for
    a moment, for hosts that have left no mark yet.

    settings
        Result of ``glance_settings.get``.
    patience
        Seconds it may take.

    Returns the seconds waited. Raises CommandExecutionError when there is no proof by then.
    """
    began, me, first = time.monotonic(), settings["minion_id"], settings["schema_host"]
    group, told = {*settings["glance_api_group"]}, False
    while not connected(me, first, _look(settings)):
        if time.monotonic() - began >= patience:
            raise CommandExecutionError(
                f"{_missing(settings, _look(settings))} within {patience} seconds"
                " (glance:glance_group_timeout); apply glance on all hosts of the group at once, or"
                f" on {first} again, and check that the same share is mounted on both."
            )
        if not told:
            log.info("glance: waiting for %s to read this host's mark", first)
            told = True
        time.sleep(POLL)
    while group - {*_look(settings)} and time.monotonic() - began < min(JOINING, patience):
        time.sleep(POLL)
    return round(time.monotonic() - began)


def seen_inside(settings, pid):
    """
    Whether a container sees this host's mark: it may have been started without the share.

    Only a mark that is certainly not there counts as not seen: a look that nobody allows proves
    nothing, and neither does a container that has just ended.

    settings
        Result of ``glance_settings.get``.
    pid
        Main process of the container, as the host sees it.
    """
    marker = settings["datadir_marker"].lstrip("/")
    parents = os.path.dirname(marker), os.path.dirname(os.path.dirname(marker))
    try:
        root = os.open(f"/proc/{int(pid)}/root", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return True
    inside = f"/proc/self/fd/{root}"
    try:
        places = [f"{inside}/{one}" for one in parents]
        __salt__["glance_marks.allowed"](places, os.stat, f"{inside}/{marker}")
    except OSError as err:
        return err.errno not in GONE
    finally:
        os.close(root)
    return True


def _mutual(one, other, marks):
    return (
        one in marks
        and marks[one]["seen"].get(other) == marks[other]["nonce"]
        and marks[other]["seen"].get(one) == marks[one]["nonce"]
    )
