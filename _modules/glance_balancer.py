"""
HAProxy while it runs: this host taken out of rotation at once, and put back, by its admin sockets.

The servers of this host are found by address and port in every backend, so it does not matter who
wrote HAProxy's configuration. ``set server ... state drain`` lets what is in flight end and sends
nothing new; a reload forgets it, which is why the health check is switched off as well
(``glance_drain``). HAProxy: management guide, "set server", "show servers state", "show stat".
"""

import contextlib
import csv
import io
import logging
import socket
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_balancer"

POLL = 0.2  # seconds between two questions
ANSWER = 5  # seconds for each answer of a socket
SETTLE = 10  # seconds in which HAProxy must show what it was told
DRAINED = 0x08 | 0x10  # srv_admin_state: forced to drain, or by a tracked server
MAINT = 0x01 | 0x02 | 0x04 | 0x20 | 0x40  # srv_admin_state: maint, for whatever reason
RUNNING = "2"  # srv_op_state


def __virtual__():
    return __virtualname__


def drain(settings):
    """
    Take this host out of rotation at every HAProxy.

    settings
        Result of ``glance_settings.get``.

    Returns True when all load balancers have done it; False when pillar does not name a socket
    for each of them, or one could not be told: then the health check has to be waited for.
    """
    sockets = settings["glance_haproxy_socket"]
    try:
        for one in sockets:
            _set(settings, one, "drain")
    except CommandExecutionError as err:
        log.warning("glance-api: %s; its health check has to notice the drain", err)
        return False
    return bool(sockets) and len(sockets) >= len(settings["glance_loadbalancer_group"])


def out_of_rotation(settings):
    """
    Other servers of this host's backends to which a HAProxy sends no new request. Only looks.

    settings
        Result of ``glance_settings.get``.

    Returns ``{"asked": sockets that have answered, "servers": [{"name", "address", "status",
    "text"}]}``; ``status`` is ``drained``, ``in maint`` or ``down``, ``text`` part of a sentence.
    """
    asked, servers = [], []
    for one in settings["glance_haproxy_socket"]:
        try:
            servers += _out_at(settings, one)
            asked.append(one)
        except CommandExecutionError as err:
            log.warning("glance-api: %s", err)
    return {"asked": asked, "servers": servers}


def renew(settings):
    """
    Drain this host again at every HAProxy that would send it new requests.

    settings
        Result of ``glance_settings.get``.

    Returns whether there was one. One that does not answer is not waited for.
    """
    found = False
    for one in settings["glance_haproxy_socket"]:
        try:
            if any(_is_used(server) for server in _own(settings, one)):
                _set(settings, one, "drain")
                found = True
        except CommandExecutionError as err:
            log.warning("glance-api: %s", err)
    return found


def idle(settings):
    """
    Whether no HAProxy has a request for this host any more; True also where none can be asked.

    settings
        Result of ``glance_settings.get``.
    """
    try:
        return not any(
            int(row["scur"])
            for one in settings["glance_haproxy_socket"]
            for row in _table(one, "show stat")
            if (row["pxname"], row["svname"]) in {_name(s) for s in _own(settings, one)}
        )
    except CommandExecutionError as err:
        log.warning("glance-api: %s", err)
        return True


def ready(settings):
    """
    Put this host, whose API serves again, back into rotation at every HAProxy that has drained it.

    settings
        Result of ``glance_settings.get``.

    Returns the servers that were drained. Raises CommandExecutionError when a HAProxy shows that it
    has drained this host and does not put it back; one that does not answer is left to the next
    run.
    """
    found = []
    for one in settings["glance_haproxy_socket"]:
        here = _drained_at(settings, one)
        if here:
            _set(settings, one, "ready")
            _wait_until_up(settings, one)
        found += here
    return found


def drained(settings):
    """
    The servers of this host that a HAProxy has drained, one sentence each. Only looks; a HAProxy
    that does not answer has none.

    settings
        Result of ``glance_settings.get``.
    """
    return [
        sentence
        for one in settings["glance_haproxy_socket"]
        for sentence in _drained_at(settings, one)
    ]


# ------------------------------------------------------------------ what HAProxy says


def _own(settings, where):
    """Rows of ``show servers state`` for this host's API."""
    return [row for row in _table(where, "show servers state") if _is_own(settings, row)]


def _is_own(settings, server):
    here = settings["api_address"], str(settings["glance_api_listen_port"])
    return (server["srv_addr"], server["srv_port"]) == here


def _out_at(settings, where):
    rows = _table(where, "show servers state")
    backends = {row["be_name"] for row in rows if _is_own(settings, row)}
    return [
        {
            "name": row["srv_name"],
            "address": row["srv_addr"],
            "status": _status(row),
            "text": f"{'/'.join(_name(row))} at HAProxy {where} is {_status(row)}",
        }
        for row in rows
        if row["be_name"] in backends and not _is_own(settings, row) and not _serves(row)
    ]


def _serves(server):
    return server["srv_op_state"] == RUNNING and server["srv_admin_state"] == "0"


def _status(server):
    """Of one that does not serve, in HAProxy's words."""
    if int(server["srv_admin_state"]) & MAINT:
        return "in maint"
    return "drained" if _is_drained(server) else "down"


def _drained_at(settings, where):
    try:
        own = _own(settings, where)
    except CommandExecutionError as err:
        log.warning("glance-api: %s", err)
        return []
    return [
        f"{'/'.join(_name(server))} at HAProxy {where} is drained"
        for server in own
        if _is_drained(server)
    ]


def _is_drained(server):
    return bool(int(server["srv_admin_state"]) & DRAINED)


def _is_used(server):
    return server["srv_op_state"] == RUNNING and not _is_drained(server)


def _name(server):
    return server["be_name"], server["srv_name"]


def _table(where, command):
    """Rows of a table: CSV, or columns after a line with the version of their format."""
    lines = [line for line in _tell(where, command).splitlines() if line.strip()]
    begin = next((n for n, line in enumerate(lines) if line.startswith("# ")), None)
    if begin is None:
        raise CommandExecutionError(f"HAProxy at {where} does not answer '{command}' with a table")
    lines = [lines[begin][2:], *lines[begin + 1 :]]
    if "," in lines[0]:
        return list(csv.DictReader(io.StringIO("\n".join(lines))))
    columns = lines[0].split()
    return [dict(zip(columns, line.split(), strict=False)) for line in lines[1:]]


# ------------------------------------------------------------------ what HAProxy is told


def _set(settings, where, state):
    """Set the state of this host's servers, and see to it that HAProxy shows it."""
    own = _own(settings, where)
    if not own:
        raise CommandExecutionError(
            f"HAProxy at {where} has no server {settings['listen']}; check"
            " glance:glance_haproxy_socket, and whether it was reloaded"
        )
    for server in own:
        said = _tell(where, f"set server {'/'.join(_name(server))} state {state}").strip()
        if said:
            raise CommandExecutionError(
                f"HAProxy at {where} (glance:glance_haproxy_socket) refuses to {state} this host:"
                f" {said.splitlines()[0]}"
            )
    _until(
        lambda: all(_is_drained(server) == (state == "drain") for server in _own(settings, where)),
        SETTLE,
        f"HAProxy at {where} does not show the state {state} of {settings['listen']}",
    )


def _wait_until_up(settings, where):
    _until(
        lambda: all(server["srv_op_state"] == RUNNING for server in _own(settings, where)),
        __salt__["glance_haproxy.notice"](settings) + SETTLE,
        f"HAProxy at {where} does not see {settings['listen']} as up, although its API answers",
    )


def _until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise CommandExecutionError(f"{what} within {seconds:.0f} seconds")
        time.sleep(POLL)


def _tell(where, command):
    """One command to an admin socket; what it says."""
    try:
        with contextlib.closing(_connect(where)) as link:
            link.sendall(f"{command}\n".encode())
            parts = iter(lambda: link.recv(65536), b"")
            return b"".join(parts).decode("utf-8", "replace")
    except OSError as err:
        raise CommandExecutionError(
            f"HAProxy at {where} (glance:glance_haproxy_socket) does not answer:"
            f" {err.strerror or err}"
        ) from None


def _connect(where):
    if where.startswith("/"):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(ANSWER)
        try:
            link.connect(where)
        except OSError:
            link.close()
            raise
        return link
    host, _, port = where.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER)
