"""The image cache, filled by real downloads and cleaned by the job: nothing in use is touched."""

import contextlib
import os
import re
import signal
import subprocess
import uuid

import pytest

from support.image_cache import FOLDER, LIMIT, MiB, frozen, stopped

pytestmark = pytest.mark.cache

GONE = "http://127.0.0.99:9292"  # a node that left


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
    cache.delete(image)


def test_it_ends_where_the_own_pruner_never_does(cache):
    """A file that no row knows, larger than the limit: after a change of address, a restore."""
    orphan = str(uuid.uuid4())
    cache.put(orphan, 24)
    if cache.central:  # the driver of older releases ends
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
    images = cache.fill(3, 8)
    with cache.readers(images) as done:
        report = cache.clean()
    assert report["result"] is True, report
    assert len(done) > 3
    last = cache.clean()
    assert last["bytes"] == cache.size <= LIMIT
    for image in images:
        cache.download(image)


def test_what_is_being_cached_or_served_stays(cache):
    served, cached = cache.upload(24), cache.upload(24)
    cache.download(served)
    cache.wait(lambda: served.id in cache.files())
    with cache.slow_download(served) as finish, cache.slow_download(cached) as complete:
        cache.wait(lambda: cached.id in cache.files("incomplete"))
        report = cache.clean()
        assert report["result"] is True, report
        assert {"id": served.id, "bytes": 24 * MiB, "why": "it is being served"} in report["left"]
        assert served.id in cache.files()
        assert cached.id in cache.files("incomplete")
        finish()
        complete()
    cache.wait(lambda: cached.id in cache.files())
    assert cache.clean()["freed"]["pruned"]["count"] == 2
    assert cache.size <= LIMIT


def test_whatever_is_left_behind_is_found_once(cache, sql):
    known, lost, restored, deleted, short = cache.fill(5, 1)
    aborted, failed = (str(uuid.uuid4()) for _ in range(2))
    assert cache.run(f"rm {FOLDER}/{lost.id}")[0] == 0
    cache.forget(restored)
    cache.age([restored.id])
    sql(f"UPDATE images SET status = 'deleted', deleted = 1 WHERE id = '{deleted.id}'")
    assert cache.run(f"truncate -s 5 {FOLDER}/{short.id}")[0] == 0
    cache.put(f"incomplete/{aborted}", 1)
    cache.put(f"invalid/{failed}", 1)
    cache.put(f"queue/{aborted}", 0)
    if cache.central:
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
    assert counts == {"orphans": 2 + cache.central, "stale": 3, "stalled": 2}
    assert would["freed"] == report["freed"]
    assert before - set(cache.files()) == {restored.id, deleted.id, short.id}
    assert cache.files("incomplete") == cache.files("invalid") == cache.files("queue") == {}
    if cache.central:
        assert sql("SELECT COUNT(*) FROM node_reference") == [["1"]]
    assert set(cache.rows()) == set(cache.files())
    assert cache.clean()["freed"] == {}
    cache.download(short)


@pytest.mark.soak
def test_what_a_restored_database_does_not_know_goes(cache, dumped):
    """Backup, then one image goes and another comes, then the backup is put back."""
    gone, stays = cache.fill(2, 1)
    with dumped() as restore:
        (new,) = cache.fill(1, 1)
        cache.delete(gone)
        assert cache.clean()["result"] is True
        assert gone.id not in cache.files()
        restore()
    cache.age([new.id])
    report = cache.clean()
    assert report["result"] is True, report
    assert new.id not in cache.files()
    assert stays.id in cache.files()
    assert set(cache.rows()) == set(cache.files())
    cache.download(stays)
    cache.delete(gone)


@pytest.fixture
def dumped(mariadb):
    """A context that dumps Glance's database, and in which `restore` puts that back."""

    @contextlib.contextmanager
    def made():
        login = f"-h{mariadb.address} -uroot -p{mariadb.root_password}"
        dump = f"mariadb-dump {login} glance >/tmp/cache.sql"
        code, output = mariadb.container.exec_run(["sh", "-c", dump])
        assert code == 0, output
        yield lambda: mariadb.sql("source /tmp/cache.sql", "glance")

    return made


def test_images_of_the_list_are_kept_on_the_disk(cache, listed):
    by_id, by_name, deleted = cache.upload(1), cache.upload(2, name="the one"), cache.upload(1)
    cache.delete(deleted)
    listed(deleted.id, by_id.id, "the one")
    report = cache.clean()
    assert (report["result"], report["rc"]) == (False, 1), "somebody must edit the list"
    assert report["comment"].count(deleted.id) == 1
    assert report["comment"].endswith(
        f"glance:glance_cache_images lists {deleted.id}, but no image is active under that name:"
        " upload it, or take it off the list."
    )
    assert report["requested"] == [by_id.id, by_name.id]
    cache.wait(lambda: {by_id.id, by_name.id} <= set(cache.files()), 60)
    assert cache.run(f"rm /var/lib/glance/images/{by_name.id}")[0] == 0, "out of the store"
    cache.download(by_name)

    listed(by_id.id, "the one")
    others = cache.fill(3, 8)
    # A copy that was read just now may stay until a later run of the job.
    cache.wait(lambda: prunes(cache), 120)
    assert {by_id.id, by_name.id} <= set(cache.files()), "though they were read before the others"
    # Which of them is the least recently used is told in whole seconds only.
    assert not {one.id for one in others} <= set(cache.files())
    cache.delete(by_name)


def prunes(cache):
    """Whether a run of the job, which has nothing to ask for, takes copies away for their size."""
    report = cache.clean()
    assert (report["result"], report["requested"]) == (True, []), report
    return "pruned" in report["freed"]


@pytest.fixture
def listed(cache):
    """A function that lists images in pillar, for the test alone."""
    pillar = dict(cache.glance.pillar)
    yield lambda *names: cache.glance.change(glance_cache_images=list(names))
    cache.glance.pillar = pillar
    cache.glance.change()


@pytest.mark.soak
def test_whatever_hangs_is_ended_and_told(cache, mariadb):
    """Two jobs at once, a killed one, a database that hangs, a tool that hangs."""
    with frozen(mariadb.container):
        killed = cache.start(timeout=60)
        other = cache.clean()
        assert "another cache/clean is at work" in other["skipped"]
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        late = cache.clean(timeout=2)
        assert (late["result"], late["rc"]) == (False, 1)
        hangs = r"Glance's cache could not .* within 2 seconds\."
        assert re.fullmatch(hangs, late["comment"]), late
        # The database keeps it at work until it is stopped; the killed one's is there, too.
        before = set(cache.scripts())
        job = cache.start(timeout=6)
        with stopped(set(cache.scripts()) - before):
            late = cache.end(job)
    assert (late["result"], late["rc"]) == (False, 1)
    reason = (
        "cache.py in the container glance_api was killed: it did not end within 11 seconds, or the"
        " host had no memory left."
    )
    assert late["comment"] == reason
    screen, _ = cache.glance.call("glance_api.status")
    assert f"The last 2 runs of cache/clean failed: {reason}" in screen["warnings"]
    assert cache.clean()["result"] is True


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
    moment, command = line.split(" root ")
    assert moment.count(" ") == 4
    assert "%" not in command, "cron would end the line there"
    orphan = str(uuid.uuid4())
    cache.put(orphan, 1)
    # By sh, with next to nothing in its environment.
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": "/usr/bin:/bin", "HOME": "/root", "SHELL": "/bin/sh", "LOGNAME": "root"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "it prints failures only"
    assert orphan not in cache.files()
