"""
The place of the image cache as states.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_cache"


def __virtual__():
    return __virtualname__


def local(name):
    """
    Make sure that the copies of the cache lie on a disk of this host alone. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The image cache is off."}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["enable_glance_image_cache"] or not settings["runs_api"]:
            return ret
        found = __salt__["glance_cache_place.look"](settings)
        warning = __salt__["glance_cache_place.crowded"](
            settings["glance_cache_max_size"],
            found["used"],
            found["free"],
            __salt__["glance_cache_plan.text"],
        )
        ret["comment"] = f"The copies lie in {found['folder']} ({found['kind']})."
        if warning:
            ret["comment"] += f" {warning}"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def absent(name, only_where_off=False):
    """
    Make sure that no copies are left, if ``glance_cache_remove_data`` is yes.

    name
        What the state is called in the output.
    only_where_off
        Whether this holds only where the cache is switched off, or the API does not run.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No copies are to be removed."}
    try:
        settings = __salt__["glance_settings.get"]()
        on = settings["enable_glance_image_cache"] and settings["runs_api"]
        if on and only_where_off:
            return ret
        if not settings["glance_cache_remove_data"] or not __salt__["glance_cache_place.present"](
            settings
        ):
            return ret
        volume = settings["glance_cache_volume"]
        ret["changes"] = {volume: {"old": "present", "new": None}}
        if __opts__["test"]:
            ret.update(result=None, comment="The copies would have been removed.")
            return ret
        __salt__["glance_cache_place.remove"](settings)
        ret["comment"] = "The copies were removed."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
