"""Keep database, staging directory and logs of this Glance in order, or report on its images.

Runs inside the running glance-api container as its user.  Usage, each with the seconds it may take:

housekeeping.py purge SECONDS DAYS DAYS_IMAGES   remove rows that were deleted so many days ago, by
    Glance's own functions; images themselves only with DAYS_IMAGES above 0.
housekeeping.py staged SECONDS                   what lies in the staging directories, and the
    status of the images that it belongs to.
housekeeping.py unstage SECONDS PATHS            remove these: JSON, [[path, seconds of rest]].
housekeeping.py audit SECONDS STUCK REST         images that hang since STUCK seconds; images whose
    data a store does not have; files in the stores of type file that rest for REST seconds and
    belong to no image.
housekeeping.py rotate SECONDS BYTES KEEP        logs above so many bytes become NAME.1 and so on.

The last line is JSON; {"error": "one sentence"}, never with a password, if it cannot be done.
"""

import contextlib
import datetime
import json
import logging
import os
import re
import shutil
import signal
import stat
import sys
import time

ROWS = 1000  # that are purged in one statement
MANY = 500  # ids in one question to the database
LISTED = 50  # entries of a kind that are told
LOGS = "/var/log/kolla/glance"
DONE = 0.8  # part of its time after which the work is ended in good order
HANGING = ("saving", "importing", "uploading")

answer_to = None  # the real standard output
doing = "read its configuration"


def settle(result):
    """Print the answer and end at once, without waiting for threads or connections."""
    answer_to.write(json.dumps(result) + "\n")
    answer_to.flush()
    os._exit(0)


def begin(what):
    """Say what is being done, for the error if it does not end."""
    global doing
    doing = what


def configure():
    """Read the configuration as the service does; return the options."""
    import glance.db.migration  # noqa: F401  (declares the options of the database)
    import glance_store
    from glance.common import config
    from oslo_config import cfg

    config.parse_args(
        args=[], default_config_files=cfg.find_config_files(project="glance", prog="glance-api")
    )
    reserved = {"os_glance_staging_store": "file", "os_glance_tasks_store": "file"}
    glance_store.register_store_opts(config.CONF, reserved_stores=reserved)
    # Glance itself would try for ever.
    config.CONF.set_override("max_retries", 1, group="database")
    return config.CONF


def connect(conf):
    """Return a connection to Glance's database."""
    import sqlalchemy

    return sqlalchemy.create_engine(conf.database.connection).connect()


def ask(link, query, **values):
    """Return the rows of a query."""
    import sqlalchemy

    return list(link.execute(sqlalchemy.text(query), values))


def held():
    """Return (device, inode) of every file that a process of this user has open."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"/proc/{pid}").st_uid != os.getuid() or int(pid) == os.getpid():
                continue
            for number in os.listdir(f"/proc/{pid}/fd"):
                # Into some filesystems only their owner may look; ours is none of these.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    seen = os.stat(f"/proc/{pid}/fd/{number}")
                    found.add((seen.st_dev, seen.st_ino))
    return found


def statuses(link, ids):
    """Return the status of those ids that are images."""
    found, ids = {}, sorted(ids)
    for start in range(0, len(ids), MANY):
        some = {f"i{at}": one for at, one in enumerate(ids[start : start + MANY])}
        marks = ", ".join(f":{name}" for name in some)
        rows = ask(link, f"SELECT id, status FROM images WHERE id IN ({marks})", **some)
        found.update(tuple(row) for row in rows)
    return found


# Rows


def dead_rows(link, days, images):
    """Return how many rows wait for the purge: {table: number}."""
    import sqlalchemy
    from glance.db.sqlalchemy import models
    from oslo_utils import timeutils

    before = timeutils.utcnow() - datetime.timedelta(days=days)
    tables = {
        model.__tablename__
        for model in vars(models).values()
        if hasattr(model, "__tablename__") and hasattr(model, "deleted")
    }
    names = {"images"} if images else tables - {"images"}
    counts = {}
    for name in sorted(names & set(sqlalchemy.inspect(link).get_table_names())):
        query = f"SELECT COUNT(*) FROM {name} WHERE deleted_at < :before"
        counts[name] = ask(link, query, before=before)[0][0]
    return {name: count for name, count in counts.items() if count}


def purge(conf, until, days, days_images):
    """Remove dead rows, some at a time, until none is left or the time is up."""
    from glance import context
    from glance.db.sqlalchemy import api

    admin, purged, left = context.get_admin_context(show_deleted=True), {}, {}
    work = [(int(days), False, api.purge_deleted_rows)]
    if int(days_images):
        work.append((int(days_images), True, api.purge_deleted_rows_from_images))
    for age, images, remove in work:
        while True:
            begin("count deleted rows")
            with connect(conf) as link:
                waiting = dead_rows(link, age, images)
            if not waiting or time.monotonic() > until:
                left.update(waiting)
                break
            begin("purge deleted rows")
            remove(admin, age, ROWS)
            with connect(conf) as link:
                after = dead_rows(link, age, images)
            went = {name: count - after.get(name, 0) for name, count in waiting.items()}
            if not any(count > 0 for count in went.values()):
                left.update(after)  # others refer to them
                break
            for name, count in went.items():
                purged[name] = purged.get(name, 0) + max(count, 0)
    return {"purged": {name: count for name, count in purged.items() if count}, "left": left}


# Staging


def staged(conf):
    """Return the files in the staging directories, with the status of their images."""
    begin("read the staging directory")
    files, in_use = [], held()
    for store in ("os_glance_staging_store", "os_glance_tasks_store"):
        folder = getattr(conf, store).filesystem_store_datadir
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                seen = os.lstat(path)
                if stat.S_ISREG(seen.st_mode):
                    age = round(time.time() - seen.st_mtime)
                    held_now = (seen.st_dev, seen.st_ino) in in_use
                    entry = {"path": path, "image": name[:36], "bytes": seen.st_size}
                    files.append({**entry, "age": max(0, age), "open": held_now})
    begin("read the database")
    with connect(conf) as link:
        return {"files": files, "images": statuses(link, {one["image"] for one in files})}


def unstage(paths):
    """Remove staged files that still rest; return those that went."""
    removed, in_use = [], held()
    for path, rest in json.loads(paths):
        begin(f"remove {path}")
        with contextlib.suppress(FileNotFoundError):
            seen = os.lstat(path)
            if (seen.st_dev, seen.st_ino) in in_use or time.time() - seen.st_mtime < rest:
                continue
            os.unlink(path)
            removed.append(path)
    return {"removed": removed}


# Images


def hanging(link, seconds):
    """Return the images that are in a passing state for too long."""
    from oslo_utils import timeutils

    before = timeutils.utcnow() - datetime.timedelta(seconds=seconds)
    states = ", ".join(f"'{one}'" for one in HANGING)
    query = (
        "SELECT id, status, updated_at FROM images"
        f" WHERE status IN ({states}) AND updated_at < :before ORDER BY updated_at"
    )
    rows = ask(link, query, before=before)
    return [{"id": row[0], "status": row[1], "since": str(row[2])[:19]} for row in rows]


def audit(conf, until, stuck, rest):
    """Compare images and stores; return what does not belong together."""
    import glance_store
    from glance import context

    begin("open the stores")
    glance_store.create_multi_stores(conf)
    begin("read the database")
    with connect(conf) as link:
        stuck_images = hanging(link, int(stuck))
        locations = ask(
            link,
            "SELECT l.image_id, l.value, l.meta_data, i.status FROM image_locations l JOIN images i"
            " ON i.id = l.image_id WHERE l.deleted = 0 AND l.status = 'active' AND i.deleted = 0",
        )
        known = {row[0] for row in ask(link, "SELECT id FROM images WHERE deleted = 0")}
    lost, unknown, checked = [], [], 0
    admin = context.get_admin_context()
    for image_id, url, meta, status in locations:
        if time.monotonic() > until:
            break
        if status not in ("active", "deactivated") or url.startswith(("http:", "https:")):
            continue
        store = json.loads(meta or "{}").get("store") or conf.glance_store.default_backend
        begin(f"look for the data of {image_id} in {store}")
        checked += 1
        try:
            glance_store.get_size_from_uri_and_backend(url, store, context=admin)
        except glance_store.NotFound:
            lost.append({"id": image_id, "store": store})
        except glance_store.UnknownScheme:
            unknown.append({"id": image_id, "store": store})
    strays = []
    begin("read the directories of images")
    for store, kind in (conf.enabled_backends or {}).items():
        if kind != "file":
            continue
        folder = getattr(conf, store).filesystem_store_datadir
        for name in sorted(os.listdir(folder)) if folder and os.path.isdir(folder) else []:
            with contextlib.suppress(FileNotFoundError):
                seen = os.lstat(os.path.join(folder, name))
                rested = time.time() - seen.st_mtime > int(rest)
                if name not in known and stat.S_ISREG(seen.st_mode) and rested:
                    strays.append({"file": name, "store": store, "bytes": seen.st_size})
    return {
        "stuck": stuck_images[:LISTED],
        "lost": lost[:LISTED],
        "unknown": unknown[:LISTED],
        "strays": strays[:LISTED],
        "counts": {
            "stuck": len(stuck_images),
            "lost": len(lost),
            "unknown": len(unknown),
            "strays": len(strays),
        },
        "checked": checked,
        "complete": time.monotonic() <= until,
    }


# Logs


def rotate(most, keep, folder=LOGS):
    """Copy logs that have grown too large aside, and empty them; return which."""
    rotated = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith(".log") or os.path.getsize(path) <= int(most):
            continue
        begin(f"rotate {name}")
        for number in range(int(keep), 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}.{number - 1}", f"{path}.{number}")
        # The writers keep their file; they append, so that they go on at its new end.
        shutil.copyfile(path, f"{path}.new")
        os.truncate(path, 0)
        os.replace(f"{path}.new", f"{path}.1")
        rotated.append(name)
    return {"rotated": rotated}


def sentence(error):
    """Return one sentence for an error, without credentials."""
    reason = getattr(error, "orig", None) or error
    args = getattr(reason, "args", ())
    if len(args) > 1 and isinstance(args[0], int):
        reason = f"{args[1]} (error {args[0]})"
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(reason).split())).rstrip(".")
    return f"The housekeeping could not {doing}: {text or type(error).__name__}."


def main(work, seconds, *arguments):
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    global answer_to
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.CRITICAL)
    seconds, until = int(seconds), time.monotonic() + int(seconds) * DONE

    def too_late(*_):
        settle({"error": f"The housekeeping could not {doing} within {seconds} seconds."})

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        if work == "rotate":
            settle(rotate(*arguments))
        if work == "unstage":
            settle(unstage(*arguments))
        conf = configure()
        if work == "purge":
            settle(purge(conf, until, *arguments))
        settle(staged(conf) if work == "staged" else audit(conf, until, *arguments))
    except Exception as error:  # whatever it is, the caller gets a sentence
        settle({"error": sentence(error)})


if __name__ == "__main__":
    main(*sys.argv[1:])
