"""
What must hold between the settings of the image cache and of the housekeeping.

Pure.
"""

__virtualname__ = "glance_job_rules"

ADVISORY = "OSSN-0075"
#: Volumes that the formula uses for something else than copies of images.
_OTHER_VOLUMES = ("glance_work", "kolla_logs")
#: What the jobs are called in keys, and in a sentence.
_JOBS = (
    ("glance_cache_clean", "the image cache is cleaned"),
    ("glance_housekeeping", "the housekeeping is done"),
)


def __virtual__():
    return __virtualname__


def check(settings):
    """
    Return what is wrong with the settings of cache and housekeeping, and what is worth a warning.

    settings
        Settings with what ``glance_defaults`` and ``glance_backend`` add.

    Returns a mapping with ``faults`` and ``warnings``, a sentence each.
    """
    faults = [
        *(_place(settings) if settings["enable_glance_image_cache"] else []),
        *(fault for job in _JOBS for fault in _moment(settings, *job)),
        *_purge(settings),
    ]
    warnings = []
    if not settings["enable_glance_image_cache"]:
        warnings = [
            f"glance:{key} has no effect while glance:enable_glance_image_cache is no."
            for key in settings["given"]
            if key.startswith("glance_cache_") and key != "glance_cache_remove_data"
        ]
    return {"faults": faults, "warnings": warnings}


def _place(settings):
    cache, images = settings["glance_cache_volume"], settings["glance_file_datadir_volume"]
    if cache in _OTHER_VOLUMES or f"{cache}/".startswith(f"{images}/"):
        what = "is used for something else"
    elif f"{images}/".startswith(f"{cache}/"):
        what = "holds the images"
    else:
        return []
    return [
        f"glance:glance_cache_volume is {cache}, which {what}; copies need a volume or directory "
        "of their own, on this host."
    ]


def _moment(settings, key, what):
    interval, splay = settings[f"{key}_interval"], settings[f"{key}_splay"]
    if settings[f"{key}_cron"]:
        if f"{key}_interval" not in settings["given"]:
            return []
        return [
            f"glance:{key}_interval and glance:{key}_cron both say when {what}; remove one of them."
        ]
    if splay <= interval:
        return []
    return [
        f"glance:{key}_splay is {splay}, more than glance:{key}_interval, {interval}; it must not "
        "be more."
    ]


def _purge(settings):
    days = settings["glance_db_purge_images_age"]
    if not days:
        return []
    faults = []
    if ADVISORY not in settings["glance_accepted_advisories"]:
        faults.append(
            f"glance:glance_db_purge_images_age is {days}, but ids of images can be used again "
            f"when their rows are gone ({ADVISORY}); set it to 0, or accept that by listing "
            f"{ADVISORY} in glance:glance_accepted_advisories."
        )
    most = settings["glance_db_purge_age"]
    if days < most:
        faults.append(
            f"glance:glance_db_purge_images_age is {days}, less than glance:glance_db_purge_age, "
            f"{most}; rows of images can only go after the others, so it must not be less."
        )
    if not most:
        faults.append(
            f"glance:glance_db_purge_images_age is {days}, but glance:glance_db_purge_age is 0; "
            "rows of images can only go together with the others."
        )
    return faults
