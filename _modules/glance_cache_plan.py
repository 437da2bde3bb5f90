"""
What is to be removed from the image cache of a node, in which order, and what must stay. Pure.

Glance's own pruner knows only the rows of its database: with a file above the limit that has no
row it prunes "None" for ever (glance: glance/image_cache/drivers/centralized_db.py,
get_least_recently_accessed). Here files and rows are compared first, so there is always an end.
"""

import re

__virtualname__ = "glance_cache_plan"

# Seconds that a file must have rested before it counts as left behind. Glance renames a complete
# file first and writes its row then; and a writer keeps its file open until it renames it.
RESTED = 60
# Seconds since the last read of a copy after which a node that does not answer counts as gone.
NODE_GONE = 86400
# What stays free on the disk, whatever the limit: a twentieth, and never more than this.
RESERVE_PART, RESERVE_MOST = 20, 5 * 1024**3

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def __virtual__():
    return __virtualname__


def make(seen, keep=(), gone=(), alone=False):
    """
    Decide what goes and what stays.

    seen
        What ``glance/files/cache.py`` saw: ``files``, ``incomplete``, ``invalid`` and ``queue``
        are lists of ``{"id", "bytes", "age", "open"}`` (age in seconds since the last change,
        open: whether a process holds the file); ``rows`` lists ``{"id", "accessed"}`` of this
        node; ``images`` is ``{id: {"status", "size"}}`` of Glance's images among all these;
        ``max_bytes``, ``stall_seconds``, ``disk`` (``{"total", "free"}``).
    keep
        Ids of images that are pruned only when nothing else is left.
    gone
        URLs of nodes that left the group.
    alone
        Whether these may be forgotten too, because there are no nodes but this one. (A node that
        comes back without a restart would find no place for its rows.)

    Returns ``{"steps", "stays", "bytes", "limit"}``: ``steps`` in their order, each
    ``{"kind", "id", "bytes", "why", "group"}`` with ``kind`` one of file, incomplete, invalid,
    queue or node (a file goes with its row) and ``group`` one of orphans, stale, stalled, pruned;
    ``stays`` lists ``{"id", "bytes", "why"}`` of what would have to go but must not be touched;
    ``bytes`` is the present size, ``limit`` what it may be.
    """
    files = {one["id"]: one for one in seen["files"]}
    rows = {one["id"]: one for one in seen["rows"]}
    steps, stays = [], []
    for wanted in (
        _orphans(files, rows, gone, alone),
        _stale(files, rows, seen["images"], seen["queue"]),
        _stalled(seen["incomplete"], seen["invalid"], seen["stall_seconds"]),
    ):
        for step, reason in wanted:
            if reason:
                stays.append({"id": step["id"], "bytes": step["bytes"], "why": reason})
            else:
                steps.append(step)
    size = sum(one["bytes"] for one in files.values())
    freed = sum(one["bytes"] for one in steps if one["kind"] == "file")
    limit = _limit(seen["max_bytes"], size, seen["disk"])
    settled = {one["id"] for one in steps + stays}
    candidates = [files[name] for name in rows if name in files and name not in settled]
    candidates.sort(key=lambda one: (one["id"] in keep, rows[one["id"]]["accessed"], one["id"]))
    over = size - freed - limit
    for one in candidates:
        if over <= 0:
            break
        if one["open"]:
            stays.append({"id": one["id"], "bytes": one["bytes"], "why": "it is being served"})
            continue
        why = "least recently used, and the cache is above its limit"
        steps.append(_step("file", one, why, "pruned", accessed=rows[one["id"]]["accessed"]))
        over -= one["bytes"]
    stays += [
        {"id": one["id"], "bytes": one["bytes"], "why": "it is no file of Glance"}
        for one in files.values()
        if not _UUID.match(one["id"])
    ]
    return {"steps": steps, "stays": stays, "bytes": size, "limit": limit}


def nodes_gone(others, alone, answers):
    """
    The nodes in the cache database that left the group.

    others
        ``[{"url", "images", "idle"}]``: the other nodes, how many copies they have, and the
        seconds since one of these was read last (None without copies).
    alone
        Whether this node is the only one of the group, so that each other one has left.
    answers
        Function: whether something answers at a URL. Asked as rarely as possible.

    Returns a list of URLs.
    """
    if alone:
        return [one["url"] for one in others]
    return [
        one["url"]
        for one in others
        if one["images"] and one["idle"] > NODE_GONE and not answers(one["url"])
    ]


def summary(plan, done):
    """
    What a run did and left, in short.

    plan
        Result of :py:func:`make`.
    done
        ``{"removed": [numbers of steps], "kept": [{"step", "why"}], "bytes"}`` of the removal;
        ``bytes`` is the size of the cache afterwards.

    Returns ``{"freed_bytes", "freed", "left", "bytes", "limit_bytes"}``; ``freed`` counts what
    went by group, ``left`` lists what would have to go and why it stays.
    """
    freed = {}
    for number in done["removed"]:
        step = plan["steps"][number]
        entry = freed.setdefault(step["group"], {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += step["bytes"]
    left = list(plan["stays"])
    for one in done["kept"]:
        step = plan["steps"][one["step"]]
        left.append({"id": step["id"], "bytes": step["bytes"], "why": one["why"]})
    return {
        "freed_bytes": sum(one["bytes"] for one in freed.values()),
        "freed": freed,
        "left": left,
        "bytes": done["bytes"],
        "limit_bytes": plan["limit"],
    }


def sentence(report, test=False):
    """
    A summary as a sentence.

    report
        Result of :py:func:`summary`.
    test
        Whether nothing was removed.
    """
    counts = [f"{one['count']} {group}" for group, one in report["freed"].items()]
    removed, holds = ("Would remove", "would hold") if test else ("Removed", "holds")
    said = f"{removed} {', '.join(counts)}" if counts else "Nothing is to be removed"
    said += f" ({text(report['freed_bytes'])})" if report["freed_bytes"] else ""
    said += f"; the cache {holds} {text(report['bytes'])} of {text(report['limit_bytes'])}"
    if report["left"]:
        reasons = sorted({one["why"] for one in report["left"]})
        said += f"; {len(report['left'])} stay ({'; '.join(reasons)})"
    return said + "."


def text(number):
    """
    A number of bytes for people.

    number
        Bytes.
    """
    if number < 1024:
        return f"{number} bytes"
    power = min((number.bit_length() - 1) // 10, len(_UNITS))
    return f"{number / 1024**power:.1f} {_UNITS[power - 1]}"


def _step(kind, one, why, group, **more):
    return {
        "kind": kind,
        "id": one["id"],
        "bytes": one["bytes"],
        "why": why,
        "group": group,
        **more,
    }


def _orphans(files, rows, gone, alone):
    """Files without row, rows without file, rows of other nodes; each with what forbids it."""
    found = []
    for name, one in files.items():
        if name not in rows and _UUID.match(name):
            reason = "it is being served" if one["open"] else None
            if one["age"] < RESTED:
                reason = "it is so new that its row may be under way"
            why = "the database does not know it for this node"
            found.append((_step("file", one, why, "orphans"), reason))
    for name in rows:
        if name not in files:
            why = "its file is gone"
            found.append((_step("file", {"id": name, "bytes": 0}, why, "orphans"), None))
    for url in gone:
        why = "the node is no longer in the group"
        step = _step("node", {"id": url, "bytes": 0}, why, "orphans", forget=alone)
        found.append((step, None))
    return found


def _stale(files, rows, images, queue):
    """Copies, and requests for copies, that are of no use any more."""
    found = []
    for name, one in files.items():
        if name not in rows:
            continue
        image = images.get(name)
        if image is None or image["status"] == "deleted":
            why = "its image is deleted"
        elif image["size"] is not None and image["size"] != one["bytes"]:
            why = "it is not as long as its image"
        else:
            continue
        reason = "it is being served" if one["open"] else None
        accessed = rows[name]["accessed"]
        found.append((_step("file", one, why, "stale", accessed=accessed), reason))
    for one in queue:
        if images.get(one["id"], {"status": "deleted"})["status"] == "deleted":
            found.append((_step("queue", one, "its image is deleted", "stale"), None))
    return found


def _stalled(incomplete, invalid, stall_seconds):
    found = []
    for one in incomplete:
        reason = None
        if one["age"] > stall_seconds:
            # As Glance's own cleaner: whoever holds it goes on reading, and nothing is cached.
            step = _step("incomplete", one, "nothing came for too long", "stalled", forced=True)
        else:
            step = _step("incomplete", one, "nobody writes it any more", "stalled", rested=RESTED)
            if one["open"]:
                continue  # it is being cached
            if one["age"] < RESTED:
                reason = "it was written a moment ago"
        found.append((step, reason))
    for one in invalid:
        reason = "a process holds it" if one["open"] else None
        found.append((_step("invalid", one, "caching it failed", "stalled"), reason))
    return found


def _limit(max_bytes, size, disk):
    """What the cache may hold: its limit, or less where the disk has no room for that."""
    reserve = min(disk["total"] // RESERVE_PART, RESERVE_MOST)
    return max(0, min(max_bytes, size + disk["free"] - reserve))
