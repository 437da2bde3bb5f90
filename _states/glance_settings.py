"""
The ``glance:`` pillar as a state: valid, or every fault of it in one go.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_settings"


def __virtual__():
    return __virtualname__


def valid(name):
    """
    Make sure that the pillar can be used; nothing is touched, in either mode.

    name
        What the state is called in the output.
    """
    try:
        faults = __salt__["glance_settings.faults"]()
    except CommandExecutionError as err:
        return {"name": name, "result": False, "changes": {}, "comment": str(err)}
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        comment = f"The pillar has {count}, so nothing was touched:\n" + "\n".join(faults)
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    notes = __salt__["glance_settings.warnings"]()
    comment = "\n".join(["The pillar is valid.", *notes])
    return {"name": name, "result": True, "changes": {}, "comment": comment}
