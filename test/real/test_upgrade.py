"""Upgrades of three hosts by the orchestration, from 2023.2 to 2024.1: the last real schema work.

The tests of a sequence start from what the one before has left, and bring about by themselves
what that is when they run alone.
"""

import os
import signal

import pytest

from support.deployed import wait_for
from support.rolls import (
    BETWEEN,
    NEW,
    NEW_HEADS,
    OLD,
    Roll,
    Rotation,
    bad_release,
    everywhere,
    heads,
    is_good,
    left_over,
    on_the_old_release,
    start,
)

pytestmark = pytest.mark.upgrade

REQUESTS = 1500
RATE = 20
LONG = 480  # seconds that the first hosts may take on a busy machine
LIMIT = 1.15  # of the seconds that cannot be avoided


def test_a_known_hole_is_refused_and_nothing_is_touched(cluster):
    on_the_old_release(cluster)
    cluster.pillar(glance_accepted_advisories=[])
    refused = Roll(cluster)
    assert refused.rc != 0 and "OSSA-2026-004" in refused.failed, refused.comments
    assert refused.changed == []
    assert everywhere(cluster, OLD) and left_over(cluster) == []


def test_a_bad_release_stops_at_the_canary(cluster):
    on_the_old_release(cluster)
    cluster.pillar(glance_api_image_full=bad_release(cluster, NEW))
    before = {host.id: host.container.id for host in cluster.hosts}
    with cluster.load(rate=RATE, kinds="lists,transfers") as load:
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc != 0 and "exited with code 3" in roll.failed, roll.comments
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert heads(cluster) == BETWEEN, "the database stays expanded, which the old release supports"
    assert left_over(cluster) == []
    is_good(report)


def test_a_killed_run_goes_on_with_the_same_command(cluster):
    on_the_old_release(cluster)
    cluster.pillar(glance_upgrade_contract="hold")
    with cluster.load(rate=RATE) as load:
        job = start(cluster)
        second = cluster.hosts[1]
        both = 2  # containers, while one takes over from the other
        wait_for(lambda: len(second.containers()) == both or job.ended, LONG, "a hand-over")
        os.killpg(job.process.pid, signal.SIGKILL)
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, NEW) and heads(cluster) == BETWEEN
    assert left_over(cluster) == []
    is_good(report)


def test_rollback_before_contract(cluster):
    if not everywhere(cluster, NEW) or heads(cluster) != BETWEEN:
        on_the_old_release(cluster)
        cluster.pillar(glance_upgrade_contract="hold")
        assert Roll(cluster).rc == 0
    cluster.pillar(glance_api_image_full=cluster.image(OLD))
    with cluster.load(rate=RATE) as load:
        roll = Roll(cluster, "rollback")
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, OLD) and heads(cluster) == BETWEEN
    is_good(report)


def test_rolling_under_load(cluster):
    """No failed request, no altered image, and at least two hosts in rotation all the time."""
    on_the_old_release(cluster)
    with cluster.load(rate=RATE) as load, Rotation(cluster.haproxy) as rotation:
        load.wait(requests=REQUESTS // 4)
        roll = Roll(cluster)
        load.wait(requests=REQUESTS)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    is_good(report)
    assert rotation.fewest >= 2, rotation.seen
    assert everywhere(cluster, NEW) and heads(cluster) == NEW_HEADS
    assert left_over(cluster) == []
    print(f"rolling took {roll.seconds:.1f} s; unavoidable are {roll.unavoidable():.1f} s")


@pytest.mark.soak
def test_rolling_takes_what_cannot_be_avoided_and_is_over_then(cluster):
    on_the_old_release(cluster)
    roll = Roll(cluster)
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    unavoidable = roll.unavoidable()
    print(f"rolling took {roll.seconds:.1f} s; unavoidable are {unavoidable:.1f} s")
    assert roll.seconds <= LIMIT * unavoidable, roll.comments

    again = Roll(cluster)
    assert again.rc == 0 and again.changed == [], again.comments
    assert again.seconds < 10, again.seconds

    # Back to the old release: no way, for the schema is the new one's alone by now.
    cluster.pillar(glance_api_image_full=cluster.image(OLD))
    refused = Roll(cluster, "rollback")
    assert refused.rc != 0 and "backup" in refused.failed, refused.comments
    assert everywhere(cluster, NEW)


@pytest.mark.soak
def test_legacy_has_one_short_stop(cluster):
    on_the_old_release(cluster, rolling="no")
    with cluster.load(rate=RATE, kinds="lists") as load:
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, NEW) and heads(cluster) == NEW_HEADS
    assert left_over(cluster) == []
    failures = [one["at"] for one in report["failures"]]
    outage = max(failures) - min(failures)
    parts = sum(roll.step_seconds(phase) for phase in ("stopped", "database is", "in charge"))
    print(f"\nno answer for {outage:.1f} s; stop, sync and start took {parts:.1f} s")
    assert outage <= parts + 3, "nothing else may lie between the first stop and the last start"


def test_one_host_with_files_of_its_own_hands_over(cluster):
    first = cluster.hosts[0]
    cluster.fresh(
        "2026.1",
        glance_api_group=[first.id],
        glance_file_datadir_volume="glance",
        glance_file_datadir_shared=None,
        glance_enable_rolling_upgrade=None,
        glance_api_workers=4,
        enable_haproxy="no",
    )
    cluster.apply(first.id)
    cluster.pillar(
        glance_api_image_full=cluster.image("2026.2"), glance_upgrade_handover_single_host="yes"
    )
    with cluster.load(rate=RATE, url=first.url) as load:
        load.wait(requests=200)
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, first.logs())
    assert [one.labels["glance.release"] for one in first.containers()] == ["2026.2"]
    is_good(report)
