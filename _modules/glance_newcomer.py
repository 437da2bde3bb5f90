"""
A container that is to take charge: how it is made, when it is fit, and what makes it the one.

"Born" is the moment at which a container was started: one that was started again meanwhile is not
the one that was checked.
"""

import logging
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_newcomer"

NAME = "glance_api"
POLL = 0.5  # seconds between two looks at a condition
EXIT = 2  # seconds in which a container that fails may turn out to be exiting
ANSWER = 10  # seconds without an answer after which it is not trusted with everything
# Weight for the CPU of a newcomer that loads beside one that serves, and of any other container.
BESIDE, USUAL = 128, 1024


def __virtual__():
    return __virtualname__


def create(settings, want, files, beside=False):
    """
    Make the wanted container, with its snapshot of the configuration, and start it.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.
    files
        Its configuration files, as ``glance_configuration.files`` returns them.
    beside
        Whether another container serves meanwhile, which has the first claim on the CPU where
        the engine can give it.
    """
    engine = "glance_engine"
    folder = __salt__["glance_container.snapshot"](settings, want["hash"])
    __salt__["glance_config_dir.write"](folder, files)
    if __salt__[f"{engine}.inspect"](want["name"]):
        __salt__[f"{engine}.remove"](want["name"])
    # With cgroups of version 2 no number of shares is sure to mean the usual weight afterwards.
    yields = beside and __salt__[f"{engine}.cgroup_version"]() == 1
    spec = {**want["spec"], **({"cpu_shares": BESIDE} if yields else {})}
    # No restart policy yet: after a reboot only a container that was in charge comes back.
    __salt__[f"{engine}.create"](want["name"], spec, want["labels"], "no")
    __salt__[f"{engine}.start"](want["name"])


def become_fit(settings, name, steer=None, probe=False, compare=False, before=None):
    """
    Wait until a container serves, check it deeply, and see it stay healthy for a while.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.
    steer
        Function without arguments that is called before it is asked.
    probe
        Whether it is asked by probes, because clients are served by another one.
    compare
        Whether it takes over from one that works, so that no store may get lost.
    before
        Stores that this one had lost, where it cannot be asked meanwhile (``glance_check.lost``).

    Returns when it was born. Raises CommandExecutionError with the reason when it is not fit.
    """
    born = must_run(name)
    deadline = time.monotonic() + settings["glance_healthy_deadline"]
    while True:
        must_run(name, born)
        listener = __salt__["glance_steering.listeners"](settings, name)
        verdict = {"ok": False, "reason": "it does not listen"}
        if listener:
            if steer:
                steer()
            verdict = __salt__["glance_api.probe_once"](settings, probe=probe)
        if verdict["ok"]:
            break
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"it was not healthy within {settings['glance_healthy_deadline']} seconds"
                f" (glance:glance_healthy_deadline): {verdict['reason']}"
            )
        time.sleep(POLL)
    healthy_until = time.monotonic() + settings["glance_min_healthy_time"]
    log.info("glance-api: %s answers, checking it deeply", name)
    try:
        __salt__["glance_api.deep_check"](settings, probe=probe)
        if compare:
            __salt__["glance_check.no_worse"](settings, probe, before)
        while time.monotonic() < healthy_until:
            time.sleep(POLL)
            verdict = __salt__["glance_api.probe_once"](settings, probe=probe)
            if not verdict["ok"]:
                raise CommandExecutionError(f"it did not stay healthy: {verdict['reason']}")
    except CommandExecutionError:
        # A container that closes connections is often on its way out: that is the better reason.
        ending = time.monotonic() + EXIT
        while time.monotonic() < ending:
            must_run(name, born)
            time.sleep(POLL)
        raise
    # The very socket that was probed must still be there; else somebody else has answered.
    must_run(name, born)
    if _inodes(__salt__["glance_steering.listeners"](settings, name)) != _inodes(listener):
        raise CommandExecutionError("it closed its listening socket while it was checked")
    return born


def birth(name):
    """
    The moment a container was started; None when there is none.

    name
        Container name.
    """
    present = __salt__["glance_engine.inspect"](name)
    return present["started_at"] if present else None


def must_run(name, since=None):
    """
    Make sure that a container runs.

    name
        Container name.
    since
        When it was born, if it must be the same life of it.

    Returns when it was born. Raises CommandExecutionError when it is gone, or has exited once.
    """
    present = __salt__["glance_engine.inspect"](name)
    if not present:
        raise CommandExecutionError("it disappeared: somebody else removed it")
    if not present["running"] or since not in (None, present["started_at"]):
        raise CommandExecutionError(f"it exited with code {present['exit_code']}")
    return present["started_at"]


def must_answer(settings, name, since):
    """
    Make sure that a container that gets the new connections is alive and answers them.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.
    since
        When it was born.

    Raises CommandExecutionError when it does not within some seconds.
    """
    deadline = time.monotonic() + ANSWER
    while True:
        must_run(name, since)
        verdict = __salt__["glance_api.probe_once"](settings, probe=False)
        if verdict["ok"] and __salt__["glance_steering.listeners"](settings, name):
            return
        if time.monotonic() > deadline:
            raise CommandExecutionError(f"it does not answer any more: {verdict['reason']}")
        time.sleep(POLL)


def serves(settings, name, since):
    """
    Whether a container is the one that was started then, listens, and answers now.

    settings, name, since
        As for :py:func:`must_answer`.
    """
    try:
        must_run(name, since)
    except CommandExecutionError:
        return False
    verdict = __salt__["glance_api.probe_once"](settings, probe=False)
    return bool(__salt__["glance_steering.listeners"](settings, name)) and verdict["ok"]


def take_charge(name, want, other):
    """
    From now on a container comes back after a reboot, and another one does not.

    name
        Container name.
    want
        Result of ``glance_container.wanted``.
    other
        Name of the container that was in charge.
    """
    # In this order: after a reboot in between two containers come up, never none.
    __salt__["glance_engine.restart_policy"](name, want["policy"], _cpu_shares(want))
    __salt__["glance_engine.restart_policy"](other, "no")


def outlive_a_reboot(name, policy):
    """
    A container that is stopped for a while comes back should the host be rebooted meanwhile, which
    ``unless-stopped`` does not do. :py:func:`keep_charge` ends it.

    name
        Container name.
    policy
        Restart policy that pillar wants.
    """
    if policy != "no":
        __salt__["glance_engine.restart_policy"](name, "always")


def keep_charge(name, want):
    """
    Give a container the restart policy and the share of the CPU of the one in charge.

    name
        Container name.
    want
        Result of ``glance_container.wanted``.
    """
    # Of one that somebody else has just removed the engine says so.
    present = __salt__["glance_engine.inspect"](name) or {}
    if present.get("cpu_shares") == BESIDE:
        __salt__["glance_engine.restart_policy"](name, want["policy"], _cpu_shares(want))
    elif present.get("restart_policy") != want["policy"]:
        __salt__["glance_engine.restart_policy"](name, want["policy"])


def take_the_name(name):
    """
    Give a container the name of the service.

    name
        Container name.
    """
    if name != NAME:
        __salt__["glance_engine.rename"](name, NAME)


def _cpu_shares(want):
    return want["spec"].get("cpu_shares") or USUAL


def _inodes(listeners):
    return {one["inode"] for one in listeners}
