"""
Cleaning the image cache of this node, by schedule or by hand.

What goes and what stays is decided in ``glance_cache_plan``; looking and removing is done by
``glance/files/cache.py`` inside the running container, with the cache driver of the release.
"""

import functools
import json
import socket
import time
import urllib.parse

from salt.exceptions import SaltInvocationError

__virtualname__ = "glance_cache"

JOB = "cache/clean"
# Seconds that looking, and that removing, may take. Less than a file must have rested before it
# counts as left behind: what a hand-over that begins meanwhile writes is never touched.
TIMEOUT = 55
BATCH = 200  # steps for one call into the container; they are an argument of limited length
LISTED = 20  # entries of what stays that are told one by one
LATE = "the time was up"
CONNECT = 3  # seconds that another node has to answer


def __virtual__():
    return __virtualname__


def clean(timeout=TIMEOUT, test=False):
    """
    Remove what does not belong into this node's image cache, then prune it to its size.

    First what database and directory do not agree on, copies of deleted images, and the rows of
    nodes that left the group; then copies that were never completed; then the least recently
    used ones. What is being cached or served stays. Nothing is done while two containers serve,
    as in a hand-over, and when another cleaning is at work. At last the images of
    ``glance_cache_images`` that are not there are asked for.

    timeout
        Seconds that looking, and that removing, may take.
    test
        Only tell what would be removed.

    Returns ``{"result", "comment"}`` and, when it came to that, ``freed_bytes``, ``freed``,
    ``left``, ``bytes``, ``limit_bytes``, ``requested`` and ``seconds``; ``skipped`` tells why
    nothing was done. The same is sent as event ``glance/cache/clean``. Never raises: a failure
    has ``result`` False, its reason in ``comment``, and return code 1.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_cache.clean
        salt 'ctl*' glance_cache.clean test=True
    """
    work = functools.partial(_clean, int(timeout), test)
    return __salt__["glance_care.take"](JOB, work, test)


def status(timeout=TIMEOUT):
    """
    What this node's image cache holds, what the next cleaning would do, and how the last one went.

    timeout
        Seconds it may take.

    Returns a dictionary of short texts.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_cache.status
    """
    text = __salt__["glance_cache_plan.text"]
    memory = __salt__["glance_care.remembered"](JOB)
    screen = {
        "last cleaning": memory["last"].get("comment") or "none yet",
        "cleaned": memory["last"].get("time") or "never",
        "failures in a row": memory["failures"],
    }
    seen = _look(int(timeout))
    if seen.get("skipped"):
        return {"cache": seen["skipped"], **screen}
    settings = _settings()
    plan = _plan(seen, settings, _listed(settings)["ids"])
    return {
        "cache": f"on, driver {seen['driver']}, node {seen['node']}",
        "size": f"{text(plan['bytes'])} of {text(plan['limit'])}",
        "disk": f"{text(seen['disk']['free'])} of {text(seen['disk']['total'])} free",
        "copies": len(seen["files"]),
        "being cached": sum(one["open"] for one in seen["incomplete"]),
        "being served": sum(one["open"] for one in seen["files"]),
        "to be removed": [f"{one['kind']} {one['id']}: {one['why']}" for one in plan["steps"]],
        "stays": [f"{one['id']}: {one['why']}" for one in plan["stays"]],
        **screen,
    }


def health(settings):
    """
    The cache on the operator's screen: how its cleaning goes.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"text", "warnings"}``. Asks neither the container nor the database.
    """
    if not settings["enable_glance_image_cache"]:
        return {"text": "off", "warnings": []}
    interval = 0 if settings["glance_cache_clean_cron"] else settings["glance_cache_clean_interval"]
    return __salt__["glance_care.health"](JOB, interval)


def _clean(timeout, test):
    seen = _look(timeout)
    if seen.get("skipped"):
        return __salt__["glance_care.skip"](seen["skipped"])
    settings = _settings()
    listed = _listed(settings)
    plan = _plan(seen, settings, listed["ids"])
    done = _as_if(plan) if test else _remove(plan, timeout)
    report = __salt__["glance_cache_plan.summary"](plan, done)
    comment = __salt__["glance_cache_plan.sentence"](report, test)
    if not settings:
        comment += (
            " The pillar is not valid, so neither glance:glance_cache_images nor nodes that left"
            " were looked at."
        )
    report["left"] = report["left"][:LISTED]
    faults = listed["faults"]
    report["requested"] = __salt__["glance_cache_list.missing"](listed["ids"], seen)
    if report["requested"] and not test:
        faults += __salt__["glance_cache_list.request"](settings, report["requested"])
    crowd = __salt__["glance_cache_list.crowded"](
        listed["ids"], plan["limit"], __salt__["glance_cache_plan.text"]
    )
    faults += [crowd] if crowd else []
    return {"result": not faults, "comment": " ".join([comment, *faults]), **report}


def _as_if(plan):
    """What there would be after all steps."""
    freed = sum(one["bytes"] for one in plan["steps"] if one["kind"] == "file")
    removed = list(range(len(plan["steps"])))
    return {"removed": removed, "kept": [], "bytes": plan["bytes"] - freed}


def _remove(plan, timeout):
    """Take the steps until the deadline; what was removed, what was kept, and what is there."""
    done = {"removed": [], "kept": [], "bytes": plan["bytes"]}
    until = time.monotonic() + timeout
    for start in range(0, len(plan["steps"]), BATCH):
        some = plan["steps"][start : start + BATCH]
        left = round(until - time.monotonic())
        # A hand-over may have begun since.
        answer = _ask(left, "remove", json.dumps(some)) if left > 0 else {"skipped": LATE}
        if answer.get("skipped"):
            late = range(start, len(plan["steps"]))
            done["kept"] += [{"step": number, "why": answer["skipped"]} for number in late]
            break
        done["removed"] += [start + number for number in answer["removed"]]
        done["kept"] += [{**one, "step": start + one["step"]} for one in answer["kept"]]
        done["bytes"] = answer["bytes"]
    return done


def _look(timeout):
    seen = _ask(timeout, "look")
    return {"skipped": "the glance-api that runs has no cache."} if seen.get("off") else seen


def _ask(timeout, *arguments):
    return __salt__["glance_care.ask"]("cache.py", timeout, *arguments)


def _settings():
    """The settings; None while the pillar is not valid, for the cleaning can do without them."""
    try:
        return __salt__["glance_settings.get"]()
    except SaltInvocationError:
        return None


def _listed(settings):
    """The images that are to be in the cache."""
    if not settings or not settings["glance_cache_images"]:
        return {"ids": {}, "faults": []}
    return __salt__["glance_cache_list.find"](settings)


def _plan(seen, settings, keep):
    alone, gone = _nodes(seen["others"], settings)
    return __salt__["glance_cache_plan.make"](seen, list(keep), gone, alone)


def _nodes(others, settings):
    """Whether this is the only node of the group, and the URLs of those that left it."""
    if not others or not settings:
        return False, []
    hosts = settings["glance_api_hosts"]
    if settings["minion_id"] != hosts[0]:
        return False, []  # the first one looks after the others' rows
    alone = len(hosts) == 1
    return alone, __salt__["glance_cache_plan.nodes_gone"](others, alone, _answers)


def _answers(url):
    """Whether something listens where a node did."""
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 9292), CONNECT).close()
    except OSError:
        return False
    return True
