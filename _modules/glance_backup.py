"""
Backups of Glance's database, made before its schema changes.

A one-shot container of the new image writes what the database holds at one instant, while it is
in use, into a folder that nobody else on the host can reach; then the file is moved to its place,
readable by root alone. Only whole files are ever in ``glance_backup_dir``.
"""

import os
import re
import shutil
import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_backup"

TIMEOUT = 3600  # seconds; a database of a million images takes some minutes
FRESH = 600  # seconds for which a backup counts as made just now
# Seconds for which one from before an expansion that was cut is better than one with its rest.
SAME_UPGRADE = 24 * 3600
PARTIAL = ".partial"
END = b"-- complete\n"
_NAME = re.compile(r"glance-(\d{8}T\d{6}Z)-([\w+]+)\.(?:sql|sqlite)")


def __virtual__():
    return __virtualname__


def present(settings):
    """
    The backups on this host, the oldest first.

    settings
        Result of ``glance_settings.get``.

    Returns a list of ``{"path", "heads", "age"}``; ``age`` in seconds. Raises
    CommandExecutionError when the folder cannot be read.
    """
    folder = settings["glance_backup_dir"]
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as err:
        raise CommandExecutionError(
            f"The folder {folder} cannot be read: {err.strerror}; check glance:glance_backup_dir."
        ) from err
    found = []
    for name in names:
        if match := _NAME.fullmatch(name):
            path = os.path.join(folder, name)
            age = max(0, int(time.time() - os.stat(path).st_mtime))
            found.append({"path": path, "heads": match.group(2).split("+"), "age": age})
    return found


def enough(backups, found):
    """
    A backup that makes another one needless, or None. Pure.

    backups
        Result of :py:func:`present`.
    found
        Result of ``glance_schema.look``.

    That is one of this schema which was made just now; and when an expansion was cut, the last one
    from before it, unless it lacks what users did for more than a day.
    """
    same = [one for one in backups if one["heads"] == found["heads_in_database"]]
    limit = SAME_UPGRADE if found["half_done"] else FRESH
    return same[-1] if same and same[-1]["age"] < limit else None


def make(settings, want):
    """
    Save the database, and remove older backups than ``glance_backup_keep``.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns ``{"path", "bytes", "tables", "rows", "seconds", "removed"}``. Raises
    CommandExecutionError when the database cannot be read or the folder not be written to, when
    the backup is not complete, and when an older one cannot be removed.
    """
    folder = settings["glance_backup_dir"]
    partial = os.path.join(folder, PARTIAL)
    files = __salt__["glance_configuration.files"](settings, want["labels"]["glance.release"])
    files = __salt__["glance_oneshot.with_scripts"](
        files, ["schema_pending.py", "schema.py", "schema_dump.py"]
    )
    try:
        inside = _empty(folder, partial)
        result = __salt__["glance_oneshot.run"](
            "backup",
            settings,
            want,
            files,
            TIMEOUT,
            data=settings["database_kind"] == "sqlite",
            mounts=[f"{inside}:/backup"],
        )
        answer = __salt__["glance_oneshot.answer"](result, "back up the database")
        if answer.get("error"):
            raise CommandExecutionError(
                f"{answer['error'].rstrip('.')}: there is no backup in {folder}"
                " (glance:glance_backup_dir)."
            )
        path = _take_over(os.path.join(inside, answer["file"]), folder)
    except OSError as err:
        raise CommandExecutionError(
            f"The backup of the database cannot be written to {folder}: {err.strerror}; check"
            " glance:glance_backup_dir."
        ) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "path": path,
        "bytes": os.stat(path).st_size,
        "tables": answer["tables"],
        "rows": answer["rows"],
        "seconds": result["seconds"],
        "removed": _prune(settings),
    }


def _empty(folder, partial):
    """A folder that the container may write to; the one around it is closed to everybody else."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    inside = os.path.join(partial, "container")
    os.mkdir(partial, 0o700)
    os.mkdir(inside)
    os.chmod(inside, 0o777)
    return inside


def _take_over(written, folder):
    """Move a complete file to its place, for root alone; return its path."""
    with open(written, "rb") as file:
        if written.endswith(".sql"):
            file.seek(max(0, os.path.getsize(written) - len(END)))
            if file.read() != END:
                raise CommandExecutionError(
                    f"The backup of the database in {folder} was not written to its end and is not"
                    " kept: apply again."
                )
        os.fsync(file.fileno())
    os.chown(written, 0, 0)
    os.chmod(written, 0o600)
    path = os.path.join(folder, os.path.basename(written))
    os.replace(written, path)
    return path


def _prune(settings):
    old = present(settings)[: -settings["glance_backup_keep"]]
    for one in old:
        try:
            os.unlink(one["path"])
        except OSError as err:
            raise CommandExecutionError(
                f"The old backup {one['path']} cannot be removed: {err.strerror}; check"
                " glance:glance_backup_dir."
            ) from err
    return [one["path"] for one in old]
