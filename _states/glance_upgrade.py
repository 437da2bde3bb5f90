"""
The steps of an upgrade on the host that works on the database, as states.

With ``test=True`` they look at the database in a one-shot container, which changes nothing, and
tell the truth.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_upgrade"

DONE = {
    "expand": ("expanded", "The schema in {} was expanded; old and new releases work on it."),
    "migrate": ("migrated", "The data in {} was migrated."),
    "contract": ("contracted", "The schema in {} was contracted; older releases are shut out."),
    "sync": ("brought to the new release", "The schema in {} is the new release's."),
}


def __virtual__():
    return __virtualname__


def backed_up(name):
    """
    Make sure that there is a backup of the database as it is, in ``glance:glance_backup_dir``.

    One of the last ten minutes is enough, and so is one of the last day from before an expansion
    that was cut.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings, want = _wanted()
        if want is None:
            return _unknown(ret, settings["glance_backup_dir"], "made")
        backups, enough = __salt__["glance_backup.present"](settings), None
        if backups:
            found = __salt__["glance_schema.look"](settings, want)
            enough = __salt__["glance_backup.enough"](backups, found)
        if enough:
            ret["comment"] = f"The database is backed up in {enough['path']}."
        elif __opts__["test"]:
            ret["result"] = None
            ret["changes"] = {settings["glance_backup_dir"]: {"old": None, "new": "a backup"}}
            ret["comment"] = "The database would have been backed up."
        else:
            make = __salt__["glance_backup.make"]
            made = __salt__["glance_progress.told"]("backup", make, settings, want)
            size = f"{made['tables']} tables, {made['rows']} rows, {made['bytes']} bytes"
            ret["changes"] = {made["path"]: {"old": None, "new": size}}
            ret["changes"].update({one: {"old": "kept", "new": None} for one in made["removed"]})
            ret["comment"] = (
                f"The database was backed up in {made['path']} ({size}). It took"
                f" {made['seconds']} seconds."
            )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def expanded(name):
    """
    Make sure that the schema has all that the new release needs; old releases go on working on it.

    What an expansion that was cut has left is taken away first, as long as it holds nothing.

    name
        What the state is called in the output.
    """
    return _phase(name, "expand")


def migrated(name):
    """
    Make sure that the data is where the new release looks for it; old releases go on serving.

    name
        What the state is called in the output.
    """
    return _phase(name, "migrate")


def contracted(name):
    """
    Make sure that what only old releases need is gone from the schema. No old one may run any more.

    name
        What the state is called in the output.
    """
    return _phase(name, "contract")


def synced(name):
    """
    Make sure that the schema is the new release's, in one go. No API may run meanwhile.

    name
        What the state is called in the output.
    """
    return _phase(name, "sync")


def metadefs_loaded(name):
    """
    Make sure that the database has the metadata definitions of the image; what is there stays.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings, want = _wanted()
        database = settings["database_identity"]
        if want is None:
            return _unknown(ret, database, "loaded")
        if __opts__["test"]:
            missing = __salt__["glance_schema.look"](settings, want)["metadefs_missing"]
            verb, took = "would have been loaded", ""
            ret["result"] = None if missing else True
        else:
            load = __salt__["glance_schema.load_metadefs"]
            made = __salt__["glance_progress.told"]("metadefs", load, settings, want)
            missing, verb = made["loaded"], "were loaded"
            took = f" It took {made['seconds']} seconds."
        ret["changes"] = {one: {"old": None, "new": "loaded"} for one in missing}
        ret["comment"] = "All metadata definitions of the image are there."
        if missing:
            ret["comment"] = f"{len(missing)} namespaces of metadata definitions {verb}."
        ret["comment"] += took
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def verified(name):
    """
    Make sure that images go up and come back unchanged, by the address that users take.

    That is the load balancer's (``glance:glance_internal_endpoint``) where there is one, else this
    node's own. Never reports changes.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        if __opts__["test"]:
            ret["comment"] = "An image would have been uploaded, downloaded and compared."
            return ret
        checked = __salt__["glance_check.as_users"](settings)
        ret["comment"] = (
            f"An image went up to {checked['where']} and came back unchanged. It took"
            f" {checked['seconds']:.1f} seconds."
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _phase(name, step):
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings, want = _wanted()
        database, (done, sentence) = settings["database_identity"], DONE[step]
        if want is None:
            return _unknown(ret, database, done)
        if __opts__["test"]:
            return _foreseen(ret, step, database, __salt__["glance_schema.look"](settings, want))
        change = __salt__["glance_schema_phases.change"]
        made = __salt__["glance_progress.told"](step, change, settings, want, step)
        before, after = ", ".join(made["before"]), ", ".join(made["after"])
        ret["comment"] = f"The schema in {database} is {done} already ({after})."
        sentence = sentence.format(database)
        if before != after or made["repaired"]:
            ret["changes"] = {database: {"old": before, "new": after}}
            ret["comment"] = sentence
        ret["comment"] += f" It took {made['seconds']} seconds."
        ret["changes"].update(
            {one: {"old": "left by a cut expansion", "new": None} for one in made["repaired"]}
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def _foreseen(ret, step, database, found):
    """What a phase would do, in test mode."""
    heads, done = ", ".join(found["heads_in_database"]), DONE[step][0]
    if not __salt__["glance_schema_phases.pending"](found, step):
        return {**ret, "comment": f"The schema in {database} is {done} already ({heads})."}
    ret["result"] = None
    ret["changes"] = {database: {"old": heads, "new": done}}
    ret["comment"] = f"The schema in {database} would have been {done}."
    if found["half_done"]:
        left = ", ".join(found["half_done"]["objects"])
        ret["comment"] += f" A cut expansion has left {left}, which would have been removed."
    return ret


def _wanted():
    settings = __salt__["glance_settings.get"]()
    want, _ = __salt__["glance_container.desired"](settings)
    if want is None and not __opts__["test"]:
        raise CommandExecutionError(
            f"The image {settings['glance_api_image_full']} is not on this host: apply"
            " glance.upgrade.pull first."
        )
    return settings, want


def _unknown(ret, what, done):
    """In test mode, with an image that is not here yet."""
    return {
        **ret,
        "result": None,
        "changes": {what: {"old": "not known before the image is here", "new": done}},
        "comment": f"Whether anything is to be {done} is known when the image is here.",
    }
