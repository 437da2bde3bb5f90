"""A replacement that is killed, or hit by a death, a reboot or another edit, at every step of it.

The world is a model (support/model_host.py), so that every step can be tried; that the model is
right is shown on a real engine by test/real/test_killed_runs.py.
"""

import contextlib
import itertools
import os
import re

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_container
import glance_fallback
import glance_leftovers
import glance_newcomer
import glance_replace
from support.model_host import FAULTY, HERE, LOADING, NAME, REPLACING, STOPPING, Host, Killed

pytestmark = pytest.mark.one_host

LAST = 60  # more effects than any run has
BEHAVIOURS = {"old": "good", "new": "good", "other": "good"}
MOVES = {"new": "10.0.0.6"}  # at which address a spec serves, where it is another one


@pytest.fixture
def host_with(tmp_path, monkeypatch):
    """A function: options of Host -> one on which the spec ``old`` is deployed."""
    numbers = itertools.count()
    for module in REPLACING:
        if hasattr(module, "log"):
            monkeypatch.setattr(module.log, "disabled", True)

    def make(behaviours=None, **options):
        made = Host(tmp_path / str(next(numbers)), {**BEHAVIOURS, **(behaviours or {})}, **options)
        functions = made.salt()
        for module in REPLACING:
            monkeypatch.setattr(module, "__salt__", functions, raising=False)
            if hasattr(module, "time"):
                monkeypatch.setattr(module, "time", made.clock)
        run(made, "old")
        return made

    return make


def run(host, spec, kill_at=None):
    """Apply a spec; killed at an effect if wanted. Returns "ended", "killed" or the error."""
    host.effects, host.dead, host.kill_at = 0, False, kill_at
    try:
        settings = host.settings_for(spec)
        if glance_replace.run(settings, host.want(spec), {})["how"] == "nothing":
            glance_leftovers.remove(host.settings)  # as the state does
    except Killed:
        return "killed"
    except CommandExecutionError as error:
        return str(error)
    finally:
        host.dead = False
    return "ended"


def is_whole(host, spec):
    """Exactly one container, of this spec, in charge, and nothing left over."""
    (only,) = host.containers
    assert (only.name, only.spec, only.policy) == (NAME, spec, host.policy)
    host.pass_time(LOADING)
    assert only.running and host.answers(only.address) and only.drained is None
    assert not host.balanced_out
    verdict = glance_container.decide(host._containers(), spec, host.policy)
    assert verdict["do"] == "nothing"
    assert os.listdir(host.settings["snapshot_dir"]) == [spec]


@pytest.mark.parametrize("behaviour", ["good", "exits", "shallow"])
def test_after_a_hand_over_the_kernel_decides_by_itself_again(host_with, behaviour):
    host = host_with({"new": behaviour})
    run(host, "new")
    assert "deep check" in host.events
    assert (host.order, host.probes) == ({}, {})


@pytest.mark.parametrize("policy", ["unless-stopped", "always", "no"])
@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_hand_over_killed_at_every_step(host_with, target, policy):
    for step in range(1, LAST):
        host = host_with(policy=policy)
        host.watch = True
        if run(host, "new", kill_at=step) == "ended":
            break
        assert run(host, target) == "ended", f"killed at {step}: {host.events}"
        is_whole(host, target)
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
    assert step > 8


@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_hand_over_killed_twice(host_with, target):
    for first in range(1, LAST):
        for second in range(1, LAST):
            host = host_with()
            host.watch = True
            if run(host, "new", kill_at=first) == "ended":
                return
            ended = run(host, target, kill_at=second) == "ended"
            assert run(host, target) == "ended", f"killed at {first}, {second}: {host.events}"
            is_whole(host, target)
            assert not host.refused, f"killed at {first}, {second}: {host.refused} {host.events}"
            if ended:
                break


@pytest.mark.parametrize("policy", ["unless-stopped", "always"])
@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_reboot_at_every_step_of_a_hand_over(host_with, target, policy):
    for step, patience in itertools.product(range(1, LAST), (0, LOADING)):
        host = host_with(policy=policy)
        if run(host, "new", kill_at=step) == "ended":
            break
        host.reboot()
        host.pass_time(patience)
        assert host.answers() or not patience, f"nothing serves after a reboot at {step}"
        host.watch = bool(patience)
        assert run(host, target) == "ended", f"rebooted at {step}: {host.events}"
        is_whole(host, target)
        assert not host.refused, f"rebooted at {step}: {host.refused} {host.events}"


@pytest.mark.parametrize("behaviour", ["exits", "refuses", "dies", *FAULTY])
def test_a_bad_newcomer_killed_at_every_step(host_with, behaviour):
    for step in range(1, LAST):
        host = host_with({"new": behaviour})
        host.settings["glance_min_healthy_time"] = 10
        host.watch = True
        killed = run(host, "new", kill_at=step) == "killed"
        assert "taken away again" in run(host, "new")
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        is_whole(host, "old")
        assert host.order == {}
        if not killed:
            break


@pytest.mark.parametrize("strategy", ["auto", "drain"])
@pytest.mark.parametrize("behaviour", ["refuses", *FAULTY])
def test_a_reboot_never_brings_up_a_newcomer_that_is_not_fit(host_with, behaviour, strategy):
    for step in range(1, LAST):
        host = host_with({"new": behaviour}, strategy=strategy)
        if run(host, "new", kill_at=step) != "killed":
            break
        host.reboot()
        host.pass_time(LOADING)
        assert host.keeps_images(), f"rebooted at {step}: {host.events}"
    assert step > 8


@pytest.mark.parametrize("death", ["crash", "kill", "vanish"])
@pytest.mark.parametrize("victim", ["old", "new"])
@pytest.mark.parametrize("strategy", ["auto", "drain"])
@pytest.mark.parametrize("behaviour", ["good", "refuses"])
def test_a_container_dies_at_every_step(host_with, death, victim, strategy, behaviour):
    for step in range(1, LAST):
        host = host_with({"new": behaviour}, strategy=strategy)

        def strike(effects, host=host, at=step):
            for one in host.containers:
                if effects == at and one.spec == victim and one.running:
                    host.on_effect = None
                    getattr(host, death)(one)

        host.on_effect = strike
        run(host, "new")
        if host.on_effect:
            if step > 25:
                break
            continue
        host.pass_time(LOADING)
        alone = not host.containers or (
            len(host.containers) == 1 and host.containers[0].spec == victim
        )
        if not alone or (death == "crash" and host.containers):
            assert host.answers(), f"nothing serves after a death at {step}: {host.events}"
        assert run(host, "new" if behaviour == "good" else "old") == "ended", host.events
        is_whole(host, "new" if behaviour == "good" else "old")


def test_an_incumbent_that_crashes_before_its_stop_holds_nobody_up(host_with):
    """Told to stop while it loads again, it never ends by itself."""
    struck = 0
    for step in range(1, LAST):
        host = host_with()
        began, old = host.clock.now, host.containers[0]

        def strike(effects, host=host, at=step, old=old):
            if effects == at and old.running and old.stops_at is None:
                host.on_effect = None
                host.crash(old)

        host.on_effect = strike
        assert run(host, "new") == "ended", host.events
        is_whole(host, "new")
        assert host.clock.now - began < 1.5 * host.settings["docker_graceful_timeout"], host.events
        struck += host.on_effect is None
    assert struck > 8


@pytest.mark.parametrize("death", ["crash", "kill"])
@pytest.mark.parametrize("victim", ["old", "new"])
@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_a_container_dies_after_a_kill(host_with, death, victim, target):
    for step in range(1, LAST):
        for patience in (0, LOADING):
            host = host_with()
            if run(host, "new", kill_at=step) == "ended":
                return
            for one in host.containers:
                if one.spec == victim and one.running:
                    getattr(host, death)(one)
            host.pass_time(patience)
            assert run(host, target) == "ended", f"killed at {step}: {host.events}"
            is_whole(host, target)


@pytest.mark.parametrize("policy", ["unless-stopped", "always", "no"])
@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_drain_killed_at_every_step(host_with, target, policy):
    for first in range(1, LAST):
        for second in range(1, LAST):
            host = host_with(policy=policy, strategy="drain")
            if run(host, "new", kill_at=first) == "ended":
                return
            ended = run(host, target, kill_at=second) == "ended"
            assert run(host, target) == "ended", f"killed at {first}, {second}: {host.events}"
            is_whole(host, target)
            if ended:
                break


@pytest.mark.parametrize("policy", ["unless-stopped", "always"])
@pytest.mark.parametrize("target", ["new", "old", "other"])
def test_reboot_at_every_step_of_a_drain(host_with, target, policy):
    """What came back has clients again: its transfers end before it stops."""
    for step, patience in itertools.product(range(1, LAST), (0, LOADING)):
        host = host_with(policy=policy, strategy="drain")
        if run(host, "new", kill_at=step) == "ended":
            break
        host.reboot()
        host.pass_time(patience)
        assert host.answers() or not patience, f"nothing serves after a reboot at {step}"
        for one in host.receivers(HERE) if patience else []:
            one.transfers_end = host.clock.now + 60
        assert run(host, target) == "ended", f"rebooted at {step}: {host.events}"
        assert not host.refused, f"rebooted at {step}: {host.refused} {host.events}"
        is_whole(host, target)


@pytest.mark.parametrize("behaviour", ["exits", "refuses", "dies", *FAULTY])
def test_drain_goes_back_to_the_old_container(host_with, behaviour):
    host = host_with({"new": behaviour}, strategy="drain")
    host.settings["glance_min_healthy_time"] = 10
    assert "was started again and serves" in run(host, "new")
    is_whole(host, "old")


def test_drain_tells_the_load_balancer_before_it_waits_and_after_it_serves(host_with):
    host = host_with(strategy="drain")
    host.events.clear()
    assert run(host, "new") == "ended"
    steps = [
        "drain at the load balancer",
        "wait until idle",
        "stop glance_api_old_ending",
        "start glance_api_new",
        "check of all stores",
        "back into rotation",
    ]
    # Without the life in which it was told to stop.
    told = [re.sub(r"_[0-9a-f]{8}_ending", "_ending", one) for one in host.events]
    assert [one for one in told if one in steps] == steps
    assert host.events.index("drain") < host.events.index("wait until idle")


UNSHARED = "The listener on 10.0.0.5:9292 was opened without SO_REUSEPORT."
ALONE = {"glance-api-uwsgi.ini": {"text": "[uwsgi]\nreuse-port = false\n"}}


@pytest.mark.parametrize(("unshared", "files"), [(UNSHARED, {}), (None, ALONE)])
def test_where_the_address_cannot_be_shared_it_is_drained_first_or_refused(
    host_with, unshared, files
):
    host = host_with()
    host.unshared = unshared
    host.settings["glance_replace_strategy"], before = "handover", list(host.events)
    with pytest.raises(CommandExecutionError, match="cannot work: .*(SO_REUSEPORT|reuse-port)"):
        glance_replace.run(host.settings_for("new"), host.want("new"), files)
    assert host.events == before
    host.settings["glance_replace_strategy"] = "auto"
    report = glance_replace.run(host.settings_for("new"), host.want("new"), files)
    assert report["how"] == "drain"
    assert report["why"].startswith(unshared or "With glance-api-uwsgi.ini")
    is_whole(host, "new")


@pytest.mark.parametrize("strategy", ["drain", "auto"])
@pytest.mark.parametrize("addresses", [None, MOVES])
def test_a_store_that_was_lost_before_holds_no_change_up(host_with, strategy, addresses):
    host = host_with({"new": "poorer"}, strategy=strategy, addresses=addresses)
    host.containers[0].behaviour = "poorer"
    assert run(host, "new") == "ended"
    is_whole(host, "new")


@pytest.mark.parametrize("strategy", ["drain", "auto"])
def test_an_old_release_stays_stopped_when_the_schema_has_left_it_behind(host_with, strategy):
    host = host_with({"new": "refuses"}, strategy=strategy)
    host.unfit = "Glance old does not know the schema (x) any more"
    host.kill(host.containers[0])
    told = run(host, "new")
    assert "was not started again, because Glance old does not know the schema (x)" in told
    assert not host.containers[0].running


@pytest.mark.parametrize(
    ("away", "told"), [(90, "again and serves."), (1000, "could not be looked at")]
)
def test_a_database_that_is_away_keeps_no_old_release_stopped(host_with, away, told):
    """Whatever it is that its absence has made fail: the new container, or a legacy upgrade."""
    host = host_with(strategy="drain")

    def go_away(_effects):
        stopped = [one for one in host.containers if one.spec == "old" and not one.running]
        if stopped and not host.database_back:
            host.database_back = host.clock.now + away

    host.on_effect = go_away
    said = run(host, "new")
    host.pass_time(away)
    assert host.answers(), said
    is_whole(host, "old")
    assert "taken away again" in said and told in said

    host = host_with()
    host.kill(host.containers[0])
    host.database_back = host.clock.now + away
    with contextlib.suppress(CommandExecutionError):
        glance_replace.start_again(host.settings_for("old"), NAME)
    host.pass_time(away)
    is_whole(host, "old")


def test_a_pillar_that_the_old_release_cannot_follow_keeps_it_from_nothing(host_with):
    host = host_with({"new": "refuses"}, strategy="drain")
    host.unfit = SaltInvocationError("glance:x needs an image of 2025.1 or newer.")
    assert "serves, although its schema could not be looked at (glance:x" in run(host, "new")
    is_whole(host, "old")


def test_what_was_stopped_for_an_upgrade_starts_again_as_it_was(host_with):
    host = host_with()
    host.kill(host.containers[0])
    host.unfit = "Glance old does not know the schema (x) any more"
    with pytest.raises(CommandExecutionError, match="does not know the schema"):
        glance_replace.start_again(host.settings_for("old"), NAME)
    host.unfit = None
    told = glance_replace.start_again(host.settings_for("old"), NAME)
    assert told == "glance_api was started again and serves."
    is_whole(host, "old")


def test_a_restart_lets_transfers_end_and_brings_the_same_container_back(host_with):
    host = host_with()
    host.containers[0].transfers_end = host.clock.now + 60
    host.unfit = "not to be asked: its release is the same"
    assert glance_replace.restart(host.settings_for("old"), NAME) == []
    assert not host.refused and host.containers[0].starts == 2
    is_whole(host, "old")


@pytest.mark.parametrize("again", ["run", "start again"])
def test_what_is_stopped_stays_out_of_rotation_until_it_serves(host_with, again):
    """HAProxy would send to a port on which nobody listens until its checks have noticed."""
    host = host_with()
    assert glance_replace.stop_all(host.settings_for("old"), remove=False) == []
    assert host.balanced_out and "back into rotation" not in host.events
    if again == "run":
        assert run(host, "old") == "ended"
    else:
        glance_replace.start_again(host.settings_for("old"), NAME)
    is_whole(host, "old")
    glance_replace.stop_all(host.settings_for("old"), remove=True)
    assert host.balanced_out and host.containers == []


def test_what_is_stopped_outlives_a_reboot_as_stopped(host_with):
    """While a legacy upgrade works on the schema no old API may come back by itself."""
    host = host_with(policy="always")
    glance_replace.stop_all(host.settings_for("old"), remove=False)
    host.reboot()
    assert not host.containers[0].running
    assert run(host, "old") == "ended"
    is_whole(host, "old")


def test_every_container_that_is_stopped_ends_its_transfers(host_with):
    """Of two, after a hand-over that was killed, either may have some."""
    for step in range(1, LAST):
        host = host_with()
        if run(host, "new", kill_at=step) == "ended":
            return
        for one in host.containers:
            if one.stops_at is None:
                one.transfers_end = host.clock.now + 60
        glance_replace.stop_all(host.settings_for("new"), remove=False)
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        assert not any(one.running for one in host.containers)


def test_a_log_that_cannot_be_read_keeps_no_old_container_stopped(host_with):
    host = host_with({"new": "refuses"}, strategy="drain")

    def fail(_):
        raise CommandExecutionError("The log cannot be read.")

    glance_fallback.__salt__["glance_engine.logs"] = fail
    assert "again and serves. Its last log lines: (unknown: The log" in run(host, "new")
    is_whole(host, "old")


def test_a_stopped_container_is_not_given_up_before_the_new_one_is_fit(host_with):
    host = host_with({"new": "refuses"})
    host.kill(host.containers[0])
    assert "was started again and serves" in run(host, "new")
    is_whole(host, "old")


def test_the_old_container_outlives_a_newcomer_that_turned_bad(host_with):
    """Killed after the switch; until the next run the newcomer has begun to answer with errors."""
    for step in range(1, LAST):
        host = host_with()
        if run(host, "new", kill_at=step) == "ended":
            return
        if len(host.containers) < 2 or any(one.stops_at for one in host.containers):
            continue
        host.containers[-1].behaviour = host.behaviours["new"] = "refuses"
        assert "taken away again" in run(host, "new"), host.events
        is_whole(host, "old")


@pytest.mark.parametrize("policy", ["unless-stopped", "no"])
@pytest.mark.parametrize("strategy", ["auto", "drain"])
@pytest.mark.parametrize("addresses", [None, {"new": "10.0.0.6"}])
def test_a_check_that_fails_cuts_nobody_off_from_a_newcomer(host_with, policy, strategy, addresses):
    """Keystone is away when the run that was killed is repeated: that is not the newcomer's fault.

    What clients have in it ends, and it stays where it was in charge. Without a restart policy
    nothing tells that, so that one which is alone may be exchanged for the old one again.
    """
    for step in range(1, LAST):
        host = host_with(policy=policy, strategy=strategy, addresses=addresses)
        host.watch = strategy == "auto" and policy != "no"
        if run(host, "new", kill_at=step) == "ended":
            break
        newcomer = next((one for one in host.containers if one.spec == "new"), None)
        holds = newcomer and newcomer.running and newcomer in host.receivers(newcomer.address)
        charge = glance_container.decide(host._containers(), "new", policy)["incumbent"]
        in_charge = holds and newcomer.policy != "no" and newcomer.name == charge
        host.pass_time(LOADING if holds else 0)
        if holds:
            newcomer.transfers_end = host.clock.now + 60
        host.keystone_away = True
        said = run(host, "new")
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        assert not (holds and "no request failed" in said), f"killed at {step}: {said}"
        assert not in_charge or newcomer in host.containers, f"killed at {step}: {said}"
        assert host.answers(), f"killed at {step}: {said}"
        host.keystone_away = False
        assert run(host, "new") == "ended"
        is_whole(host, "new")
    assert step > 8


def test_a_reboot_while_a_newcomer_is_taken_away_brings_the_old_one_up(host_with):
    """Its transfers may take minutes, in which the old one must have the restart policy."""
    for first, second in itertools.product(range(1, LAST), range(1, LAST)):
        host = host_with()
        if run(host, "new", kill_at=first) == "ended":
            return
        if len(host.containers) < 2 or any(one.stops_at for one in host.containers):
            continue
        old, new = host.containers
        new.behaviour = host.behaviours["new"] = "refuses"
        host.settings["glance_healthy_deadline"] = 1
        if run(host, "new", kill_at=second) == "killed" and new.policy == "no":
            host.reboot()
            assert old.running, f"killed at {first}, rebooted at {second}: {host.events}"


def test_slow_transfers_end_in_peace(host_with):
    for step in range(1, LAST):
        host = host_with()
        host.containers[0].transfers_end = host.clock.now + 60
        host.watch = True
        ended = run(host, "new", kill_at=step) == "ended"
        assert run(host, "new") == "ended"
        is_whole(host, "new")
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        assert host.clock.now > 1060 + STOPPING
        if ended:
            return


@pytest.mark.parametrize("strategy", ["auto", "drain"])
@pytest.mark.parametrize("addresses", [None, MOVES])
def test_imports_without_a_connection_end_in_peace(host_with, strategy, addresses):
    for step in range(1, LAST):
        host = host_with(strategy=strategy, addresses=addresses)
        host.containers[0].import_ends = host.clock.now + 60
        ended = run(host, "new", kill_at=step) == "ended"
        assert run(host, "new") == "ended"
        is_whole(host, "new")
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        if ended:
            return


def test_a_container_bears_what_was_found_when_it_was_made(host_with):
    """It is no part of what it is made from, so the next run finds it as wanted."""
    host, made = host_with(), []
    functions = glance_newcomer.__salt__
    create = functions["glance_engine.create"]

    def noted(name, spec, labels, policy):
        made.append(labels)
        create(name, spec, labels, policy)

    functions["glance_engine.create"] = noted
    functions["glance_leftovers.former"] = lambda settings: ["/before/glance-api.d"]
    want = host.want("new")
    glance_replace.run(host.settings_for("new"), want, {})
    found = {"glance.schema": "seen", "glance.former": '["/before/glance-api.d"]'}
    assert made == [{**want["labels"], **found}]
    assert want == host.want("new")


def test_what_was_waited_for_is_told(host_with):
    host = host_with()
    host.containers[0].transfers_end = host.clock.now + 60
    host.containers[0].import_ends = host.clock.now + 90
    report = glance_replace.run(host.settings_for("new"), host.want("new"), {})
    assert (report["waited_for"], report["cut"]) == (["1 connection", "1 import"], [])


def test_what_goes_on_at_the_deadline_is_cut_and_told(host_with):
    host = host_with()
    host.containers[0].import_ends = host.clock.now + 1000
    report = glance_replace.run(host.settings_for("new"), host.want("new"), {})
    assert report["cut"] == ["the import of image old"]
    assert host.clock.now > 1000 + host.settings["glance_drain_timeout"]
    is_whole(host, "new")


def test_without_keystone_there_are_no_imports_to_ask_for(host_with):
    """A trial has its database where its images are, and that may be away."""
    host = host_with()
    host.settings["keystone"] = False
    host.containers[0].import_ends = host.clock.now + 1000
    report = glance_replace.run(host.settings_for("new"), host.want("new"), {})
    assert report["cut"] == []
    assert host.clock.now < 1000 + host.settings["glance_drain_timeout"]
    is_whole(host, "new")


def test_the_policy_of_a_container_that_crashed_once_can_be_changed(host_with):
    host = host_with()
    host.crash(host.containers[0])
    host.pass_time(LOADING)
    host.policy = "always"
    assert run(host, "old") == "ended"
    is_whole(host, "old")


@pytest.mark.parametrize("target", ["new", "old", "other"])
@pytest.mark.parametrize("happening", ["kill", "reboot"])
def test_move_to_another_address_killed_at_every_step(host_with, target, happening):
    for first in range(1, LAST):
        for second in range(1, LAST):
            host = host_with(addresses=MOVES)
            host.watch = True
            if run(host, "new", kill_at=first) == "ended":
                return
            if happening == "reboot":
                host.watch = False
                host.reboot()
                host.pass_time(LOADING)
                assert host.answers(), f"nothing serves after a reboot at {first}"
                host.watch = True
            ended = run(host, target, kill_at=second) == "ended"
            assert run(host, target) == "ended", f"killed at {first}, {second}: {host.events}"
            is_whole(host, target)
            assert not host.refused, f"killed at {first}, {second}: {host.refused} {host.events}"
            if ended:
                break


def test_slow_transfers_at_the_old_address_end_in_peace(host_with):
    for step in range(1, LAST):
        host = host_with(addresses=MOVES)
        host.containers[0].transfers_end = host.clock.now + 60
        host.watch = True
        ended = run(host, "new", kill_at=step) == "ended"
        assert run(host, "new") == "ended"
        is_whole(host, "new")
        assert not host.refused, f"killed at {step}: {host.refused} {host.events}"
        if ended:
            return
