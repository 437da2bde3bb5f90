"""
The glance-api container: what should run here, what does run here, and what follows.

``wanted`` and ``decide`` are pure, ``facts`` reads the engine. What is in an image is told by
``glance_image``; replacing one container by another is the work of ``glance_replace``.
"""

import hashlib
import json
import os
import re

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_container"

NAME = "glance_api"
ENDING = "_ending"  # end of the name of a container that was told to stop
CONFIG_MOUNT = "/var/lib/kolla/config_files/"
SERVICE_LABEL, SERVICE = "glance.service", "api"

# Labels on our containers; none of them is a secret.
SPEC_LABEL = "glance.spec"  # hash of all that the container is made from
SUMMARY_LABEL = "glance.summary"  # the same in readable form, for "what changed"
RELEASE_LABEL = "glance.release"  # OpenStack release found in the image, such as 2026.2
VERSION_LABEL = "glance.version"  # version of Glance found in the image, such as 33.0.0
DATABASE_LABEL = "glance.database"  # the database in use, without credentials
USER_LABEL = "glance.database_user"  # who it is to the database
URL_LABEL = "glance.url"  # where it serves
# What glance_replace adds when a container is made: glance.schema (heads of the schema as they were
# seen) and glance.former (folders with the configuration of containers before).


def __virtual__():
    return __virtualname__


def wanted(settings, image, config_digest):
    """
    The container that the pillar asks for. Pure.

    settings
        Result of ``glance_settings.get``.
    image
        Result of ``glance_image.release_of``: ``{"id", "release", "version"}``.
    config_digest
        Digest of the configuration files.

    Returns ``{"hash", "name", "policy", "spec", "labels"}``; ``spec`` holds the Docker SDK's
    arguments. Kolla: ansible/roles/glance/defaults/main.yml (service glance-api).
    """
    spec = {
        "image": settings["glance_api_image_full"],
        "environment": _environment(settings, image["release"]),
        "volumes": _volumes(settings),
        "network_mode": "host",
        "privileged": settings["needs_privileged"],
        "healthcheck": _healthcheck(settings),
        **_dimensions(settings["glance_api_dimensions"]),
    }
    summary = {
        **{key: value for key, value in spec.items() if value},
        "image_id": image["id"],
        "configuration": config_digest,
        "configuration_folder": settings["snapshot_dir"],
    }
    text = json.dumps(summary, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    spec["volumes"] = [f"{snapshot(settings, digest)}:{CONFIG_MOUNT}:ro", *spec["volumes"]]
    return {
        "hash": digest,
        "name": f"{NAME}_{digest}",
        "policy": settings["docker_restart_policy"],
        "spec": spec,
        "labels": {
            SERVICE_LABEL: SERVICE,
            SPEC_LABEL: digest,
            SUMMARY_LABEL: text,
            RELEASE_LABEL: image["release"],
            VERSION_LABEL: image["version"],
            DATABASE_LABEL: settings["database_identity"],
            USER_LABEL: settings["glance_database_user"],
            URL_LABEL: settings["self_url"],
        },
    }


def snapshot(settings, digest):
    """
    Folder on the host with the configuration that one container mounts. Pure.

    settings
        Result of ``glance_settings.get``.
    digest
        Hash of the container's spec.
    """
    return os.path.join(settings["snapshot_dir"], digest)


def decide(containers, spec_hash, policy):
    """
    What has to be done so that exactly one container of the wanted spec is in charge. Pure.

    containers
        Our containers, as ``glance_engine.containers`` returns them.
    spec_hash
        Hash of the wanted spec; None when nothing should run.
    policy
        Restart policy of the container in charge.

    Returns ``{"do", "incumbent", "newcomer", "retire"}`` with container names. ``do`` is

    nothing
        The wanted container runs and is alone.
    start
        Nothing serves: start the newcomer (``incumbent`` names a dead one to fall back to).
    finish
        The wanted container is in charge; end what a killed run left open.
    replace
        Another one is in charge: replace it (``newcomer`` names one that already runs).
    """
    running = [one for one in containers if one["running"] and not is_ending(one["name"])]
    # After a reboot in the middle of a drain the engine has started the old one again.
    running = running or [one for one in containers if one["running"] and _came_back(one)]
    # The newcomer gets its restart policy before the incumbent loses it, and the incumbent is
    # renamed before it is told to stop: of two, the older one is known to be good.
    with_policy = [one for one in running if one["restart_policy"] != "no"]
    named = [one for one in running if one["name"] == NAME]
    candidates = with_policy or named or running
    charge = candidates[0] if candidates else None
    others = [one["name"] for one in containers if one is not charge]
    if charge is None:
        return _start(containers)
    if charge["labels"].get(SPEC_LABEL) != spec_hash:
        alive = [
            one
            for one in running
            if one is not charge and one["labels"].get(SPEC_LABEL) == spec_hash
        ]
        newcomer = alive[-1]["name"] if alive else None
        return {
            "do": "replace",
            "incumbent": charge["name"],
            "newcomer": newcomer,
            "retire": [name for name in others if name != newcomer],
        }
    tidy = not others and charge["name"] == NAME and charge["restart_policy"] == policy
    return {
        "do": "nothing" if tidy else "finish",
        "incumbent": charge["name"],
        "newcomer": None,
        "retire": others,
    }


def desired(settings, look=True):
    """
    The container and its configuration files for the image that is on this host.

    settings
        Result of ``glance_settings.get``.
    look
        Whether a one-shot container may be started to find the release of a new image.

    Returns ``(wanted, files)``; ``(None, None)`` when the image, or its release, is not known yet.
    """
    image = __salt__["glance_image.release_of"](settings["glance_api_image_full"], look)
    if image is None:
        return None, None
    files = __salt__["glance_configuration.files"](settings, image["release"])
    digest = __salt__["glance_config_dir.digest"](files)
    return wanted(settings, image, digest), files


def serves(spec_hash):
    """
    Whether the container in charge is of this spec, so that all that led to it was proved.

    spec_hash
        Hash of the wanted container.
    """
    now = facts()
    return now["state"] == "running" and now["spec"] == spec_hash


def announce(containers, verdict, want):
    """
    The changes that a verdict leads to, for the output of the state. Pure.

    containers
        Our containers.
    verdict
        Result of :py:func:`decide`.
    want
        Result of :py:func:`wanted`.

    Returns ``{part: {"old", "new"}}``, never empty.
    """
    by_name = {one["name"]: one for one in containers}
    found = {name: {"old": "left over", "new": None} for name in verdict["retire"]}
    present = by_name.get(verdict["incumbent"])
    if verdict["do"] == "finish":
        found[NAME] = {"old": present["name"], "new": "in charge"}
    elif present is None:
        found[NAME] = {"old": None, "new": want["spec"]["image"]}
    else:
        found.update(
            changes(present["labels"].get(SUMMARY_LABEL), want["labels"][SUMMARY_LABEL])
            or {NAME: {"old": present["status"], "new": "running"}}
        )
    return found


def describe(report):
    """
    What was done, in one sentence. Pure.

    report
        Result of ``glance_replace.run``.
    """
    if report["how"] == "nothing":
        return "The wanted container runs."
    why = report["why"][:1].lower() + report["why"][1:]
    took = ", ".join(f"{phase} in {seconds} s" for phase, seconds in report["seconds"].items())
    said = {
        "start": "The container was started",
        "finish": "What an earlier run left open was finished",
        "hand-over": "The container was replaced by hand-over",
        "drain": f"The container was replaced by draining it first, because {why}",
    }[report["how"]]
    waited, cut = " and ".join(report["waited_for"]), "; ".join(report["cut"])
    ending = f" It waited for {waited}." if waited else ""
    ending += f" Cut at glance:glance_drain_timeout: {cut}." if cut else ""
    return f"{said.rstrip('.')} ({took}).{ending}"


def refusal(containers, foreign, release):
    """
    Why the present container may not be replaced by one of this release, or None. Pure.

    containers
        Our containers.
    foreign
        Whether a container named glance_api exists that is not ours.
    release
        Release of the wanted image.

    Returns a sentence or None.
    """
    if foreign:
        return (
            f"A container named {NAME} exists that this formula did not make: stop it, with the"
            " systemd unit that Kolla-Ansible made for it, and rename it ('docker rename"
            f" {NAME} {NAME}_before'), then apply again."
        )
    present = {one["labels"].get(RELEASE_LABEL) for one in containers} - {release, None}
    if present:
        return (
            f"This host runs Glance {', '.join(sorted(present))} and the pillar names an image of"
            f" {release} (glance:openstack_release, glance:glance_tag): change the release with"
            " 'salt-run state.orchestrate glance.orchestrate.upgrade'."
        )
    return None


def changes(old_summary, new_summary):
    """
    Which parts of the container differ. Pure.

    old_summary, new_summary
        JSON texts of the label ``glance.summary``.

    Returns ``{part: {"old", "new"}}``.
    """
    old, new = json.loads(old_summary or "{}"), json.loads(new_summary)
    return {
        key: {"old": old.get(key), "new": new.get(key)}
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    }


def facts():
    """
    What runs on this minion.

    Returns ``{"state", "name", "id", "image", "image_id", "release", "version", "spec", "database",
    "database_user", "started_at", "restarts", "health", "leftovers", "labels"}``; ``state`` is
    ``running``, ``stopped``, ``absent`` or ``foreign`` (a container named glance_api that this
    formula did not make). With the last two there are only ``name`` and ``leftovers`` beside it.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_container.facts
    """
    ours = __salt__["glance_engine.containers"](SERVICE_LABEL, SERVICE)
    if is_foreign():
        return {"state": "foreign", "name": NAME, "leftovers": [one["name"] for one in ours]}
    if not ours:
        return {"state": "absent", "name": NAME, "leftovers": []}
    verdict = decide(ours, None, "")
    main = next((one for one in ours if one["name"] == verdict["incumbent"]), ours[-1])
    return {
        "state": "running" if main["running"] else "stopped",
        "name": main["name"],
        "id": main["id"],
        "image": main["reference"],
        "image_id": main["image"],
        "release": main["labels"].get(RELEASE_LABEL),
        "version": main["labels"].get(VERSION_LABEL),
        "spec": main["labels"].get(SPEC_LABEL),
        "database": main["labels"].get(DATABASE_LABEL),
        "database_user": main["labels"].get(USER_LABEL),
        "started_at": main["started_at"],
        "restarts": main["restarts"],
        "health": main["health"],
        "leftovers": [one["name"] for one in ours if one is not main],
        "labels": {key: val for key, val in main["labels"].items() if key.startswith("glance.")},
    }


def is_foreign():
    """
    Whether a container named glance_api exists that this formula did not make.
    """
    there = __salt__["glance_engine.inspect"](NAME)
    return bool(there) and there["labels"].get(SERVICE_LABEL) != SERVICE


def execute(command, user="root"):
    """
    Run a command in the glance-api container that is in charge.

    command
        List of arguments; no shell.
    user
        User inside the container.

    Returns ``{"rc", "output"}``. Raises CommandExecutionError when none runs.
    """
    now = facts()
    if now["state"] != "running":
        raise CommandExecutionError(
            f"No glance-api container runs on this minion (it is {now['state']}): apply glance."
        )
    return __salt__["glance_engine.execute"](now["name"], command, user)


def is_ending(name):
    """
    Whether a container of this name was told to stop, so that it must get no connection. Pure.

    name
        Container name.
    """
    return name.endswith(ENDING)


def ending_name(container):
    """
    The name of a container that is told to stop; it tells in which of its lives. Pure.

    container
        Result of ``glance_engine.inspect``.
    """
    return f"{NAME}_{container['labels'].get(SPEC_LABEL)}_{_life(container)}{ENDING}"


def _came_back(container):
    """Whether a container that was told to stop was started again since."""
    name = container["name"]
    told = re.fullmatch(rf"{NAME}_.+_([0-9a-f]{{8}}){ENDING}", name)
    return bool(told) and told[1] != _life(container)


def _life(container):
    return hashlib.sha256(str(container["started_at"]).encode()).hexdigest()[:8]


def _start(containers):
    by_merit = sorted(
        containers, key=lambda one: (one["restart_policy"] == "no", one["name"] != NAME)
    )
    fallback = by_merit[0]["name"] if containers else None
    return {
        "do": "start",
        "incumbent": fallback,
        "newcomer": None,
        "retire": [one["name"] for one in containers if one["name"] != fallback],
    }


def _environment(settings, release):
    stores = {store["type"]: store for store in settings["stores"]}
    more = {}
    if "vsphere" in stores:
        # glance_configuration puts a second name for VMware's driver there.
        more["PYTHONPATH"] = "/etc/glance/python"
    if "s3" in stores and not __salt__["glance_options.s3_reads_authorities"](release):
        authorities = stores["s3"]["options"].get("s3_store_cacert")
        more.update({"AWS_CA_BUNDLE": authorities} if authorities else {})
    return {
        # A restart reads the container's own snapshot again.
        "KOLLA_CONFIG_STRATEGY": settings["config_strategy"],
        "KOLLA_SERVICE_NAME": "glance-api",
        "TZ": settings["timezone"],
        **more,
        **settings["glance_api_container_proxy"],
    }


def _volumes(settings):
    volumes = [
        f"{settings['glance_file_datadir_volume']}:/var/lib/glance/",
        "glance_work:/var/lib/glance-work/",
        "kolla_logs:/var/log/kolla/",
        "/dev/shm:/dev/shm",
    ]
    if settings["enable_glance_image_cache"]:
        volumes.append(f"{settings['glance_cache_volume']}:/var/lib/glance-cache/")
    if settings["enable_cinder_backend_iscsi"] and settings["enable_cinder"]:
        volumes.append("iscsi_info:/etc/iscsi")
    if settings["needs_privileged"]:
        # Cinder attaches volumes as block devices (Kolla: enable_cinder_backend_privileged).
        volumes.append("/dev:/dev")
    return volumes + settings["glance_api_extra_volumes"]


def _healthcheck(settings):
    second = 1_000_000_000
    return {
        "test": settings["glance_api_healthcheck_test"],
        "interval": settings["glance_api_healthcheck_interval"] * second,
        "timeout": settings["glance_api_healthcheck_timeout"] * second,
        "retries": settings["glance_api_healthcheck_retries"],
        "start_period": settings["glance_api_healthcheck_start_period"] * second,
    }


def _dimensions(dimensions):
    # Kolla's names and shape: ulimits is {name: {soft, hard}}.
    arguments = {key: val for key, val in dimensions.items() if key != "ulimits"}
    arguments["ulimits"] = [
        {"name": name, **(val if isinstance(val, dict) else {"soft": val, "hard": val})}
        for name, val in sorted(dimensions.get("ulimits", {}).items())
    ]
    return arguments
