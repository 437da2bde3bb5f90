"""
The running Glance of this node: does it answer, does it really work, is it busy, is it drained.

Everything is asked on the node's own address. With ``probe=True`` the requests come from a
privileged source port: during a hand-over only these reach the newcomer.
"""

import datetime
import json
import re
import time
import urllib.parse

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_api"

# Glance's own paste configuration answers 503 on /healthcheck while this file is there.
DRAIN_FILE = "/etc/glance/healthcheck_disable"
STAGING_DIR = "/var/lib/glance-work/staging"

# Seconds until the data of an import shows in the staging directory of the node that runs it.
STAGING_GRACE = 60
UNFINISHED = {"pending", "processing"}


def __virtual__():
    return __virtualname__


def answers(settings=None, probe=False, timeout=10):
    """
    Make sure that the API answers: its health check, and a list of one image.

    settings
        Settings of ``glance_settings.get``; read from pillar by default.
    probe
        Ask from a privileged source port (the newcomer, during a hand-over).
    timeout
        Seconds for each answer.

    Returns True. Raises CommandExecutionError with one sentence: what fails, and what it means.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.answers
    """
    settings = _settings(settings)
    _call(settings, "health check", "GET", "/healthcheck", 200, probe, timeout, login=False)
    _call(settings, "list", "GET", "/v2/images?limit=1", 200, probe, timeout)
    return True


def probe_once(settings=None, probe=True, timeout=5):
    """
    Ask once, without credentials, whether the API is up and its application loaded.

    settings
        Settings of ``glance_settings.get``; read from pillar by default.
    probe
        Ask from a privileged source port (the newcomer, during a hand-over).
    timeout
        Seconds for each answer.

    Returns ``{"ok": bool, "reason": one sentence or ""}``; never raises because of the API.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.probe_once probe=False
    """
    settings = _settings(settings)
    loaded = (200, 401) if settings["keystone"] else (200,)
    try:
        _call(settings, "health check", "GET", "/healthcheck", 200, probe, timeout, login=False)
        _call(settings, "list", "GET", "/v2/images?limit=1", loaded, probe, timeout, login=False)
    except CommandExecutionError as err:
        return {"ok": False, "reason": str(err)}
    return {"ok": True, "reason": ""}


def deep_check(settings=None, probe=False, timeout=30, stores=None):
    """
    Prove that this node works: list, then create, upload, download, compare and delete an image.

    In Keystone mode the requests carry a token of Glance's service user. The image is private and
    hidden; those that killed checks left behind are removed.

    settings
        Settings of ``glance_settings.get``; read from pillar by default.
    probe
        Ask from a privileged source port (the newcomer, during a hand-over).
    timeout
        Seconds for each answer.
    stores
        Names of the stores to upload to; by default only the default store.

    Returns ``{"seconds": total, "steps": {step: seconds}}``. Raises CommandExecutionError with
    one sentence: which step, the server's status and reason, and what it means.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.deep_check
        salt '*' glance_api.deep_check stores='[file]'
    """
    return __salt__["glance_check.deep"](_settings(settings), probe, timeout, stores)


def verify():
    """
    Prove, store by store, that images go up and come back unchanged on this node.

    Returns how long each store took. Raises CommandExecutionError with one sentence for each store
    that does not work: what failed, and why in the words of the store's driver.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.verify
    """
    settings = _settings(None)
    found = __salt__["glance_check.stores"](settings)
    if found["broken"]:
        raise CommandExecutionError("\n".join(found["broken"].values()))
    stores = {one["name"]: "read-only, not checked" for one in settings["stores"]}
    stores.update({name: f"works, {took:.2f} s" for name, took in found["works"].items()})
    return {"api": settings["self_url"], "stores": stores}


def unfinished(settings=None, since=None, probe=False, only=None, staged=None, timeout=20):
    """
    The background work of this node that holds no connection: imports, copies, hashing.

    Each holds an image by a task, and Glance does not tell which node runs one. Where several hosts
    serve, an import belongs to the one whose staging directory has its data; what cannot be told
    is counted.

    settings
        Settings of ``glance_settings.get``; read from pillar by default.
    since
        UTC time in ISO format, such as the engine's start time of the container: older tasks are
        left out, because what an earlier container left behind never ends.
    probe
        Ask from a privileged source port (the newcomer, during a hand-over).
    only
        Task ids, as returned before: whatever began later is left out.
    staged
        File names in this node's staging directory; read from the container by default.
    timeout
        Seconds for each answer.

    Returns ``{"tasks": [ids], "images": [{"id", "name", "status"}]}``, both empty when there is
    nothing to wait for. Raises CommandExecutionError with one sentence.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.unfinished
    """
    since = _second(since) if since else ""
    settings = _settings(settings)
    if only is None:
        only = _open_tasks(settings, since, probe, timeout)
    if only and staged is None and len(settings["glance_api_hosts"]) > 1:
        staged = _staged_files()
    found = {"tasks": [], "images": []}
    for task_id in only:
        task = _find(settings, "tasks", task_id, probe, timeout)
        if not task or not _runs_here(task, since, staged, time.time()):
            continue
        found["tasks"].append(task_id)
        image_id = _image_of(task)
        image = image_id and _find(settings, "images", image_id, probe, timeout)
        if image:
            found["images"].append({key: image.get(key) for key in ("id", "name", "status")})
    return found


def drain(settings=None, by=""):
    """
    Make the health check answer 503, so that a load balancer takes this node out of rotation.

    Requests are still served. ``resume`` ends it, and so does the next container. A drain that is
    there already keeps its word.

    settings
        Settings of ``glance_settings.get``, by which the container in charge is reached; read
        from pillar by default.
    by
        One word that :py:func:`drained_by` tells later, such as who did it; an operator has none.

    Returns True. Raises CommandExecutionError with one sentence.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.drain
    """
    settings = _settings(settings)
    keep = 'test -e "$0" || printf "%s\\n" "$1" >"$0"'
    _in_container(["sh", "-c", keep, DRAIN_FILE, by] if by else ["touch", DRAIN_FILE])
    if probe_once(settings, probe=False)["ok"]:
        resume()
        raise CommandExecutionError(
            f"This node cannot be drained: its health check still answers although {DRAIN_FILE} is"
            " there; use the health check of Glance's own glance-api-paste.ini."
        )
    return True


def resume():
    """
    End ``drain``: the health check answers 200 again.

    Returns True. Raises CommandExecutionError with one sentence.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.resume
    """
    _in_container(["rm", "-f", DRAIN_FILE])
    return True


def drained_by(pid):
    """
    The word that :py:func:`drain` was given, without entering the container.

    pid
        Main process of the container, as the host sees it.

    Returns an empty text for an operator; None when the node is not drained, or nobody can tell.
    """
    try:
        with open(f"/proc/{int(pid)}/root{DRAIN_FILE}", encoding="ascii") as file:
            return file.read(80).strip()
    except (OSError, ValueError):
        return None


def drained():
    """
    Whether this node is drained; False also when no container runs.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.drained
    """
    if __salt__["glance_container.facts"]()["state"] != "running":
        return False
    return _execute(["test", "-e", DRAIN_FILE])["rc"] == 0


def status():
    """
    One screen for the operator: what runs here, since when, and how it is.

    Returns a dictionary of short texts without secrets.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_api.status
    """
    facts = __salt__["glance_container.facts"]()
    settings, warnings = None, []
    try:
        settings = _settings(None)
    except SaltInvocationError as err:
        warnings.append(f"The pillar is not valid: {err}")
    seen = {"answers": "not asked", "drained": False}
    seen["cache"] = __salt__["glance_cache.health"](settings) if settings else {"warnings": []}
    warnings += __salt__["glance_jobs.warnings"](settings) if settings else []
    if facts["state"] == "running":
        seen["drained"] = drained()
        seen["answers"] = _timed_answer(settings) if settings else "not asked"
    return __salt__["glance_screen.make"](facts, settings, seen, warnings, time.time())


# Asking


def _settings(settings):
    return __salt__["glance_settings.get"]() if settings is None else settings


def _call(settings, step, method, path, expect, probe, timeout, **more):
    expect = expect if isinstance(expect, tuple) else (expect,)
    return __salt__["glance_http.request"](
        settings, step, method, path, expect=expect, probe=probe, timeout=timeout, **more
    )


# Background work


def _open_tasks(settings, since, probe, timeout):
    """
    Ids of the tasks that hold an image which changed since a second.

    The tasks themselves are not listed: Glance writes when it does that, and where another writer
    comes in its way, as with SQLite, an import dies without a word.
    """
    ids = []
    for hidden in ("false", "true"):
        query = {"os_hidden": hidden, "limit": "1000"}
        if since:
            query["updated_at"] = f"gte:{since}Z"
        path = f"/v2/images?{urllib.parse.urlencode(query)}"
        while path:
            answer = _call(settings, "list of all images", "GET", path, 200, probe, timeout)
            page = json.loads(answer["body"])
            ids += [one.get("os_glance_import_task") for one in page["images"]]
            path = page.get("next")
    return list(dict.fromkeys(filter(None, ids)))


def _find(settings, kind, number, probe, timeout):
    path = f"/v2/{kind}/{urllib.parse.quote(number, safe='')}"
    answer = _call(settings, "show", "GET", path, (200, 404), probe, timeout)
    return json.loads(answer["body"]) if answer["status"] == 200 else None


def _image_of(task):
    return task.get("image_id") or (task.get("input") or {}).get("image_id")


def _runs_here(task, since, staged, now):
    """Whether a task has not ended and runs on this node, or may do so."""
    if task["status"] not in UNFINISHED or _second(task["created_at"]) < since:
        return False
    if staged is None or task["type"] != "api_image_import" or task["status"] == "pending":
        return True
    image_id = _image_of(task)
    if image_id and any(name.startswith(image_id) for name in staged):
        return True
    return now - _epoch(task["created_at"]) < STAGING_GRACE


def _staged_files():
    """File names in this node's staging directory, None when they cannot be read."""
    try:
        answer = _execute(["ls", "-1A", STAGING_DIR])
    except CommandExecutionError:
        return None
    return answer["output"].split() if answer["rc"] == 0 else None


def _second(moment):
    """An ISO time in UTC, cut to the second."""
    match = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)?$", str(moment))
    if not match:
        raise SaltInvocationError(
            f"since: {moment!r} is not a UTC time such as 2026-11-21T22:41:00Z."
        )
    return f"{match[1]}T{match[2]}"


def _epoch(moment):
    return datetime.datetime.fromisoformat(f"{_second(moment)}+00:00").timestamp()


# The container


def _execute(argv):
    return __salt__["glance_container.execute"](argv, user="root")


def _in_container(argv):
    answer = _execute(argv)
    if answer["rc"] != 0:
        raise CommandExecutionError(
            f"'{' '.join(argv)}' in the container of glance-api ended with {answer['rc']}:"
            f" {answer['output'].strip() or 'no output'}."
        )


# The operator's screen


def _timed_answer(settings):
    began = time.monotonic()
    try:
        answers(settings)
    except CommandExecutionError as err:
        return f"no: {err}"
    return f"yes, in {(time.monotonic() - began) * 1000:.0f} ms"
