"""Look at the image cache of this node, or remove from it what the caller has decided.

Runs inside the running glance-api container, with inside.py beside it.  Rows and files are read
and removed by the cache driver of the release itself.  Usage: cache.py look|remove SECONDS [STEPS
as JSON].

The last line is JSON.  ``look``: driver, node, folder, max_bytes, stall_seconds, disk, files,
incomplete, invalid, queue, rows, images, others (see glance_cache_plan); {"off": true} when this
Glance has no cache.  ``remove``: removed (numbers of steps), kept ([{step, why}]), bytes (size of
the cache afterwards).  If it cannot be done: {"error": "one sentence"}.
"""

import contextlib
import datetime
import json
import os
import stat
import sys
import time
import urllib.parse

from inside import answer, ask, begin, configure, engine, held, images

PARTS = ("incomplete", "invalid", "queue")

# Glance looks whether a copy is there, and opens it some moments later.  Seconds after which a
# request has surely come that far; that are waited for a moment without a younger request, in all
# and then for each copy; and between two looks.
OPENED, PATIENCE, SHORT, POLL = 5, 8, 0.3, 0.003
# Seconds since the last read after which no request of this moment will be for this copy: such a
# one goes even when there is no such moment.  (Glance's own pruner waits for none.)
COLD = 60
NO_PAUSE = "it was read a moment ago, and requests come without a pause"
IN_SERVICE = {"01", "08"}  # established, and closed by the client, in /proc/net/tcp


def contents(folder, in_use):
    """Return the regular files of a folder, databases left out, as the release counts them."""
    found = []
    for name in sorted(os.listdir(folder)):
        try:
            seen = os.lstat(os.path.join(folder, name))
        except FileNotFoundError:
            continue
        if stat.S_ISREG(seen.st_mode) and not name.endswith(".db"):
            found.append(
                {
                    "id": name,
                    "bytes": seen.st_size,
                    "age": max(0, round(time.time() - seen.st_mtime)),
                    "open": (seen.st_dev, seen.st_ino) in in_use,
                }
            )
    return found


def others(link, own):
    """Return the other nodes of the cache database: URL, number of copies, seconds since a read."""
    from oslo_utils import timeutils

    query = (
        "SELECT n.node_reference_url, c.last_accessed FROM node_reference n"
        " LEFT JOIN cached_images c ON c.node_reference_id = n.node_reference_id"
    )
    nodes = {}
    for url, accessed in ask(link, query):
        if url == own:
            continue
        node = nodes.setdefault(url, {"url": url, "images": 0, "idle": None})
        if accessed is None:
            continue
        if isinstance(accessed, str):  # SQLite
            accessed = timeutils.parse_strtime(accessed.partition(".")[0], "%Y-%m-%d %H:%M:%S")
        idle = round(timeutils.delta_seconds(accessed, timeutils.utcnow()))
        node["images"] += 1
        node["idle"] = idle if node["idle"] is None else min(idle, node["idle"])
    return sorted(nodes.values(), key=lambda node: node["url"])


def look(conf, cache):
    """Return what there is."""
    driver, folder = cache.driver, conf.image_cache_dir
    begin("read the database")
    # Rows before files: a copy that is completed in between is a new file then, and stays.
    rows = [
        {"id": row["image_id"], "accessed": row["last_accessed"]}
        for row in cache.get_cached_images()
    ]
    begin("read the cache directory")
    disk = os.statvfs(folder)
    in_use = held()
    seen = {
        "driver": type(driver).__module__.rpartition(".")[2],
        "node": conf.worker_self_reference_url,
        "folder": folder,
        "max_bytes": conf.image_cache_max_size,
        "stall_seconds": conf.image_cache_stall_time,
        "disk": {
            "total": disk.f_blocks * disk.f_frsize,
            "free": disk.f_bavail * disk.f_frsize,
        },
        "rows": rows,
        "files": contents(folder, in_use),
        **{part: contents(os.path.join(folder, part), in_use) for part in PARTS},
    }
    begin("read the database")
    ids = {one["id"] for part in ("files", "rows", "queue") for one in seen[part]}
    with engine(conf).connect() as link:
        seen["images"] = images(link, ids)
        central = seen["driver"] == "centralized_db"
        seen["others"] = others(link, seen["node"]) if central else []
    return seen


def remove_node(conf, url, forget):
    """Remove the rows of another node, and the node itself when it can be forgotten."""
    import sqlalchemy

    which = "(SELECT node_reference_id FROM node_reference WHERE node_reference_url = :url)"
    statements = [f"DELETE FROM cached_images WHERE node_reference_id IN {which}"]
    if forget:
        statements.append("DELETE FROM node_reference WHERE node_reference_url = :url")
    with engine(conf).begin() as link:
        for statement in statements:
            link.execute(sqlalchemy.text(statement), {"url": url})


class Requests:
    """The connections to the API, by which it is known how old its requests can be."""

    def __init__(self, port):
        self.port, self.since = f":{port:04X}", {}
        self.look()

    def look(self):
        """Note what is new, forget what has ended; return the age of the youngest."""
        now, present = time.monotonic(), set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as rows:
                for fields in map(str.split, rows):
                    if fields[1].endswith(self.port) and fields[3] in IN_SERVICE:
                        present.add((fields[1], fields[2]))
        self.since = {one: self.since.get(one, now) for one in present}
        return min((now - began for began in self.since.values()), default=OPENED)

    def wait(self, until):
        """Wait for a moment in which no request is about to open a copy; tell whether it came."""
        while self.look() < OPENED:
            if time.monotonic() > until:
                return False
            time.sleep(POLL)
        return True


def forbids(step, path, rows):
    """Return why a file must not go now, although it could when it was looked at; or None."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        # A row that is left gets its file only by a new download, which makes a new row.
        return None
    if (seen.st_dev, seen.st_ino) in held() and not step.get("forced"):
        return "a process holds it"
    if time.time() - seen.st_mtime < step.get("rested", 0):
        return "it is written again"
    if step["why"] == "its file is gone":
        return "its file came back"
    if "accessed" in step and rows.get(step["id"]) != step["accessed"]:
        return "it was read meanwhile"
    return None


class Rows(dict):
    """When each copy was read last; ``now`` is this moment by the same clock."""

    def __init__(self, cache):
        found = cache.get_cached_images()
        super().__init__((row["image_id"], row["last_accessed"]) for row in found)
        central = type(cache.driver).__module__.endswith("centralized_db")
        # That driver reads its times, which are UTC, as if they were local ones.
        utc = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        self.now = utc.timestamp() if central else time.time()


def not_now(step, path, rows, requests, until):
    """Wait for a moment in which a copy can go unseen; return why it must not, or None."""
    while requests.wait(until):
        why = forbids(step, path, rows)
        # That look took longer than the next one, after which the copy is removed at once.
        if why or requests.look() >= OPENED:
            return why
    cold = step["id"] in rows and rows.now - rows[step["id"]] > COLD
    return forbids(step, path, rows) if cold else NO_PAUSE


def remove(conf, cache, steps, seconds):
    """Remove in the given order until the deadline; return what went and what did not."""
    begin("read the database")
    rows = Rows(cache)
    folder, until = conf.image_cache_dir, time.monotonic() + seconds * 0.8
    requests = Requests(urllib.parse.urlsplit(conf.worker_self_reference_url).port)
    patience = time.monotonic() + PATIENCE
    result = {"removed": [], "kept": []}
    for number, step in enumerate(steps):
        kind, name = step["kind"], step["id"]
        begin(f"remove {name}")
        below = [] if kind == "file" else [kind]
        path = os.path.join(folder, *below, name)
        if time.monotonic() > until:
            why = "the time was up"
        elif kind == "node":
            remove_node(conf, name, step["forget"])
            why = None
        else:
            why = forbids(step, path, rows)
            if why is None and kind == "file" and os.path.exists(path):
                patience = max(patience, time.monotonic() + SHORT)
                why = not_now(step, path, rows, requests, min(patience, until))
            if why is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                if kind == "file":
                    cache.delete_cached_image(name)
        if why:
            result["kept"].append({"step": number, "why": why})
        else:
            result["removed"].append(number)
    begin("read the cache directory")
    result["bytes"] = sum(one["bytes"] for one in contents(folder, set()))
    return result


def opened():
    """Return the cache; the service that writes to its SQLite at this moment is waited for."""
    import glance.image_cache
    from glance.common.exception import BadDriverConfiguration

    while True:
        try:
            return glance.image_cache.ImageCache()
        except BadDriverConfiguration as error:
            # The driver has waited for two seconds by itself; the deadline is that of the script.
            if "database is locked" not in str(error):
                raise


def work(what, seconds, steps):
    """Look, or remove."""
    conf = configure("glance-api", "glance-cache")
    import glance.image_cache  # noqa: F401  (declares the options of the cache)

    if not conf.image_cache_dir or "cache" not in str(conf.paste_deploy.flavor):
        return {"off": True}
    begin("read the database")
    cache = opened()
    return look(conf, cache) if what == "look" else remove(conf, cache, steps, seconds)


def main(what, seconds, steps="[]"):
    """Answer by the deadline."""
    seconds = int(seconds)
    answer("Glance's cache", seconds, lambda: work(what, seconds, json.loads(steps)))


if __name__ == "__main__":
    main(*sys.argv[1:])
