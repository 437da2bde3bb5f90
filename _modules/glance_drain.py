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
SETTLE = 10  # seconds in which HAProxy sees a host that serves again, beside those of its checks
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
        ``glance_upgrade_max_unavailable`` allows, and never all that answer; nor is this host taken
        out while it is the only one that HAProxy, where it can be asked, sends requests to.

    Raises CommandExecutionError when it cannot be done, or when HAProxy goes on sending requests to
    this host only although others answer; the host is then in rotation as before.
    """
    others = _others(settings) if in_turn else []
    _announce(settings, others)
    try:
        told = __salt__["glance_balancer.drain"](settings)
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
    Switch the health check off while enough of the other hosts are in rotation.

    Of hosts that announce themselves at once each sees the others and steps back if they are too
    many; which of them comes back first is their order in the group. A host that stays away for
    longer than a replacement can take is waited for no more: a sole survivor may be worked on. One
    that answers while HAProxy sends it nothing is not away, so that it is no reason to go on.
    """
    away, since = {}, None
    order = 1 + settings["glance_api_hosts"].index(settings["minion_id"]) if others else 1
    while True:
        missing, alone = _look(settings, others, away)
        if not missing and not alone:
            __salt__["glance_api.drain"](settings, by=BY)
            missing, alone = _look(settings, others, away)
            if not missing and not alone:
                return
            __salt__["glance_api.resume"]()
        now = time.monotonic()
        since = None if missing else now if since is None else since
        if since is not None and now - since > __salt__["glance_haproxy.notice"](settings) + SETTLE:
            raise CommandExecutionError(
                "This host stays in rotation, because HAProxy sends requests to no other one"
                f" ({', '.join(alone)}), although others answer: set one 'ready' there ('set server"
                " ... state ready'), or see why its checks fail, and apply again."
            )
        words = [f"{name} is not in rotation" for name in missing] or alone
        log.info("glance-api: waiting, because %s", ", ".join(words))
        time.sleep(POLL * order)


def _look(settings, others, away):
    """
    Names of the hosts to wait for, and what HAProxy has against the others if it sends requests to
    this one only; both empty when this host may go. ``away`` keeps since when hosts do not answer.
    """
    patience = settings["glance_drain_timeout"] + settings["glance_healthy_deadline"]
    now, count = time.monotonic(), 1 + len(others)
    for one in others:
        if _answers(settings, one["address"]):
            away.pop(one["name"], None)
        else:
            away.setdefault(one["name"], now)
    missing = [name for name, since in away.items() if now - since <= patience]
    left = count - (len(away) - len(missing))
    allowed = min(at_once(settings["glance_upgrade_max_unavailable"], count), max(1, left - 1))
    alone = __salt__["glance_balancer.alone"](settings) if len(away) < len(others) else []
    return ([], []) if len(missing) < allowed and not alone else (missing, alone)


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
