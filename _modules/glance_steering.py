"""
Where our containers listen, and which of two gets the new connections of their address.

Everything here goes by container names; the kernel is told by ``glance_handover``, which knows
sockets alone.
"""

import time

__virtualname__ = "glance_steering"

URL_LABEL = "glance.url"  # see glance_container.wanted
POLL = 0.5  # seconds between two looks at a socket
OPENING = 60  # seconds in which a container that was just started opens its socket


def __virtual__():
    return __virtualname__


def address(settings):
    """
    ``(address, port)`` at which the container of these settings serves. Pure.

    settings
        Result of ``glance_settings.get``.
    """
    return settings["api_address"], settings["glance_api_listen_port"]


def reached(settings, name):
    """
    The settings with the address at which a container serves, which may be another one.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.
    """
    present = __salt__["glance_engine.inspect"](name)
    url = present["labels"].get(URL_LABEL) if present else None
    if url in (None, settings["self_url"]):
        return settings
    return __salt__["glance_http.at"](settings, url)


def serves_elsewhere(settings, name):
    """
    Whether a container serves at another address than the settings say.

    settings, name
        As for :py:func:`reached`.
    """
    return address(reached(settings, name)) != address(settings)


def pids(name):
    """
    Process ids of a container; empty without a name, and when it does not run.

    name
        Container name, or None.
    """
    return __salt__["glance_engine.pids"](name) if name else []


def listeners(settings, name):
    """
    The listening sockets of a container at the settings' address.

    settings
        Result of ``glance_settings.get``.
    name
        Container name, or None.

    Returns what ``glance_sockets.listeners`` does.
    """
    held = pids(name)
    return __salt__["glance_sockets.listeners"](held, *address(settings)) if held else []


def wait_to_listen(settings, name):
    """
    Give a container that has just been started the time to open its socket; not an error if not.

    settings, name
        As for :py:func:`listeners`.
    """
    deadline = time.monotonic() + OPENING
    while pids(name) and not listeners(settings, name) and time.monotonic() < deadline:
        time.sleep(POLL)


def prefer(settings, name, other):
    """
    All new connections to one container, and to the other one should it die.

    settings
        Result of ``glance_settings.get``.
    name, other
        Container names, or None.

    Returns the handshakes that may still end up at the other one.
    """
    return _steer(settings, name, other)


def probe(settings, incumbent, newcomer):
    """
    All to the incumbent, our probes (by source port) to the newcomer, once it listens.

    settings
        Result of ``glance_settings.get``.
    incumbent, newcomer
        Container names.
    """
    _steer(settings, incumbent, newcomer, newcomer if listeners(settings, newcomer) else None)


def release(settings, *names):
    """
    The kernel's own choice again, which with one listener is that one.

    settings
        Result of ``glance_settings.get``.
    names
        Containers that may listen.
    """
    for name in names:
        if listeners(settings, name):
            __salt__["glance_handover.release"](pids(name), *address(settings))


def _steer(settings, to, other, probed=None):
    if not listeners(settings, to):
        return []  # it died: the kernel already gives everything to the other one
    return __salt__["glance_handover.steer"](
        pids(to),
        *address(settings),
        fallback=pids(other),
        probe=pids(probed) if probed else None,
    )["handshakes"]
