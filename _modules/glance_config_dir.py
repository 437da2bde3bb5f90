"""
Configuration directories on the host: what differs, and writing it without a gap.

A set of files is a mapping of the path below the directory to ``{"text": str, "secret":
bool}``, as ``glance_configuration.files`` returns it.  The content of a secret file never
leaves this module.
"""

import contextlib
import difflib
import hashlib
import os
import shutil
import stat

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_config_dir"

DIR_MODE = 0o750
FILE_MODE = 0o640

_TEMPORARY = ".salt-new"
_MARK = "# managed by Salt (glance formula)"
_HIDDEN = "content hidden"


def __virtual__():
    return __virtualname__


def digest(files):
    """
    Return the SHA-256, in hex, that stands for a set of files.

    files
        The set of files.
    """
    total = hashlib.sha256()
    for path in sorted(files):
        for part in (path, files[path]["text"]):
            data = part.encode()
            total.update(b"%d:" % len(data) + data)
    return total.hexdigest()


def diff(old_texts, files):
    """
    Return what becomes of the old files, fit for the changes of a state.

    old_texts
        Mapping of the path to the text that is there now.

    files
        The set of files that is wanted.

    Returns a mapping of the path to a sentence or a unified diff; empty when nothing changes.
    A diff is shown only of a file that is not secret and was written by this formula before:
    whatever else lay there may hold passwords.
    """
    changes = {}
    for path in sorted({*old_texts, *files}):
        old = old_texts.get(path)
        if path not in files:
            changes[path] = "removed"
        elif old is None:
            changes[path] = "new" + (f" ({_HIDDEN})" if files[path]["secret"] else "")
        elif old != files[path]["text"]:
            changes[path] = _difference(path, old, files[path])
    return changes


def compare(directory, files):
    """
    Return how a directory differs from a set of files; nothing is touched.

    directory
        Absolute path on the host.

    files
        The set of files that is wanted.

    Returns what :func:`diff` returns; a file or folder with a wrong owner, mode or kind is
    listed with a sentence.

    Raises CommandExecutionError when the directory cannot be read.
    """
    _check(directory, files)
    try:
        texts, faults = _inspect(directory, files)
    except OSError as error:
        raise CommandExecutionError(
            f"The configuration in {error.filename or directory} cannot be read: {error.strerror};"
            " put this right and apply again."
        ) from error
    return {**faults, **diff(texts, files)}


def write(directory, files):
    """
    Make a directory hold exactly a set of files.

    Every file is written beside its place and moved there when all of them are on the disk, so
    that a full disk leaves the old configuration as it was and a reader never sees half a file.

    directory
        Absolute path on the host; made when it is missing, with mode 0750 for root.

    files
        The set of files that is wanted; they get mode 0640 for root.

    Returns what :func:`compare` returned before anything was written.

    Raises CommandExecutionError when the files cannot be written.
    """
    changes = compare(directory, files)
    if not changes:
        return changes
    temporaries = {}
    try:
        for path in sorted(files):
            place = os.path.join(directory, path)
            _make_folders(directory, os.path.dirname(place))
            temporaries[path] = place + _TEMPORARY
            _write_file(temporaries[path], files[path]["text"])
    except OSError as error:
        for temporary in temporaries.values():
            _remove(temporary)
        raise CommandExecutionError(
            f"The configuration cannot be written to {directory}: {error.strerror}; the old "
            "files are as they were."
        ) from error
    try:
        for path, temporary in temporaries.items():
            place = os.path.join(directory, path)
            if os.path.isdir(place) and not os.path.islink(place):
                shutil.rmtree(place)
            os.replace(temporary, place)
        _remove_unwanted(directory, files)
        for folder in _folders(directory, files):
            _sync_folder(folder)
    except OSError as error:
        raise CommandExecutionError(
            f"The configuration in {directory} is written in part only: {error.strerror} "
            f"({error.filename}); apply the state again when this is put right."
        ) from error
    return changes


def read_file(path):
    """
    Return the text of one file, None when there is none.

    path
        Absolute path on the host.

    Raises CommandExecutionError when it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CommandExecutionError(
            f"{path} cannot be read: {error.strerror}; put this right and apply again."
        ) from error


def write_file(path, text):
    """
    Make one file hold a text, in a folder that has others too; the file gets mode 0640 for root.

    path
        Absolute path on the host; folders are made when they are missing.

    text
        What it should hold; None removes it. Nothing is done when it holds that already.

    Raises CommandExecutionError when it cannot be written; the old file is then as it was.
    """
    if read_file(path) == text:
        return
    try:
        if text is None:
            os.unlink(path)
        else:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            _write_file(path + _TEMPORARY, text)
            os.replace(path + _TEMPORARY, path)
        _sync_folder(os.path.dirname(path))
    except OSError as error:
        raise CommandExecutionError(
            f"{path} cannot be written: {error.strerror}; put this right and apply again."
        ) from error


def _check(directory, files):
    if not os.path.isabs(directory):
        raise SaltInvocationError(f"The directory {directory!r} must be an absolute path.")
    for path in files:
        if os.path.isabs(path) or ".." in path.split("/") or path.endswith(_TEMPORARY):
            raise SaltInvocationError(
                f"The path {path!r} must lie below the configuration directory: choose a plain "
                "file name."
            )


def _difference(path, old, entry):
    if entry["secret"]:
        return f"changed ({_HIDDEN})"
    if entry["text"].startswith(_MARK) and not old.startswith(_MARK):
        return f"changed ({_HIDDEN}: the old file was not written by this formula)"
    lines = difflib.unified_diff(
        old.splitlines(), entry["text"].splitlines(), f"old {path}", f"new {path}", n=1, lineterm=""
    )
    return "\n".join(lines)


def _inspect(directory, files):
    """Return (text of every file below directory, what is wrong with owners, modes, kinds)."""
    texts, faults = {}, {}
    wanted_folders = set(_folders("", files))
    if not os.path.lexists(directory):
        return texts, {".": "new folder"}
    _inspect_entry(directory, ".", True, faults)
    for root, folders, names in os.walk(directory):
        base = os.path.relpath(root, directory)
        for name in folders + names:
            path = os.path.normpath(os.path.join(base, name))
            place = os.path.join(root, name)
            is_folder = name in folders and not os.path.islink(place)
            if path not in files and path not in wanted_folders:
                if not is_folder or not os.listdir(place):
                    faults[path] = "removed"
            elif is_folder != (path in wanted_folders) or os.path.islink(place):
                faults[path] = "replaced: it was not a " + ("file" if path in files else "folder")
            else:
                _inspect_entry(place, path, is_folder, faults)
                if not is_folder:
                    with open(place, encoding="utf-8", errors="surrogateescape") as handle:
                        texts[path] = handle.read()
    return texts, faults


def _inspect_entry(place, path, is_folder, faults):
    found = os.lstat(place)
    wanted = DIR_MODE if is_folder else FILE_MODE
    mode = stat.S_IMODE(found.st_mode)
    if mode != wanted:
        faults[path] = f"mode {mode:04o} becomes {wanted:04o}"
    elif (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        faults[path] = f"owner {found.st_uid}:{found.st_gid} becomes root"


def _folders(directory, files):
    """Return the directory and the folders in it that the files need, outermost first."""
    found = {directory}
    for path in files:
        parts = path.split("/")[:-1]
        found.update(os.path.join(directory, *parts[: n + 1]) for n in range(len(parts)))
    return sorted(found)


def _make_folders(directory, folder):
    """Make folder and what is missing above it; put mode and owner of our own right."""
    if os.path.lexists(folder) and (os.path.islink(folder) or not os.path.isdir(folder)):
        os.unlink(folder)
    if not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        if folder.startswith(directory + os.sep):
            _make_folders(directory, parent)
        else:
            os.makedirs(parent, mode=0o755, exist_ok=True)
        os.mkdir(folder, DIR_MODE)
    os.chmod(folder, DIR_MODE)
    os.chown(folder, os.geteuid(), os.getegid())


def _write_file(place, text):
    _remove(place)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(text.encode("utf-8", errors="surrogateescape"))
        stream.flush()
        os.fchmod(stream.fileno(), FILE_MODE)
        os.fchown(stream.fileno(), os.geteuid(), os.getegid())
        os.fsync(stream.fileno())


def _remove(place):
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
    except IsADirectoryError:
        shutil.rmtree(place)


def _remove_unwanted(directory, files):
    wanted = set(_folders(directory, files))
    for root, folders, names in os.walk(directory, topdown=False):
        for name in names:
            if os.path.relpath(os.path.join(root, name), directory) not in files:
                os.unlink(os.path.join(root, name))
        for name in folders:
            place = os.path.join(root, name)
            if os.path.islink(place):
                os.unlink(place)
            elif place not in wanted:
                os.rmdir(place)


def _sync_folder(folder):
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
