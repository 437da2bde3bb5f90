"""
The jobs that keep Glance in order on this minion: in Salt's scheduler, or as a file of cron where
no master keeps a scheduler running.
"""

import hashlib
import os
import shlex
import sys

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_jobs"

#: All jobs that there may be; others in the scheduler are somebody else's.
NAMES = (
    "glance_cache_clean",
    "glance_db_purge",
    "glance_staging_leftovers",
    "glance_store_audit",
    "glance_log_rotation",
)
#: Housekeeping: job, function, the key that switches it on, whether one host does it for all.
HOUSEKEEPING = (
    ("glance_db_purge", "purge", "glance_db_purge_age", True),
    ("glance_staging_leftovers", "leftovers", "glance_staging_max_age", False),
    ("glance_store_audit", "audit", "glance_stuck_age", True),
    ("glance_log_rotation", "rotate_logs", "glance_log_max_size", False),
)
CRON_FILE = "glance"  # cron ignores names with a dot
MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440)


def __virtual__():
    return __virtualname__


def wanted(settings):
    """
    The jobs that the settings ask for on this minion. Pure.

    settings
        Result of ``glance_settings.get``.

    Returns ``{name: {"function", "seconds" or "cron", "splay"}}``.
    """
    jobs = {}
    if not settings["enable_glance"] or not settings["runs_api"]:
        return jobs
    if settings["enable_glance_image_cache"]:
        jobs["glance_cache_clean"] = _job(settings, "glance_cache.clean", "glance_cache_clean")
    first = settings["glance_api_hosts"][0] == settings["minion_id"]
    for name, function, key, once in HOUSEKEEPING:
        if settings[key] and (first or not once):
            function = f"glance_housekeeping.{function}"
            jobs[name] = _job(settings, function, "glance_housekeeping")
    return jobs


def warnings(settings):
    """
    What the operator's screen should tell of the housekeeping: parts that fail again and again.

    settings
        Result of ``glance_settings.get``.

    Returns a list of sentences.
    """
    jobs, found = wanted(settings), []
    for name, function, _, _ in HOUSEKEEPING:
        if name in jobs:
            interval = jobs[name].get("seconds", 0)
            job = f"housekeeping/{function}"
            found += __salt__["glance_care.health"](job, interval)["warnings"]
    return found


def entries(jobs):
    """
    The same as entries of Salt's scheduler, complete, as the scheduler shows them. Pure.

    jobs
        Result of :py:func:`wanted`.
    """
    common = {"enabled": True, "jid_include": True, "maxrunning": 1}
    return {
        name: {key: value for key, value in {**common, "name": name, **job}.items() if value}
        for name, job in jobs.items()
    }


def cron_text(jobs, command, minion_id):
    """
    The same as a file for ``/etc/cron.d``; empty without jobs. Pure.

    Cron mails what is printed, and the job prints only when it failed.

    jobs
        Result of :py:func:`wanted`.
    command
        The salt-call of this minion with its options, as a list.
    minion_id
        By which hosts differ within the splay.
    """
    lines = []
    for _, job in sorted(jobs.items()):
        moment = job.get("cron") or cron_time(job["seconds"], job["splay"], minion_id)
        call = shlex.join([*command, job["function"]])
        lines.append(f'{moment} root out=$({call} 2>&1) || echo "$out"')
    if not lines:
        return ""
    return "\n".join(["# Made by the Glance formula: state.apply glance.jobs", *lines, ""])


def cron_time(seconds, splay, minion_id):
    """
    Five fields of cron for an interval, rounded down to one that cron can keep. Pure.

    seconds
        The interval.
    splay
        Seconds by which hosts may differ.
    minion_id
        By which they do; always the same for one host.
    """
    every = max((one for one in MINUTES if one * 60 <= seconds), default=1)
    spread = min(splay // 60, every - 1) + 1
    offset = int(hashlib.sha256(minion_id.encode()).hexdigest(), 16) % spread
    if every <= 60:
        return f"{','.join(str(one) for one in range(offset, 60, every))} * * * *"
    hours = ",".join(str(one) for one in range(offset // 60, 24, every // 60))
    return f"{offset % 60} {hours} * * *"


def compare(jobs):
    """
    How the jobs on this minion differ from the wanted ones.

    jobs
        Result of :py:func:`wanted`, or ``{}`` for none.

    Returns changes: ``{name: {"old", "new"}}``, empty when all is as wanted. Only looks.
    """
    changes, want = {}, "" if not _local() else _cron_wanted(jobs)
    have = _cron_present()
    if have != want:
        changes[_cron_path()] = {"old": have or None, "new": want or None}
    if not _local():
        present, want = _scheduled(), entries(jobs)
        for name in NAMES:
            if present.get(name) != want.get(name):
                changes[name] = {"old": present.get(name), "new": want.get(name)}
    return changes


def arrange(jobs):
    """
    Make the jobs on this minion the wanted ones.

    jobs
        Result of :py:func:`wanted`, or ``{}`` for none.

    Raises CommandExecutionError when scheduler or cron do not take them.
    """
    for name, change in compare(jobs).items():
        if name == _cron_path():
            _write_cron(change["new"])
            continue
        if change["old"]:
            _told(__salt__["schedule.delete"](name), name)
        if change["new"]:
            _told(__salt__["schedule.add"](**change["new"]), name)


def renew():
    """
    Have the minion fetch the present pillar, which is what its scheduler's jobs go by.

    A state run has a pillar of its own, and the minion keeps the one that it had.
    """
    if not _local():
        __salt__["saltutil.refresh_pillar"](wait=False)


def _job(settings, function, key):
    job = {"function": function, "splay": settings[f"{key}_splay"]}
    if settings[f"{key}_cron"]:
        return {**job, "cron": settings[f"{key}_cron"]}
    return {**job, "seconds": settings[f"{key}_interval"]}


def _local():
    return __opts__.get("file_client") == "local"


# Salt's scheduler


def _scheduled():
    listed = __salt__["schedule.list"](show_all=True, return_yaml=False)
    return {name: dict(listed[name]) for name in NAMES if name in listed}


def _told(answer, name):
    if not answer.get("result"):
        raise CommandExecutionError(
            f"The scheduler of this minion did not take the job {name} ({answer.get('comment')}):"
            " see that salt-minion runs, and apply again."
        )


# Cron


def _cron_path():
    return os.path.join(__opts__.get("glance.cron_dir") or "/etc/cron.d", CRON_FILE)


def _cron_wanted(jobs):
    program = os.path.join(os.path.dirname(sys.executable), "salt-call")
    if not os.path.exists(program):
        program = __salt__["cmd.which"]("salt-call") or program
    folder = os.path.dirname(__opts__["conf_file"])
    command = [program, "--local", f"--config-dir={folder}", "--retcode-passthrough"]
    return cron_text(jobs, command, __opts__["id"])


def _cron_present():
    try:
        with open(_cron_path(), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write_cron(text):
    path = _cron_path()
    partial = f"{path}.new"
    try:
        if not text:
            os.unlink(path)
            return
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as err:
        raise CommandExecutionError(
            f"{path} cannot be written ({err.strerror}): install cron, which runs Glance's jobs on"
            " a host without a Salt master."
        ) from err
