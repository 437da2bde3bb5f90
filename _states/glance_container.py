"""
The glance-api image and container as states.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_container"


def __virtual__():
    return __virtualname__


def engine_answers(name):
    """
    Make sure that the Docker SDK is here and the engine answers. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The Docker engine answers."}
    try:
        __salt__["glance_engine.available"]()
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
        if __opts__["test"] and __salt__["glance_engine.is_to_come"]():
            ret["result"] = None
            ret["comment"] = (
                "The Python library 'docker' would have been installed. Nothing can be asked of the"
                " engine before, so all that follows is told as for a host without containers."
            )
    return ret


def image_present(name, any_release=False, pulled=False, planned=None):
    """
    Make sure that the image is on this host and that it may replace what runs here.

    Pulls according to ``glance:glance_image_pull``, always before anything is stopped. An image
    of another OpenStack release than the running one is refused, and so is a container named
    glance_api that somebody else made.

    name
        What the state is called in the output.
    any_release
        Whether the image may be of another release; the upgrade says so.
    pulled
        Whether it has been pulled for this work: then ``always`` does not pull it anew, so that
        all of an upgrade is done with the image that it began with.
    planned
        The release that an orchestration has planned for; another one is refused, which a pillar
        may name that was edited meanwhile.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        reference = settings["glance_api_image_full"]
        anew = settings["glance_image_pull"] == "always" and not pulled
        if __salt__["glance_container.is_foreign"]():
            raise CommandExecutionError(__salt__["glance_container.refusal"]([], True, None))
        before = __salt__["glance_image.here"](settings)
        if __opts__["test"]:
            if not before:
                ret["result"] = None
                ret["changes"] = {reference: {"old": None, "new": "pulled"}}
                ret["comment"] = f"The image {reference} would have been pulled."
                return ret
        elif anew or not before:
            after = __salt__["glance_image.pull"](settings)
            if not before or before["id"] != after["id"]:
                ret["changes"] = {
                    reference: {"old": before["id"] if before else None, "new": after["id"]}
                }
        found = __salt__["glance_image.release_of"](reference, look_inside=not __opts__["test"])
        ret["comment"] = f"The image {reference} is on this host."
        if found:
            ret["comment"] = (
                f"The image {reference} is on this host: Glance {found['version']}, OpenStack"
                f" {found['release']}."
            )
            refusal = __salt__["glance_container.refusal"](
                __salt__["glance_engine.containers"](), False, found["release"]
            )
            if refusal and not any_release:
                raise CommandExecutionError(refusal)
            if planned not in (None, found["release"]):
                raise CommandExecutionError(
                    f"The image {reference} holds Glance {found['release']}, but this was planned"
                    f" for Glance {planned}: start the orchestration again, which makes a new plan"
                    " for what the pillar names by now."
                )
        if __opts__["test"] and anew:
            ret["comment"] += " It would have been pulled again; the registry may have another one."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def running(name):
    """
    Make sure that exactly one healthy glance-api container of the wanted spec is in charge.

    A present container is replaced without failing a request (``glance_replace``). When the
    newcomer is not fit, the old container goes on or comes back and the state fails with the
    newcomer's last log lines. What a killed run left behind is finished or undone.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        elsewhere = __salt__["glance_backend.elsewhere"](settings)
        if elsewhere:
            ret = absent(name)
            ret["comment"] += f" {elsewhere}"
            return ret
        want, files = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        if want is None:
            present = __salt__["glance_container.facts"]().get("image")
            ret.update(
                result=None,
                changes={"glance_api": {"old": present, "new": settings["glance_api_image_full"]}},
                comment="A container would have been made from the new image.",
            )
            return ret
        ours = __salt__["glance_engine.containers"]()
        verdict = __salt__["glance_container.decide"](ours, want["hash"], want["policy"])
        if verdict["do"] == "nothing":
            present = next(one for one in ours if one["name"] == verdict["incumbent"])
            if settings["datadir_marker"] and not __salt__["glance_sharing.seen_inside"](
                settings, present["pid"]
            ):
                return _restarted(settings, ret, present["name"])
            return _tidy(settings, ret)
        ret["changes"] = __salt__["glance_container.announce"](ours, verdict, want)
        if __opts__["test"]:
            would = {"start": "started", "finish": "kept, and an earlier run finished"}
            ret["result"] = None
            ret["comment"] = (
                f"The container would have been {would.get(verdict['do'], 'replaced')}."
            )
            return ret
        report = __salt__["glance_replace.run"](settings, want, files)
        ret["comment"] = __salt__["glance_container.describe"](report)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def absent(name):
    """
    Make sure that no glance-api container of ours is left; volumes and database stay.

    Transfers in flight get up to ``glance:glance_drain_timeout`` seconds to end. With several hosts
    the comment tells which images lie here, also before anything is done.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No glance-api is here."}
    try:
        settings = __salt__["glance_settings.get"]()
        ours = [one["name"] for one in __salt__["glance_engine.containers"]()]
        if not ours:
            if __salt__["glance_container.is_foreign"]():
                ret["comment"] = "The container glance_api was not made by this formula and stays."
            return ret
        ret["changes"] = {one: {"old": "present", "new": None} for one in ours}
        left = ""
        if len(settings["glance_api_group"]) > 1:
            left = f" {__salt__['glance_datadir.left_behind']()}".rstrip()
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "The glance-api container would have been stopped and removed." + left
            return ret
        cut = __salt__["glance_replace.stop_all"](settings, remove=True)
        ret["comment"] = "The glance-api container was stopped and removed; its data was kept."
        ret["comment"] += _cut(cut) + left
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def stopped(name):
    """
    Make sure that glance-api does not run on this host; the container stays and can be started.

    Transfers in flight get up to ``glance:glance_drain_timeout`` seconds to end.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No glance-api container runs."}
    try:
        settings = __salt__["glance_settings.get"]()
        # One that the engine starts by itself after a reboot is not stopped for good.
        running_ones = [
            one["name"]
            for one in __salt__["glance_engine.containers"]()
            if one["status"] in ("running", "restarting", "paused")
            or one["restart_policy"] == "always"
        ]
        if not running_ones:
            return ret
        ret["changes"] = {one: {"old": "running", "new": "stopped"} for one in running_ones}
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "The glance-api container would have been stopped."
            return ret
        cut = __salt__["glance_replace.stop_all"](settings, remove=False)
        ret["comment"] = "The glance-api container was stopped and is kept as it was."
        ret["comment"] += _cut(cut)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def started_again(name):
    """
    Make sure that the container that was stopped for an upgrade serves again, as it was.

    It stays stopped when the schema has become one that its release does not know.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        now = __salt__["glance_container.facts"]()
        if now["state"] == "running":
            ret["comment"] = f"The container {now['name']} runs."
        elif now["state"] != "stopped":
            ret["comment"] = "No container was stopped here."
        else:
            ret["changes"] = {now["name"]: {"old": "stopped", "new": "running"}}
            if __opts__["test"]:
                ret["result"] = None
                ret["comment"] = f"The container {now['name']} would have been started again."
                return ret
            ret["comment"] = __salt__["glance_replace.start_again"](settings, now["name"])
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def data_absent(name):
    """
    Make sure that the images, and a trial's database, are gone. Needs to be asked for twice.

    Removes the volume only when ``glance:glance_remove_data`` is yes *and* the run names the
    volume: ``pillar='{glance: {confirm: VOLUME}}'``. Without the first it does nothing. Where
    ``glance:glance_cache_remove_data`` is yes, the copies of the cache are left to
    ``glance_cache.absent``.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The data is kept."}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["glance_remove_data"]:
            return ret
        data = settings["glance_file_datadir_volume"]
        if data.startswith("/"):
            raise CommandExecutionError(
                f"The images lie in the folder {data}, which this formula does not delete: remove"
                " it by hand and set glance:glance_remove_data to no."
            )
        if settings["confirm"] != data:
            raise CommandExecutionError(
                f"glance:glance_remove_data is yes, which deletes every image in {data}: confirm"
                f' it on the command line with pillar=\'{{"glance": {{"confirm": "{data}"}}}}\'.'
            )
        ours = [data, "glance_work"]
        if not settings["glance_cache_remove_data"]:
            ours.append(settings["glance_cache_volume"])
        volumes = [
            one
            for one in ours
            if not one.startswith("/") and __salt__["glance_engine.volume_exists"](one)
        ]
        if not volumes:
            ret["comment"] = "The data is gone."
            return ret
        if __opts__["test"]:
            ret["result"] = None
            ret["changes"] = {one: {"old": "present", "new": None} for one in volumes}
            ret["comment"] = "The volumes would have been removed with every image in them."
            return ret
        for one in volumes:
            __salt__["glance_engine.remove_volume"](one)
            ret["changes"][one] = {"old": "present", "new": None}
        ret["comment"] = "The volumes were removed with every image in them."
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _cut(cut):
    return f" Cut at glance:glance_drain_timeout: {'; '.join(cut)}." if cut else ""


def _restarted(settings, ret, name):
    """A container that was started while the share was not mounted cannot see it later."""
    ret["changes"] = {name: {"old": "sees another data directory", "new": "restarted"}}
    if __opts__["test"]:
        ret.update(result=None, comment="The container would have been restarted.")
        return ret
    cut = __salt__["glance_replace.restart"](settings, name)
    ret["comment"] = (
        f"The container was restarted, because it did not see the images in"
        f" {settings['glance_file_datadir_volume']}."
    ) + _cut(cut)
    return ret


def _tidy(settings, ret):
    """Nothing is to be done for the service: remove what killed runs left beside it."""
    ret["comment"] = "The wanted container runs."
    found = sum(__salt__["glance_leftovers.find"](settings).values(), [])
    if found:
        ret["changes"] = {one: {"old": "left over", "new": None} for one in found}
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] += " What an earlier run left would have been removed."
        else:
            __salt__["glance_leftovers.remove"](settings)
            ret["comment"] += " What an earlier run left was removed."
    return ret
