"""
The directory of the images as states: the right one, and seen by all hosts that use it.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_sharing"


def __virtual__():
    return __virtualname__


def marked(name):
    """
    Make sure that the directory of the images is the one that this host uses, and bears its mark.

    A directory that this host has used and that bears no mark of it any more is refused, and so
    is one on a filesystem of this host alone when the group has several hosts: nothing is written
    into a share that is not mounted. What other hosts' marks say is noted, which is no change.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        place = settings["glance_file_datadir_volume"]
        if not settings["runs_api"]:
            ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        elif not settings["datadir_marker"]:
            ret["comment"] = "No images lie in a directory of this host."
        else:
            ret["changes"] = __salt__["glance_sharing.mark"](settings, test=__opts__["test"])
            ret["comment"] = f"The directory {place} bears the mark of this host."
            if ret["changes"] and __opts__["test"]:
                ret.update(result=None, comment=f"The directory {place} would have been marked.")
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def proved(name):
    """
    Make sure that this host shares the images with the first host of its group, where these lie in
    a directory. Waits for the proof up to ``glance_group_timeout``. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["runs_api"] or not settings["datadir_marker"]:
            ret["comment"] = __salt__["glance_sharing.verified"]()["why"]
            return ret
        if not __opts__["test"]:
            __salt__["glance_sharing.await_proof"](settings, settings["glance_group_timeout"])
        found = __salt__["glance_sharing.verified"]()
        ret["comment"] = found["why"]
        if __opts__["test"] and not found["runs"]:
            ret["comment"] += " The run would have waited for this (glance:glance_group_timeout)."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def in_reach(name):
    """
    Make sure that no image gets out of reach by another directory, unless the run confirms it.

    Other images than those in ``glance:glance_file_datadir_volume`` are given up only with
    ``pillar='{"glance": {"confirm": VOLUME}}'``. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "All images stay in reach."}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["runs_api"]:
            return ret
        want, _ = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        if want and __salt__["glance_container.serves"](want["hash"]):
            return ret
        lost = __salt__["glance_datadir.out_of_reach"](settings)
        place = settings["glance_file_datadir_volume"]
        if lost and settings["confirm"] != place:
            raise CommandExecutionError(
                f"{lost} (glance:glance_file_datadir_volume): mount the share or copy the images"
                " first, or confirm on the command line that they are given up, with"
                f' pillar=\'{{"glance": {{"confirm": "{place}"}}}}\'.'
            )
        if lost:
            ret["comment"] = f"{lost}; this was confirmed."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret
