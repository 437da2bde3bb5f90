"""
Does this node keep images: one goes up, comes back, is compared and deleted, in one store or in
each.

Asked on the node's own address, as :py:mod:`glance_api` does. A store that fails is told with the
reason that its driver wrote to Glance's log.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import socket
import struct
import time
import urllib.parse
import uuid

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_check"

CHECK_NAME = "glance-formula-check-"
CHECK_TAG = "glance-formula-check"
# Seconds after which a check image of another host counts as left behind.
CHECK_MAX_AGE = 600
# Seconds that the removal of the check image gets after a failure.
CLEANUP_TIMEOUT = 5
POLL = 0.5  # seconds between two questions to a load balancer
# Seconds for each answer when all stores are looked at; some drivers try again for a minute.
STORE_TIMEOUT = 15
READ_ONLY_STORES = ("http",)
# Head of an empty qcow2 of version 2, as glance_http takes bytes.
QCOW2 = (
    struct.pack(">4sIQIIQ", b"QFI\xfb", 2, 0, 0, 16, 512)
    .ljust(512, b"\0")
    .decode("utf-8", "surrogateescape")
)
_FOUND = "glance_check.no_worse"


def __virtual__():
    return __virtualname__


def deep(settings, probe=False, timeout=30, stores=None):
    """
    Prove that this node works: list, then create, upload, download, compare and delete an image.

    settings, probe, timeout, stores
        As for ``glance_api.deep_check``, which returns and raises the same.
    """
    began = time.monotonic()
    steps = {}
    with _timed(steps, "token"):
        project = __salt__["glance_http.project"](settings, timeout)
    with _timed(steps, "list"):
        _call(settings, "list", "GET", "/v2/images?limit=1", 200, probe, timeout)
    with _timed(steps, "leftovers"):
        _remove_leftovers(settings, project, probe, timeout)
    with _timed(steps, "formats"):
        schema = _call(settings, "formats", "GET", "/v2/schemas/image", 200, probe, timeout)
        formats = _formats(json.loads(schema["body"]))
    for store in stores or [None]:
        _round_trip(settings, store, formats, steps, probe, timeout)
    return {"seconds": round(time.monotonic() - began, 3), "steps": steps}


def as_users(settings):
    """
    Prove that images go up and come back by the address that users take.

    That is the load balancer's (``glance_internal_endpoint``) where there is one, else this node's
    own. A load balancer that has seen every host down gets the time that its own checks need to
    see one come back.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"where", "seconds"}``. Raises CommandExecutionError when that address does not
    answer, or an image does not come back as it went up.
    """
    where, began = settings["self_url"], time.monotonic()
    if settings["enable_haproxy"] and settings["glance_internal_endpoint"]:
        where = settings["glance_internal_endpoint"]
    there = __salt__["glance_http.at"](settings, where)
    if where != settings["self_url"]:
        _await_balancer(there, began + __salt__["glance_haproxy.notice"](settings))
    deep(there)
    return {"where": where, "seconds": time.monotonic() - began}


def stores(settings, names=None, probe=False):
    """
    Try every store that takes images, also when one of them fails.

    settings, probe
        As for :py:func:`deep`.
    names
        Names of the stores to try; by default all that are not read-only.

    Returns ``{"works": {name: seconds}, "broken": {name: sentence}}``. Raises
    CommandExecutionError when the API itself fails.
    """
    writable = [one["name"] for one in settings["stores"] if one["type"] not in READ_ONLY_STORES]
    found = {"works": {}, "broken": {}}
    for name in writable if names is None else names:
        try:
            taken = deep(settings, probe, STORE_TIMEOUT, [name])
        except CommandExecutionError as err:
            if not hasattr(err, "store"):
                raise
            found["broken"][name] = str(err)
        else:
            found["works"][name] = taken["seconds"]
    return found


def no_worse(settings, probe=False, before=None):
    """
    Make sure that a container that is about to take over can use all stores that work now.

    A store that fails in the container in charge, too, is no reason to stay with that one; a new
    store is, when it does not work.

    settings, probe
        As for :py:func:`deep`.
    before
        What :py:func:`lost` returned for the container in charge, where that one does not serve
        meanwhile; a probe lets it be asked now.

    Raises CommandExecutionError with one sentence for each store that would be lost.
    """
    found = stores(settings, _others(settings), probe)
    broken, known = found["broken"], before or {}
    if broken and probe:
        known = lost(settings, list(broken))
    known = {name: known[name] for name in broken if name in known}
    fails = {name: broken[name] for name in broken if name not in known}
    if fails:
        error = CommandExecutionError("\n".join(fails.values()))
        error.reason = ", ".join(fails)  # all else works, so the container's own words tell no more
        raise error
    __context__[_FOUND] = {"works": found["works"], "broken": known}


def lost(settings, names=None):
    """
    Stores that do not work in the container in charge; a store that it does not have is none.

    settings
        As for :py:func:`deep`, by which that container is reached.
    names
        Names of the stores to try; by default all but the default store.

    Returns ``{name: sentence}``. Raises CommandExecutionError when the API itself fails.
    """
    names = _others(settings) if names is None else names
    if not names:
        return {}
    answer = _call(settings, "stores", "GET", "/v2/info/stores", 200, False, STORE_TIMEOUT)
    there = {one["id"] for one in json.loads(answer["body"])["stores"]}
    return stores(settings, [name for name in names if name in there])["broken"]


def after(settings):
    """
    What :py:func:`stores` returns, without asking again what :py:func:`no_worse` has just asked.

    settings
        As for :py:func:`deep`.
    """
    known = __context__.pop(_FOUND, None)
    if known is None:
        return stores(settings)
    # It could not have taken over without its default store.
    return {**known, "works": {settings["default_store"]: 0, **known["works"]}}


def _others(settings):
    """Stores that take images, but for the default one, which is looked at by itself."""
    return [
        one["name"]
        for one in settings["stores"]
        if one["type"] not in READ_ONLY_STORES and one["name"] != settings["default_store"]
    ]


def _await_balancer(settings, deadline):
    """Wait until a load balancer has a host that answers its health check."""
    while True:
        try:
            __salt__["glance_http.request"](
                settings, "health check", "GET", "/healthcheck", login=False
            )
            return
        except CommandExecutionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL)


def _call(settings, step, method, path, expect, probe, timeout, **more):
    expect = expect if isinstance(expect, tuple) else (expect,)
    return __salt__["glance_http.request"](
        settings, step, method, path, expect=expect, probe=probe, timeout=timeout, **more
    )


@contextlib.contextmanager
def _timed(steps, step):
    began = time.monotonic()
    yield
    steps[step] = round(time.monotonic() - began, 3)


def _formats(schema):
    """Formats that this Glance takes, the one that needs no form before all others. Pure."""
    found = {}
    for key, likes in (("disk_format", ("raw", "qcow2")), ("container_format", ("bare",))):
        allowed = [one for one in schema["properties"][key].get("enum") or [] if one]
        found[key] = next((one for one in likes if one in allowed), (allowed or likes)[0])
    return found


def _content(disk_format, text):
    """Data of a check image; Glance looks into an image whether it has the form that it claims."""
    return (QCOW2 if disk_format == "qcow2" else "") + text * 20


def _round_trip(settings, store, formats, steps, probe, timeout):
    """Create, upload, download, compare and delete one image; delete it also after a failure."""
    image_id, at = str(uuid.uuid4()), f" ({store})" if store else ""
    path = f"/v2/images/{image_id}"
    content = _content(formats["disk_format"], f"This is the check image {image_id}.\n")

    def step(name, method, where, expect, **more):
        with _timed(steps, name + at):
            return _call(settings, name + at, method, where, expect, probe, timeout, **more)

    headers = {"Content-Type": "application/octet-stream"}
    if store:
        headers["X-Image-Meta-Store"] = store
    try:
        step("create", "POST", "/v2/images", 201, body=_check_image(image_id, formats))
        with _explained(settings, store):
            step("upload", "PUT", f"{path}/file", 204, body=content, headers=headers)
            image = json.loads(step("show", "GET", path, 200)["body"])
            back = step("download", "GET", f"{path}/file", 200)["body"]
            _compare(settings, image, content, back)
            step("delete", "DELETE", path, 204)
    except Exception:
        with contextlib.suppress(CommandExecutionError):
            _call(settings, "delete", "DELETE", path, (204, 404), probe, CLEANUP_TIMEOUT)
        raise


@contextlib.contextmanager
def _explained(settings, store):
    """Put the driver's own reason into an error; ``store`` says which store it is about."""
    name = store or settings["default_store"]
    since = __salt__["glance_log.position"]()
    try:
        yield
    except CommandExecutionError as err:
        error, happened = err, getattr(err, "happened", None)
        if happened:
            reason = __salt__["glance_log.reason"](since, err.request_id)
            if reason:
                error = CommandExecutionError(f"{happened}: the store {name} says '{reason}'.")
                error.reason = reason
        error.store = name
        raise error from None


def _check_image(image_id, formats):
    return {
        **formats,
        "id": image_id,
        "name": f"{CHECK_NAME}{image_id}",
        "visibility": "private",
        "os_hidden": True,
        "tags": [CHECK_TAG, f"{CHECK_TAG} {_this_process()}"],
    }


def _compare(settings, image, content, downloaded):
    data, fault = content.encode("utf-8", "surrogateescape"), None
    if image["status"] != "active":
        fault = f"has status {image['status']} after an upload that succeeded"
    elif image["os_hash_value"] != hashlib.new(image["os_hash_algo"], data).hexdigest():
        fault = f"has another {image['os_hash_algo']} than what was uploaded"
    elif downloaded != content:
        fault = f"came back changed ({len(downloaded)} bytes for {len(data)})"
    if fault:
        raise CommandExecutionError(
            f"The Glance API at {settings['self_url']} does not keep images intact: the check image"
            f" {fault}; check the store and the file system below it."
        )


def _remove_leftovers(settings, project, probe, timeout):
    query = {"tag": CHECK_TAG, "os_hidden": "true", "limit": "100"}
    if project:
        query["owner"] = project
    path = f"/v2/images?{urllib.parse.urlencode(query)}"
    images = json.loads(_call(settings, "list", "GET", path, 200, probe, timeout)["body"])["images"]
    for image in images:
        if _abandoned(image, project, _this_process(), _alive, time.time()):
            log.info("Removing %s, which a killed check left behind", image["name"])
            path = f"/v2/images/{image['id']}"
            _call(settings, "delete", "DELETE", path, (204, 404, 409), probe, timeout)


def _abandoned(image, project, here, alive, now):
    """Whether an image is a check image whose check ended without removing it."""
    if image["name"] != CHECK_NAME + image["id"] or image["owner"] != project:
        return False
    created = datetime.datetime.fromisoformat(image["created_at"].replace("Z", "+00:00"))
    if now - created.timestamp() > CHECK_MAX_AGE:
        return True
    marks = [tag[len(CHECK_TAG) :].split() for tag in image["tags"] if tag != CHECK_TAG]
    host = here.split()[:2]
    return any(mark[:2] == host and not alive(*mark[2:]) for mark in marks)


def _this_process():
    """Host, its boot, process id and that process's start: nothing else is ever the same."""
    pid, boot = os.getpid(), __salt__["glance_process.boot"]()
    return f"{socket.gethostname()} {boot} {pid} {__salt__['glance_process.started'](pid)}"


def _alive(pid, started):
    return __salt__["glance_process.started"](pid) == started
