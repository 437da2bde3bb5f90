"""
What an upgrade or a rollback refuses before anything is touched, one sentence each.

Pure.  All refusals are told at once; ``glance_upgrade`` makes the plan when there is none.
"""

__virtualname__ = "glance_upgrade_rules"

_SERVICEABLE = ("current", "uncontracted", "expanded")


def __virtual__():
    return __virtualname__


def refusals(facts, method, parts=None):
    """
    Return why this upgrade or rollback cannot be done, one sentence each.

    facts
        As for ``glance_upgrade.plan``.

    method
        ``rolling`` or ``legacy``.

    parts
        Functions by name; those of Salt by default.
    """
    parts = __salt__ if parts is None else parts
    rollback = facts["mode"] == "rollback"
    locked = _lock(facts, parts)
    found = locked + _hosts(facts, parts)
    if found:  # nothing is known about a host that does not answer
        return found + ([] if locked else _stopped(facts))
    found = _first(facts) + ([] if rollback else _outsiders(facts, parts))
    if found or facts["image_may_be_new"]:
        return found
    found = _image(facts) + _store(facts, method)
    found += (_steps_down if rollback else _steps_up)(facts, parts)
    if not rollback:
        found += _advisories(facts, parts)
    found += (_schema_for_rollback if rollback else _schema)(facts)
    return found


def _lock(facts, parts):
    lock = facts["lock"]
    if not lock or lock["dead"]:
        return []
    return [parts["glance_lock.sentence"](lock)]


def _hosts(facts, parts):
    if not facts["hosts"]:
        return ["glance:glance_api_group names no host: list the minions that run glance-api."]
    return parts["glance_group.refusals"](facts["hosts"])


def _stopped(facts):
    """What a killed legacy upgrade has stopped need not wait until it can go on."""
    stopped = [one["id"] for one in facts["hosts"] if one["running"] and not one["running"]["runs"]]
    if facts["mode"] == "rollback" or not stopped:
        return []
    return [
        f"Glance is stopped on {_names(stopped)}: if it is to serve before that is mended, start it"
        f" as it was with 'salt -L {','.join(stopped)} state.apply glance.upgrade.start_old'."
    ]


def _first(facts):
    first = facts["hosts"][0]
    if first["runs_api"]:
        return []
    return [
        f"{first['id']}, the first host of glance:glance_api_group, runs no API (see"
        " glance:enable_glance there): name one first that does, since it works on the database for"
        " all."
    ]


def _outsiders(facts, parts):
    """An old API outside the group would meet a schema that it does not know."""
    wanted = _wanted(facts)
    if wanted is None:
        return []
    return [
        f"{one['id']} is not in glance:glance_api_group, but Glance {one['release']} on it uses the"
        " same database: put it back into the group, or set glance:enable_glance to no in its"
        f" pillar and apply that with 'salt {one['id']} state.apply glance'."
        for one in parts["glance_group.old_outsiders"](facts, wanted)
    ]


def _image(facts):
    found, api = [], _api(facts)
    missing = [one["id"] for one in api if one["wanted"]["image_id"] is None]
    reference = facts["settings"]["glance_api_image_full"]
    if missing and facts["settings"]["glance_image_pull"] == "never":
        found.append(
            f"The image {reference} is not on {_names(missing)} and glance:glance_image_pull is"
            " never: load it there ('docker load'), or set glance:glance_image_pull to missing."
        )
    releases = {}
    for one in api:
        if one["wanted"]["release"]:
            releases.setdefault(one["wanted"]["release"], []).append(one["id"])
    if len(releases) > 1:
        what = "; ".join(f"{release} on {_names(ids)}" for release, ids in releases.items())
        found.append(
            f"The hosts would not get the same release ({what}): name the same image for all in"
            " glance:openstack_release, glance:glance_tag or glance:glance_api_image_full."
        )
    if facts.get("again") and not missing and not releases:
        found.append(f"The image {reference} was pulled but does not tell its release.")
    return found


def _store(facts, method):
    settings, api = facts["settings"], _api(facts)
    if method != "rolling" or facts["store"]["shared"] or not _changes_release(facts):
        return []
    one, why = len(api) == 1, facts["store"]["why"]
    legacy = "glance:glance_enable_rolling_upgrade to no for a legacy upgrade, with a stop"
    if one and settings["glance_upgrade_handover_single_host"]:
        drains = api[0]["drains"]
        if not drains:
            return []
        return [
            f"{api[0]['id']} cannot be handed over, so glance:glance_upgrade_handover_single_host"
            f" would mean a stop: {drains.rstrip('.')}. Mend that, or set it and {legacy}."
        ]
    if facts["store"]["unproved"]:
        target = f"salt -L {','.join(one['id'] for one in facts['hosts'])}"
        return [
            f"A rolling upgrade needs images that all hosts share, but {why}: let the hosts prove"
            f" it with '{target} glance_sharing.write' and then '{target} glance_sharing.read', or"
            f" set {legacy}."
        ]
    return [
        f"A rolling upgrade needs images that all hosts share, but {why}: set {legacy}"
        + (", or glance:glance_upgrade_handover_single_host to yes." if one else ".")
    ]


def _steps_up(facts, parts):
    wanted, present = _wanted(facts), _present(facts)
    schema = facts["schema"]
    behind = schema and not schema["error"] and schema["position"] == "behind"
    if not present and behind and schema["used"]:
        return [
            f"Glance does not run on any host, and the schema in {schema['database']} is of an"
            f" older release than {wanted}: name that one in glance:openstack_release or"
            " glance:glance_tag, deploy it with 'salt-run state.orchestrate"
            " glance.orchestrate.deploy', then upgrade."
        ]
    if not present:
        return [
            "Glance does not run on any host yet: deploy it with 'salt-run state.orchestrate"
            " glance.orchestrate.deploy'."
        ]
    if not wanted:
        return []
    found = []
    for old, hosts in sorted(present.items()):
        kind = _step(parts, old, wanted)
        if kind is None:
            found.append(
                f"Nobody knows which release runs on {_names(hosts)} ({old}): deploy these hosts"
                " with this formula first."
            )
        elif kind == "down":
            found.append(
                f"{_names(hosts)} run Glance {old} and the pillar names an image of {wanted}: go"
                " back with 'salt-run state.orchestrate glance.orchestrate.rollback'."
            )
        elif kind == "too far":
            first = parts["glance_releases.first_step"](old, wanted)
            found.append(
                f"From {old} on {_names(hosts)} to {wanted} is more than one supported step: go to"
                f" {first} first (glance:openstack_release or glance:glance_tag)."
            )
    return found or _third_release(present, wanted)


def _steps_down(facts, parts):
    wanted, present = _wanted(facts), _present(facts)
    if not wanted:
        return []
    found = []
    for new, hosts in sorted(present.items()):
        kind = _step(parts, wanted, new)
        if kind == "down":
            found.append(
                f"{_names(hosts)} run Glance {new}, which is lower than {wanted}: a rollback goes"
                " down; name the lower image in glance:openstack_release or glance:glance_tag, or"
                " use glance.orchestrate.upgrade."
            )
        elif kind in (None, "too far"):
            found.append(
                f"From {new} on {_names(hosts)} back to {wanted} is more than one supported step:"
                " an upgrade has never gone there in one."
            )
    return found or _third_release(present, wanted)


def _third_release(present, wanted):
    others = sorted(set(present) - {wanted})
    if len(others) < 2:
        return []
    what = "; ".join(f"{one} on {_names(present[one])}" for one in others)
    return [
        f"The hosts run more than one release ({what}), so an earlier upgrade has not ended: name"
        f" {others[-1]} in glance:openstack_release or glance:glance_tag and finish it first."
    ]


def _advisories(facts, parts):
    accepted, found = facts["settings"]["glance_accepted_advisories"], []
    versions = {
        one["wanted"]["version"]
        for one in _api(facts)
        if one["wanted"]["version"]
        and not (one["running"] and one["running"]["version"] == one["wanted"]["version"])
    }
    for version in sorted(versions):
        for name, what in parts["glance_advisories.of"](version).items():
            if name not in accepted:
                found.append(
                    f"The image holds Glance {version}, which has a known hole, {name} ({what}):"
                    " name a fixed image in glance:glance_tag, or accept it with"
                    f" glance:glance_accepted_advisories: [{name}]."
                )
    return found


def _schema(facts):
    schema, wanted = facts["schema"], _wanted(facts)
    if not schema:
        return []
    if schema["error"]:
        return [schema["error"]]
    where, heads = schema["database"], ", ".join(schema["heads"]) or "none"
    if schema["position"] == "ahead":
        return [
            f"The schema in {where} is newer ({heads}) than Glance {wanted} knows: name an image of"
            " that newer release in glance:openstack_release or glance:glance_tag."
        ]
    if schema["position"] in ("unknown", "empty") and _present(facts):
        return [
            f"What lies in {where} ({heads}) is not a schema of Glance: check"
            " glance:glance_database_name and glance:glance_database_address."
        ]
    half_done = schema["half_done"]
    if half_done and not half_done["repairable"]:
        return [half_done["remedy"]]
    return []


def _schema_for_rollback(facts):
    schema, wanted = facts["schema"], _wanted(facts)
    if not schema:
        return []
    if schema["error"]:
        return [schema["error"]]
    if schema["position"] in _SERVICEABLE:
        return []
    backups = schema["backups"]
    backup = backups[-1] if backups else "none is in glance:glance_backup_dir"
    return [
        f"Glance {wanted} does not know the schema in {schema['database']}"
        f" ({', '.join(schema['heads']) or 'none'}), so there is no way back but the backup of the"
        f" database, with the loss of all that was stored since ({backup})."
    ]


# --------------------------------------------------------------------------- reading the facts


def _api(facts):
    return [one for one in facts["hosts"] if one["runs_api"]]


def _wanted(facts):
    found = [one["wanted"]["release"] for one in _api(facts) if one["wanted"]["release"]]
    return found[0] if found else None


def _present(facts):
    """Release -> hosts that run it."""
    found = {}
    for one in _api(facts):
        if one["running"]:
            found.setdefault(one["running"]["release"] or "unknown", []).append(one["id"])
    return found


def _changes_release(facts):
    return bool(set(_present(facts)) - {_wanted(facts)})


def _step(parts, old, new):
    return None if old == "unknown" else parts["glance_releases.step"](old, new)


def _names(hosts):
    return ", ".join(hosts)
