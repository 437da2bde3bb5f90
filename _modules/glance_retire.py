"""
A container that is to go: its transfers and imports end in peace, then it is stopped.
"""

import logging
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_retire"

POLL = 0.5  # seconds between two looks at a condition
PHASE = "transfers ended"  # what the master is told of the wait for them
# uWSGI lets requests end for this long after SIGTERM (worker-reload-mercy in its ini).
MERCY = 80


def __virtual__():
    return __virtualname__


def let_it_end(settings, name, handshakes=None, successor=None, born=None):
    """
    Wait for the transfers, then for the background imports, of a container that gets no new
    connection; up to ``glance_drain_timeout``.

    settings
        Settings of ``glance_settings.get``, by which it is reached.
    name
        Container name.
    handshakes
        Those that may still end up at it (``glance_steering.prefer``).
    successor, born
        Name of the container that gets the new connections, and when that one was born.

    Returns ``{"waited_for", "cut"}``, lists of parts of a sentence. Raises CommandExecutionError
    when the successor died meanwhile.
    """
    deadline = time.monotonic() + settings["glance_drain_timeout"]
    began = __salt__["glance_newcomer.birth"](name)
    if began is None:
        return {"waited_for": [], "cut": []}  # somebody else has removed it
    if successor:
        born = __salt__["glance_newcomer.must_run"](successor, born)
    address = __salt__["glance_steering.address"](settings)
    open_ones = __salt__["glance_sockets.in_flight"](_pids(name), *address)["connections"]
    ended = {"waited_for": _some(open_ones, "connection"), "cut": []}
    __salt__["glance_progress.tell"](PHASE, "begins", text=", ".join(ended["waited_for"]))
    idle = __salt__["glance_sockets.wait_until_idle"](
        _pids(name),
        *address,
        timeout=settings["glance_drain_timeout"],
        handshakes=handshakes,
        successor=_pids(successor) if successor else None,
    )
    if successor and not idle["successor"]:
        # The better reason, if it is one.
        __salt__["glance_newcomer.must_run"](successor, born)
        raise CommandExecutionError("it closed its listening socket")
    ended["cut"] += [] if idle["idle"] else [f"{idle['connections']} transfers"]
    log.info("glance-api: %s has no connection left (%s)", name, idle)
    if not settings["keystone"]:
        return ended  # Glance runs no import without it, so that nobody need be asked
    only, imports = None, None
    while True:
        if successor:
            __salt__["glance_newcomer.must_run"](successor, born)
        elif not _pids(name):
            return ended  # nothing of it works any more
        try:
            imports = __salt__["glance_api.unfinished"](settings, since=began, only=only)
            if only is None:
                ended["waited_for"] += _some(len(imports["tasks"]), "import")
            only = imports["tasks"]
        except CommandExecutionError as err:
            # The database or Keystone may be away for a moment; nobody is cut for that.
            log.warning("glance-api: imports in progress are not known yet: %s", err)
        if only == [] or time.monotonic() > deadline:
            break
        time.sleep(POLL)
    if imports is None:
        ended["cut"].append("imports, if any were in progress: the API did not tell")
    elif only:
        ended["cut"] += [f"the import of image {one['id']}" for one in imports["images"]] or [
            f"{len(only)} tasks"
        ]
    return ended


def _some(number, what):
    return [f"{number} {what}{'s' if number > 1 else ''}"] if number else []


def leave(settings, name, in_turn=False):
    """
    Take a container out of the load balancer and let its transfers and imports end.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.
    in_turn
        Whether to wait until the other hosts serve.

    Returns what :py:func:`let_it_end` does. Raises CommandExecutionError when it cannot be waited
    for; it is then in rotation as before.
    """
    settings = __salt__["glance_steering.reached"](settings, name)
    try:
        __salt__["glance_drain.begin"](settings, in_turn=in_turn)
    except CommandExecutionError:
        if _pids(name):
            raise
    try:
        ended = let_it_end(settings, name)
        if __salt__["glance_drain.renew"](settings):
            ended["cut"] = let_it_end(settings, name)["cut"]
        __salt__["glance_drain.wait_for_last_request"](settings)
        return ended
    except CommandExecutionError:
        __salt__["glance_drain.cancel"](settings)
        raise


def has_left(name):
    """
    Whether a container answers no health check any more, since it was taken out before.

    name
        Container name.
    """
    return any(__salt__["glance_api.drained_by"](pid) is not None for pid in _pids(name))


def end(name, timeout):
    """
    Stop a container; its new name tells the next run that it must get no connection.

    name
        Container name.
    timeout
        Seconds until it is killed.

    Returns that new name.
    """
    ending, present = name, __salt__["glance_engine.inspect"](name)
    if present:
        ending = __salt__["glance_container.ending_name"](present)
    if ending != name:
        __salt__["glance_engine.rename"](name, ending)
    log.info("glance-api: stopping %s", ending)
    __salt__["glance_engine.stop"](ending, timeout)
    return ending


def time_to_stop(settings, cut):
    """
    Seconds that a container gets to stop. Pure.

    As in Kolla when nothing is left in it: uWSGI whose processes still load Glance never ends by
    itself. What goes on at the deadline gets the time in which uWSGI ends requests.

    settings
        Result of ``glance_settings.get``.
    cut
        What :py:func:`let_it_end` returned as that.
    """
    graceful = settings["docker_graceful_timeout"]
    return max(graceful, MERCY) if cut else graceful


def remove(settings, name, survivor):
    """
    Take a left-over container away; a running one ends its connections first.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.
    survivor
        Name of the container in charge, which gets the new connections.

    Returns what had to be cut. Raises CommandExecutionError when the survivor died meanwhile; the
    left-over one then stays.
    """
    cut, present = [], __salt__["glance_engine.inspect"](name)
    if present and present["running"]:
        here = __salt__["glance_steering.reached"](settings, name)
        there = __salt__["glance_steering.reached"](settings, survivor)
        __salt__["glance_engine.restart_policy"](name, "no")
        address = __salt__["glance_steering.address"]
        if address(here) != address(there):
            cut = let_it_end(here, name)["cut"]
        else:
            __salt__["glance_steering.wait_to_listen"](there, survivor)
            __salt__["glance_steering.prefer"](there, survivor, name)
            try:
                cut = let_it_end(there, name, successor=survivor)["cut"]
            except CommandExecutionError as err:
                raise CommandExecutionError(
                    f"The left-over container {name} was not removed, because {survivor}, which is"
                    f" in charge, failed: {str(err).rstrip('.')}. Apply again."
                ) from err
        name = end(name, time_to_stop(settings, cut))
    __salt__["glance_engine.remove"](name)
    return cut


def _pids(name):
    return __salt__["glance_steering.pids"](name)
