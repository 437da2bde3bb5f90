"""Upgrades of three hosts, at length: all pairs many times, all kinds of bad releases."""

import time

import pytest

from support.deployed import wait_for
from support.rolls import (
    ADVISORIES,
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

pytestmark = [pytest.mark.upgrade, pytest.mark.soak]

REQUESTS = 5000
RATE = 20
TIMES = 5
STRATEGIES = [*(f"auto {n}" for n in range(1, TIMES + 1)), "drain"]
PAIRS = [(OLD, NEW), ("2025.2", "2026.1"), ("2026.1", "2026.2")]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_rolling_at_length(cluster, old, new, strategy):
    cluster.image(new)
    cluster.deploy(old, glance_api_workers=3)
    cluster.pillar(
        glance_api_image_full=cluster.image(new),
        glance_enable_rolling_upgrade="yes",
        glance_accepted_advisories=ADVISORIES,
        glance_replace_strategy=strategy.split()[0],
    )
    with cluster.load(rate=RATE) as load, Rotation(cluster.haproxy) as rotation:
        load.wait(requests=REQUESTS // 10)
        roll = Roll(cluster)
        load.wait(requests=REQUESTS, seconds=600)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    is_good(report)
    rotation.check()
    assert everywhere(cluster, new) and left_over(cluster) == []
    again = Roll(cluster)
    assert again.rc == 0 and again.changed == []


@pytest.mark.parametrize(
    ("kind", "values", "keys", "words"),
    [
        ("exits", {}, {}, "it exited with code 3"),
        ("refuses", {}, {"glance_healthy_deadline": 10}, "it was not healthy within 10 seconds"),
        ("dies", {"seconds": 12}, {"glance_min_healthy_time": 60}, "it exited with code 9"),
    ],
)
def test_a_bad_release_shows_before_the_switch(cluster, kind, values, keys, words):
    on_the_old_release(cluster)
    cluster.pillar(glance_api_image_full=bad_release(cluster, NEW, kind, **values), **keys)
    before = {host.id: host.container.id for host in cluster.hosts}
    with cluster.load(rate=RATE) as load:
        roll = Roll(cluster)
        report = load.stop()
    cluster.pillar(**dict.fromkeys(keys, 2 if "glance_min_healthy_time" in keys else None))
    told = roll.report.splitlines()
    assert roll.rc != 0 and words in told[0], roll.comments
    assert told[1:3] == ["  failed: ctl1", "  untouched: ctl2, ctl3"]
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert heads(cluster) == BETWEEN, "the database stays expanded, which the old release supports"
    assert left_over(cluster) == []
    is_good(report)


BACK = 60  # seconds within which the old container must be in charge again


def test_a_release_that_dies_after_the_switch_is_taken_back(cluster):
    """What was inside it is lost; the others are not touched, and no image is altered."""
    on_the_old_release(cluster)
    sign = cluster.shared / "images" / "die"  # the volume is the parent of the images
    image = bad_release(cluster, NEW, "fails", file="/var/lib/glance/images/die")
    cluster.pillar(glance_api_image_full=image)
    before = {host.id: host.container.id for host in cluster.hosts}
    first = cluster.hosts[0]
    try:
        with cluster.load(rate=RATE, kinds="lists,upload_slow,download_slow") as load:
            job = start(cluster)
            # The newcomer gets its restart policy when it gets the new connections.
            wait_for(lambda: job.ended or _in_charge(first) != before[first.id], 240, "a switch")
            sign.touch()
            died = time.monotonic()
            wait_for(lambda: _is_back(cluster, first, before[first.id]), BACK, "a way back")
            took = time.monotonic() - died
            roll = Roll(cluster, job=job)
            report = load.stop()
    finally:
        sign.unlink(missing_ok=True)
    print(f"\nback after {took:.1f} s; {report['failed']} of {report['requests']} requests failed")
    assert roll.rc != 0 and "is in charge again" in roll.failed, roll.comments
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert left_over(cluster) == []
    assert {one["state"] for one in report["ledger"]} <= {"verified", "deleted"}
    seconds = [one["at"] for one in report["failures"]] or [0]
    assert max(seconds) - min(seconds) < BACK, report["failures"]


def _in_charge(host):
    """The id of the newest container that comes back after a reboot."""
    with_policy = [
        one.id
        for one in host.containers()
        if one.attrs["HostConfig"]["RestartPolicy"]["Name"] not in ("", "no")
    ]
    return with_policy[0] if with_policy else None


def _is_back(cluster, host, container_id):
    return [one.id for one in host.containers()] == [container_id] and (
        cluster.ask("GET", "/v2/images?limit=1", host)[0] == 200
    )


@pytest.mark.parametrize(("strategy", "fewest"), [("handover", 2), ("drain", 1)])
def test_two_at_once_after_the_first_and_the_last_phase_later(cluster, strategy, fewest):
    """By hand-over nobody is away, by drain as many as allowed; a held contract ends by itself."""
    on_the_old_release(cluster, fresh_schema=True)
    keys = {"glance_upgrade_max_unavailable": "67%", "glance_replace_strategy": strategy}
    cluster.pillar(glance_upgrade_contract="hold", **keys)
    with cluster.load(rate=RATE) as load, Rotation(cluster.haproxy) as rotation:
        roll = Roll(cluster)
        held = heads(cluster)
        cluster.pillar(glance_upgrade_contract="auto")
        last = Roll(cluster)
        report = load.stop()
    cluster.pillar(glance_upgrade_contract=None, **dict.fromkeys(keys))
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert f"Glance {NEW} is in charge on ctl2, ctl3" in roll.steps
    assert held == BETWEEN and "until then rollback works" in roll.report
    assert last.rc == 0, (last.failed, cluster.told(last.answer))
    assert heads(cluster) == NEW_HEADS and everywhere(cluster, NEW)
    rotation.check(fewest)
    assert strategy == "handover" or rotation.fewest == fewest, "they took turns"
    is_good(report)


def test_an_image_that_is_always_pulled_is_pulled_once_before_the_plan(cluster, registry, image):
    """What is planned, and what is refused, is decided by what the registry has now."""
    on_the_old_release(cluster)
    name = registry.push(image(NEW), tag=NEW)
    cluster.pillar(
        glance_api_image_full=name, glance_image_pull="always", glance_accepted_advisories=[]
    )
    refused = Roll(cluster)
    assert refused.rc != 0 and "\nThe image holds Glance 28.2.0, which" in refused.report
    assert everywhere(cluster, OLD) and left_over(cluster) == []

    cluster.pillar(glance_accepted_advisories=ADVISORIES)
    with cluster.load(rate=RATE) as load:
        roll = Roll(cluster)
        report = load.stop()
    again = Roll(cluster)
    cluster.pillar(glance_image_pull="never")
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert {"The image is on ctl1, ctl2, ctl3", "The rest is planned and done"} <= set(roll.steps)
    assert everywhere(cluster, NEW) and heads(cluster) == NEW_HEADS
    is_good(report)
    assert "\nThe upgrade is finished (" in roll.report
    assert again.rc == 0 and again.report.endswith(f"\nEvery host runs Glance {NEW}.")
