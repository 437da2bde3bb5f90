"""
Replacing the glance-api container without failing a request.

Two strategies, one entry point. *hand-over*: the newcomer starts beside the incumbent on the
same address, is checked alone, and then the kernel is told to give it every new connection;
the incumbent ends its transfers and imports in peace. *drain*: where the kernel cannot be told,
the incumbent is taken out of the load balancer, ends its work, stops, and the newcomer starts.

State lives in the engine (labels, restart policies), not in a file: after a kill at any instant
the next run finds what is there and finishes or undoes it (``glance_container.decide``).
"""

import logging
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_replace"

NAME = "glance_api"
URL_LABEL, RELEASE_LABEL = "glance.url", "glance.release"  # see glance_container.wanted
POLL = 0.5  # seconds between two looks at a condition
# uWSGI lets requests end for this long after SIGTERM (worker-reload-mercy in its ini).
MERCY = 80
COME_BACK = 60  # seconds an old container gets to serve again after a failed newcomer
EXIT = 2  # seconds in which a container that fails may turn out to be exiting
ANSWER = 10  # seconds without an answer after which a newcomer is not trusted with everything
# Weight for the CPU of a newcomer that loads beside one that serves, and of any other container.
BESIDE, USUAL = 128, 1024
ENDING = "_ending"  # see glance_container.is_ending
PLANS = {  # what glance_container.decide says, in words
    "start": "No container serves here: one is started.",
    "finish": "What an earlier run left open is finished.",
    "replace": "The container in charge is replaced.",
}


def __virtual__():
    return __virtualname__


def run(settings, want, files):
    """
    Bring the wanted container in charge; end or undo what a killed run left behind.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.
    files
        Configuration files of this container, as ``glance_configuration.files`` returns them.

    Returns ``{"how", "why", "seconds": {...}, "cut": [...]}``. Raises CommandExecutionError when
    the newcomer is not fit; the incumbent then serves as before.
    """
    ours = __salt__["glance_engine.containers"]()
    verdict = __salt__["glance_container.decide"](ours, want["hash"], want["policy"])
    if verdict["do"] == "nothing":
        return {"how": "nothing"}
    log.info("glance-api: %s", verdict)
    __salt__["glance_progress.tell"]("replacement", "begins", text=PLANS[verdict["do"]])
    try:
        report = _carry_out(settings, want, files, verdict, ours)
    except CommandExecutionError as err:
        reason = str(err).partition("\n")[0]
        __salt__["glance_progress.tell"]("replacement", "failed", text=reason)
        raise
    took = round(sum(report["seconds"].values()), 1)
    __salt__["glance_progress.tell"]("replacement", "ends", took, report["how"])
    return report


def stop_all(settings, remove):
    """
    Stop every glance-api container of ours; transfers and imports end first.

    settings
        Result of ``glance_settings.get``.
    remove
        Whether the containers are removed as well, with their configuration snapshots.

    Returns what had to be cut at ``glance_drain_timeout``.
    """
    charge, cut = __salt__["glance_container.facts"]()["name"], []
    before = __salt__["glance_leftovers.former"](settings)
    for one in __salt__["glance_engine.containers"]():
        if one["running"] and one["name"] == charge:
            cut = _leave(settings, charge)
        __salt__["glance_engine.stop"](one["name"], MERCY)
        if remove:
            __salt__["glance_engine.remove"](one["name"])
    __salt__["glance_balancer.ready"](settings, serves=False)
    if remove:
        __salt__["glance_leftovers.remove"](settings, before)
    return cut


def _carry_out(settings, want, files, verdict, ours):
    incumbent, newcomer = verdict["incumbent"], verdict["newcomer"]
    if verdict["do"] == "finish":
        report = _finish(settings, want, files, incumbent, ours)
    elif verdict["do"] == "start":
        for name in verdict["retire"]:
            __salt__["glance_engine.remove"](name)
        report = _start(settings, want, files, incumbent)
    else:
        for name in verdict["retire"]:
            _retire(settings, name, incumbent)
        _keep_policy(incumbent, want)
        if newcomer and _is_drained(newcomer):
            # It was in charge before and answers no health check any more.
            _retire(settings, newcomer, incumbent)
            newcomer = None
        why = _why_drain(settings, incumbent, files)
        if not why and _serves_elsewhere(settings, incumbent):
            report = _move(settings, want, files, incumbent, newcomer)
        elif why:
            if newcomer:
                _retire(settings, newcomer, incumbent)
            report = _drain_first(settings, want, files, incumbent, why)
        else:
            report = _hand_over(settings, want, files, incumbent, newcomer)
    __salt__["glance_leftovers.remove"](settings)
    return report


def start_again(settings, name):
    """
    Start a container that was stopped, as it was, and wait until it answers.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.

    Returns a sentence. Raises CommandExecutionError when it does not serve then, or when the
    database has become one that its release does not know.
    """
    as_it_was = {"policy": settings["docker_restart_policy"], "spec": {}, "labels": {}}
    serves, outcome = _bring_back(settings, as_it_was, name)
    if not serves:
        raise CommandExecutionError(f"{outcome}.")
    return f"{outcome}."


# --------------------------------------------------------------------------- the strategies


def _hand_over(settings, want, files, incumbent, newcomer):
    clock, name = _Clock(), newcomer or want["name"]
    steering = _Steering(settings, incumbent, name)
    born = _born(incumbent)
    # From here on every new connection stays with the incumbent, but for our own probes.
    steering.probe()
    try:
        if not newcomer:
            _create(settings, want, files, {"cpu_shares": BESIDE})
        newcomer_born = _become_fit(settings, name, steering.probe, compare=True)
    except CommandExecutionError as err:
        steering.incumbent()
        raise _undone(settings, want, name, err, incumbent, born) from err
    clock.lap("newcomer healthy")
    handshakes = steering.newcomer()
    log.info("glance-api: new connections go to %s", name)
    _in_charge(name, incumbent, want)
    try:
        cut = _let_it_end(settings, incumbent, handshakes, name, newcomer_born)
        _must_answer(settings, name, newcomer_born)
    except CommandExecutionError as err:
        if _serves(settings, name, newcomer_born):
            # It holds connections by now, so it is not taken away for the trouble of others.
            raise CommandExecutionError(
                f"{name} has taken over from {incumbent}, which still runs, because"
                f" {str(err).rstrip('.')}: apply again to finish the replacement."
            ) from err
        # When the newcomer died, the kernel gives everything to the incumbent already.
        steering.incumbent()
        raise _undone(settings, want, name, err, incumbent) from err
    clock.lap("transfers ended")
    __salt__["glance_engine.remove"](_end(incumbent, _stop_timeout(settings, clock)))
    steering.release()
    _take_the_name(name)
    clock.lap("incumbent stopped")
    return {"how": "hand-over", "why": "", "seconds": clock.laps, "cut": cut}


def _move(settings, want, files, incumbent, newcomer):
    """Start the newcomer on its own address, beside an incumbent that serves another one."""
    clock, name = _Clock(), newcomer or want["name"]
    born = _born(incumbent)
    try:
        if not newcomer:
            _create(settings, want, files, {"cpu_shares": BESIDE})
        _become_fit(settings, name, compare=True)
    except CommandExecutionError as err:
        raise _undone(settings, want, name, err, incumbent, born) from err
    clock.lap("newcomer healthy")
    cut = _leave(settings, incumbent)
    _in_charge(name, incumbent, want)
    clock.lap("transfers ended")
    __salt__["glance_engine.remove"](_end(incumbent, _stop_timeout(settings, clock)))
    _take_the_name(name)
    clock.lap("incumbent stopped")
    return {"how": "hand-over", "why": "", "seconds": clock.laps, "cut": cut}


def _drain_first(settings, want, files, incumbent, why):
    clock = _Clock()
    cut = _leave(settings, incumbent, in_turn=True)
    clock.lap("transfers ended")
    if want["policy"] != "no":
        # Should the host be rebooted before the newcomer is there, the old one serves again.
        __salt__["glance_engine.restart_policy"](incumbent, "always")
    stopped = _end(incumbent, _stop_timeout(settings, clock))
    clock.lap("incumbent stopped")
    _start_instead(settings, want, files, stopped, compare=True)
    clock.lap("newcomer healthy")
    __salt__["glance_balancer.ready"](settings)
    return {"how": "drain", "why": why, "seconds": clock.laps, "cut": cut}


def _start(settings, want, files, fallback):
    clock = _Clock()
    # It is dead or crash-looping; either way it must not get in the way of the newcomer.
    stopped = _end(fallback, MERCY) if fallback else None
    _start_instead(settings, want, files, stopped)
    clock.lap("newcomer healthy")
    return {"how": "start", "why": "", "seconds": clock.laps, "cut": []}


def _start_instead(settings, want, files, stopped, compare=False):
    """Start the wanted container where none serves; when it is not fit, the stopped one again."""
    name = want["name"]
    try:
        _create(settings, want, files)
        _become_fit(settings, name, compare=compare)
    except CommandExecutionError as err:
        raise _undone(settings, want, name, err, stopped) from err
    _keep_policy(name, want)
    if stopped:
        __salt__["glance_engine.remove"](stopped)
    _take_the_name(name)


def _finish(settings, want, files, name, ours):
    """End what a killed run left, with the wanted container in charge."""
    clock = _Clock()
    others = [one["name"] for one in ours if one["name"] != name]
    older = others[: [one["name"] for one in ours].index(name)]
    for one in reversed(older):
        if _answers_beside(settings, one, name):
            # It was not told to stop yet: from there it is a hand-over like any other.
            report = _hand_over(settings, want, files, one, name)
            for other in others:
                if other != one:
                    _retire(settings, other, NAME)
            return report
    present = __salt__["glance_engine.inspect"](name)
    if older or name != NAME or present["restart_policy"] == "no":
        # Nobody may have seen it healthy yet.
        steering = _Steering(settings, older[-1] if older else None, name)
        try:
            _become_fit(settings, name, steering.newcomer, probe=False)
        except CommandExecutionError as err:
            if older:
                raise _undone(settings, want, name, err, older[-1]) from err
            raise CommandExecutionError(
                f"The container {name} of an earlier run is not fit, because"
                f" {str(err).rstrip('.')}. Its last log lines:{_last_words(name)}"
            ) from err
    for other in others:
        _retire(settings, other, name)
    _keep_policy(name, want)
    _Steering(settings, name, None).release()
    _take_the_name(name)
    clock.lap("earlier run finished")
    return {"how": "finish", "why": "", "seconds": clock.laps, "cut": []}


# --------------------------------------------------------------------------- their steps


def _why_drain(settings, incumbent, files):
    """One sentence why no hand-over is used here, or None when it is."""
    strategy = settings["glance_replace_strategy"]
    if strategy == "drain":
        return "glance:glance_replace_strategy says drain"
    if _serves_elsewhere(settings, incumbent):
        return None
    _wait_to_listen(settings, incumbent)
    reason = __salt__["glance_handover.unsupported"](_pids(incumbent), *_address(settings))
    if not reason and not _shares_address(files):
        reason = (
            "With glance-api-uwsgi.ini: {uwsgi: {reuse-port: false}} in glance:glance_custom_config"
            " the new container cannot listen beside the old one."
        )
    if reason and strategy == "handover" and _listeners(settings, incumbent):
        raise CommandExecutionError(
            f"The hand-over that glance:glance_replace_strategy asks for cannot work: {reason}"
            " Set it to auto or drain."
        )
    return reason


def _shares_address(files):
    """Whether a container with this configuration lets others listen on its address."""
    uwsgi = files.get("glance-api-uwsgi.ini")
    return uwsgi is None or "\nreuse-port = true\n" in uwsgi["text"]


def _reached(settings, name):
    """The settings with the address at which this container serves, which may be another one."""
    present = __salt__["glance_engine.inspect"](name)
    url = present["labels"].get(URL_LABEL) if present else None
    if url in (None, settings["self_url"]):
        return settings
    return __salt__["glance_http.at"](settings, url)


def _serves_elsewhere(settings, name):
    return _address(_reached(settings, name)) != _address(settings)


def _create(settings, want, files, differences=None):
    engine = "glance_engine"
    folder = __salt__["glance_container.snapshot"](settings, want["hash"])
    __salt__["glance_config_dir.write"](folder, files)
    if __salt__[f"{engine}.inspect"](want["name"]):
        __salt__[f"{engine}.remove"](want["name"])
    spec = {**want["spec"], **(differences or {})}
    # No restart policy yet: after a reboot only a container that was in charge comes back.
    __salt__[f"{engine}.create"](want["name"], spec, want["labels"], "no")
    __salt__[f"{engine}.start"](want["name"])


def _become_fit(settings, name, steer=None, probe=True, compare=False):
    """
    Wait until a container serves, check it deeply, and see it stay healthy for a while.

    ``steer`` is called before it is asked, by probes or like any client. With ``compare`` it takes
    over from one that works, so that no store may get lost. Returns when it was started.
    """
    probe = probe and steer is not None
    born = _must_run(name)
    deadline = time.monotonic() + settings["glance_healthy_deadline"]
    while True:
        _must_run(name, born)
        listener = _listeners(settings, name)
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
            __salt__["glance_check.no_worse"](settings, probe)
        while time.monotonic() < healthy_until:
            time.sleep(POLL)
            verdict = __salt__["glance_api.probe_once"](settings, probe=probe)
            if not verdict["ok"]:
                raise CommandExecutionError(f"it did not stay healthy: {verdict['reason']}")
    except CommandExecutionError:
        # A container that closes connections is often on its way out: that is the better reason.
        ending = time.monotonic() + EXIT
        while time.monotonic() < ending:
            _must_run(name, born)
            time.sleep(POLL)
        raise
    # The very socket that was probed must still be there; else somebody else has answered.
    _must_run(name, born)
    if _inodes(_listeners(settings, name)) != _inodes(listener):
        raise CommandExecutionError("it closed its listening socket while it was checked")
    return born


def _born(name):
    """The moment a container was started; None when there is none."""
    present = __salt__["glance_engine.inspect"](name)
    return present["started_at"] if present else None


def _must_run(name, born=None):
    """The moment a container was started; an error when it does not run, or runs a second time."""
    present = __salt__["glance_engine.inspect"](name)
    if not present:
        raise CommandExecutionError("it disappeared: somebody else removed it")
    if not present["running"] or born not in (None, present["started_at"]):
        raise CommandExecutionError(f"it exited with code {present['exit_code']}")
    return present["started_at"]


def _must_answer(settings, name, born):
    """Make sure that a container that gets the new connections is alive and answers them."""
    deadline = time.monotonic() + ANSWER
    while True:
        _must_run(name, born)
        verdict = __salt__["glance_api.probe_once"](settings, probe=False)
        if verdict["ok"] and _listeners(settings, name):
            return
        if time.monotonic() > deadline:
            raise CommandExecutionError(f"it does not answer any more: {verdict['reason']}")
        time.sleep(POLL)


def _answers_beside(settings, name, charge):
    """Whether a container beside the one in charge is alive, was not told to stop and answers."""
    if __salt__["glance_container.is_ending"](name) or not _listeners(settings, name):
        return False
    _Steering(settings, charge, name).probe()
    return __salt__["glance_api.probe_once"](settings, probe=True)["ok"]


def _wait_to_listen(settings, name):
    """Give a container that has just been started the time to open its socket."""
    deadline = time.monotonic() + COME_BACK
    while _pids(name) and not _listeners(settings, name) and time.monotonic() < deadline:
        time.sleep(POLL)


def _in_charge(name, other, want):
    # In this order: after a reboot in between two containers come up, never none.
    __salt__["glance_engine.restart_policy"](name, want["policy"], _cpu_shares(want))
    __salt__["glance_engine.restart_policy"](other, "no")


def _keep_policy(name, want):
    present = __salt__["glance_engine.inspect"](name)
    if present.get("cpu_shares") == BESIDE:
        __salt__["glance_engine.restart_policy"](name, want["policy"], _cpu_shares(want))
    elif present["restart_policy"] != want["policy"]:
        __salt__["glance_engine.restart_policy"](name, want["policy"])


def _cpu_shares(want):
    return want["spec"].get("cpu_shares") or USUAL


def _take_the_name(name):
    if name != NAME:
        __salt__["glance_engine.rename"](name, NAME)


def _end(name, timeout):
    """Stop a container; its new name tells the next run that it must get no connection."""
    ending, present = name, __salt__["glance_engine.inspect"](name)
    if present and not __salt__["glance_container.is_ending"](name):
        ending = f"{NAME}_{present['labels'].get('glance.spec')}{ENDING}"
        __salt__["glance_engine.rename"](name, ending)
    log.info("glance-api: stopping %s", ending)
    __salt__["glance_engine.stop"](ending, timeout)
    return ending


def _leave(settings, name, in_turn=False):
    """
    Take a container out of the load balancer and let its transfers and imports end.

    ``in_turn`` is to wait until the other hosts serve. Returns what had to be cut. When it cannot
    be waited for, it is put back.
    """
    settings = _reached(settings, name)
    try:
        __salt__["glance_drain.begin"](settings, in_turn=in_turn)
    except CommandExecutionError:
        if _pids(name):
            raise
    try:
        cut = _let_it_end(settings, name)
        __salt__["glance_drain.wait_for_last_request"](settings)
        return cut
    except CommandExecutionError:
        __salt__["glance_drain.cancel"](settings)
        raise


def _is_drained(name):
    return any(__salt__["glance_api.drained_by"](pid) is not None for pid in _pids(name))


def _serves(settings, name, born):
    """Whether a container is the one that was started then, listens, and answers."""
    try:
        _must_run(name, born)
    except CommandExecutionError:
        return False
    verdict = __salt__["glance_api.probe_once"](settings, probe=False)
    return bool(_listeners(settings, name)) and verdict["ok"]


def _let_it_end(settings, name, handshakes=None, successor=None, born=None):
    """
    Wait for the transfers, then for the background imports, of a container that gets no new
    connection; up to glance_drain_timeout. Returns what had to be cut. Raises when the successor
    died meanwhile.
    """
    deadline = time.monotonic() + settings["glance_drain_timeout"]
    began = _born(name)
    if began is None:
        return []  # somebody else has removed it
    if successor:
        born = _must_run(successor, born)
    idle = __salt__["glance_sockets.wait_until_idle"](
        _pids(name),
        *_address(settings),
        timeout=settings["glance_drain_timeout"],
        handshakes=handshakes,
        successor=_pids(successor) if successor else None,
    )
    if successor and not idle["successor"]:
        _must_run(successor, born)  # the better reason, if it is one
        raise CommandExecutionError("it closed its listening socket")
    cut = [] if idle["idle"] else [f"{idle['connections']} transfers"]
    log.info("glance-api: %s has no connection left (%s)", name, idle)
    only, imports = None, None
    while True:
        if successor:
            _must_run(successor, born)
        elif not _pids(name):
            return cut  # nothing of it works any more
        try:
            imports = __salt__["glance_api.unfinished"](settings, since=began, only=only)
            only = imports["tasks"]
        except CommandExecutionError as err:
            # The database or Keystone may be away for a moment; nobody is cut for that.
            log.warning("glance-api: imports in progress are not known yet: %s", err)
        if only == [] or time.monotonic() > deadline:
            break
        time.sleep(POLL)
    if imports is None:
        cut.append("imports, if any were in progress: the API did not tell")
    elif only:
        cut += [f"the import of image {one['id']}" for one in imports["images"]] or [
            f"{len(only)} tasks"
        ]
    return cut


def _stop_timeout(settings, clock):
    left = settings["glance_drain_timeout"] - sum(clock.laps.values())
    return int(max(left, MERCY, settings["docker_graceful_timeout"]))


def _bring_back(settings, want, name):
    """
    Start an old container again, as after a failed newcomer; whether it serves, and a sentence.

    One of another release stays stopped when the schema has become one that it does not know.
    """
    settings = _reached(settings, name)
    try:
        present = __salt__["glance_engine.inspect"](name)
        if present["labels"].get(RELEASE_LABEL) != want["labels"].get(RELEASE_LABEL):
            unfit = __salt__["glance_schema.unfit"](settings, present)
            if unfit:
                return False, f"{name} was not started again, because {unfit}"
        if name != NAME and not __salt__["glance_engine.inspect"](NAME):
            __salt__["glance_engine.rename"](name, NAME)
            name = NAME
        _keep_policy(name, want)
        __salt__["glance_engine.start"](name)
        deadline = time.monotonic() + COME_BACK
        while time.monotonic() < deadline:
            if _listeners(settings, name):
                if __salt__["glance_api.drained"]():
                    __salt__["glance_api.resume"]()
                if __salt__["glance_api.probe_once"](settings, probe=False)["ok"]:
                    return True, f"{name} was started again and serves"
            time.sleep(POLL)
    except CommandExecutionError as err:
        return False, f"{name} could not be started again ({str(err).rstrip('.')})"
    return False, f"{name} was started again but did not answer within {COME_BACK} seconds"


def _undone(settings, want, name, err, back_to, born=None):
    """
    Remove a newcomer that is not fit and leave the old container in charge.

    ``born`` is when the old one was started, if it was in charge all the time. Returns the error
    to raise, with the newcomer's last words unless the error has a ``reason``.
    """
    words = _last_words(name)
    __salt__["glance_engine.remove"](name)
    there = __salt__["glance_engine.inspect"](back_to) if back_to else None
    if not there:
        outcome = "nothing else ran on this host"
    elif not there["running"] or __salt__["glance_container.is_ending"](back_to):
        _, outcome = _bring_back(settings, want, back_to)
    else:
        _keep_policy(back_to, want)
        outcome = f"{back_to} went on serving all the time and no request failed"
        if there["started_at"] != born:
            outcome = f"{back_to} is in charge again; requests that were inside {name} were lost"
        _Steering(settings, back_to, None).release()
    try:
        __salt__["glance_leftovers.remove"](settings)
    except CommandExecutionError as later:
        outcome += f"; then {str(later).rstrip('.')}"
    # Where a driver's own words say why, those of the container tell no more.
    words = "" if getattr(err, "reason", "") else f" Its last log lines:{words}"
    return CommandExecutionError(
        f"The new glance-api container was taken away again, because {str(err).rstrip('.')};"
        f" {outcome}.{words}"
    )


def _last_words(name):
    lines = __salt__["glance_engine.logs"](name).splitlines()
    return "".join(f"\n    {line}" for line in lines) or " (it wrote none)"


def _retire(settings, name, survivor):
    """Take a left-over container away; a running one ends its connections first."""
    present = __salt__["glance_engine.inspect"](name)
    if present and present["running"]:
        here, there = _reached(settings, name), _reached(settings, survivor)
        __salt__["glance_engine.restart_policy"](name, "no")
        if _address(here) != _address(there):
            _let_it_end(here, name)
        else:
            _wait_to_listen(there, survivor)
            _Steering(there, survivor, name).incumbent()
            try:
                _let_it_end(there, name, successor=survivor)
            except CommandExecutionError as err:
                raise CommandExecutionError(
                    f"The left-over container {name} was not removed, because {survivor}, which is"
                    f" in charge, failed: {str(err).rstrip('.')}. Apply again."
                ) from err
        name = _end(name, MERCY)
    __salt__["glance_engine.remove"](name)


def _listeners(settings, name):
    pids = _pids(name)
    return __salt__["glance_sockets.listeners"](pids, *_address(settings)) if pids else []


def _inodes(listeners):
    return {one["inode"] for one in listeners}


def _address(settings):
    return settings["api_address"], settings["glance_api_listen_port"]


class _Clock:
    """Seconds of each phase, for the report."""

    def __init__(self):
        self.laps, self._last = {}, time.monotonic()

    def lap(self, phase):
        now = time.monotonic()
        self.laps[phase], self._last = round(now - self._last, 1), now
        __salt__["glance_progress.tell"](phase, "ends", self.laps[phase])


class _Steering:
    """Who of two containers on one address gets the new connections."""

    def __init__(self, settings, incumbent, newcomer):
        self._settings, self._address = settings, _address(settings)
        self._incumbent, self._newcomer = incumbent, newcomer

    def probe(self):
        """All to the incumbent, our probes (by source port) to the newcomer."""
        probe = _pids(self._newcomer) if _listeners(self._settings, self._newcomer) else None
        self._steer(self._incumbent, self._newcomer, probe)

    def incumbent(self):
        """All to the incumbent."""
        self._steer(self._incumbent, self._newcomer)

    def newcomer(self):
        """All to the newcomer; returns handshakes that may still end up at the incumbent."""
        return self._steer(self._newcomer, self._incumbent)

    def release(self):
        """The kernel's own choice again, which with one listener is that one."""
        for name in (self._incumbent, self._newcomer):
            if _listeners(self._settings, name):
                __salt__["glance_handover.release"](_pids(name), *self._address)

    def _steer(self, to, other, probe=None):
        if not _listeners(self._settings, to):
            return []  # it died: the kernel already gives everything to the other one
        return __salt__["glance_handover.steer"](
            _pids(to), *self._address, fallback=_pids(other), probe=probe
        )["handshakes"]


def _pids(name):
    return __salt__["glance_engine.pids"](name) if name else []
