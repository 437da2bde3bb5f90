"""Upgrades of three hosts, at length: all pairs many times, kills at every step, bad releases."""

import os
import signal

import pytest

from support.deployed import wait_for
from support.rolls import (
    ADVISORIES,
    BETWEEN,
    NEW,
    NEW_HEADS,
    OLD,
    OLD_HEADS,
    Roll,
    Rotation,
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
PAIRS = [(OLD, NEW), ("2025.2", "2026.1"), ("2026.1", "2026.2")]


@pytest.mark.parametrize("strategy", ["auto"] * TIMES + ["drain"])
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_rolling_at_length(cluster, old, new, strategy):
    cluster.image(new)
    cluster.deploy(old, glance_api_workers=3)
    cluster.pillar(
        glance_api_image_full=cluster.image(new),
        glance_enable_rolling_upgrade="yes",
        glance_accepted_advisories=ADVISORIES,
        glance_replace_strategy=strategy,
    )
    with cluster.load(rate=RATE) as load, Rotation(cluster.haproxy) as rotation:
        load.wait(requests=REQUESTS // 10)
        roll = Roll(cluster)
        load.wait(requests=REQUESTS, seconds=600)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    is_good(report)
    assert rotation.fewest >= 2, rotation.seen
    assert everywhere(cluster, new) and left_over(cluster) == []
    again = Roll(cluster)
    assert again.rc == 0 and again.changed == []


# What is told on the master's bus when a step begins or ends, and on whom.
POINTS = [
    "glance/ctl1/proof",
    "glance/ctl1/backup",
    "glance/ctl1/expand",
    "glance/ctl1/migrate",
    "glance/ctl1/replacement",
    "glance/ctl2/newcomer-healthy",
    "glance/ctl2/transfers-ended",
    "glance/ctl3/incumbent-stopped",
    "glance/ctl1/contract",
    "glance/ctl1/metadefs",
]


@pytest.mark.parametrize("victim", ["orchestration", "engine"])
@pytest.mark.parametrize("point", POINTS)
def test_kill_at_every_step(cluster, point, victim):
    if everywhere(cluster, NEW):
        cluster.deploy(OLD, glance_api_workers=3)
    on_the_old_release(cluster)
    job = start(cluster)
    cluster.master.event(point, seconds=240)
    os.killpg(job.process.pid, signal.SIGKILL)
    if victim == "engine":
        engine = cluster.host(point.split("/")[1]).engine
        engine.kill_daemon()
        engine.start()
    wait_for(lambda: cluster.ask("GET", "/v2/images?limit=1")[0] == 200, 60, "an answer")
    roll = Roll(cluster)
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, NEW) and heads(cluster) == NEW_HEADS
    assert left_over(cluster) == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"glance_keystone_password": "wrong", "glance_keystone_register": "no"}, "Keystone"),
        ({"glance_database_password": "wrong", "use_preconfigured_databases": "yes"}, "database"),
        (
            {"glance_custom_config": {"glance-api.conf": {"DEFAULT": {"workerz": 3}}}},
            "workerz",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_switch(cluster, keys, words):
    on_the_old_release(cluster)
    before = {host.id: host.container.id for host in cluster.hosts}
    right = {key: cluster.keys.get(key) for key in keys}
    cluster.pillar(**keys)
    with cluster.load(rate=RATE, kinds="lists,transfers") as load:
        roll = Roll(cluster)
        report = load.stop()
    cluster.pillar(**right)
    assert roll.rc != 0 and words in roll.failed, roll.comments
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert heads(cluster) in (OLD_HEADS, BETWEEN)
    is_good(report)
