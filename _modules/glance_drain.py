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
        ``glance_upgrade_max_unavailable`` allows, and one that answers and is not kept out by
        HAProxy, where that can be asked, is left.

    Raises CommandExecutionError when it cannot be done, or when others answer but HAProxy keeps all
    of them out; the host is then in rotation as before.
    """
    others = _others(settings) if in_turn else []
    if others:
        _announce(settings, others)
    else:
        __salt__["glance_api.drain"](settings, by=BY)
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
    many; which of them comes back first is their order in the group.
    """
    turn = _Turn(settings, others)
    order = 1 + settings["glance_api_hosts"].index(settings["minion_id"])
    while True:
        if turn.has_come():
            __salt__["glance_api.drain"](settings, by=BY)
            if turn.has_come(announced=True):
                return
            __salt__["glance_api.resume"]()
        turn.must_come()
        log.info("glance-api: waiting, because %s", ", ".join(turn.reasons))
        time.sleep(POLL * order)


class _Turn:
    """
    What this host sees of the others while it waits for its turn.

    Another one serves if its health check answers and no HAProxy that can be asked keeps it out. A
    host that does not answer, or is drained, is in its replacement; after the time that this may
    take it is waited for no more, so that a sole survivor may be worked on. Whatever is allowed,
    one that serves must be left as long as any other host answers.
    """

    SILENT, AT_HAPROXY = "silent", ("drained", "down", "in maint")

    def __init__(self, settings, others):
        self._settings, self._others = settings, others
        self._asked = settings["glance_haproxy_socket"]
        self._since = {}  # (host, what is against it): since when
        self._stuck = None  # since when no waiting helps
        self._at_once = at_once(settings["glance_upgrade_max_unavailable"], 1 + len(others))
        self.reasons = []

    def has_come(self, announced=False):
        """
        Whether this host may go; ``announced`` when its health check is off already, so that no
        time must be lost with a HAProxy that does not answer.
        """
        now, found = time.monotonic(), self._look(announced)
        self._since = {
            (host, what): self._since.get((host, what), now) for host, (what, _) in found.items()
        }
        self.reasons = [text for _, text in found.values()]
        patience = self._patience()
        missing = [what for (_, what), since in self._since.items() if now - since < patience[what]]
        serving = len(found) < len(self._others)
        nobody = not missing and all(what == self.SILENT for _, what in self._since)
        if serving or nobody:
            self._stuck = None
            return len(missing) < self._at_once
        self._stuck = None if missing else now if self._stuck is None else self._stuck
        return False

    def must_come(self):
        """Raise CommandExecutionError when no other host serves, and none is on its way back."""
        if self._stuck is None or time.monotonic() - self._stuck < self._moment():
            return
        raise CommandExecutionError(
            f"This host stays in rotation, because no other one serves ({', '.join(self.reasons)}):"
            " apply there, set it 'ready' at HAProxy ('set server ... state ready') or see why its"
            " checks fail, and apply again."
        )

    def _look(self, announced):
        """``{host: (what is against it, the same as part of a sentence)}`` of all but serving."""
        where = self._asked if announced else self._settings["glance_haproxy_socket"]
        seen = __salt__["glance_balancer.out_of_rotation"](
            {**self._settings, "glance_haproxy_socket": where}
        )
        self._asked, found = seen["asked"], {}
        for one in self._others:
            if not _answers(self._settings, one["address"]):
                words = f"{one['name']} does not answer its health check"
                found[one["name"]] = (self.SILENT, words)
                continue
            against = [
                (server["status"], server["text"])
                for server in seen["servers"]
                if one["name"] == server["name"] or one["address"] == server["address"]
            ]
            if against:
                # What ends by itself counts most.
                found[one["name"]] = min(against, key=lambda one: self.AT_HAPROXY.index(one[0]))
        return found

    def _patience(self):
        """Seconds for which each reason is a passing one."""
        settings = self._settings
        replacement = settings["glance_drain_timeout"] + settings["glance_healthy_deadline"]
        return {
            self.SILENT: replacement,
            "drained": replacement,
            "down": self._moment(),
            "in maint": 0,  # an operator's will
        }

    def _moment(self):
        """Seconds in which HAProxy must have seen that a host serves again."""
        return __salt__["glance_haproxy.notice"](self._settings) + SETTLE


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
