"""
HAProxy's part of the service as a state.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_haproxy"


def __virtual__():
    return __virtualname__


def configured(name):
    """
    Make sure that HAProxy's configuration on this host has the hosts that run the API, and no
    others; nothing of Glance where HAProxy is not ours to configure.

    HAProxy is reloaded only by the command in ``glance:glance_haproxy_reload``; when that fails,
    the files are as before. A reload that a killed run did not come to is made up for. Only files
    that this formula wrote are ever removed.

    name
        What the state is called in the output.
    """
    return _ensure(name, wanted=True)


def absent(name):
    """
    Make sure that HAProxy's configuration on this host has nothing of Glance.

    name
        What the state is called in the output.
    """
    return _ensure(name, wanted=False)


def _ensure(name, wanted):
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        settings = __salt__["glance_settings.get"]()
        here = (
            wanted
            and settings["enable_haproxy"]
            and settings["minion_id"] in settings["glance_loadbalancer_group"]
        )
        old = {
            path: __salt__["glance_config_dir.read_file"](path)
            for path in __salt__["glance_haproxy.paths"](settings)
        }
        new = __salt__["glance_haproxy.wanted"](settings, old, here)
        ret["changes"] = __salt__["glance_config_dir.diff"](_texts(old), _files(new))
        mark = __salt__["glance_haproxy.unread"](settings)
        unread = __salt__["glance_config_dir.read_file"](mark) is not None
        if not ret["changes"] and unread and settings["glance_haproxy_reload"]:
            ret["changes"] = {"HAProxy": {"old": "has not read its files", "new": "reloaded"}}
        if not ret["changes"]:
            ret["comment"] = f"HAProxy's part is {'as wanted' if here else 'not on this host'}."
        elif __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "HAProxy's part would have been changed."
        else:
            ret["comment"] = _change(settings, old, new, mark)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def _texts(found):
    return {path: text for path, text in found.items() if text is not None}


def _files(found):
    return {path: {"text": text, "secret": False} for path, text in _texts(found).items()}


def _change(settings, old, new, mark):
    write = __salt__["glance_config_dir.write_file"]
    if settings["glance_haproxy_reload"]:
        write(mark, "HAProxy has not read its files since they were changed.\n")
    for path, text in new.items():
        write(path, text)
    try:
        command = __salt__["glance_haproxy.reload"](settings)
    except CommandExecutionError as err:
        if old == new:
            raise
        # As before, so that the next run finds the same to do.
        for path, text in old.items():
            write(path, text)
        write(mark, None)
        raise CommandExecutionError(f"{str(err).rstrip('.')}; its files are as before.") from err
    write(mark, None)
    if command:
        return f"HAProxy's part was changed, and '{command}' made HAProxy read it."
    return "HAProxy's part was changed; HAProxy reads it when its operator reloads it."
