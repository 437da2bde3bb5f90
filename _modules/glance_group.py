"""
What any orchestration has to know of a group of hosts before it touches one. Pure.
"""

__virtualname__ = "glance_group"


def __virtual__():
    return __virtualname__


def refusals(hosts):
    """
    Return why nothing can be done on these hosts, one sentence each.

    hosts
        As ``glance_orchestrate`` gathers them, in the order of the group.
    """
    order = [one["id"] for one in hosts]
    return [sentence for host in hosts for sentence in _of(host, order)]


def old_outsiders(facts, release):
    """
    Return the minions outside the group that run another release on the group's database.

    facts
        As for ``glance_upgrade.plan``.

    release
        That the group gets.
    """
    databases = {
        one["running"]["database"] for one in facts["hosts"] if one["runs_api"] and one["running"]
    }
    return [
        one
        for one in facts["outsiders"]
        if one["database"] in databases and one["release"] != release
    ]


def _of(host, order):
    name = host["id"]
    if not host["answers"]:
        return [
            f"{name} does not answer: start its salt-minion, or take it out of"
            " glance:glance_api_group when it is gone for good."
        ]
    found = [f"{name}: {fault}" for fault in host["faults"]]
    group = host["settings"].get("glance_api_group")
    if group is not None and group != order:
        found.append(
            f"{name}: its pillar has glance:glance_api_group {', '.join(group)}, and this"
            f" orchestration works on {', '.join(order)}: all must say the same; after an edit of"
            " the pillar look for a target in the top file that leaves a host out."
        )
    return found
