"""
Glance in Keystone as a state.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_identity"


def __virtual__():
    return __virtualname__


def registered(name):
    """
    Make sure that Keystone knows Glance: service, endpoints, region, project, user and role.

    The first host that runs the API does it; the others do not touch Keystone, but wait until
    Glance's user can log in. A password that works is never set again. Does nothing without
    Keystone and with ``glance_keystone_register: no``.

    name
        What the state is called in the output.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        if not settings["keystone"]:
            ret["comment"] = "Without Keystone there is nothing to register."
        elif not settings["glance_keystone_register"]:
            ret["comment"] = "Somebody else registers Glance (glance_keystone_register is no)."
        elif not settings["runs_api"]:
            ret["comment"] = __salt__["glance_backend.elsewhere"](settings)
        elif settings["minion_id"] != settings["schema_host"]:
            _follow(ret, settings)
        else:
            _register(ret, settings)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def _register(ret, settings):
    planned = __salt__["glance_identity.compare"](settings)
    if not planned["changes"]:
        ret["comment"] = "Keystone knows Glance as wanted."
        return
    if __opts__["test"]:
        ret["result"], ret["changes"] = None, planned["changes"]
        ret["comment"] = "Glance would have been registered in Keystone."
        return
    container, _ = __salt__["glance_container.desired"](settings)
    report = __salt__["glance_identity.register"](settings, container, planned)
    ret["changes"] = dict(list(planned["changes"].items())[: report["done"]])
    if report["error"]:
        raise CommandExecutionError(report["error"])
    left = __salt__["glance_identity.compare"](settings)["changes"]
    if left:
        raise CommandExecutionError(
            f"Keystone took all changes, but still lacks {', '.join(left)}: look into its log."
        )
    ret["comment"] = "Glance was registered in Keystone."


def _follow(ret, settings):
    first = settings["schema_host"]
    want, _ = __salt__["glance_container.desired"](settings, look=not __opts__["test"])
    if want and __salt__["glance_container.serves"](want["hash"]):
        ret["comment"] = f"{first} registers Glance in Keystone; the running container uses it."
    elif __opts__["test"]:
        ret["comment"] = f"{first} registers Glance in Keystone; this host would wait for it."
    else:
        __salt__["glance_identity.wait_until_registered"](settings)
        ret["comment"] = f"{first} registers Glance in Keystone; its user can log in."
