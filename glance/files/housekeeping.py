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

With inside.py beside it.  The last line is JSON; {"error": "one sentence"} if it cannot be done.
"""

import contextlib
import datetime
import json
import os
import shutil
import stat
import sys
import time

import inside
from inside import answer, ask, begin, engine, held

ROWS = 1000  # that are purged in one statement
LISTED = 50  # entries of a kind that are told
LOGS = "/var/log/kolla/glance"
DONE = 0.8  # part of its time after which the work is ended in good order
HANGING = ("saving", "importing", "uploading")


def configure():
    """Read the configuration as the service does, with the stores; return the options."""
    import glance_store

    conf = inside.configure("glance-api")
    reserved = {"os_glance_staging_store": "file", "os_glance_tasks_store": "file"}
    glance_store.register_store_opts(conf, reserved_stores=reserved)
    return conf


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
            with engine(conf).connect() as link:
                waiting = dead_rows(link, age, images)
            if not waiting or time.monotonic() > until:
                left.update(waiting)
                break
            begin("purge deleted rows")
            remove(admin, age, ROWS)
            with engine(conf).connect() as link:
                after = dead_rows(link, age, images)
            went = {name: count - after.get(name, 0) for name, count in waiting.items()}
            if not any(count > 0 for count in went.values()):
                left.update(after)  # others refer to them
                break
            for name, count in went.items():
                purged[name] = purged.get(name, 0) + max(count, 0)
    return {"purged": {name: count for name, count in purged.items() if count}, "left": left}


# Staging


def image_of(path):
    """Return the id of the image that a staged file belongs to."""
    return os.path.basename(path)[:36]


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
                    entry = {"path": path, "image": image_of(path), "bytes": seen.st_size}
                    files.append({**entry, "age": max(0, age), "open": held_now})
    begin("read the database")
    with engine(conf).connect() as link:
        known = inside.images(link, {one["image"] for one in files})
    return {"files": files, "images": {name: one["status"] for name, one in known.items()}}


def unstage(conf, paths):
    """Remove staged files that still rest and that no import has begun to need; return those."""
    removed, paths = [], json.loads(paths)
    begin("read the database")
    with engine(conf).connect() as link:
        known = inside.images(link, {image_of(path) for path, _rest in paths})
    importing = {name for name, one in known.items() if one["status"] == "importing"}
    in_use = held()
    for path, rest in paths:
        begin(f"remove {path}")
        with contextlib.suppress(FileNotFoundError):
            seen = os.lstat(path)
            rests = time.time() - seen.st_mtime >= rest and image_of(path) not in importing
            if not rests or (seen.st_dev, seen.st_ino) in in_use:
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


def folders(store):
    """Return the directories of a store of type file, which names one or several."""
    several = [one.partition(":")[0] for one in store.filesystem_store_datadirs or ()]
    return [one for one in several or [store.filesystem_store_datadir] if os.path.isdir(one)]


def audit(conf, until, stuck, rest):
    """Compare images and stores; return what does not belong together."""
    import glance_store
    from glance import context

    begin("open the stores")
    glance_store.create_multi_stores(conf)
    begin("read the database")
    with engine(conf).connect() as link:
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
        for folder in folders(getattr(conf, store)) if kind == "file" else ():
            for name in sorted(os.listdir(folder)):
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
        # Stores that can be asked for what they should have, but not for all that they have.
        "unlisted": sorted(
            store
            for store, kind in (conf.enabled_backends or {}).items()
            if kind not in ("file", "http")
        ),
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
        # Whenever this is cut, every line is in one of the files, the last ones perhaps in two.
        with open(path, "r+b") as log, open(f"{path}.new", "wb") as copy:
            shutil.copyfileobj(log, copy)
            make_room(path, int(keep))
            os.replace(f"{path}.new", f"{path}.1")
            # The writers keep their file; they append, so that they go on at its new end. It is
            # emptied at once when its last line is copied, so that hardly one can come in between.
            shutil.copyfileobj(log, copy)
            copy.flush()
            log.truncate(0)
        rotated.append(name)
    return {"rotated": rotated}


def make_room(path, keep):
    """Shift what was put aside of a log up to the first number that is free, or else the last."""
    free = next((one for one in range(1, keep) if not os.path.exists(f"{path}.{one}")), keep)
    for number in range(free, 1, -1):
        os.replace(f"{path}.{number - 1}", f"{path}.{number}")


def work(what, until, *arguments):
    """Do one of the parts."""
    if what == "rotate":
        return rotate(*arguments)
    conf = configure()
    if what == "unstage":
        return unstage(conf, *arguments)
    if what == "purge":
        return purge(conf, until, *arguments)
    return staged(conf) if what == "staged" else audit(conf, until, *arguments)


def main(what, seconds, *arguments):
    """Answer by the deadline."""
    until = time.monotonic() + int(seconds) * DONE
    answer("The housekeeping", int(seconds), lambda: work(what, until, *arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
