"""Upgrades of three hosts by the orchestration, from 2023.2 to 2024.1: the last real schema work.

The tests of a sequence start from what the one before has left, and bring about by themselves
what that is when they run alone.
"""

import contextlib

import pytest

from support.deployed import wait_for
from support.overheard import Overheard
from support.rolls import (
    ADVISORIES,
    BETWEEN,
    NEW,
    NEW_HEADS,
    OLD,
    OLD_HEADS,
    Roll,
    Rotation,
    bad_release,
    everywhere,
    finishes,
    heads,
    is_good,
    kill,
    left_over,
    on_the_old_release,
    running,
    start,
)

pytestmark = pytest.mark.upgrade

REQUESTS = 1500
RATE = 20
LONG = 240  # seconds until a point must have been reached; that a lock is held
# Seconds until HAProxy has seen five checks fail, one every two seconds, and then two of them work.
NOTICED, SEEN = 8, 4
# Passwords of the pillar that can be told from any other word.
SECRETS = ("glance_database_password", "glance_keystone_password", "memcache_secret_key")
LIMIT = 1.15  # of the seconds that cannot be avoided


def test_a_known_hole_is_refused_and_nothing_is_touched(cluster):
    on_the_old_release(cluster)
    cluster.pillar(glance_accepted_advisories=[])
    refused = Roll(cluster)
    assert refused.rc != 0 and "OSSA-2026-004" in refused.failed, refused.comments
    assert refused.changed == []
    assert everywhere(cluster, OLD) and left_over(cluster) == []


def test_a_dry_run_tells_the_plan_and_touches_nothing(cluster):
    on_the_old_release(cluster)
    before = {host.id: host.container.id for host in cluster.hosts}, heads(cluster)
    saved = {host.id: sorted(host.root.glob("backups/*")) for host in cluster.hosts}
    dry = Roll(cluster, test=True)
    told = dry.report
    print(f"\n{told}")
    assert dry.rc == 0, (dry.failed, cluster.told(dry.answer))
    for host in cluster.hosts:
        new = f"Glance {NEW} ({cluster.image(NEW)})"
        assert f"  {host.id}: Glance {OLD} is replaced by {new}\n" in told
        (would,) = [
            one
            for one in dry.states_of(f"in charge on {host.id}", host.id)
            if one["__id__"] == "Glance API runs"
        ]
        assert would["result"] is None and would["changes"]["image"]["new"] == cluster.image(NEW)
    assert f"The data is migrated for Glance {NEW}" in told or heads(cluster) == BETWEEN
    assert before == ({host.id: host.container.id for host in cluster.hosts}, heads(cluster))
    assert saved == {host.id: sorted(host.root.glob("backups/*")) for host in cluster.hosts}
    assert left_over(cluster) == []


def test_a_bad_release_stops_at_the_canary(cluster):
    on_the_old_release(cluster)
    cluster.pillar(glance_api_image_full=bad_release(cluster, NEW, "exits"))
    before = {host.id: host.container.id for host in cluster.hosts}
    with cluster.load(rate=RATE, kinds="lists,transfers") as load:
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc != 0 and "exited with code 3" in roll.failed, roll.comments
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert heads(cluster) == BETWEEN, "the database stays expanded, which the old release supports"
    assert left_over(cluster) == []
    is_good(report)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"glance_keystone_password": "wrong", "glance_keystone_register": "no"},
            "its password there is not glance:glance_keystone_password",
        ),
        pytest.param(
            {"glance_database_password": "wrong", "use_preconfigured_databases": "yes"},
            "glance:glance_database_password and the server itself",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            {"glance_custom_config": {"glance-api.conf": {"DEFAULT": {"workerz": 3}}}},
            "workerz",
            marks=pytest.mark.soak,
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


def test_the_way_back_after_the_canary(cluster):
    """The upgrade pauses after the first host, and rollback takes that one back."""
    on_the_old_release(cluster)
    cluster.pillar(glance_upgrade_pause_after_canary="yes")
    with cluster.load(rate=RATE) as load:
        paused = Roll(cluster)
        between = running(cluster)
        cluster.pillar(
            glance_api_image_full=cluster.image(OLD), glance_upgrade_pause_after_canary=None
        )
        back = Roll(cluster, "rollback")
        report = load.stop()
    assert paused.rc == 0, (paused.failed, cluster.told(paused.answer))
    assert "This is a pause after the first host, ctl1" in paused.report
    assert between == {"ctl1": [NEW], "ctl2": [OLD], "ctl3": [OLD]}
    assert back.rc == 0, (back.failed, cluster.told(back.answer))
    assert everywhere(cluster, OLD) and heads(cluster) == BETWEEN
    assert left_over(cluster) == []
    is_good(report)


def test_rolling_under_load_though_it_is_killed_three_times(cluster):
    """No failed request, no altered image, and at least two hosts in rotation all the time.

    Killed while the schema is expanded, with a minion in its hand-over, between two containers. No
    password leaves the pillar meanwhile.
    """
    on_the_old_release(cluster, fresh_schema=True)
    cluster.haproxy.wait()
    both = 2  # containers, while one takes over from the other
    overheard = Overheard(cluster.master)
    with cluster.load(rate=RATE) as load, Rotation(cluster.haproxy) as rotation, overheard:
        job = start(cluster)
        cluster.master.event("glance/ctl1/expand", seconds=LONG)
        kill(cluster, job, "orchestration")

        job, first = start(cluster), cluster.hosts[0]
        wait_for(lambda: len(first.containers()) == both or job.ended, LONG, "a hand-over")
        kill(cluster, job, "orchestration", "minion", host=first.id)

        job, second = start(cluster), cluster.hosts[1]
        wait_for(lambda: len(second.containers()) == both or job.ended, LONG, "a hand-over")
        kill(cluster, job, "orchestration")

        last = finishes(cluster).answer
        load.wait(requests=REQUESTS)
        report = load.stop()
    is_good(report)
    rotation.check()
    assert heads(cluster) == NEW_HEADS
    secrets = {key: cluster.keys[key] for key in SECRETS}
    assert overheard.leaks(secrets, [last.stdout + last.stderr]) == []


def test_a_finished_upgrade_is_over(cluster):
    """The same command changes nothing and is quick; the way back is the backup alone."""
    if not everywhere(cluster, NEW) or heads(cluster) != NEW_HEADS:
        on_the_old_release(cluster)
        assert Roll(cluster).rc == 0
    again = Roll(cluster)
    print(f"\nagain: {again.seconds:.1f} s")
    assert again.rc == 0 and again.changed == [], again.comments
    assert again.seconds < 10, again.seconds

    # The schema is the new release's alone by now.
    cluster.pillar(glance_api_image_full=cluster.image(OLD))
    refused = Roll(cluster, "rollback")
    backups = cluster.hosts[0].root.glob("backups/*.sql")
    assert refused.rc != 0 and str(max(backups)) in refused.failed, refused.comments
    assert refused.changed == [] and everywhere(cluster, NEW)


@pytest.mark.soak
def test_rolling_takes_what_cannot_be_avoided(cluster):
    on_the_old_release(cluster, fresh_schema=True)
    # The first orchestration of a master takes over the formula's modules. This one proves nothing.
    Roll(cluster, "deploy", test=True)
    roll = Roll(cluster)
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    unavoidable = roll.unavoidable()
    print(f"\nrolling took {roll.seconds:.1f} s; unavoidable are {unavoidable:.1f} s")
    print(roll.profile())
    assert roll.seconds <= LIMIT * unavoidable, roll.profile()


@pytest.mark.soak
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


@contextlib.contextmanager
def schema_taken(mariadb):
    """Somebody else holds the lock under which the schema is changed."""
    name = "'glance schema of glance'"
    login = ["-h", mariadb.address, "-uroot", f"-p{mariadb.root_password}"]
    statement = f"SELECT GET_LOCK({name}, 0); SELECT SLEEP({LONG})"
    mariadb.container.exec_run(["mariadb", *login, "-e", statement], detach=True)

    def owner():
        ((connection,),) = mariadb.sql(f"SELECT IS_USED_LOCK({name})")
        return connection if connection.isdigit() else None

    connection = wait_for(owner, 30, "the lock")
    yield
    mariadb.sql(f"KILL {connection}")


@pytest.mark.soak
def test_legacy_that_fails_before_the_schema_has_changed_starts_the_old_ones_again(cluster):
    on_the_old_release(cluster, rolling="no", fresh_schema=True)
    before = {host.id: host.container.id for host in cluster.hosts}
    with schema_taken(cluster.production.mariadb):
        job = start(cluster)
        # Nobody knows what the old ones may serve with while somebody changes the schema.
        cluster.master.event("glance/ctl2/schema", seconds=LONG)
        assert not any(host.container.status == "running" for host in cluster.hosts)
    roll = Roll(cluster, job=job)
    told = roll.report.splitlines()
    print(f"\n{roll.report}")
    assert roll.rc != 0 and "Somebody else changes this schema now" in told[0], told
    assert told[1] == "  as before: ctl1, ctl2, ctl3"
    assert told[2].startswith("The API was down for ")
    assert before == {host.id: host.container.id for host in cluster.hosts}
    assert heads(cluster) == OLD_HEADS and left_over(cluster) == [] and cluster.whole()


@pytest.mark.soak
def test_legacy_has_one_short_stop(cluster):
    on_the_old_release(cluster, rolling="no", fresh_schema=True)
    cluster.haproxy.wait()
    with cluster.load(rate=RATE, kinds="lists") as load:
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, NEW) and heads(cluster) == NEW_HEADS
    assert left_over(cluster) == []
    # The health check says of each host that it is about to stop, while all still serve.
    failures = [one["at"] for one in report["failures"] if one["kind"] != "health"]
    outage = max(failures) - min(failures)
    stop, sync, start = (
        roll.step_seconds(words) for words in ("stopped on", "is that of", "in charge on")
    )
    parts = stop - NOTICED + sync + start + SEEN
    print(f"\nno answer for {outage:.1f} s; stop, sync and start took {parts:.1f} s of it")
    print(roll.profile())
    print(roll.report)
    assert outage <= parts + 1, "nothing else may lie between the first stop and the last start"


def test_one_host_with_files_of_its_own(cluster):
    """By default it is stopped and started; by hand-over, where that is accepted, nothing fails."""
    first = cluster.hosts[0]
    cluster.fresh(
        "2025.2",
        glance_api_group=[first.id],
        glance_accepted_advisories=ADVISORIES,
        glance_file_datadir_volume="glance",
        glance_file_datadir_shared=None,
        glance_enable_rolling_upgrade=None,
        glance_api_workers=4,
        enable_haproxy="no",
    )
    cluster.apply(first.id)

    cluster.pillar(glance_api_image_full=cluster.image("2026.1"))
    legacy = Roll(cluster)
    print(f"\n{legacy.report}")
    assert legacy.rc == 0, (legacy.failed, first.logs())
    assert "The API was down for" in legacy.report and _releases(first) == ["2026.1"]

    new = cluster.image("2026.2")
    cluster.pillar(glance_api_image_full=new, glance_enable_rolling_upgrade="yes")
    refused = Roll(cluster, test=True)
    assert refused.rc != 0 and "glance_upgrade_handover_single_host" in refused.failed

    keys = {"glance_enable_rolling_upgrade": None, "glance_upgrade_handover_single_host": "yes"}
    cluster.pillar(**keys)
    with cluster.load(rate=RATE, url=first.url) as load:
        load.wait(requests=200)
        roll = Roll(cluster)
        report = load.stop()
    assert roll.rc == 0, (roll.failed, first.logs())
    assert "The API was down" not in roll.report and _releases(first) == ["2026.2"]
    is_good(report)


def _releases(host):
    return [one.labels["glance.release"] for one in host.containers()]
