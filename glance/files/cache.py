"""Look at the image cache of this node, or remove from it what the caller has decided.

Runs inside the running glance-api container as its user, so that it sees the service's
configuration, files and processes.  Rows and files are read and removed by the cache driver of
the release itself.  Usage: cache.py look|remove SECONDS [STEPS as JSON].

The last line is JSON.  ``look``: driver, node, folder, max_bytes, stall_seconds, disk, files,
incomplete, invalid, queue, rows, images, others (see glance_cache_plan); {"off": true} when this
Glance has no cache.  ``remove``: removed (numbers of steps), kept ([{step, why}]), bytes (size of
the cache afterwards).  If it cannot be done: {"error": "one sentence"}, never with a password.
It ends at the deadline, whatever hangs.
"""

import contextlib
import datetime
import json
import logging
import os
import re
import signal
import stat
import sys
import time
import urllib.parse

MANY = 500  # ids in one question to the database
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
    """Read the configuration as the service and its cache tools do; return the options."""
    import glance.db.migration  # noqa: F401  (declares the options of the database)
    import glance.image_cache  # noqa: F401  (declares those of the cache)
    from glance.common import config
    from oslo_config import cfg

    files = cfg.find_config_files(project="glance", prog="glance-api")
    files += cfg.find_config_files(project="glance", prog="glance-cache")
    config.parse_args(args=[], default_config_files=files)
    return config.CONF


def held():
    """Return (device, inode) of every file that a process of this user has open."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.getuid() or int(pid) == os.getpid():
                continue
            for number in os.listdir(folder):
                try:
                    seen = os.stat(f"{folder}/{number}")
                except (FileNotFoundError, PermissionError):
                    # Closed meanwhile; or on a filesystem into which only its owner may look.
                    continue
                if stat.S_ISREG(seen.st_mode):
                    found.add((seen.st_dev, seen.st_ino))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    return found


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


def engine(conf):
    """Return a connection maker for Glance's database."""
    import sqlalchemy

    return sqlalchemy.create_engine(conf.database.connection)


def images(link, ids):
    """Return status and size of those ids that are images."""
    import sqlalchemy

    found, ids = {}, sorted(ids)
    for start in range(0, len(ids), MANY):
        some = {f"i{at}": one for at, one in enumerate(ids[start : start + MANY])}
        marks = ", ".join(f":{name}" for name in some)
        query = f"SELECT id, status, size FROM images WHERE id IN ({marks})"
        for row in link.execute(sqlalchemy.text(query), some):
            found[row[0]] = {"status": row[1], "size": row[2]}
    return found


def others(link, own):
    """Return the other nodes of the cache database: URL, number of copies, seconds since a read."""
    import sqlalchemy
    from oslo_utils import timeutils

    query = (
        "SELECT n.node_reference_url, c.last_accessed FROM node_reference n"
        " LEFT JOIN cached_images c ON c.node_reference_id = n.node_reference_id"
    )
    nodes = {}
    for url, accessed in link.execute(sqlalchemy.text(query)):
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


def sentence(error):
    """Return one sentence for an error, without credentials."""
    reason = getattr(error, "orig", None) or error
    args = getattr(reason, "args", ())
    if len(args) > 1 and isinstance(args[0], int):
        reason = f"{args[1]} (error {args[0]})"
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(str(reason).split())).rstrip(".")
    return f"Glance's cache could not {doing}: {text or type(error).__name__}."


def main(work, seconds, steps="[]"):
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    global answer_to
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.CRITICAL)
    seconds = int(seconds)

    def too_late(*_):
        settle({"error": f"Glance's cache could not {doing} within {seconds} seconds."})

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        conf = configure()
        if not conf.image_cache_dir or "cache" not in str(conf.paste_deploy.flavor):
            settle({"off": True})
        # Glance itself would try for ever.
        conf.set_override("max_retries", 1, group="database")
        begin("read the database")
        from glance.image_cache import ImageCache

        cache = ImageCache()
        if work == "look":
            settle(look(conf, cache))
        settle(remove(conf, cache, json.loads(steps), seconds))
    except Exception as error:  # whatever it is, the caller gets a sentence
        settle({"error": sentence(error)})


if __name__ == "__main__":
    main(*sys.argv[1:])
