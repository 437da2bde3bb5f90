"""
The master's part of an orchestration: which hosts, what they run, one run at a time, the plan.

Runs on the master (``salt-run salt.cmd glance_orchestrate.plan deploy``), called by
``glance/orchestrate/steps.jinja``. It only looks; what is done are the steps of the plan. State
lives in the world, so that the same command goes on after any interruption.
"""

import logging
import time

import salt.client
import salt.key
import salt.pillar
import salt.utils.args
import salt.utils.minions
from salt.exceptions import CommandExecutionError, SaltClientError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_orchestrate"

PLANNER = {"deploy": "glance_deploy", "upgrade": "glance_upgrade", "rollback": "glance_upgrade"}
ANSWER = 10  # seconds a minion may take to answer at all
PRESENT = 3  # the same for one that is not needed; asked once more whether it works on that
# Seconds after which a minion that works is asked whether it still does (no deadline).
PATIENCE = 60
REFRESH = {"glance_formula.digest": [], "saltutil.refresh_pillar": ["wait=True"]}
SYNC = {
    "saltutil.sync_modules": ["refresh=False"],
    "saltutil.sync_states": ["refresh=False"],
    "saltutil.refresh_pillar": ["wait=True"],
}
BUSY = 1800  # seconds that the work of an earlier run may take to end
POLL = 2  # seconds between two questions
WITHIN = "glance_formula.within"  # makes a function read the files that the steps read
WORK = ("state.", "glance_host.", WITHIN)
# Seconds after which a lock of another machine expires: for each host, and for the group, which is
# waited for twice, has its database backed up and goes through three phases of the schema.
HOST_TIME, GROUP_TIME = 1800, 2 * BUSY + 3600 + 3 * 1800


def __virtual__():
    return __virtualname__


def plan(mode, group=None, test=False, saltenv="base", again=False):
    """
    What an orchestration has to do, from what is there. Keeps the lock while there is work.

    mode
        ``deploy``, ``upgrade`` or ``rollback``.
    group
        ``glance_api_group`` of the master's own pillar; by default that of the minions' pillar.
    test
        Whether the plan is only shown.
    saltenv
        Environment of the formula.
    again
        Whether this run is a step of one that holds the lock.

    Returns ``{"plan", "hosts", "patience"}``; ``plan`` is a planner's result (``glance_deploy``)
    with ``look``, the seconds that it took in all and on each host; ``hosts`` are the group's
    minion ids.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd glance_orchestrate.plan deploy test=True
    """
    hosts, made, began, start = [], None, False, time.monotonic()
    try:
        lost = [f"glance:{key}" for key in _lost()]
        if lost:
            raise CommandExecutionError(
                f"{', '.join(lost)} in the pillar of this command would reach no host, since each"
                " reads its own pillar: write it there. Only glance:glance_api_group may be named"
                " here."
            )
        hosts = _group(group)
        again = again and __salt__["glance_lock.held"]()
        if not test:
            seconds = GROUP_TIME + HOST_TIME * len(hosts)
            other = __salt__["glance_lock.take"](mode, seconds, again)
            if other:
                raise CommandExecutionError(__salt__["glance_lock.sentence"](other))
            began = not again
        facts = _gather(mode, hosts, test, saltenv, again, wait=0 if test else BUSY)
        made = __salt__[f"{PLANNER[mode]}.plan"](facts)
        made["look"] = {
            "seconds": round(time.monotonic() - start, 1),
            "hosts": {one["id"]: one["seconds"] for one in facts["hosts"] if one["seconds"]},
        }
        for step in made["steps"]:
            step.setdefault("kwarg", {}).update(_handed_on(step, hosts, saltenv))
            if step["do"] == "function":
                step.update(fun=WITHIN, arg=[saltenv, step["fun"]])
    except (CommandExecutionError, SaltInvocationError, SaltClientError) as err:
        made = _refusal(str(err))
    finally:
        if began and not (made and made["steps"]):
            __salt__["glance_lock.release"]()
    return {"plan": made, "hosts": hosts, "patience": PATIENCE}


def confirm(mode, group=None, saltenv="base"):
    """
    Look at all hosts again, right before the schema is contracted.

    mode, group, saltenv
        As for :py:func:`plan`.

    Returns ``{"confirmed": True}``, or ``{"Error": sentence}``, which fails the step of an
    orchestration.
    """
    try:
        facts = _gather(mode, _group(group), True, saltenv, look=False, wait=BUSY)
        problem = __salt__["glance_upgrade.contract_refusal"](facts)
    except (CommandExecutionError, SaltInvocationError, SaltClientError) as err:
        problem = str(err)
    return {"Error": problem} if problem else {"confirmed": True}


def _handed_on(step, hosts, saltenv):
    """What a step on the master has to know, so that it looks at the same hosts."""
    if step["do"] != "runner":
        return {}
    if step["fun"] == "state.orchestrate":
        pillar = {"glance": {"glance_api_group": hosts}, "glance_orchestration": {"again": True}}
        return {"pillar": pillar, "saltenv": saltenv}
    return {"group": hosts, "saltenv": saltenv}


def _refusal(sentence):
    return {"refusals": [sentence], "nothing": True, "steps": [], "summary": "", "pause": None}


# --------------------------------------------------------------------------- which hosts


def _group(group):
    """The minion ids, in order; from the master's pillar, else from that of the minions."""
    accepted = set(salt.key.get_key(__opts__).list_keys()["minions"])
    hosts = _names(group) if group else _group_of_minions(accepted)
    strangers = [host for host in hosts if host not in accepted]
    if strangers:
        raise CommandExecutionError(
            f"This master has not accepted {', '.join(strangers)}, which glance:glance_api_group"
            " names: use the ids of minions ('salt-key -L'), and accept their keys."
        )
    return hosts


def _group_of_minions(accepted):
    found = {}
    for minion in sorted(_candidates(accepted)):
        pillar = _pillar(minion).get("glance")
        if pillar is not None:
            names = _names((pillar or {}).get("glance_api_group") or [minion])
            found.setdefault(tuple(names), []).append(minion)
    if not found:
        raise CommandExecutionError(
            "No accepted minion has a 'glance:' pillar: target it in the top file of the pillar."
        )
    if len(found) > 1:
        told = "; ".join(
            f"{', '.join(minions)}: {', '.join(names)}" for names, minions in found.items()
        )
        raise CommandExecutionError(
            f"The pillars of the minions name different groups ({told}): make"
            " glance:glance_api_group the same for all, or name the group to work on with"
            ' pillar=\'{"glance": {"glance_api_group": [...]}}\' or in the master\'s own pillar.'
        )
    (names,) = found
    return list(names)


def _candidates(accepted):
    """Minions whose pillar had 'glance:' when it was made last; all when there are none."""
    return accepted & _with_pillar() or accepted


def _with_pillar():
    """Those of which the master's cache has the pillar; empty without that cache."""
    check = salt.utils.minions.CkMinions(__opts__).check_minions
    return set(check("glance:*", "pillar", greedy=False)["minions"])


def _pillar(minion):
    """
    The pillar of a minion, with its secrets: compiled here, since what a runner answers goes to
    the event bus and into the job cache.
    """
    grains = salt.utils.minions.get_minion_data(minion, __opts__)[1] or {"fqdn": minion}
    return salt.pillar.Pillar(__opts__, grains, minion, "base").compile_pillar()


def _lost():
    """Keys below ``glance:`` that the command line names in vain, since each host reads its own."""
    if __opts__.get("fun") not in ("state.orchestrate", "state.orch", "state.sls"):
        return []
    words = [one for one in __opts__.get("arg") or [] if isinstance(one, str)]
    pillar = salt.utils.args.parse_input(words, condition=False)[1].get("pillar")
    glance = pillar.get("glance") if isinstance(pillar, dict) else None
    glance = glance if isinstance(glance, dict) else {}
    return [key for key in glance if key != "glance_api_group"]


def _names(group):
    """As ``glance_pillar`` reads a list of names, which may be a text with commas."""
    names = group.split(",") if isinstance(group, str) else group
    if not isinstance(names, (list, tuple)) or not all(isinstance(one, str) for one in names):
        raise CommandExecutionError("glance:glance_api_group must be a list of minion ids.")
    return [one.strip() for one in names]


# --------------------------------------------------------------------------- what they run


def _gather(mode, hosts, test, saltenv, again=False, look=True, wait=0):
    """
    What all hosts say; without ``look`` nobody takes over new modules or asks the database.
    ``wait`` are the seconds that other work on them may take to end.
    """
    deploy = mode == "deploy"
    kwarg = {"saltenv": saltenv, "changes": deploy, "look": not deploy}
    if look and not deploy:
        kwarg.update(schema=hosts[0], prove=True)
    with salt.client.get_local_client(mopts=dict(__opts__)) as client:
        alive = _wait_for_work(client, hosts, wait)
        if look:
            _refresh(client, alive, saltenv)
        told = _ask(client, alive, WITHIN, [saltenv, "glance_host.facts"], kwarg)
        outsiders = [] if mode != "upgrade" else _outsiders(client, hosts)
    found = [_host(host, host in alive, told.get(host)) for host in hosts]
    settings = found[0]["settings"]
    return {
        "mode": mode,
        "settings": settings,
        "hosts": found,
        "outsiders": outsiders,
        "schema": found[0].pop("schema", None),
        "store": _store(found),
        "lock": __salt__["glance_lock.look"](),
        "again": again,
        # What the registry has behind the name is known after a pull, which this run is to begin.
        "image_may_be_new": settings.get("glance_image_pull") == "always" and not (test or again),
    }


def _outsiders(client, hosts):
    """
    What other minions with a 'glance:' pillar run, as far as they tell. An SQLite file is that of
    one host, whatever its path.
    """
    others = sorted(_with_pillar() - set(hosts))
    told = _ask(
        client, others, "glance_container.facts", timeout=PRESENT, gather_job_timeout=PRESENT
    )
    return [
        {"id": host, "release": one["release"], "database": one["database"]}
        for host, one in told.items()
        if isinstance(one, dict)
        and one["state"] in ("running", "stopped")
        and not str(one["database"]).startswith("sqlite:")
    ]


def _refresh(client, hosts, saltenv):
    """The pillar of these hosts is the present one, and so are the formula's modules."""
    told = _ask(client, hosts, list(REFRESH), list(REFRESH.values()))
    wanted = __salt__["glance_formula.digest"]()
    stale = [
        host
        for host, one in told.items()
        if not isinstance(one, dict) or one.get("glance_formula.digest") != wanted
    ]
    if stale:
        arguments = [[*given, f"saltenv={saltenv}"] for given in SYNC.values()]
        arguments[-1] = SYNC["saltutil.refresh_pillar"]
        _ask(client, stale, list(SYNC), arguments)


def _store(hosts):
    """
    Whether all hosts see the same images, and if not, the first reason as part of a sentence;
    ``unproved`` when hosts have not read each other's marks yet.
    """
    told = [host["sharing"] for host in hosts if host.get("sharing")]
    why = next((one["why"] for one in told if not one["shared"]), "")
    unproved = any(one["needed"] and not all(one["hosts"].values()) for one in told)
    words = why[:1].lower() + why[1:].rstrip(".")
    return {"shared": bool(told) and not why, "why": words, "unproved": unproved}


def _host(name, answers, told):
    """What a minion said, as a planner reads it."""
    if isinstance(told, dict):
        return {"id": name, "answers": True, **told}
    faults = [f"It cannot be asked what it runs: {_first_line(told)}"] if answers else []
    return {"id": name, **__salt__["glance_host.unknown"](), "answers": answers, "faults": faults}


def _wait_for_work(client, hosts, seconds):
    """
    Hosts that answer; not before what works on them has ended, be it a killed run's or somebody
    else's.
    """
    deadline = time.monotonic() + seconds
    while True:
        told = _ask(client, hosts, "saltutil.running", timeout=ANSWER)
        busy = {
            host: f"{host} ({', '.join(_functions(job))}, job {job['jid']})"
            for host, jobs in told.items()
            for job in (jobs if isinstance(jobs, list) else [])
            if any(one.startswith(WORK) for one in _functions(job))
        }
        if not busy:
            return [host for host in hosts if isinstance(told.get(host), list)]
        words = ", ".join(busy.values())
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"Salt still works on {words}: wait until it has ended ('salt-run jobs.active')"
                " and start again."
            )
        log.warning("Waiting for the end of earlier work on %s", words)
        time.sleep(POLL)


def _functions(job):
    """Of a job, which may have several ('salt HOST test.ping,state.apply')."""
    return job["fun"] if isinstance(job["fun"], list) else [job["fun"]]


def _ask(client, hosts, fun, arg=(), kwarg=None, timeout=PATIENCE, **more):
    """``{minion id: what it returned}`` of those that answered."""
    if not hosts:
        return {}
    answers = client.cmd(
        hosts,
        fun,
        arg=arg,
        kwarg=kwarg,
        timeout=timeout,
        tgt_type="list",
        full_return=True,
        **more,
    )
    return {
        host: one["ret"] for host, one in answers.items() if one and one.get("out") != "no_return"
    }


def _first_line(told):
    lines = str(told or "no answer").strip().splitlines()
    # The last line of a traceback tells the reason, the only line of an error does, too.
    return lines[-1] if lines else "no answer"
