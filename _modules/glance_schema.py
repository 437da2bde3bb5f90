"""
Glance's database: create it, look at its schema, bootstrap an empty one.

All of it runs in one-shot containers of the wanted image, so that the minion needs no database
library, and with credentials in the mounted configuration, never in an argument.
"""

import logging

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_schema"

LOOK_TIMEOUT = 120  # seconds
# What Kolla's bootstrap does; it passes over namespaces that are there.
BOOTSTRAP = [["glance-manage", "db_sync"], ["glance-manage", "db_load_metadefs"]]
# Adds what is missing and changes nothing that is there.
LOAD_METADEFS = [["glance-manage", "db", "load_metadefs", "--merge"]]
BOOTSTRAP_TIMEOUT = 1800  # seconds; a first schema takes 5 to 20
LOCK_PATIENCE = 600  # seconds to wait for somebody else who changes the schema
QUIET = "An old container may start when nobody changes the schema any more."
CHANGE_PATIENCE = 1800  # the same before an old container may start again: as long as a phase takes


def __virtual__():
    return __virtualname__


def look(settings, want, patience=0, quiet=0):
    """
    What the database holds, compared with what the image knows.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.
    patience
        Seconds to look again until somebody else has made the schema.
    quiet
        Seconds to look again until nobody changes the schema any more.

    Returns ``{"position", "heads_in_database", "images", "files", "metadef_namespaces", "waited",
    "pending", "half_done", "changed_by", ...}``; ``position`` is ``empty``, ``current``,
    ``uncontracted``, ``expanded``, ``behind``, ``ahead`` or ``unknown`` (glance/files/schema.py
    tells what each is). Raises CommandExecutionError when the database cannot be read.
    """
    files = __salt__["glance_configuration.files"](settings, want["labels"]["glance.release"])
    files = __salt__["glance_oneshot.with_scripts"](files, ["schema_pending.py", "schema.py"])
    waits = {"GLANCE_SCHEMA_WAIT": patience, "GLANCE_SCHEMA_CHANGE_WAIT": quiet}
    result = __salt__["glance_oneshot.run"](
        "look",
        settings,
        want,
        files,
        LOOK_TIMEOUT + max(waits.values()),
        data=settings["database_kind"] == "sqlite",
        environment={name: str(seconds) for name, seconds in waits.items() if seconds},
    )
    found = __salt__["glance_oneshot.answer"](result, "look at the database")
    if found.get("error"):
        raise CommandExecutionError(
            f"{found['error'].rstrip('.')}: check glance:glance_database_address,"
            " glance:glance_database_user, glance:glance_database_password and the server itself."
        )
    __context__["glance_schema.position"] = ", ".join(found["heads_in_database"])
    __context__["glance_schema.files"] = found["files"]
    return found


def checked():
    """
    The heads of the schema as this run has seen them last; empty when it has not looked.
    """
    return __context__.get("glance_schema.position", "")


def skip():
    """
    Note for :py:func:`checked` that this run does not look, since an upgrade has just done so.

    Returns the sentence for the state that would have looked.
    """
    __context__["glance_schema.position"] = "checked by the upgrade"
    return "The upgrade has looked at the schema before it came to this host."


def serves(found):
    """
    Whether an image may serve with the schema that it has found. Pure.

    Between the phases of an upgrade both releases do.

    found
        Result of :py:func:`look`.
    """
    if found["position"] in ("uncontracted", "expanded"):
        return not _never_used(found)
    return found["position"] == "current"


def facts(settings, want):
    """
    The schema as the plan of an upgrade needs it; nothing is changed, and nothing raised.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns ``{"error", "database", "position", "heads", "pending", "half_done",
    "metadefs_missing", "used", "backups"}``; ``error`` is None or a sentence, ``used`` whether an
    image was ever stored.
    """
    found = {
        "error": None,
        "database": settings["database_identity"],
        "backups": [one["path"] for one in __salt__["glance_backup.present"](settings)],
    }
    try:
        seen = look(settings, want)
    except CommandExecutionError as err:
        return {**found, "error": str(err)}
    more = ("position", "pending", "half_done", "metadefs_missing")
    found.update(heads=seen["heads_in_database"], used=not _never_used(seen))
    return {**found, **{key: seen[key] for key in more}}


def unfit(settings, container):
    """
    Why a present container must not serve with the database as it is now, or None.

    While somebody changes the schema nobody knows that, such as a one-shot container that goes on
    although its minion has died: its end is waited for.

    settings
        Result of ``glance_settings.get``.
    container
        Result of ``glance_engine.inspect``; its own image is asked.

    Raises CommandExecutionError when nobody can tell.
    """
    # How the API is served is of no concern here, and may be more than its release can do.
    settings = {**settings, "glance_enable_tls_backend": False}
    labels = container["labels"]
    image = {
        "id": container["image"],
        "release": labels["glance.release"],
        "version": labels["glance.version"],
    }
    want = __salt__["glance_container.wanted"](settings, image, "")
    want["spec"]["image"] = container["image"]
    found = __salt__["glance_progress.told"](
        "schema", _look_when_quiet, settings, want, text=QUIET, fault=_changed
    )
    if _changed(found):
        return _changed(found)
    if serves(found):
        return None
    heads = ", ".join(found["heads_in_database"]) or "none"
    return f"Glance {image['release']} does not know the schema ({heads}) any more"


def _look_when_quiet(settings, want):
    return look(settings, want, quiet=CHANGE_PATIENCE)


def _changed(found):
    """Who changes the schema still; empty when nobody does."""
    if found["changed_by"] is None:
        return ""
    return (
        f"connection {found['changed_by']} of the database server has been changing the schema for"
        f" {found['waited']} seconds: wait for its end (SHOW PROCESSLIST tells of it) and run the"
        " same command again"
    )


def bootstrap(settings, want):
    """
    Make the schema in an empty database and load the metadata definitions; else only check it.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns the changes, empty when there was nothing to do. Raises CommandExecutionError when the
    schema is not the image's, or the database is not the one in use.
    """
    database = settings["database_identity"]
    before = look(settings, want)
    moved_from = __salt__["glance_container.facts"]().get("database")
    problem = refusal(
        before, database, moved_from, settings["glance_database_move"], want["labels"]
    )
    if problem:
        raise CommandExecutionError(problem)
    fresh = moved_from is None and not before["images"]
    if serves(before) and not _lacks_metadefs(before, fresh):
        return {}
    result, after = None, before
    if not serves(before) or not before["metadef_namespaces"]:
        result = _work(settings, want, BOOTSTRAP)
        after = look(settings, want)
    if serves(after) and after["metadef_namespaces"] and after["metadefs_missing"]:
        # Kolla's bootstrap passes over namespaces of which a former one has made the beginning.
        result = _work(settings, want, LOAD_METADEFS)
        after = look(settings, want)
    # Kolla's bootstrap ends with code 0 even when it found no metadata definitions to load.
    if result["rc"] or not serves(after) or _lacks_metadefs(after, fresh):
        tail = __salt__["glance_oneshot.last_lines"](result, 4)
        hint = f" ({_start_again(database)})" if fresh else ""
        raise CommandExecutionError(
            f"The bootstrap of {database} ended with code {result['rc']}, schema"
            f" {after['position']}, {after['metadef_namespaces']} metadata namespaces{hint}: {tail}"
        )
    return {
        database: {
            "old": ", ".join(before["heads_in_database"]) or None,
            "new": ", ".join(after["heads_in_database"]),
        }
    }


def await_first(settings, want):
    """
    Wait until the first host of the group has made the schema, by Glance's own login; on a host
    that runs Glance with this database already, only check it.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns the seconds waited. Raises CommandExecutionError when the schema is not there after
    ``glance_group_timeout``, or is another one than the image's.
    """
    database, first = settings["database_identity"], settings["schema_host"]
    in_use = __salt__["glance_container.facts"]().get("database")
    fresh = in_use is None or (in_use != database and settings["glance_database_move"])
    patience = settings["glance_group_timeout"] if fresh else 0
    if patience:
        log.info("glance: waiting for %s to make the schema in %s", first, database)
    hint = (
        f"it is made by {first}, the first host of glance:glance_api_group, which was waited for"
        " (glance:glance_group_timeout): apply glance there and see what it says"
    )
    try:
        found = look(settings, want, patience)
    except CommandExecutionError as err:
        if not patience:
            raise
        raise CommandExecutionError(f"{str(err).rstrip('.')}; {hint}.") from err
    if patience and _never_used(found):
        state = "complete" if found["heads_in_database"] else "there"
        raise CommandExecutionError(
            f"The schema in {database} is not {state} after {found['waited']} seconds; {hint}."
        )
    problem = refusal(found, database, in_use, settings["glance_database_move"], want["labels"])
    if problem or not serves(found):
        raise CommandExecutionError(problem or f"The schema in {database} is gone; {hint}.")
    return found["waited"]


def load_metadefs(settings, want):
    """
    Load the metadata definitions of the image; what the database has already stays as it is.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns ``{"loaded": namespaces, "seconds"}``. Raises CommandExecutionError when some are
    missing afterwards.
    """
    result = _alone(settings, want, "schema_metadefs")
    answer = __salt__["glance_oneshot.answer"](result, "load the metadata definitions")
    problem = answer.get("error")
    if answer.get("missing"):
        problem = f"{', '.join(answer['missing'])} are missing afterwards"
    if problem:
        raise CommandExecutionError(
            f"The metadata definitions were not loaded completely: {problem.rstrip('.')}."
        )
    return {"loaded": answer["loaded"], "seconds": result["seconds"]}


def refusal(found, database, in_use, move_allowed, labels):
    """
    Why this database may not be used as it is, or None. Pure.

    found
        Result of :py:func:`look`.
    database
        The configured database, without credentials.
    in_use
        The database of the running container, or None.
    move_allowed
        glance:glance_database_move.
    labels
        Labels of the wanted container (its release is named).

    Returns a sentence or None.
    """
    release = labels["glance.release"]
    position = found["position"]
    if position == "empty" and in_use not in (None, database) and not move_allowed:
        return (
            f"The running Glance uses {in_use}, and {database} is empty: all images would seem"
            " gone; point the pillar back, copy the database first, or set"
            " glance:glance_database_move to yes to start with an empty one."
        )
    heads = ", ".join(found["heads_in_database"]) or "none"
    cut = _never_used(found) and in_use is None
    if position == "behind" and not cut:
        return (
            f"The schema in {database} is older ({heads}) than Glance {release} needs: migrate it"
            " with 'salt-run state.orchestrate glance.orchestrate.upgrade'."
        )
    if position == "ahead":
        return (
            f"The schema in {database} is newer ({heads}) than Glance {release} knows: name an"
            " image of that newer release in glance:openstack_release or glance:glance_tag."
        )
    if position == "unknown" and in_use is None and _never_used(found):
        return (
            f"What lies in {database} is not a schema of Glance {release}, and no image was ever"
            " stored in it. If it is the rest of a bootstrap that was cut,"
            f" {_start_again(database)}; else check glance:glance_database_name and"
            " glance:glance_database_address."
        )
    if position == "unknown":
        return (
            f"What lies in {database} ({heads}) is not a schema of Glance {release}: check"
            " glance:glance_database_name and glance:glance_database_address."
        )
    return None


def create_database(settings, want):
    """
    Create database, user and grants in MariaDB or MySQL, where they are missing.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns the changes, empty when all is there. Raises CommandExecutionError when the server does
    not answer, or its administrator is not let in or may not do it.
    """
    files = __salt__["glance_configuration.files"](settings, want["labels"]["glance.release"])
    files = __salt__["glance_oneshot.with_scripts"](files, ["database.py"])
    host, _, port = settings["glance_database_address"].rpartition(":")
    order = {
        "host": host.strip("[]"),
        "port": int(port),
        "ca": settings["glance_database_enable_tls_internal"] and settings["openstack_cacert"],
        "admin": settings["glance_database_shard_root_user"],
        "admin_password": settings["database_password"],
        "database": settings["glance_database_name"],
        "user": settings["glance_database_user"],
        "password": settings["glance_database_password"],
        "in_use": __salt__["glance_container.facts"]().get("database")
        == settings["database_identity"],
    }
    files = __salt__["glance_oneshot.with_order"](files, "database.json", order)
    result = __salt__["glance_oneshot.run"]("database", settings, want, files, LOOK_TIMEOUT)
    answer = __salt__["glance_oneshot.answer"](result, "create the database")
    if answer.get("error"):
        raise CommandExecutionError(answer["error"])
    return answer["changes"]


def foreseen(settings):
    """
    What :py:func:`create_database` makes where it is missing; empty when the container in charge
    uses all of it.

    settings
        Result of ``glance_settings.get``.

    Returns changes.
    """
    now = __salt__["glance_container.facts"]()
    database, user = settings["glance_database_name"], settings["glance_database_user"]
    here = now.get("database") == settings["database_identity"]
    # Containers of before have no label that tells the user.
    if here and now.get("database_user") in (user, None):
        return {}
    parts = [f"user {user}", f"grants on {database}"]
    if not here:
        parts.insert(0, f"database {database}")
    return dict.fromkeys(parts, "created where it is missing")


def _never_used(found):
    """A schema that no image was ever stored in: the rest of a bootstrap that was cut."""
    return not found["metadef_namespaces"] and not found["images"]


def _lacks_metadefs(found, fresh):
    """Whether definitions are missing; in a database in use, some may be missing on purpose."""
    return not found["metadef_namespaces"] or bool(fresh and found["metadefs_missing"])


def _work(settings, want, commands):
    """Run commands of Glance that change the database."""
    order = {"commands": commands, "patience": LOCK_PATIENCE}
    return __salt__["glance_progress.told"](
        "schema", _alone, settings, want, "schema_bootstrap", order, fault=_failed
    )


def _failed(result):
    """Why a run of commands is none, empty when it is."""
    return f"It ended with code {result['rc']}." if result["rc"] else ""


def _alone(settings, want, name, order=None):
    """Run a script that changes the database in a container, while no other one does."""
    files = __salt__["glance_configuration.files"](settings, want["labels"]["glance.release"])
    files = __salt__["glance_oneshot.with_scripts"](
        files, ["schema_pending.py", "schema.py", "schema_change.py", f"{name}.py"]
    )
    if order:
        files = __salt__["glance_oneshot.with_order"](files, f"{name}.json", order)
    return __salt__["glance_oneshot.run"](
        "schema",
        settings,
        want,
        files,
        BOOTSTRAP_TIMEOUT,
        data=settings["database_kind"] == "sqlite",
    )


def _start_again(database):
    kind, _, place = database.partition("://")
    name = place.rpartition("/")[2]
    if kind == "sqlite":
        return f"remove the file {name} from the data volume and apply again"
    return f"drop the database {name} and apply again"
