"""
The plan of a deploy: which hosts are worked on, in which order, or why nothing may be touched.

Pure. ``glance_orchestrate`` gathers the facts; ``glance/orchestrate/steps.jinja`` turns the steps
into states.
"""

__virtualname__ = "glance_deploy"

#: What one host does for all: its step comes before those that wait for it.
FOR_ALL = (
    "Glance database is present",
    "Glance schema is bootstrapped",
    "Glance is registered in Keystone",
)


def __virtual__():
    return __virtualname__


def plan(facts, parts=None):
    """
    The ordered steps that bring every host to what its pillar says. Pure.

    facts
        ``{"hosts": [...], "lock": ...}``; each host is what ``glance_host.facts`` returns, with
        ``id`` and ``answers``, in the order of the group.
    parts
        Functions by name; those of Salt by default.

    Returns ``{"refusals", "nothing", "method", "release", "summary", "pause", "steps"}``. A step
    is ``{"id", "phase", "do", "hosts", ...}`` with ``sls`` for a state and ``fun`` for a function.
    """
    parts = __salt__ if parts is None else parts
    hosts, lock = facts["hosts"], facts["lock"]
    refusals = [] if not lock or lock["dead"] else [parts["glance_lock.sentence"](lock)]
    refusals += parts["glance_group.refusals"](hosts)
    touched = [] if refusals else _in_order([host for host in hosts if host["change"]])
    return {
        "refusals": refusals,
        "nothing": not touched,
        "method": "deploy",
        "release": None,  # every host stays on its own
        "summary": _summary(touched, hosts),
        "pause": None,
        "steps": _steps(touched, hosts),
    }


def _in_order(hosts):
    """
    The host that works for all comes first, then those that do not serve, since with them nothing
    is lost; those that leave the service last.
    """
    return sorted(
        hosts,
        key=lambda host: (
            host["runs_api"] is False,
            not set(FOR_ALL) & set(host["would"]),
            _serves(host) and not host["drained_at"],
        ),
    )


def _serves(host):
    return bool(host["running"] and host["running"]["serves"])


def _steps(hosts, group):
    if not hosts:
        return []
    ready = {
        "id": f"{_names(hosts)} can take what the pillar says",
        "phase": "precheck",
        "do": "function",
        "hosts": [host["id"] for host in hosts],
        "fun": "glance_host.precheck",
    }
    return [
        ready,
        *_sharing(group),
        *(
            {
                "id": f"{host['id']} runs Glance as its pillar says",
                "phase": "host",
                "do": "state",
                "hosts": [host["id"]],
                "sls": ["glance"],
            }
            for host in hosts
        ),
    ]


def _sharing(group):
    """
    All hosts leave a mark where the images are, then all read those of the others, then all must
    have read them: one host after the other they would wait for each other.
    """
    told = [one["sharing"] for one in group if one.get("sharing")]
    if all(all(one["hosts"].values()) for one in told if one["needed"]):
        return []
    return [
        {
            "id": f"All hosts {what}",
            "phase": "sharing",
            "do": "function",
            "hosts": [one["id"] for one in group],
            "fun": function,
        }
        for what, function in (
            ("leave a mark where the images are", "glance_sharing.write"),
            ("read the marks of the others where the images are", "glance_sharing.read"),
            ("are proved to share the images", "glance_host.shares_images"),
        )
    ]


def _summary(touched, hosts):
    if not touched:
        return f"{_names(hosts)} {_run(hosts)} Glance as the pillar says: nothing is to be done."
    return f"{_names(touched)} {_get(touched)} what the pillar says, one after the other."


def _names(hosts):
    names = [host["id"] for host in hosts]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _run(hosts):
    return "runs" if len(hosts) == 1 else "run"


def _get(hosts):
    return "gets" if len(hosts) == 1 else "get"
