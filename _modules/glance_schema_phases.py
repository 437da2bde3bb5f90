"""
The phases of a schema on its way to another release: expand, migrate, contract, or all at once.

They run in one-shot containers of the new image (glance/files/schema_change.py) and pass over
what is done, so that the same phase can be run again after any interruption.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_schema_phases"

TIMEOUT = 1800  # seconds
LOCK_WAIT = 5  # seconds that a statement waits for a lock; as long, requests may wait behind it
PATIENCE = 120  # seconds after which locks of others are not waited for any more
# What each step does. Rows that old releases have written during a rolling upgrade are migrated
# before contract.
PHASES = {
    "expand": ["expand"],
    "migrate": ["migrate"],
    "contract": ["migrate", "contract"],
    "sync": ["expand", "migrate", "contract"],
}


def __virtual__():
    return __virtualname__


def pending(found, step):
    """
    Whether a step has anything left to do; :py:func:`change` finds out by itself. Pure.

    found
        Result of ``glance_schema.look``.
    step
        ``expand``, ``migrate``, ``contract`` or ``sync``.

    Raises CommandExecutionError when this image cannot work on the schema at all.
    """
    heads = ", ".join(found["heads_in_database"]) or "none"
    if found["position"] not in ("current", "uncontracted", "expanded", "behind"):
        raise CommandExecutionError(
            f"The schema in the database ({heads}) is {found['position']} for this image, so no"
            " phase of it can be run: see glance:openstack_release and"
            " glance:glance_database_name."
        )
    if step in ("migrate", "contract") and "expand" in found["pending"]:
        raise CommandExecutionError(
            f"The schema in the database ({heads}) is not expanded yet: apply glance.upgrade.expand"
            " first."
        )
    return bool(set(PHASES[step]) & set(found["pending"]))


def change(settings, want, step):
    """
    Run a step on the configured database.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``, of the new image.
    step
        ``expand``, ``migrate``, ``contract`` or ``sync``.

    Returns ``{"before", "after", "repaired", "seconds"}``. Raises CommandExecutionError when
    the schema is not one that the step can work on, or the work on it fails.
    """
    order = {
        "phases": PHASES[step],
        "online": step != "sync",
        "lock_wait": LOCK_WAIT,
        "patience": PATIENCE,
        "admin": _administrator(settings),
    }
    files = __salt__["glance_configuration.files"](settings, want["labels"]["glance.release"])
    files = __salt__["glance_oneshot.with_scripts"](
        files, ["schema_pending.py", "schema.py", "schema_change.py"]
    )
    files = __salt__["glance_oneshot.with_order"](files, "schema_change.json", order)
    result = __salt__["glance_oneshot.run"](
        "schema", settings, want, files, TIMEOUT, data=settings["database_kind"] == "sqlite"
    )
    answer = __salt__["glance_oneshot.answer"](result, f"{step} the schema")
    if answer.get("error"):
        raise CommandExecutionError(answer["error"])
    return {**answer, "seconds": result["seconds"]}


def _administrator(settings):
    """Login of the database's administrator; None where the formula has none."""
    if settings["database_kind"] == "sqlite" or settings["use_preconfigured_databases"]:
        return None
    return {
        "user": settings["glance_database_shard_root_user"],
        "password": settings["database_password"],
    }
