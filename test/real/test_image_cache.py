"""The image cache, filled by real downloads and cleaned by the job: nothing in use is touched."""

import os
import re
import signal
import uuid

import pytest

from support.image_cache import FOLDER, LIMIT, PILLAR, ImageCache, MiB, frozen

pytestmark = pytest.mark.cache

HANGS = r"Glance's cache could not .* within 4 seconds\."
GONE = "http://127.0.0.99:9292"  # a node that left


@pytest.fixture(scope="module")
def cache(deploy):
    return ImageCache(deploy(production=True, reuse=True, **PILLAR))


@pytest.fixture
def sql(mariadb):
    return lambda statement: mariadb.sql(statement, "glance")


def test_a_second_download_comes_from_the_disk(cache):
    image = cache.upload(1)
    cache.download(image)
    assert cache.run(f"rm /var/lib/glance/images/{image.id}")[0] == 0, "out of the store"
    cache.download(image)
    assert cache.run(f"rm {FOLDER}/{image.id}")[0] == 0, "out of the cache, too"
    assert cache.glance.get(f"/v2/images/{image.id}/file")[0] != 200


def test_it_ends_where_the_own_pruner_never_does(cache):
    """A file that no row knows, larger than the limit: after a change of address, a restore."""
    orphan = str(uuid.uuid4())
    cache.put(orphan, 24)
    with cache.own_pruner() as rounds:
        cache.wait(lambda: rounds() > 50, 120)
        before = rounds()
        cache.wait(lambda: rounds() > before + 50, 60)
    report = cache.clean()
    assert report["result"] is True, report
    assert report["freed"]["orphans"]["bytes"] >= 24 * MiB
    assert report["bytes"] == cache.size <= LIMIT
    assert orphan not in cache.files()


def test_the_least_recently_used_go_under_concurrent_downloads(cache):
    images = cache.fill(6, 4)
    with cache.readers(images) as done:
        reports = [cache.clean() for _ in range(2)]
    assert all(one["result"] for one in reports), reports
    assert len(done) > 6
    last = cache.clean()
    assert last["bytes"] == cache.size <= LIMIT
    for image in images:
        cache.download(image)


def test_what_is_being_cached_or_served_stays(cache):
    image = cache.upload(24)
    with cache.slow_download(image) as finish:
        assert image.id in cache.files("incomplete")
        report = cache.clean()
        assert report["result"] is True, report
        assert image.id in cache.files("incomplete")
        finish()
    cache.wait(lambda: image.id in cache.files())
    with cache.slow_download(image) as finish:
        report = cache.clean()
        assert {"id": image.id, "bytes": 24 * MiB, "why": "it is being served"} in report["left"]
        assert image.id in cache.files()
        finish()
    assert cache.clean()["freed"]["pruned"]["count"] == 1
    assert cache.size <= LIMIT


def test_whatever_is_left_behind_is_found_once(cache, sql):
    known, lost, restored, deleted, short = cache.fill(5, 1)
    aborted, failed = (str(uuid.uuid4()) for _ in range(2))
    assert cache.run(f"rm {FOLDER}/{lost.id}")[0] == 0
    sql(f"DELETE FROM cached_images WHERE image_id = '{restored.id}'")
    cache.age([restored.id])
    sql(f"UPDATE images SET status = 'deleted', deleted = 1 WHERE id = '{deleted.id}'")
    assert cache.run(f"truncate -s 5 {FOLDER}/{short.id}")[0] == 0
    cache.put(f"incomplete/{aborted}", 1)
    cache.put(f"invalid/{failed}", 1)
    cache.put(f"queue/{aborted}", 0)
    sql(f"INSERT INTO node_reference (node_reference_url) VALUES ('{GONE}')")
    sql(
        "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits,"
        f" node_reference_id) SELECT '{known.id}', NOW(), NOW(), 1, 0, node_reference_id"
        f" FROM node_reference WHERE node_reference_url = '{GONE}'"
    )
    before = set(cache.files())
    would = cache.clean(test=True)
    assert set(cache.files()) == before
    report = cache.clean()
    counts = {name: one["count"] for name, one in report["freed"].items()}
    assert counts == {"orphans": 3, "stale": 3, "stalled": 2}
    assert would["freed"] == report["freed"]
    assert before - set(cache.files()) == {restored.id, deleted.id, short.id}
    assert cache.files("incomplete") == cache.files("invalid") == cache.files("queue") == {}
    assert sql("SELECT COUNT(*) FROM node_reference") == [["1"]]
    rows = {row[0] for row in sql("SELECT image_id FROM cached_images")}
    assert rows == set(cache.files())
    assert cache.clean()["freed"] == {}
    cache.download(short)


def test_a_database_that_hangs_two_jobs_at_once_and_a_killed_one(cache, mariadb):
    with frozen(mariadb.container):
        killed = cache.start(timeout=60)
        other = cache.clean()
        assert "another cache/clean is at work" in other["skipped"]
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        for _ in range(2):
            late = cache.clean(timeout=4)
            assert (late["result"], late["rc"]) == (False, 1)
            assert re.fullmatch(HANGS, late["comment"]), late
    screen = cache.glance.salt("glance_api.status").json
    (warning,) = screen["warnings"]
    assert re.fullmatch(f"The last 2 runs of cache/clean failed: {HANGS}", warning)
    assert cache.clean()["result"] is True
    assert cache.glance.salt("glance_api.status").json["warnings"] == "none"


def test_a_volume_that_other_hosts_share_is_refused_before_anything_is_touched(cache):
    before = cache.glance.container.id
    options = {"type": "nfs", "o": "addr=127.0.0.1", "device": ":/none"}
    cache.glance.engine.client.volumes.create("shared_copies", driver_opts=options)
    cache.glance.change(glance_cache_volume="shared_copies")
    try:
        refused = cache.glance.apply()
        assert list(refused.failed)[0] == "Glance image cache is on a disk of this host"
        assert "glance:glance_cache_volume is shared_copies, on a filesystem (nfs)" in (
            refused.comments
        )
        assert not refused.changed
        assert cache.glance.container.id == before
    finally:
        cache.glance.change(glance_cache_volume=None)


def test_without_a_master_cron_runs_the_job(cache):
    """The file that the deployment made, and its command as cron would run it."""
    file = cache.glance.salt.minion.root / "cron.d" / "glance"
    (line,) = [one for one in file.read_text().splitlines() if "glance_cache.clean" in one]
    assert line.split(" root ")[0].count(" ") == 4
    cache.put(str(uuid.uuid4()), 1)
    printed = os.popen(line.split(" root ")[1]).read()
    assert printed == "", "it prints failures only"
    assert cache.clean()["freed"] == {}
