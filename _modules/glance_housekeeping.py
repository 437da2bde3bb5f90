"""
Housekeeping, by schedule or by hand, each part only where the pillar asks for it: deleted rows,
left-over staged data, images that hang or have lost their data, logs.

The work is done by ``glance/files/housekeeping.py`` inside the running container.
"""

import functools
import json

__virtualname__ = "glance_housekeeping"

SCRIPT = "housekeeping.py"
TIMEOUT = 100  # seconds that one call into the container may take
BATCH = 200  # files for one call
ADVISORY = "OSSN-0075"


def __virtual__():
    return __virtualname__


def purge(timeout=TIMEOUT):
    """
    Remove rows that were deleted ``glance_db_purge_age`` days ago from Glance's database.

    The rows of images themselves go only with ``glance_db_purge_images_age``, because their ids
    can be used again then (OSSN-0075). What is left when the time is up goes next time.

    timeout
        Seconds it may take.

    Returns a report, also sent as event ``glance/housekeeping/purge``. Never raises.

    CLI Example:

    .. code-block:: bash

        salt 'ctl1' glance_housekeeping.purge
    """
    return _take("purge", "glance_db_purge_age", _purge, timeout)


def leftovers(timeout=TIMEOUT):
    """
    Remove staged data that nothing touched for ``glance_staging_max_age`` seconds.

    What a process has open stays, and what belongs to an image that is being imported.

    timeout
        Seconds it may take.

    Returns a report, also sent as event ``glance/housekeeping/leftovers``. Never raises.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_housekeeping.leftovers
    """
    return _take("leftovers", "glance_staging_max_age", _leftovers, timeout)


def audit(timeout=TIMEOUT):
    """
    Report images that hang, images without their data, and data without its image. Only looks.

    Lost data counts as a failure, so that it shows in ``glance_api.status`` when it stays. Data
    without its image is found in stores of type file only; the report names the others.

    timeout
        Seconds it may take.

    Returns a report, also sent as event ``glance/housekeeping/audit``. Never raises.

    CLI Example:

    .. code-block:: bash

        salt 'ctl1' glance_housekeeping.audit
    """
    return _take("audit", "glance_stuck_age", _audit, timeout)


def rotate_logs(timeout=TIMEOUT):
    """
    Put logs of Glance aside that are above ``glance_log_max_size``; keep ``glance_log_keep``.

    timeout
        Seconds it may take.

    Returns a report, also sent as event ``glance/housekeeping/rotate_logs``. Never raises.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_housekeeping.rotate_logs
    """
    return _take("rotate_logs", "glance_log_max_size", _rotate_logs, timeout)


def stale(files, images, most):
    """
    Which staged files may go. Pure.

    files
        ``[{"path", "image", "bytes", "age", "open"}]``, age in seconds since the last change.
    images
        ``{id: status}`` of the images among theirs.
    most
        Seconds that they may rest.
    """
    return [
        one
        for one in files
        if one["age"] > most and not one["open"] and images.get(one["image"]) != "importing"
    ]


def _take(name, key, work, timeout):
    work = functools.partial(_unless_skipped, key, work, int(timeout))
    return __salt__["glance_care.take"](f"housekeeping/{name}", work)


class _Skipped(Exception):
    """Nothing can be done now; the text says why."""


def _unless_skipped(key, work, timeout):
    settings = __salt__["glance_settings.get"]()
    try:
        if not settings[key]:
            # Without its key a part knows no limit: it would take whatever is there.
            raise _Skipped(f"glance:{key} is 0, so that this part is off.")
        return work(settings, timeout)
    except _Skipped as err:
        return __salt__["glance_care.skip"](str(err))


def _ask(timeout, *arguments):
    answer = __salt__["glance_care.ask"](SCRIPT, timeout, *map(str, arguments))
    if answer.get("skipped"):
        raise _Skipped(answer["skipped"])
    return answer


def _purge(settings, timeout):
    images = settings["glance_db_purge_images_age"]
    answer = _ask(timeout, "purge", settings["glance_db_purge_age"], images)
    purged = sum(answer["purged"].values())
    comment = f"Purged {purged} deleted rows."
    if answer["left"]:
        comment += f" {sum(answer['left'].values())} are left for the next time."
    return {"result": True, "comment": comment, **answer}


def _leftovers(settings, timeout):
    most = settings["glance_staging_max_age"]
    seen = _ask(timeout, "staged")
    old = stale(seen["files"], seen["images"], most)
    removed = []
    for start in range(0, len(old), BATCH):
        paths = [[one["path"], most] for one in old[start : start + BATCH]]
        removed += _ask(timeout, "unstage", json.dumps(paths))["removed"]
    freed = sum(one["bytes"] for one in old if one["path"] in removed)
    text = __salt__["glance_cache_plan.text"](freed)
    comment = f"Removed {len(removed)} staged files ({text}); {len(seen['files'])} were there."
    return {"result": True, "comment": comment, "removed": removed, "freed_bytes": freed}


def _audit(settings, timeout):
    rest = max(settings["glance_stuck_age"], 3600)
    answer = _ask(timeout, "audit", settings["glance_stuck_age"], rest)
    counts = answer["counts"]
    # Lost data is for somebody to look at; the rest is for the report.
    comment = (
        f"{counts['stuck']} images hang, {counts['lost']} of {answer['checked']} have lost their"
        f" data, {counts['strays']} files in the stores belong to no image"
    )
    if counts["unknown"]:
        comment += f", {counts['unknown']} lie in a store that is not configured"
    if answer["unlisted"]:
        stores = ", ".join(answer["unlisted"])
        comment += f"; data without an image is not looked for in {stores}"
    if not answer["complete"]:
        comment += "; the time was up before all were looked at"
    return {"result": not counts["lost"], "comment": f"{comment}.", **answer}


def _rotate_logs(settings, timeout):
    answer = _ask(timeout, "rotate", settings["glance_log_max_size"], settings["glance_log_keep"])
    names = ", ".join(answer["rotated"]) or "no log"
    return {"result": True, "comment": f"Put aside: {names}.", **answer}
