"""
One host as an orchestration sees it: what it runs and what it should, and whether it is ready.
"""

import socket
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_host"

#: The settings that plans depend on; none of them is a secret.
SETTINGS = (
    "glance_accepted_advisories",
    "glance_api_group",
    "glance_api_image_full",
    "glance_enable_rolling_upgrade",
    "glance_image_pull",
    "glance_upgrade_contract",
    "glance_upgrade_handover_single_host",
    "glance_upgrade_max_unavailable",
    "glance_upgrade_pause_after_canary",
)
REACH = 10  # seconds until a server on the network must answer
NOT_RUN = "One or more requisite failed"


def __virtual__():
    return __virtualname__


def facts(schema=None, changes=False, look=False, prove=False, saltenv="base"):
    """
    What this host runs, and what its pillar wants. Looks only; one-shot containers that a killed
    run has left are waited for and taken away.

    schema
        Minion id of the host that looks at the database, too (a one-shot container, some seconds).
    changes
        Whether ``state.apply glance test=True`` is asked what it would change.
    look
        Whether a new image may be asked for its release (a one-shot container, once).
    prove
        Whether a new configuration is proved in its image (a one-shot container, once).
    saltenv
        Environment of the SLS.

    Returns ``{"settings", "faults", "runs_api", "running", "others", "wanted", "change", "would",
    "drains", "drained_by", "drained_at", "schema", "sharing", "proved", "seconds"}``; ``faults``
    are sentences, ``drains`` tells why one host that is to be handed over would be drained, or
    None, ``drained_at`` where HAProxy keeps this host out without anybody's will, ``proved``
    whether the image accepts the configuration, ``seconds`` how long the looks at the ``database``
    and the ``proof`` of the configuration took. Without secrets.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_host.facts
    """
    found = unknown()
    try:
        _look(found, schema, look, prove)
        if changes:
            _dry_run(found, saltenv)
    except SaltInvocationError as err:
        found["faults"] += str(err).splitlines()
    except CommandExecutionError as err:
        found["faults"].append(str(err))
    return found


def unknown():
    """
    What :py:func:`facts` tells of a host that told nothing yet: it runs nothing that is known, and
    would be worked on.
    """
    return {
        "settings": {},
        "faults": [],
        "runs_api": None,
        "running": None,
        "others": [],
        "wanted": dict.fromkeys(("image_id", "release", "version", "hash")),
        "change": True,
        "would": [],
        "drains": None,
        "drained_by": None,
        "drained_at": [],
        "schema": None,
        "sharing": None,
        "proved": False,
        "seconds": {},
    }


def precheck():
    """
    Make sure that this host can take what its pillar wants, before any host is touched.

    The image is pulled where it is missing and belongs to the running release, accepts the
    configuration and loads Glance with it; database and Keystone answer to Glance's own
    credentials, or answer at all where nothing of Glance has been made yet. The running service
    is not touched.

    Returns ``{part: seconds}``. Raises CommandExecutionError with the first thing that is wrong,
    SaltInvocationError with all faults of the pillar.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_host.precheck
    """
    settings = __salt__["glance_settings.get"]()
    if not (settings["enable_glance"] and settings["runs_api"]):
        return {}
    __salt__["glance_progress.tell"]("precheck", "begins")
    began, seconds = time.monotonic(), {}
    try:
        for part, check in (
            ("image", _image),
            ("configuration", _configuration),
            ("database", _database),
            ("Keystone", _keystone),
        ):
            start = time.monotonic()
            check(settings)
            seconds[part] = round(time.monotonic() - start, 1)
    except CommandExecutionError as err:
        __salt__["glance_progress.tell"]("precheck", "failed", text=str(err))
        raise
    took = round(time.monotonic() - began, 1)
    __salt__["glance_progress.tell"]("precheck", "ends", took)
    return seconds


def shares_images():
    """
    Make sure that this host is proved to see the images of the others, where it must be.

    Returns the sentence that tells how. Raises CommandExecutionError when it is not proved.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_host.shares_images
    """
    runs_api = __salt__["glance_settings.get"]()["runs_api"]
    found = __salt__["glance_sharing.verified"]()
    if runs_api and not found["runs"]:
        raise CommandExecutionError(found["why"])
    return found["why"]


# --------------------------------------------------------------------------- facts


def _look(found, schema, look, prove):
    settings = __salt__["glance_settings.get"]()
    found["settings"] = {key: settings[key] for key in SETTINGS}
    found["runs_api"] = settings["runs_api"]
    found["sharing"] = __salt__["glance_sharing.verified"]()
    now = __salt__["glance_container.facts"]()
    if now["state"] == "foreign":
        found["faults"].append(__salt__["glance_container.refusal"]([], True, None))
    if now["state"] in ("running", "stopped"):
        found["running"] = {
            key: now[key] for key in ("name", "release", "version", "image_id", "database")
        }
        found["running"].update(
            hash=now["spec"], runs=now["state"] == "running", serves=_serves(settings, now)
        )
    ours = __salt__["glance_engine.containers"]()
    found["others"] = [
        {"name": one["name"], "release": one["labels"].get("glance.release")}
        for one in ours
        if one["name"] in now["leftovers"]
    ]
    if now["state"] == "running":
        (pid,) = [one["pid"] for one in ours if one["name"] == now["name"]]
        found["drained_by"] = __salt__["glance_api.drained_by"](pid)
    present = __salt__["glance_engine.image"](settings["glance_api_image_full"])
    found["wanted"]["image_id"] = present["id"] if present else None
    want, files = __salt__["glance_container.desired"](settings, look=look)
    if want is None:
        return
    image = __salt__["glance_image.release_of"](settings["glance_api_image_full"], False)
    found["wanted"].update(
        release=image["release"],
        version=image["version"],
        hash=want["hash"],
    )
    verdict = __salt__["glance_container.decide"](ours, want["hash"], want["policy"])
    left = __salt__["glance_leftovers.find"](settings)
    found["drained_at"] = left["balancers"]
    serves = found["running"] and found["running"]["serves"]
    found["change"] = bool(verdict["do"] != "nothing" or any(left.values()) or not serves)
    if settings["glance_upgrade_handover_single_host"] and found["change"] and look and serves:
        found["drains"] = __salt__["glance_replace.why_drain"](settings, now["name"], files)
    if schema == settings["minion_id"] and not found["faults"]:
        began = time.monotonic()
        found["schema"] = __salt__["glance_schema.facts"](settings, want)
        found["seconds"]["database"] = round(time.monotonic() - began, 1)
    if prove and found["runs_api"] and found["change"] and not found["faults"]:
        if not __salt__["glance_container.serves"](want["hash"]):
            found["seconds"]["proof"] = __salt__["glance_proof.run"](settings, want)
        found["proved"] = True


def _serves(settings, now):
    if now["state"] != "running":
        return False
    if now["labels"].get("glance.url") != settings["self_url"]:
        return now["health"] != "unhealthy"  # at another address than the pillar says
    return __salt__["glance_api.probe_once"](settings, probe=False)["ok"]


def _dry_run(found, saltenv):
    """What ``state.apply glance`` would change, and what it would refuse."""
    before = __context__.pop("retcode", None)
    answer = __salt__["state.apply"]("glance", test=True, saltenv=saltenv)
    # A dry run that fails is an answer, not a failure of this function.
    __context__["retcode"] = before or 0
    if not isinstance(answer, dict):
        raise CommandExecutionError(" ".join(answer if isinstance(answer, list) else [answer]))
    for tag, one in sorted(answer.items(), key=lambda item: item[1].get("__run_num__", 0)):
        asks_api = tag.startswith("glance_api_|-")
        if one["result"] is False and not one["comment"].startswith(NOT_RUN):
            if asks_api:
                found["would"].append(one["__id__"])  # a reason to work on it, not to refuse
            elif one["comment"] not in found["faults"]:
                found["faults"].append(one["comment"])
        elif one["result"] is None or one["changes"]:
            found["would"].append(one["__id__"])
    # What a registry has behind a name is known only when it is pulled.
    may_be_new = found["settings"]["glance_image_pull"] == "always" and found["runs_api"]
    found["change"] = bool(found["would"] or may_be_new)


# --------------------------------------------------------------------------- precheck


def _image(settings):
    here = __salt__["glance_image.here"](settings)
    if settings["glance_image_pull"] == "always" or not here:
        __salt__["glance_image.pull"](settings)
    refusal = __salt__["glance_container.refusal"](
        __salt__["glance_engine.containers"](),
        __salt__["glance_container.is_foreign"](),
        __salt__["glance_image.release_of"](settings["glance_api_image_full"])["release"],
    )
    if refusal:
        raise CommandExecutionError(refusal)


def _configuration(settings):
    want, _ = __salt__["glance_container.desired"](settings)
    if not __salt__["glance_container.serves"](want["hash"]):
        __salt__["glance_proof.run"](settings, want)


def _database(settings):
    if settings["database_kind"] == "sqlite":
        return
    in_use = __salt__["glance_container.facts"]().get("database")
    if in_use is None and not settings["use_preconfigured_databases"]:
        # Neither database nor user need exist yet.
        host, _, port = settings["glance_database_address"].rpartition(":")
        _reach(host.strip("[]"), int(port), "database server", "glance:database_address")
        return
    want, _ = __salt__["glance_container.desired"](settings)
    if __salt__["glance_container.serves"](want["hash"]):
        return
    problem = __salt__["glance_schema.refusal"](
        __salt__["glance_schema.look"](settings, want),
        settings["database_identity"],
        in_use,
        settings["glance_database_move"],
        want["labels"],
    )
    if problem:
        raise CommandExecutionError(problem)


def _keystone(settings):
    """Where Glance is registered by us, its user may still be to come, or its password."""
    if not settings["keystone"]:
        return
    if not settings["glance_keystone_register"]:
        __salt__["glance_http.login"](settings, REACH)
    elif settings["minion_id"] == settings["schema_host"]:
        __salt__["glance_identity.compare"](settings)
    else:
        __salt__["glance_http.keystone"](settings, "GET", "", timeout=REACH)


def _reach(host, port, what, key):
    try:
        socket.create_connection((host, port), REACH).close()
    except OSError as err:
        raise CommandExecutionError(
            f"The {what} at {host}:{port} ({key}) does not answer: {err.strerror or err}."
        ) from err
