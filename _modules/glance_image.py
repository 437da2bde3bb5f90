"""
The glance-api image on this host: is it here, what is in it, and pulling it.
"""

import json

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_image"

# Labels of our containers; see glance_container.
SERVICE_LABEL, SERVICE = "glance.service", "api"
RELEASE_LABEL, VERSION_LABEL = "glance.release", "glance.version"
MEMORY = "glance_images.json"  # versions of Glance that were found in images


def __virtual__():
    return __virtualname__


def here(settings):
    """
    The image that the settings name, as ``glance_engine.image`` tells it; None when it is to be
    pulled. Only looks.

    settings
        Result of ``glance_settings.get``.

    Raises CommandExecutionError when it is missing and ``glance_image_pull`` is never.
    """
    reference = settings["glance_api_image_full"]
    image = __salt__["glance_engine.image"](reference)
    if not image and settings["glance_image_pull"] == "never":
        raise CommandExecutionError(
            f"The image {reference} is not on this host and glance:glance_image_pull is never:"
            " load it ('docker load'), or set glance:glance_image_pull to missing."
        )
    return image


def pull(settings):
    """
    Pull the image that the settings name, with their login for the registry.

    settings
        Result of ``glance_settings.get``.

    Returns what ``glance_engine.image`` tells of it. Raises CommandExecutionError when it cannot be
    pulled.
    """
    user = settings["docker_registry_username"]
    login = {"username": user, "password": settings["docker_registry_password"]} if user else None
    reference, patience = settings["glance_api_image_full"], settings["docker_client_timeout"]
    pull_it = __salt__["glance_engine.pull"]
    return __salt__["glance_progress.told"](
        "pull", pull_it, reference, patience, login, text=reference
    )


def release_of(reference, look_inside=True):
    """
    The OpenStack release in a local image, found in the image itself, not in its tag.

    reference
        Name or id of an image that the engine has.
    look_inside
        Whether a one-shot container may be started when the answer is not known yet; False for
        callers that may only read.

    Returns ``{"id", "release", "version"}``; None when the image is not here, or not known yet.
    Raises CommandExecutionError when the image holds no supported Glance.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_image.release_of quay.io/openstack.kolla/glance-api:2026.2-debian-trixie
    """
    image = __salt__["glance_engine.image"](reference)
    if image is None:
        return None
    for one in __salt__["glance_engine.containers"](SERVICE_LABEL, SERVICE):
        if one["image"] == image["id"]:
            labels = one["labels"]
            return {
                "id": image["id"],
                "release": labels[RELEASE_LABEL],
                "version": labels[VERSION_LABEL],
            }
    known = __salt__["glance_memory.recall"](MEMORY)
    if image["id"] not in known:
        if not look_inside:
            return None
        known[image["id"]] = _look_inside(reference)
        __salt__["glance_memory.keep"](MEMORY, known)
    version = known[image["id"]]
    return {
        "id": image["id"],
        "release": __salt__["glance_releases.release"](version),
        "version": version,
    }


def _look_inside(reference):
    script = __salt__["cp.cache_file"](
        "salt://glance/files/release.py", saltenv=__salt__["glance_formula.saltenv"]()
    )
    if not script:
        raise CommandExecutionError(
            "salt://glance/files/release.py is not on the file server: serve the whole formula."
        )
    run = __salt__["glance_engine.run_once"](
        "release",
        {
            "image": reference,
            "command": ["python3", "/release.py"],
            "entrypoint": [],
            "user": "root",  # the file that Salt cached may be root's alone
            "network_mode": "none",
            "volumes": [f"{script}:/release.py:ro"],
        },
        60,
    )
    try:
        version = json.loads(run["output"].strip().splitlines()[-1])["glance"]
    except (ValueError, IndexError, KeyError):
        version = None
    if not version:
        raise CommandExecutionError(
            f"The image {reference} holds no Glance that can be found: set glance:glance_tag or"
            " glance:glance_api_image_full to a Kolla glance-api image."
        )
    return version
