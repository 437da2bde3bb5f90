"""Upgrades that are killed, with whatever works for them: the same command finishes."""

import random
import subprocess
import time
from pathlib import Path

import pytest

from support.deployed import wait_for
from support.rolls import (
    BETWEEN,
    NEW_HEADS,
    OLD,
    OLD_HEADS,
    Roll,
    everywhere,
    finishes,
    heads,
    is_good,
    kill,
    on_the_old_release,
    start,
)

pytestmark = [pytest.mark.upgrade, pytest.mark.soak]

RATE = 20
LONG = 240  # seconds until a point must have been reached
LOOKS = 100  # seconds of looks, as fast as can be, at whether a table is being made
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
# Of a legacy upgrade: while a host is stopped, the schema changed, a host started.
LEGACY = [
    ("glance/ctl2/transfers-ended", "orchestration"),
    ("glance/ctl1/sync", "orchestration engine"),
    ("glance/ctl1/sync", "minion"),
    ("glance/ctl3/replacement", "orchestration"),
]
INSTANTS = 10  # random ones
SPAN = 35  # seconds of an upgrade in which they lie; a whole one takes some 40


@pytest.mark.parametrize("victim", ["orchestration", "orchestration engine", "minion"])
@pytest.mark.parametrize("point", POINTS)
def test_kill_at_every_step(cluster, point, victim):
    on_the_old_release(cluster, fresh_schema=True)
    job = start(cluster)
    cluster.master.event(point, seconds=LONG)
    kill(cluster, job, *victim.split(), host=point.split("/")[1])
    wait_for(lambda: cluster.ask("GET", "/v2/images?limit=1")[0] == 200, 60, "an answer")
    finishes(cluster)
    assert heads(cluster) == NEW_HEADS


@pytest.mark.parametrize(("point", "victim"), LEGACY)
def test_a_legacy_upgrade_is_killed(cluster, point, victim):
    on_the_old_release(cluster, rolling="no", fresh_schema=True)
    job = start(cluster)
    cluster.master.event(point, seconds=LONG)
    kill(cluster, job, *victim.split(), host=point.split("/")[1])
    finishes(cluster)
    assert heads(cluster) == NEW_HEADS
    assert cluster.ask("GET", "/v2/images?limit=1")[0] == 200


@pytest.mark.parametrize("seed", range(INSTANTS))
def test_kill_at_a_random_instant(cluster, seed):
    """No request fails: the orchestration alone is killed, and hosts end what they have begun."""
    on_the_old_release(cluster, fresh_schema=True)
    seconds = random.Random(seed).uniform(1, SPAN)
    with cluster.load(rate=RATE) as load:
        job = start(cluster)
        with pytest.raises(subprocess.TimeoutExpired):  # it is at work still
            job.process.wait(seconds)
        kill(cluster, job, "orchestration")
        finishes(cluster)
        report = load.stop()
    assert heads(cluster) == NEW_HEADS
    is_good(report)


def test_mariadb_is_killed_between_two_statements_of_an_expansion(cluster):
    """Requests fail while it is away; then the service is as before, and the same command ends."""
    on_the_old_release(cluster, fresh_schema=True)
    mariadb = cluster.production.mariadb
    # Of two tables that an expansion makes this is the first.
    table = Path(f"/proc/{mariadb.pid}/root/var/lib/mysql/glance/node_reference.ibd")
    job = start(cluster)
    cluster.master.event("glance/ctl1/expand", seconds=LONG)
    deadline = time.monotonic() + LOOKS
    while not table.exists():
        assert time.monotonic() < deadline, "the table was not made"
    mariadb.crash()
    mariadb.ready()
    roll = Roll(cluster, job=job)
    assert roll.rc != 0, "the step in which the database went away has failed"
    assert everywhere(cluster, OLD) and heads(cluster) in (OLD_HEADS, BETWEEN)
    print("\n", roll.failed, mariadb.sql("SHOW TABLES LIKE 'node_reference'", "glance"))
    for host in cluster.hosts:
        wait_for(lambda host=host: cluster.ask("GET", "/v2/images?limit=1", host)[0] == 200, 60,
                 "an answer")  # fmt: skip
    finishes(cluster)
    assert heads(cluster) == NEW_HEADS
