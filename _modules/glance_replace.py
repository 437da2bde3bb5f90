"""
Replacing the glance-api container without failing a request.

Two strategies, one entry point. *hand-over*: the newcomer starts beside the incumbent on the
same address, is checked alone, and then the kernel is told to give it every new connection;
the incumbent ends its transfers and imports in peace. *drain*: where the kernel cannot be told,
the incumbent is taken out of the load balancer, ends its work, stops, and the newcomer starts.

State lives in the engine (labels, restart policies), not in a file: after a kill at any instant
the next run finds what is there and finishes or undoes it (``glance_container.decide``).

Here is the order of the steps. What they do: ``glance_newcomer`` (made, fit, in charge),
``glance_steering`` (who gets the new connections), ``glance_retire`` (ends in peace) and
``glance_fallback`` (the old one again).
"""

import functools
import json
import logging
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "glance_replace"

NAME = "glance_api"
# Labels of our containers; see glance_container.
SCHEMA_LABEL, FORMER_LABEL = "glance.schema", "glance.former"
AT_ONCE = 10  # seconds that a container gets to stop which serves nobody
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

    Returns ``{"how", "why", "seconds": {...}, "waited_for": [...], "cut": [...]}``. Raises
    CommandExecutionError when the newcomer is not fit; the incumbent then serves as before.
    """
    ours, verdict = _decide(want)
    if verdict["do"] == "nothing":
        return {"how": "nothing"}
    log.info("glance-api: %s", verdict)
    want = _labelled(settings, want)
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

    Returns what had to be cut at ``glance_drain_timeout``. At HAProxy the host stays drained
    until it serves again.
    """
    now, cut = __salt__["glance_container.facts"](), []
    charge = now["name"] if now["state"] == "running" else None
    before = __salt__["glance_leftovers.former"](settings)
    ours = __salt__["glance_engine.containers"]()
    # The one in charge is the last, since new connections come to it.
    for one in sorted(ours, key=lambda one: one["name"] == charge):
        left = []
        if one["name"] == charge:
            left = __salt__["glance_retire.leave"](settings, charge)["cut"]
        elif one["running"]:
            left = _let_go(settings, one["name"], charge)
        cut += left
        if one["restart_policy"] == "always":
            # With it the engine would start again what somebody has stopped.
            __salt__["glance_engine.restart_policy"](one["name"], "unless-stopped")
        __salt__["glance_engine.stop"](one["name"], _time_to_stop(settings, left))
        if remove:
            __salt__["glance_engine.remove"](one["name"])
    if remove:
        __salt__["glance_leftovers.remove"](settings, before)
    return cut


def restart(settings, name):
    """
    Stop a container and start it again, as it is; its transfers and imports end first.

    settings
        Result of ``glance_settings.get``.
    name
        Container name.

    Returns what had to be cut. Raises CommandExecutionError when it does not serve afterwards.
    """
    clock, labels = _Clock(), __salt__["glance_engine.inspect"](name)["labels"]
    cut = __salt__["glance_retire.leave"](settings, name)["cut"]
    clock.lap("transfers ended")
    __salt__["glance_newcomer.outlive_a_reboot"](name, settings["docker_restart_policy"])
    __salt__["glance_engine.stop"](name, _time_to_stop(settings, cut))
    _start_as_it_was(settings, name, labels)
    return cut


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
    return _start_as_it_was(settings, name, {})


def _start_as_it_was(settings, name, labels):
    as_it_was = {"policy": settings["docker_restart_policy"], "spec": {}, "labels": labels}
    serves, outcome = __salt__["glance_fallback.bring_back"](settings, as_it_was, name)
    if not serves:
        raise CommandExecutionError(f"{outcome}.")
    __salt__["glance_balancer.ready"](settings)
    return f"{outcome}."


def _decide(want):
    """Our containers, and what has to be done."""
    ours, verdict = _look(want)
    charge, taken = verdict["incumbent"], NAME in [one["name"] for one in ours]
    ending = verdict["do"] != "start" and __salt__["glance_container.is_ending"](charge)
    if not ending or taken:
        return ours, verdict
    # It was told to stop, and the engine has started it again since: it is in charge as before.
    __salt__["glance_newcomer.take_the_name"](charge)
    ours, verdict = _look(want)
    return ours, {**verdict, "do": verdict["do"].replace("nothing", "finish")}


def _labelled(settings, want):
    """The wanted container, with what this run has found on the way: no part of its spec."""
    found = {
        SCHEMA_LABEL: __salt__["glance_schema.checked"](),
        FORMER_LABEL: json.dumps(__salt__["glance_leftovers.former"](settings)),
    }
    return {**want, "labels": {**want["labels"], **found}}


def _look(want):
    ours = __salt__["glance_engine.containers"]()
    return ours, __salt__["glance_container.decide"](ours, want["hash"], want["policy"])


def _carry_out(settings, want, files, verdict, ours):
    remove = __salt__["glance_retire.remove"]
    incumbent, newcomer = verdict["incumbent"], verdict["newcomer"]
    if verdict["do"] == "finish":
        report = _finish(settings, want, files, incumbent, ours)
    elif verdict["do"] == "start":
        for name in verdict["retire"]:
            __salt__["glance_engine.remove"](name)
        report = _start(settings, want, files, incumbent)
    else:
        for name in verdict["retire"]:
            remove(settings, name, incumbent)
        __salt__["glance_newcomer.keep_charge"](incumbent, want)
        if newcomer and __salt__["glance_retire.has_left"](newcomer):
            # It was in charge before and answers no health check any more.
            remove(settings, newcomer, incumbent)
            newcomer = None
        why = why_drain(settings, incumbent, files)
        if not why and __salt__["glance_steering.serves_elsewhere"](settings, incumbent):
            report = _move(settings, want, files, incumbent, newcomer)
        elif why:
            if newcomer:
                remove(settings, newcomer, incumbent)
            report = _drain_first(settings, want, files, incumbent, why)
        else:
            report = _hand_over(settings, want, files, incumbent, newcomer)
    __salt__["glance_leftovers.remove"](settings)
    return report


def why_drain(settings, incumbent, files):
    """
    Why a container would be drained first and not handed over, or None when it is handed over.

    settings
        Result of ``glance_settings.get``.
    incumbent
        Name of the container in charge, which serves.
    files
        Configuration files of the new container (``glance_container.desired``).

    Returns one sentence. Raises CommandExecutionError when ``glance_replace_strategy`` demands a
    hand-over that cannot work.
    """
    strategy = settings["glance_replace_strategy"]
    if strategy == "drain":
        return "glance:glance_replace_strategy says drain"
    if __salt__["glance_steering.serves_elsewhere"](settings, incumbent):
        return None
    __salt__["glance_steering.wait_to_listen"](settings, incumbent)
    reason = __salt__["glance_handover.unsupported"](
        __salt__["glance_steering.pids"](incumbent), *__salt__["glance_steering.address"](settings)
    )
    if not reason and not _shares_address(files):
        reason = (
            "With glance-api-uwsgi.ini: {uwsgi: {reuse-port: false}} in glance:glance_custom_config"
            " the new container cannot listen beside the old one."
        )
    listens = __salt__["glance_steering.listeners"]
    if reason and strategy == "handover" and listens(settings, incumbent):
        raise CommandExecutionError(
            f"The hand-over that glance:glance_replace_strategy asks for cannot work: {reason}"
            " Set it to auto or drain."
        )
    return reason


# --------------------------------------------------------------------------- the strategies


def _hand_over(settings, want, files, incumbent, newcomer):
    clock, name = _Clock(), newcomer or want["name"]
    prefer = __salt__["glance_steering.prefer"]
    probe = functools.partial(__salt__["glance_steering.probe"], settings, incumbent, name)
    born = __salt__["glance_newcomer.birth"](incumbent)
    # One that an earlier run has made may have been given clients.
    held = __salt__["glance_newcomer.birth"](newcomer) if newcomer else None
    # From here on every new connection stays with the incumbent, but for our own probes.
    probe()
    try:
        if not newcomer:
            __salt__["glance_newcomer.create"](settings, want, files, beside=True)
        newcomer_born = __salt__["glance_newcomer.become_fit"](
            settings, name, steer=probe, probe=True, compare=True
        )
    except CommandExecutionError as err:
        prefer(settings, incumbent, name)
        undo = __salt__["glance_fallback.undo"]
        raise undo(settings, want, name, err, incumbent, born, held) from err
    clock.lap("newcomer healthy")
    return _switch(settings, want, incumbent, name, newcomer_born, clock)


def _switch(settings, want, incumbent, name, newcomer_born, clock):
    """All new connections to a newcomer that is fit; the incumbent ends in peace."""
    prefer = __salt__["glance_steering.prefer"]
    handshakes = prefer(settings, name, incumbent)
    log.info("glance-api: new connections go to %s", name)
    __salt__["glance_newcomer.take_charge"](name, want, incumbent)
    try:
        ended = __salt__["glance_retire.let_it_end"](
            settings, incumbent, handshakes, name, newcomer_born
        )
        __salt__["glance_newcomer.must_answer"](settings, name, newcomer_born)
    except CommandExecutionError as err:
        if __salt__["glance_newcomer.serves"](settings, name, newcomer_born):
            # It holds connections by now, so it is not taken away for the trouble of others.
            raise CommandExecutionError(
                f"{name} has taken over from {incumbent}, which still runs, because"
                f" {str(err).rstrip('.')}: apply again to finish the replacement."
            ) from err
        # When the newcomer died, the kernel gives everything to the incumbent already.
        prefer(settings, incumbent, name)
        undo = __salt__["glance_fallback.undo"]
        raise undo(settings, want, name, err, incumbent, held=newcomer_born) from err
    clock.lap("transfers ended")
    _end(settings, incumbent, ended["cut"])
    __salt__["glance_steering.release"](settings, name)
    __salt__["glance_newcomer.take_the_name"](name)
    clock.lap("incumbent stopped")
    return _report("hand-over", clock, ended)


def _move(settings, want, files, incumbent, newcomer):
    """Start the newcomer on its own address, beside an incumbent that serves another one."""
    clock, name = _Clock(), newcomer or want["name"]
    born = __salt__["glance_newcomer.birth"](incumbent)
    held = __salt__["glance_newcomer.birth"](newcomer) if newcomer else None
    before = _lost_before(settings, incumbent)
    try:
        if not newcomer:
            __salt__["glance_newcomer.create"](settings, want, files, beside=True)
        __salt__["glance_newcomer.become_fit"](settings, name, compare=True, before=before)
    except CommandExecutionError as err:
        undo = __salt__["glance_fallback.undo"]
        raise undo(settings, want, name, err, incumbent, born, held) from err
    clock.lap("newcomer healthy")
    ended = __salt__["glance_retire.leave"](settings, incumbent)
    __salt__["glance_newcomer.take_charge"](name, want, incumbent)
    clock.lap("transfers ended")
    _end(settings, incumbent, ended["cut"])
    __salt__["glance_newcomer.take_the_name"](name)
    clock.lap("incumbent stopped")
    return _report("hand-over", clock, ended)


def _drain_first(settings, want, files, incumbent, why):
    clock, before = _Clock(), _lost_before(settings, incumbent)
    ended = __salt__["glance_retire.leave"](settings, incumbent, in_turn=True)
    clock.lap("transfers ended")
    # Should the host be rebooted before the newcomer is there, the old one serves again.
    __salt__["glance_newcomer.outlive_a_reboot"](incumbent, want["policy"])
    stopped = __salt__["glance_retire.end"](incumbent, _time_to_stop(settings, ended["cut"]))
    clock.lap("incumbent stopped")
    _start_instead(settings, want, files, stopped, compare=True, before=before)
    clock.lap("newcomer healthy")
    __salt__["glance_balancer.ready"](settings)
    return _report("drain", clock, ended, why)


def _start(settings, want, files, fallback):
    clock = _Clock()
    # It is dead or crash-looping; either way it must not get in the way of the newcomer.
    stopped = __salt__["glance_retire.end"](fallback, AT_ONCE) if fallback else None
    _start_instead(settings, want, files, stopped)
    clock.lap("newcomer healthy")
    return _report("start", clock)


def _start_instead(settings, want, files, stopped, compare=False, before=None):
    """Start the wanted container where none serves; when it is not fit, the stopped one again."""
    name = want["name"]
    try:
        __salt__["glance_newcomer.create"](settings, want, files)
        __salt__["glance_newcomer.become_fit"](settings, name, compare=compare, before=before)
    except CommandExecutionError as err:
        raise __salt__["glance_fallback.undo"](settings, want, name, err, stopped) from err
    __salt__["glance_newcomer.keep_charge"](name, want)
    if stopped:
        __salt__["glance_engine.remove"](stopped)
    __salt__["glance_newcomer.take_the_name"](name)


def _finish(settings, want, files, name, ours):
    """End what a killed run left, with the wanted container in charge."""
    clock = _Clock()
    others = [one["name"] for one in ours if one["name"] != name]
    older = others[: [one["name"] for one in ours].index(name)]
    present = __salt__["glance_engine.inspect"](name)
    # Nothing gets the policy, or the name, before it was found fit.
    proved = present["restart_policy"] != "no" or name == NAME
    for one in reversed(older):
        if _answers_beside(settings, one, name):
            # It was not told to stop yet: from there it is a hand-over like any other.
            if proved and __salt__["glance_newcomer.serves"](settings, name, present["started_at"]):
                report = _switch(settings, want, one, name, present["started_at"], clock)
            else:
                report = _hand_over(settings, want, files, one, name)
            for other in others:
                if other != one:
                    __salt__["glance_retire.remove"](settings, other, NAME)
            return report
    if older or name != NAME or present["restart_policy"] == "no":
        _must_be_fit(settings, want, present, older[-1] if older else None, proved)
    for other in others:
        __salt__["glance_retire.remove"](settings, other, name)
    __salt__["glance_newcomer.keep_charge"](name, want)
    __salt__["glance_steering.release"](settings, name)
    __salt__["glance_newcomer.take_the_name"](name)
    clock.lap("earlier run finished")
    return _report("finish", clock)


# --------------------------------------------------------------------------- their steps


def _must_be_fit(settings, want, present, older, proved):
    """Make sure of the one in charge after a killed run: nobody may have seen it healthy yet."""
    name, since = present["name"], present["started_at"]
    steer = functools.partial(__salt__["glance_steering.prefer"], settings, name, older)
    try:
        __salt__["glance_newcomer.become_fit"](settings, name, steer=steer)
    except CommandExecutionError as err:
        reason = str(err).rstrip(".")
        if proved and __salt__["glance_newcomer.serves"](settings, name, since):
            raise CommandExecutionError(
                f"{name} has taken over and goes on serving; what an earlier run left beside it was"
                f" not touched, because {reason}: apply again when that is mended."
            ) from err
        if older:
            undo = __salt__["glance_fallback.undo"]
            raise undo(settings, want, name, err, older, held=since) from err
        raise CommandExecutionError(
            f"The container {name} of an earlier run is not fit, because {reason}. Its last log"
            f" lines:{__salt__['glance_fallback.last_words'](name)}"
        ) from err


def _shares_address(files):
    """Whether a container with this configuration lets others listen on its address."""
    uwsgi = files.get("glance-api-uwsgi.ini")
    return uwsgi is None or "\nreuse-port = true\n" in uwsgi["text"]


def _answers_beside(settings, name, charge):
    """Whether a container beside the one in charge is alive, was not told to stop and answers."""
    if __salt__["glance_container.is_ending"](name):
        return False
    if not __salt__["glance_steering.listeners"](settings, name):
        return False
    __salt__["glance_steering.probe"](settings, charge, name)
    return __salt__["glance_api.probe_once"](settings, probe=True)["ok"]


def _let_go(settings, name, charge):
    """Let a container that is not in charge end its transfers. Returns what had to be cut."""
    there = __salt__["glance_steering.reached"](settings, name)
    handshakes = __salt__["glance_steering.prefer"](there, charge, name)
    return __salt__["glance_retire.let_it_end"](there, name, handshakes)["cut"]


def _lost_before(settings, incumbent):
    """Stores that do not work in the incumbent, asked while it serves; none if it cannot tell."""
    there = __salt__["glance_steering.reached"](settings, incumbent)
    try:
        return __salt__["glance_check.lost"](there)
    except CommandExecutionError as err:
        log.warning("glance-api: the stores of %s are not known: %s", incumbent, err)
        return {}


def _end(settings, name, cut):
    stopped = __salt__["glance_retire.end"](name, _time_to_stop(settings, cut))
    __salt__["glance_engine.remove"](stopped)


def _time_to_stop(settings, cut):
    return __salt__["glance_retire.time_to_stop"](settings, cut)


def _report(how, clock, ended=None, why=""):
    return {"how": how, "why": why, "seconds": clock.laps, "waited_for": [], "cut": [],
            **(ended or {})}  # fmt: skip


class _Clock:
    """Seconds of each phase, for the report."""

    def __init__(self):
        self.laps, self._last = {}, time.monotonic()

    def lap(self, phase):
        now = time.monotonic()
        self.laps[phase], self._last = round(now - self._last, 1), now
        __salt__["glance_progress.tell"](phase, "ends", self.laps[phase])
