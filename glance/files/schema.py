"""Print what the configured database holds, compared with what this image of Glance knows.

Runs inside a throw-away container with the service's configuration, after kolla_start has put it
in place.  The last line is JSON:

heads_in_database, images, metadef_namespaces (rows), files (ids of some images, the newest ones,
that lie in Glance's own directory), metadefs_missing (namespaces that this image has and the
database has not, or not completely), pending (phases that are left), half_done (what an expansion
that was cut has left: see schema_pending.py), changed_by (the server's connection that changes the
schema now: it holds the lock of schema_change.py, which the server takes back when its process
dies; None when nobody does, and always with SQLite, where whoever does is a container of this very
host), position:

``empty``
    No tables.
``current``
    This image's.
``uncontracted``
    This image's but for the last phase; older releases still work on it.
``expanded``
    This image's, and a newer release has expanded it; this image still works on it.
``behind``
    An older release's; expand or migrate are left.
``ahead``
    A newer release's.
``unknown``
    Tables, but no version.

If the database cannot be read: ``{"error": "one sentence"}``, without any password; it ends with
0 then too, because the answer is complete.

With GLANCE_SCHEMA_WAIT=SECONDS in its environment it looks again until another host has made the
schema, or that time is over; ``waited`` tells for how long.  With GLANCE_SCHEMA_CHANGE_WAIT=SECONDS
it looks again until nobody changes the schema any more.

The scripts that work on the database beside this one answer by :func:`attempt` and :func:`answer`.
"""

import glob
import json
import logging
import os
import re
import signal
import time

import schema_pending

# Revisions of Glance are called RELEASE_expandNN and RELEASE_contractNN.
EXPANSION = re.compile(r"_expand\d+$")
COUNTS = ", ".join(
    f"(SELECT COUNT(*) FROM metadef_{part} p WHERE p.namespace_id = n.id)"
    for part in ("properties", "objects", "tags")
)
METADEFS = f"SELECT namespace, {COUNTS} FROM metadef_namespaces n"
FILES = """SELECT i.id FROM images i JOIN image_locations l ON l.image_id = i.id
    WHERE i.status = 'active' AND l.status = 'active'
    AND l.value LIKE 'file:///var/lib/glance/images/%' ORDER BY i.created_at DESC LIMIT 20"""
WAIT, CHANGE_WAIT = "GLANCE_SCHEMA_WAIT", "GLANCE_SCHEMA_CHANGE_WAIT"
POLL = 2  # seconds between two looks while waiting
SILENT = 45  # seconds that one look may take


class Refused(Exception):
    """Nothing was changed; the text is a sentence."""


class Silent(Exception):
    """The server has taken the connection, and says nothing."""


def connection():
    """Return the configured URL, read as Glance reads it."""
    import glance.db.migration  # noqa: F401  (declares the options of the database)
    from oslo_config import cfg

    cfg.CONF([], project="glance", prog="glance-api")
    return cfg.CONF.database.connection


def missing_metadefs(folder, found):
    """Return the namespaces of the files in a folder of which the database lacks something.

    found: namespace -> numbers of its properties, objects and tags.
    """
    missing = []
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        try:
            with open(path, encoding="utf-8") as handle:
                content = json.load(handle)
        except (OSError, ValueError):
            continue  # not loaded either
        names = [
            content.get("properties", {}),
            [one["name"] for one in content.get("objects", [])],
            [one["name"] for one in content.get("tags", [])],
        ]
        # Databases may not tell capital letters from small ones.
        wanted = [len({name.casefold() for name in some}) for some in names]
        present = found.get(content.get("namespace"))
        if present is None or any(present[at] < count for at, count in enumerate(wanted)):
            missing.append(content.get("namespace"))
    return missing


def revisions(engine):
    """Return this image's revisions, and a function: branch -> its last revision."""
    from alembic import script as alembic_script
    from glance.db.sqlalchemy import alembic_migrations

    config = alembic_migrations.get_alembic_config(engine)
    script = alembic_script.ScriptDirectory.from_config(config)
    return script, script.revision_map.get_current_head


def lock(engine):
    """Return the name of the lock under which a schema is changed; None without one."""
    return f"glance schema of {engine.url.database}"[:64] if engine.name == "mysql" else None


def owner(link, name):
    """Return the connection that holds a lock, or None."""
    import sqlalchemy

    asked = sqlalchemy.text("SELECT IS_USED_LOCK(:name)")
    return link.execute(asked, {"name": name}).scalar() if name else None


def look(url):
    """Return the answer for a database that can be reached."""
    import sqlalchemy
    from glance.db.sqlalchemy import metadata
    from glance.db.sqlalchemy.alembic_migrations import data_migrations

    parsed = sqlalchemy.engine.make_url(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    # Connecting would make the file.
    engine = sqlalchemy.create_engine("sqlite://" if file and not os.path.exists(file) else url)
    script, branch = revisions(engine)
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.connect() as link:
        changed_by = owner(link, lock(engine))  # first: it may be over when the heads are read
        tables = set(sqlalchemy.inspect(link).get_table_names())

        def rows(query, table):
            return list(link.execute(sqlalchemy.text(query))) if table in tables else []

        heads = sorted(
            row[0] for row in rows("SELECT version_num FROM alembic_version", "alembic_version")
        )
        counts = {
            table: sum(row[0] for row in rows(f"SELECT COUNT(*) FROM {table}", table))
            for table in ("images", "metadef_namespaces")
        }
        metadefs = {}
        if counts["metadef_namespaces"]:
            metadefs = {row[0]: row[1:] for row in link.execute(sqlalchemy.text(METADEFS))}
        files = rows(FILES, "image_locations") if counts["images"] else []
        # What ``glance-manage db check`` would end with: 0 up to date; 3 expand, 4 migrate, 5
        # contract comes next; 3 also for a database that is newer than the image.
        if branch("contract") in heads:
            check = 0
        elif branch("expand") not in heads:
            check = 3
        else:
            check = 4 if data_migrations.has_pending_migrations(engine) else 5
        half_done = None
        if heads and not set(heads) - known:
            half_done = schema_pending.half_done(link, script, branch("expand"), heads)
    empty = not tables - {"alembic_version"} and not heads
    position = "empty" if empty else place(heads, known, branch("contract"), check)
    return {
        "heads_in_database": heads,
        "images": counts["images"],
        "files": [row[0] for row in files],
        "metadef_namespaces": counts["metadef_namespaces"],
        "metadefs_missing": missing_metadefs(metadata.CONF.metadata_source_path, metadefs),
        "position": position,
        "pending": PENDING.get((position, check), []),
        "half_done": half_done,
        "changed_by": changed_by,
    }


PENDING = {
    ("behind", 3): ["expand", "migrate", "contract"],
    ("behind", 4): ["migrate", "contract"],
    ("uncontracted", 5): ["contract"],
}


def place(heads, known, contract, check):
    """Return the position of a schema that is not empty.

    heads: of the database; known: all revisions of this image; contract: its last one of that
    branch; check: what ``glance-manage db check`` would end with.
    """
    if not heads:
        return "unknown"
    foreign = set(heads) - known
    if foreign:
        only_expanded = contract in heads and all(EXPANSION.search(one) for one in foreign)
        return "expanded" if only_expanded else "ahead"
    return {0: "current", 5: "uncontracted"}.get(check, "behind")


def sentence(error, url, fault="cannot be read"):
    """Return one sentence for an error, without credentials."""
    reason = getattr(error, "orig", None) or error
    args = getattr(reason, "args", ())
    if len(args) > 1 and isinstance(args[0], int):
        reason = f"{args[1]} (error {args[0]})"
    text = " ".join(str(reason).split())
    where = re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    return f"The database {where} {fault}: {text.rstrip('.')}."


def settled(found):
    """Tell whether waiting cannot change an answer any more.

    A bootstrap in progress shows as: no login, no database, no tables, tables without a version,
    an old version, no metadata definitions yet. None of these with content in it is one.
    """
    if found.get("error"):
        return False
    return found["position"] == "ahead" or bool(found["metadef_namespaces"] or found["images"])


def attempt(work, fault="cannot be read", secrets=()):
    """Return what some work on the configured database returns, or the reason why it has failed.

    work: function of the URL.  fault: what the sentence of an error says of the database.
    secrets: what an error must not tell, beside the password of the URL.
    """
    url = "of this configuration"
    try:
        url = connection()
        return work(url)
    except Refused as refused:
        text = f"{str(refused).rstrip('.')}."
    except Exception as error:  # whatever it is, the caller gets a sentence
        text = sentence(error, url, fault)
    for secret in (*re.findall(r"//[^/:@]*:([^@]+)@", url), *secrets):
        text = text.replace(secret, "***")
    return {"error": text}


def answer(work):
    """Do some work, print its result on the real standard output, and end the process.

    work: function without arguments; returns what JSON can hold.  It ends at once, without waiting
    for threads or connections.  Whatever libraries print goes to standard error.
    """
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.ERROR)
    answer_to.write(json.dumps(work()) + "\n")
    answer_to.flush()
    os._exit(0)


def main():
    """Look, and again as long as it is worth waiting; return the answer."""
    began, patience = time.monotonic(), float(os.environ.get(WAIT, 0))
    quiet = float(os.environ.get(CHANGE_WAIT, 0))
    while True:
        result, waited = attempt(look_in_time), time.monotonic() - began
        may_come = waited < patience and not settled(result)
        may_end = waited < quiet and result.get("changed_by") is not None
        if not may_come and not may_end:
            return {**result, "waited": round(waited)}
        time.sleep(POLL)


def look_in_time(url):
    """Look, unless it takes too long."""

    def too_late(*_):
        raise Silent(f"no answer within {SILENT} seconds")

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SILENT)
    try:
        return look(url)
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    answer(main)
