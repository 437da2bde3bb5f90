"""
The plan of an upgrade or a rollback: facts of all hosts in, ordered steps or refusals out.

Pure.  State lives in the world (labels, images, the schema's position, drain markers), so the
same facts give the same plan, and after a kill anywhere the facts give the rest of it.  What is
refused stands in ``glance_upgrade_rules``; who runs the steps is ``glance_orchestrate``.
"""

__virtualname__ = "glance_upgrade"

_HELD = (
    "The last phase of the schema is held (glance:glance_upgrade_contract): set it to auto and run"
    " the same command again; until then rollback works."
)
_CONFIRM = {"do": "runner", "fun": "salt.cmd", "arg": ["glance_orchestrate.confirm", "upgrade"]}


def __virtual__():
    return __virtualname__


def plan(facts, parts=None):
    """
    Plan an upgrade (rolling or legacy) or a rollback.

    facts
        ``mode`` (``upgrade`` or ``rollback``), ``settings``, ``hosts`` in the order of the group,
        ``outsiders``, ``schema``, ``store``, ``lock``, ``again``, ``image_may_be_new``, as
        ``glance_orchestrate`` gathers them.

    parts
        Functions by name; those of Salt by default.

    Returns ``refusals`` (one sentence each; then there are no steps), ``nothing`` (all is done),
    ``method`` (``rolling`` or ``legacy``), ``release`` (that the steps bring, None while nobody
    knows), ``summary``, ``pause`` (why the plan ends early, or None), ``hosts`` (what each would
    change, one line a host) and ``steps``.
    """
    parts = __salt__ if parts is None else parts
    # A pillar with faults has no settings, and is refused before a method matters.
    how = method(facts) if facts["settings"] else None
    refusals = parts["glance_upgrade_rules.refusals"](facts, how)
    found = {"method": how, "refusals": refusals, "release": None, "pause": None, "hosts": []}
    if refusals:
        return {**found, "steps": [], "nothing": False, "summary": "Nothing was touched."}
    release = wanted_release(facts)
    if release is None or facts["schema"] is None or facts["image_may_be_new"]:
        return {**found, **_pull_first(facts), "nothing": False}
    if how == "rolling":
        steps, pause = _rolling(facts, release, parts)
    else:
        steps, pause = _legacy(facts, release)
    verb = "rolled back" if facts["mode"] == "rollback" else "upgraded"
    hosts = [one["id"] for one in _to_change(facts)]
    summary = f"Glance is {verb} to {release} ({how}) on {_names(hosts)}." if hosts else (
        f"Every host runs Glance {release}."
    )  # fmt: skip
    if pause and not steps:
        summary = f"{summary} {pause}"
    found.update(hosts=foreseen(facts), steps=steps, pause=pause, summary=summary, release=release)
    return {**found, "nothing": not steps}


def method(facts):
    """
    Whether hosts are replaced one after the other (``rolling``) or all are stopped (``legacy``).

    facts
        As for :func:`plan`.
    """
    settings = facts["settings"]
    one_host = len([one for one in facts["hosts"] if one["runs_api"]]) == 1
    if settings["glance_enable_rolling_upgrade"] or (
        settings["glance_upgrade_handover_single_host"] and one_host
    ):
        return "rolling"
    release = wanted_release(facts)
    other = [one for one in _api(facts) if _release(one) not in (None, release)]
    # Another configuration or another image of the same release stops nobody, and neither does the
    # last phase of the schema, when all hosts have the new release.
    return "legacy" if other or set(_pending(facts)) - {"contract"} else "rolling"


def wanted_release(facts):
    """
    The release of the image that the pillar names, or None while no host has the image.

    facts
        As for :func:`plan`.
    """
    found = [one["wanted"]["release"] for one in _api(facts) if one["wanted"]["release"]]
    return found[0] if found else None


def waves(hosts, max_unavailable, parts=None):
    """
    The order in which hosts are replaced: lists of ids, each replaced at the same time.

    hosts
        The hosts that may run the API, as in :func:`plan`.

    max_unavailable
        How many at the same time: a number, or a percentage such as ``25%``.

    parts
        Functions by name; those of Salt by default.

    What does not serve comes first, then what a killed run has begun. As long as no host is done,
    the first wave is one host alone, the canary.
    """
    parts = __salt__ if parts is None else parts

    def urgency(host):
        begun = host["others"] or parts["glance_drain.is_ours"](host["drained_by"])
        return (_in_rotation(host), not begun)

    todo = sorted((one for one in hosts if one["change"]), key=urgency)
    size = parts["glance_drain.at_once"](max_unavailable, len(hosts))
    canary = 0 if any(not one["change"] for one in hosts) else 1
    first, rest = todo[:canary], todo[canary:]
    found = [first] if first else []
    # Who is away already comes alone, so that nobody else is away at the same time.
    away, there = [[one for one in rest if _in_rotation(one) is is_in] for is_in in (False, True)]
    for some in (away, there):
        found += [some[at : at + size] for at in range(0, len(some), size)]
    return [[one["id"] for one in wave] for wave in found]


def foreseen(facts):
    """
    What each host would change, one line each in the order of the group.

    facts
        As for :func:`plan`.
    """
    reference = facts["settings"]["glance_api_image_full"]
    new = f"Glance {wanted_release(facts)} ({reference})"
    return [f"{one['id']}: {_change(one, new)}" for one in facts["hosts"]]


def _change(host, new):
    now, wanted = host["running"], host["wanted"]
    if not host["runs_api"]:
        return "its container is removed" if now or host["others"] else "runs no API"
    if not host["change"]:
        return f"runs {new} as wanted"
    if not now:
        return f"{new} is started"
    if now["image_id"] != wanted["image_id"]:
        return f"Glance {now['release']} is replaced by {new}"
    if now["hash"] != wanted["hash"]:
        return f"{new} is replaced by one with another configuration"
    return f"what an earlier run left is finished with {new}"


def contract_refusal(facts, parts=None):
    """
    Why the last phase of the schema must not run now, or None.

    facts
        As for :func:`plan`, gathered right before.

    parts
        Functions by name; those of Salt by default.
    """
    parts = __salt__ if parts is None else parts
    release = wanted_release(facts)
    for one in facts["hosts"]:
        if not one["answers"]:
            return f"{one['id']} does not answer, so nobody knows what runs there."
        if one["faults"]:
            return f"{one['id']}: {one['faults'][0]}"
        running = [one["running"]] if one["running"] else []
        old = [
            (c["name"], c["release"])
            for c in running + one["others"]
            if c["release"] != release or not one["runs_api"]
        ]
        if old:
            name, its = old[0]
            return f"{name} on {one['id']} is still of Glance {its}."
        if one["runs_api"] and not _serves(one):
            return f"Glance does not serve on {one['id']}."
    for one in parts["glance_group.old_outsiders"](facts, release):
        return f"Glance {one['release']} on {one['id']}, outside the group, uses the database."
    return None


# --------------------------------------------------------------------------- the two methods


def _rolling(facts, release, parts):
    settings, pending = facts["settings"], _pending(facts)
    todo, first, rollback = _to_change(facts), facts["hosts"][0]["id"], _is_rollback(facts)
    steps = _before(facts, todo) + _expand(pending, first, release)
    groups = waves(_api(facts), settings["glance_upgrade_max_unavailable"], parts)
    canary_first = groups and not any(not one["change"] for one in _api(facts))
    pause = None
    if settings["glance_upgrade_pause_after_canary"] and canary_first and len(groups) > 1:
        left = _names([host for wave in groups[1:] for host in wave])
        groups = groups[:1]
        pause = (
            f"This is a pause after the first host, {groups[0][0]}"
            f" (glance:glance_upgrade_pause_after_canary): the same command goes on with {left}."
        )
    steps += [_host(wave, f"Glance {release} is in charge on {_names(wave)}") for wave in groups]
    if pause:
        return steps, pause
    steps += [_host([host], f"Glance is gone from {host}") for host in _leaving(facts)]
    if rollback:
        return steps + _verify(steps, first), None
    steps, pause = _contract(facts, steps, pending, first, release)
    return _after(facts, steps, first, release), pause


def _legacy(facts, release):
    pending, first = _pending(facts), facts["hosts"][0]["id"]
    steps = _before(facts, _to_change(facts))
    stop = [
        one["id"]
        for one in facts["hosts"]
        if one["answers"] and (_release(one) not in (None, release) or _old_others(one, release))
    ]
    change = [one["id"] for one in _api(facts) if one["change"]]
    # Who is stopped is started, whatever else is to be done there.
    start = [one["id"] for one in _api(facts) if one["id"] in {*stop, *change}]
    work = []
    if stop:
        work.append({**_state("stop", stop, f"Glance is stopped on {_names(stop)}"),
                     "outage": "begins"})  # fmt: skip
    if pending and _held(facts):
        work += _expand(pending, first, release)
    elif pending:
        work.append(_state("sync", [first], f"The database is that of Glance {release}"))
    if stop:
        ids = [one["id"] for one in work]
        again = _state("start_old", stop, f"What was stopped is started again on {_names(stop)}")
        work.append({**again, "onfail": ids, "outage": "ends"})
    if start:
        work.append({**_host(start, f"Glance {release} is in charge on {_names(start)}"),
                     "outage": "ends"})  # fmt: skip
    steps += work + [_host([host], f"Glance is gone from {host}") for host in _leaving(facts)]
    if _is_rollback(facts):
        return steps + _verify(steps, first), None
    return _after(facts, steps, first, release), _HELD if pending and _held(facts) else None


# --------------------------------------------------------------------------- their steps


def _before(facts, todo):
    """What touches no service: images, proof, backup."""
    ids = [one["id"] for one in todo if one["runs_api"]]
    first, pull = facts["hosts"][0]["id"], facts["settings"]["glance_image_pull"]
    # In a real run it was pulled before the plan; a dry run tells of it here.
    pulls = pull == "always" and not facts["again"]
    missing = [one["id"] for one in todo if pulls or one["wanted"]["image_id"] is None]
    steps = []
    if missing:
        steps.append(_state("pull", missing, f"The image is on {_names(missing)}"))
    # Where the image was not there yet, the plan could not have it proved.
    unproved = [one["id"] for one in todo if one["runs_api"] and not one["proved"]]
    if unproved:
        sentence = f"The image accepts the configuration of {_names(unproved)}"
        steps.append(_state("precheck", unproved, sentence))
    release = wanted_release(facts)
    # On the way the database is not saved again unless its schema is to change once more.
    begins = ids and all(_release(one) != release and not _is_out(one) for one in _api(facts))
    pending = _pending(facts)
    work = [one for one in pending if not (one == "contract" and _held(facts))]
    if work or (begins and not _is_rollback(facts)):
        steps.append(_state("backup", [first], "The database is backed up"))
    return steps


def _expand(pending, first, release):
    """The phases of the schema on which old releases go on working."""
    steps = []
    if "expand" in pending:
        steps.append(_state("expand", [first], f"The database is expanded for Glance {release}"))
    if "expand" in pending or "migrate" in pending:
        steps.append(_state("migrate", [first], f"The data is migrated for Glance {release}"))
    return steps


def _contract(facts, steps, pending, first, release):
    if not pending:
        return steps, None
    if _held(facts):
        return steps, _HELD
    return [
        *steps,
        _step("confirm", [], f"No container older than Glance {release} is left", **_CONFIRM),
        _state("contract", [first], f"The database is contracted for Glance {release}"),
    ], None


def _after(facts, steps, first, release):
    if facts["schema"]["metadefs_missing"]:
        sentence = f"The metadata definitions of Glance {release} are loaded"
        steps = [*steps, _state("metadefs", [first], sentence)]
    return steps + _verify(steps, first)


def _verify(steps, first):
    """Images go up and come back at the end, if anything was done."""
    sentence = "Images go up and come back as users see it"
    return [_state("verify", [first], sentence)] if steps else []


def _pull_first(facts):
    anew, looks = facts["image_may_be_new"], facts["hosts"][0]  # that one, at the database
    lack = [one for one in facts["hosts"] if one["runs_api"] or one is looks]
    ids = [one["id"] for one in lack if anew or one["wanted"]["release"] is None]
    again = {"fun": "state.orchestrate", "arg": [f"glance.orchestrate.{facts['mode']}"]}
    return {
        "steps": [
            _state("pull", ids, f"The image is on {_names(ids)}"),
            _step("again", [], "The rest is planned and done", do="runner", **again),
        ],
        "pause": None,
        "summary": (
            f"The image {facts['settings']['glance_api_image_full']} is pulled first: it alone"
            " tells which release it holds, and the rest is planned then."
        ),
    }


def _state(phase, hosts, sentence):
    return _step(phase, hosts, sentence, do="state", sls=[f"glance.upgrade.{phase}"])


def _host(hosts, sentence):
    return _state("host", hosts, sentence)


def _step(phase, hosts, sentence, **work):
    return {"id": sentence, "phase": phase, "hosts": hosts, "outage": None, **work}


# --------------------------------------------------------------------------- reading the facts


def _is_rollback(facts):
    return facts["mode"] == "rollback"


def _api(facts):
    return [one for one in facts["hosts"] if one["runs_api"]]


def _to_change(facts):
    return [one for one in _api(facts) if one["change"]]


def _leaving(facts):
    """Hosts of the group that may not run the API but have a container."""
    return [
        one["id"]
        for one in facts["hosts"]
        if not one["runs_api"] and (one["running"] or one["others"])
    ]


def _release(host):
    return host["running"]["release"] if host["running"] else None


def _old_others(host, release):
    return any(one["release"] != release for one in host["others"])


def _pending(facts):
    if not facts["schema"] or _is_rollback(facts):
        return []
    return facts["schema"]["pending"]


def _held(facts):
    return facts["settings"]["glance_upgrade_contract"] == "hold"


def _is_out(host):
    return host["running"] is not None and not host["running"]["serves"]


def _in_rotation(host):
    """Other hosts that drain wait for one that is not."""
    return _serves(host) and not host["drained_at"]


def _serves(host):
    return host["running"] is not None and host["running"]["serves"]


def _names(hosts):
    return ", ".join(hosts)
