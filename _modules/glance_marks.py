"""
The marks of hosts in the directory of the images, and what this host remembers of its own.

``glance_sharing`` says what they mean.
"""

import contextlib
import ctypes
import json
import os
import re
import subprocess

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_marks"

#: Folder with the marks, in the folder of the images.
MARKS = ".glance-hosts"
ANSWER = 10  # seconds after which a filesystem counts as dead


def __virtual__():
    return __virtualname__


def filesystem(mountinfo, path):
    """
    The filesystem that holds a path: that of the longest mount point above it. Pure.

    mountinfo
        Text of ``/proc/self/mountinfo``.
    path
        Absolute path without symbolic links.

    Returns ``{"mount", "type"}``.
    """
    best = {"mount": "", "type": ""}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        mount = _unescaped(fields.split(" ")[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        # Of several mounts on one place the last one is seen.
        if inside and len(mount) >= len(best["mount"]):
            best = {"mount": mount, "type": rest.split(" ")[0]}
    return best


def folder(settings):
    """
    The folder with the marks. Pure.

    settings
        Result of ``glance_settings.get``.
    """
    return os.path.join(_images(settings), MARKS)


def look_around(settings):
    """
    What is to be known of the directory before anything is written into it.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"exists", "filesystem": {"mount", "type"}, "known", "marked"}``: whether the
    directory is there, what it lies on, whether this host has used it, whether its mark is there.
    Raises CommandExecutionError when the directory does not answer or cannot be read.
    """
    place = settings["glance_file_datadir_volume"]
    _must_answer(place)
    record = _record(settings)
    known = (record.get("directory"), record.get("id")) == (place, settings["minion_id"])
    with _sentences(settings, "read"):
        own = allowed(_places(settings), _marks, settings).get(settings["minion_id"])
        path = os.path.realpath(_images(settings))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            found = filesystem(file.read(), path)
        return {
            "exists": os.path.isdir(place),
            "filesystem": found,
            "known": known,
            "marked": bool(own) and own["nonce"] == record.get("nonce"),
        }


def read(settings):
    """
    The marks of the group, with this host's own only when it is the one that it remembers.

    settings
        Result of ``glance_settings.get``.

    Returns what ``glance_sharing.connected`` takes. Raises CommandExecutionError when the directory
    cannot be read.
    """
    record, me = _record(settings), settings["minion_id"]
    with _sentences(settings, "read"):
        marks = allowed(_places(settings), _marks, settings)
    if me in marks and marks[me]["nonce"] != record.get("nonce"):
        del marks[me]
    return marks


def write(settings, content):
    """
    Write this host's mark, so that others never see half of it.

    settings
        Result of ``glance_settings.get``.
    content
        ``{"nonce": own word, "seen": {minion id: word}}``.
    """
    with _sentences(settings, "written to"):
        allowed(_places(settings), _put, settings, content)


def remember(settings, nonce):
    """
    Keep this host's own word on its own disk, with the directory that it belongs to.

    settings
        Result of ``glance_settings.get``.
    nonce
        The word.

    Raises CommandExecutionError when it cannot be written.
    """
    path = _record_file(settings)
    content = {
        "directory": settings["glance_file_datadir_volume"],
        "id": settings["minion_id"],
        "nonce": nonce,
    }
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _write_file(f"{path}.new", content, 0o640)
        os.replace(f"{path}.new", path)
    except OSError as err:
        raise CommandExecutionError(
            f"{path} cannot be written ({err.strerror}): check glance:node_config."
        ) from err


def settle(settings):
    """
    Bring what is remembered to where today's ``glance:node_config`` has it.

    settings
        Result of ``glance_settings.get``.
    """
    if not os.path.exists(_record_file(settings)):
        remember(settings, _record(settings)["nonce"])
    for path in _records(settings)[1:]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def forget(settings):
    """
    Forget the directory that this host has used.

    settings
        Result of ``glance_settings.get``.

    Returns whether there was anything to forget.
    """
    found = [one for one in _records(settings) if os.path.exists(one)]
    for one in found:
        os.unlink(one)
    return bool(found)


def allowed(places, do, *arguments):
    """
    Do something with files, if need be as the owner of their directory.

    An NFS server lets nobody act as root by default, and the service has no such right either.
    Only this thread is changed, and only for files.

    places
        Directories, the innermost first; the owner of the first one that is there acts.
    do, arguments
        Function that is called with these arguments.

    Returns what it does. Raises OSError as it does.
    """
    try:
        return do(*arguments)
    except PermissionError:
        owner = os.stat(next((one for one in places if os.path.isdir(one)), "/"))
        libc = ctypes.CDLL(None)
        group, user = libc.setfsgid(owner.st_gid), libc.setfsuid(owner.st_uid)
        try:
            return do(*arguments)
        finally:
            libc.setfsuid(user)
            libc.setfsgid(group)


def _images(settings):
    return os.path.join(settings["glance_file_datadir_volume"], "images")


def _places(settings):
    return folder(settings), _images(settings), settings["glance_file_datadir_volume"]


def _marks(settings):
    found, place = {}, folder(settings)
    for host in settings["glance_api_group"]:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            with open(os.path.join(place, host), encoding="ascii") as file:
                text = json.load(file)
            found[host] = {"nonce": str(text["nonce"]), "seen": dict(text["seen"])}
    return found


def _put(settings, content):
    place, me = folder(settings), settings["minion_id"]
    for path in (_images(settings), place):
        if os.path.islink(path):
            raise CommandExecutionError(
                f"{path} is a symbolic link, which the container could not follow: put the"
                " directory itself there."
            )
    os.makedirs(_images(settings), mode=0o750, exist_ok=True)
    os.makedirs(place, mode=0o755, exist_ok=True)
    partial = os.path.join(place, f".{me}.new")
    _write_file(partial, content, 0o644)
    os.replace(partial, os.path.join(place, me))


def _write_file(path, content, mode):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        json.dump(content, file)
        os.fchmod(handle, mode)
        file.flush()
        os.fsync(handle)


def _record_file(settings):
    return settings["config_dir"] + ".sharing.json"


def _records(settings):
    """Where it is remembered, and where it was when glance:node_config was another one."""
    found = [_record_file(settings)]
    try:
        folders = __salt__["glance_leftovers.former"](settings)
    except CommandExecutionError:
        folders = []  # no engine, so no container that could tell
    return found + [one.removesuffix(".d") + ".sharing.json" for one in folders]


def _record(settings):
    """What this host remembers of the directory: its name, the own id and word."""
    path = _record_file(settings)
    if not os.path.exists(path):
        path = next((one for one in _records(settings) if os.path.exists(one)), path)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return {}


def _must_answer(place):
    """
    A filesystem whose server is gone would hold this process for ever; it may hold the one that
    asks, which not even SIGKILL ends then, so that one is left to itself.
    """
    null = subprocess.DEVNULL
    asking = subprocess.Popen(["stat", "--", place], stdin=null, stdout=null, stderr=null)
    try:
        asking.wait(timeout=ANSWER)
    except subprocess.TimeoutExpired as err:
        asking.kill()
        raise CommandExecutionError(
            f"The directory {place} (glance:glance_file_datadir_volume) does not answer within"
            f" {ANSWER} seconds: check its server."
        ) from err


@contextlib.contextmanager
def _sentences(settings, doing):
    try:
        yield
    except OSError as err:
        raise CommandExecutionError(
            f"The directory {settings['glance_file_datadir_volume']}"
            f" (glance:glance_file_datadir_volume) cannot be {doing} ({err.strerror}): check the"
            " share and its owner, who should be the user glance of the image."
        ) from err


def _unescaped(text):
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
