"""
The configuration of glance-api as states: rendered on the host, proved in its own image.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_configuration"


def __virtual__():
    return __virtualname__


def rendered(name):
    """
    Make sure that the folder of the Kolla image contract holds exactly the wanted files.

    The running container is not affected: it has its own snapshot. The changes are a diff of
    each file; of a file with secrets only that it changed.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        elsewhere = __salt__["glance_backend.elsewhere"](settings)
        if elsewhere:
            ret = _removed(ret, [settings["config_dir"]])
            ret["comment"] += f" {elsewhere}"
            return ret
        folder = settings["config_dir"]
        want, files = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        if want is None:
            ret.update(
                result=None,
                changes={folder: {"old": None, "new": "rendered for the release of the image"}},
                comment="The configuration would have been rendered for the release of the image.",
            )
            return ret
        ret["changes"] = __salt__["glance_config_dir.compare"](folder, files)
        if not ret["changes"]:
            ret["comment"] = f"The configuration in {folder} is as wanted."
        elif __opts__["test"]:
            ret["result"] = None
            ret["comment"] = f"The configuration in {folder} would have been changed."
        else:
            __salt__["glance_config_dir.write"](folder, files)
            ret["comment"] = f"The configuration in {folder} was changed."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def proved(name):
    """
    Make sure that the target image accepts the configuration, before a service is touched.

    A one-shot container of the image validates every option and loads the application, with a
    throw-away database and none of the data mounted. What the running container was made from
    is not proved again. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        want, files = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        if want and __salt__["glance_container.serves"](want["hash"]):
            ret["comment"] = "The running container was made from this configuration."
        elif __opts__["test"]:
            ret["comment"] = "The configuration would have been proved in a one-shot container."
        else:
            __salt__["glance_proof.run"](settings, want)
            ret["comment"] = "The image accepts the configuration and loads Glance with it."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def absent(name):
    """
    Make sure that the folders with the rendered configuration are gone; that of a container
    named glance_api which this formula did not make stays, since that one reads it.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret = _removed(ret, [settings["config_dir"], settings["snapshot_dir"]])
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def _removed(ret, folders):
    """Remove folders, as a state; not what a container of somebody else reads."""
    kept = folders[:1] if __salt__["glance_container.is_foreign"]() else []
    ours = [one for one in folders if one not in kept]
    present = [one for one in ours if __salt__["file.directory_exists"](one)]
    ret["changes"] = {one: {"old": "present", "new": None} for one in present}
    ret["comment"] = "No configuration is here."
    if present and __opts__["test"]:
        ret.update(result=None, comment="The configuration would have been removed.")
    elif present:
        for one in present:
            __salt__["file.remove"](one)
        ret["comment"] = "The configuration was removed."
    if kept:
        ret["comment"] += f" {kept[0]} is left to a container that this formula did not make."
    return ret
