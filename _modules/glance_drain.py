"""
Taking this host out of the load balancer before its container stops, and bringing it back.

The health check answers 503 from then on, whoever the load balancer is. Where pillar names
HAProxy's admin sockets it is told as well, which works at once; elsewhere the time passes in which
it notices. Hosts that drain at the same time take turns: a host announces itself by its health
check, looks at the others, and steps back when too many of them are out too.
"""

import logging
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_drain"

BY = "replacement"  # the word by which a drain of ours is known again after a killed run
POLL = 1  # seconds between two looks at the other hosts
ANSWER = 5  # seconds for each of their answers
CHECK = 10  # seconds after which Kolla's HAProxy gives a check up
LAST_REQUEST = 5  # seconds for what the load balancer has begun to send


def __virtual__():
    return __virtualname__


def begin(settings, in_turn=False):
    """
    Take this host out of the load balancer; it still serves what comes.

    settings
        Settings of ``glance_settings.get``, by which the container in charge is reached.
    in_turn
        Wait until so many other hosts of the group serve that no more are out at once than
        ``glance_upgrade_max_unavailable`` allows; one always serves.

    Raises CommandExecutionError when it cannot be done; the host is then in rotation as before.
    """
    others = _others(settings) if in_turn else []
    _announce(settings, others)
    try:
        told = __salt__["glance_balancer.drain"](settings, keep_one=in_turn)
        if not told and _is_balanced(settings):
            _wait_until_noticed(settings)
    except CommandExecutionError:
        cancel(settings)
        raise


def is_ours(by):
    """
    Whether a drain was begun here, and not by an operator. Pure.

    by
        Result of ``glance_api.drained_by``.
    """
    return by == BY


def at_once(max_unavailable, count):
    """
    How many of the hosts may be away at the same time. Pure.

    max_unavailable
        A number, or a percentage such as ``25%``, which is rounded down; never less than one host.
    count
        How many hosts there are.
    """
    text = str(max_unavailable)
    number = int(text[:-1]) * count // 100 if text.endswith("%") else int(text)
    return max(1, number)


def renew(settings):
    """
    Tell a load balancer again that has forgotten the drain meanwhile, as HAProxy does when it is
    reloaded, and has not noticed it by its checks yet.

    settings
        As for :py:func:`begin`.

    Returns whether there was one: new requests may have come then, and have to be waited for.
    """
    return __salt__["glance_balancer.renew"](settings)


def wait_for_last_request(settings):
    """
    Wait, for a moment at most, until the load balancer has no request for this host any more.

    settings
        As for :py:func:`begin`.
    """
    deadline = time.monotonic() + LAST_REQUEST
    while not __salt__["glance_balancer.idle"](settings) and time.monotonic() < deadline:
        time.sleep(0.1)


def cancel(settings):
    """
    Put the container that :py:func:`begin` took out back into rotation.

    settings
        As for :py:func:`begin`.
    """
    try:
        __salt__["glance_api.resume"]()
    finally:
        __salt__["glance_balancer.ready"](settings)


def _wait_until_noticed(settings):
    """
    Let the time pass in which the checks of the load balancer fail often enough.

    Nothing on this host tells when that is. Its last check takes as long as one of ours, which on a
    host that is busy with transfers may be seconds.
    """
    time.sleep(__salt__["glance_haproxy.notice"](settings))
    __salt__["glance_api.probe_once"](settings, probe=False, timeout=CHECK)


def _is_balanced(settings):
    return settings["enable_haproxy"] or len(settings["glance_api_hosts"]) > 1


# ------------------------------------------------------------------ taking turns


def _others(settings):
    return [
        one
        for one in __salt__["glance_haproxy.members"](settings)
        if one["name"] != settings["minion_id"]
    ]


def _announce(settings, others):
    """
    Switch the health check off while enough of the other hosts answer their own.

    Of hosts that announce themselves at once each sees the others and steps back if they are too
    many; which of them comes back first is their order in the group. A host that stays away for
    longer than a replacement can take is waited for no more.
    """
    away, count = {}, 1 + len(others)
    allowed = min(at_once(settings["glance_upgrade_max_unavailable"], count), max(1, count - 1))
    order = 1 + settings["glance_api_hosts"].index(settings["minion_id"]) if others else 1
    while True:
        missing = _missing(settings, others, away)
        if len(missing) < allowed:
            __salt__["glance_api.drain"](settings, by=BY)
            missing = _missing(settings, others, away)
            if len(missing) < allowed:
                return
            __salt__["glance_api.resume"]()
        log.info("glance-api: waiting for %s, which is not in rotation", ", ".join(missing))
        time.sleep(POLL * order)


def _missing(settings, others, away):
    """Names of the hosts that are out for a replacement; ``away`` keeps since when."""
    patience = settings["glance_drain_timeout"] + settings["glance_healthy_deadline"]
    now = time.monotonic()
    for one in others:
        if _answers(settings, one["address"]):
            away.pop(one["name"], None)
        else:
            away.setdefault(one["name"], now)
    return [name for name, since in away.items() if now - since <= patience]


def _answers(settings, address):
    port = settings["glance_api_listen_port"]
    listen = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    peer = {**settings, "api_address": address, "listen": listen}
    try:
        __salt__["glance_http.request"](
            peer, "health check", "GET", "/healthcheck", login=False, timeout=ANSWER
        )
    except CommandExecutionError:
        return False
    return True
