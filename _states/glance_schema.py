"""
Glance's database and its schema as states.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_schema"


def __virtual__():
    return __virtualname__


def database_present(name, by_upgrade=False):
    """
    Make sure that the database and its user exist in MariaDB or MySQL.

    Does nothing with SQLite, with ``use_preconfigured_databases`` and on all hosts but the first
    that runs the API; what the running container uses is not looked at again.

    name
        What the state is called in the output.
    by_upgrade
        Whether an upgrade has worked on this database right before, so that it is there.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        want, _ = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        if settings["database_kind"] == "sqlite":
            ret["comment"] = "SQLite needs no database server."
        elif settings["use_preconfigured_databases"]:
            ret["comment"] = "The database is preconfigured (use_preconfigured_databases)."
        elif by_upgrade:
            ret["comment"] = "The upgrade has used this database before it came to this host."
        elif settings["schema_host"] != settings["minion_id"]:
            ret["comment"] = f"The database is the work of {settings['schema_host']}."
        elif want and __salt__["glance_container.serves"](want["hash"]):
            ret["comment"] = "The running container uses this database."
        elif __opts__["test"]:
            ret["comment"] = "The database and its user would have been looked for."
            ret["changes"] = __salt__["glance_schema.foreseen"](settings)
            if ret["changes"]:
                ret["result"] = None
        else:
            ret["changes"] = __salt__["glance_schema.create_database"](settings, want)
            ret["comment"] = (
                "The database and its user were made."
                if ret["changes"]
                else "The database and its user exist."
            )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def bootstrapped(name, by_upgrade=False):
    """
    Make sure that the database holds the schema of the image; only an empty one is ever changed.

    A schema that is behind or ahead of the image is refused with one sentence, and so is an
    empty database where the running container uses another one (``glance_database_move``). The
    first host that runs the API makes the schema; the others wait for it, up to
    ``glance_group_timeout``.

    name
        What the state is called in the output.
    by_upgrade
        Whether an upgrade has brought this schema to the release of the image right before.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        if ret["comment"]:
            return ret
        if by_upgrade:
            ret["comment"] = __salt__["glance_schema.skip"]()
            return ret
        want, _ = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
        database, first = settings["database_identity"], settings["schema_host"]
        if want and __salt__["glance_container.serves"](want["hash"]):
            ret["comment"] = "The running container uses this schema."
        elif __opts__["test"] and first != settings["minion_id"]:
            ret["comment"] = f"The schema, which is the work of {first}, would have been checked."
        elif first != settings["minion_id"]:
            waited = __salt__["glance_schema.await_first"](settings, want)
            ret["comment"] = f"The schema in {database} is the image's."
            if waited:
                ret["comment"] += f" {first} made it; this took {waited} seconds."
        elif __opts__["test"]:
            in_use = __salt__["glance_container.facts"]().get("database")
            ret["comment"] = f"The schema in {database} would have been checked."
            if in_use != database:
                ret["result"] = None
                ret["changes"] = {database: {"old": in_use, "new": "bootstrapped where empty"}}
        else:
            ret["changes"] = __salt__["glance_schema.bootstrap"](settings, want)
            ret["comment"] = (
                f"The schema was made in {database}, and the metadata definitions were loaded."
                if ret["changes"]
                else f"The schema in {database} is the image's."
            )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
