"""Housekeeping on a real Glance: what is purged, removed, reported or put aside; what stays."""

import contextlib
import hashlib
import http.server
import json
import os
import threading
import uuid

import pytest

from support import session
from support.deployed import WEB_HOST, WEB_PORT
from support.image_cache import ImageCache, MiB

pytestmark = pytest.mark.cache

STAGING, IMAGES = "/var/lib/glance-work/staging", "/var/lib/glance/images"
LOGS = "/var/log/kolla/glance"
OLD, OLDER = 100, 400  # days since rows were deleted
MANY = 2500  # dead rows of one table: more than are purged at a time
PARTS = ("image_tags", "image_properties", "image_locations")
COMMITTED = "SELECT COUNT(*) FROM {} WHERE image_id = '{}'"


@pytest.fixture
def sql(mariadb):
    return lambda statement: mariadb.sql(statement, "glance")


@pytest.fixture
def run(cache):
    """A function that runs a part by hand and returns its report; pillar keys hold for it alone."""
    pillar = dict(cache.glance.pillar)

    def do(part, **keys):
        cache.glance.change(**keys)
        return cache.job(f"glance_housekeeping.{part}")

    yield do
    cache.glance.pillar = pillar
    cache.glance.change()


def test_a_part_that_is_off_does_nothing(cache, run):
    for part in ("purge", "leftovers", "rotate_logs"):
        report = run(part)
        assert report["result"] is True and report["rc"] == 0
        assert "is 0" in report["skipped"], report


def dead(cache, sql, days):
    """An image with a tag, a property and data, deleted so many days ago; its id."""
    image = cache.upload(0.01, tags=["one"], os_distro="none")
    cache.delete(image)
    when = f"NOW() - INTERVAL {days} DAY"
    for table in PARTS:
        sql(f"UPDATE {table} SET deleted_at = {when} WHERE image_id = '{image.id}'")
        assert sql(COMMITTED.format(table, image.id)) != [["0"]]
    sql(f"UPDATE images SET deleted_at = {when} WHERE id = '{image.id}'")
    return image.id


def test_dead_rows_are_purged_and_no_others(cache, run, sql):
    old, older, recent = (dead(cache, sql, days) for days in (OLD, OLDER, 1))
    alive = cache.upload(0.01, tags=["one"], os_distro="none")
    task = str(uuid.uuid4())
    sql(
        "INSERT INTO tasks (id, type, status, owner, created_at, updated_at, deleted, deleted_at)"
        f" VALUES ('{task}', 'api_image_import', 'success', 'me', NOW(), NOW(), 1,"
        f" NOW() - INTERVAL {OLD} DAY); INSERT INTO task_info (task_id) VALUES ('{task}');"
        " INSERT INTO image_tags (image_id, value, created_at, deleted, deleted_at)"
        f" SELECT '{older}', seq, NOW(), 1, NOW() - INTERVAL {OLD} DAY FROM seq_1_to_{MANY}"
    )
    report = run("purge", glance_db_purge_age=30)
    assert report["result"] is True, report
    assert report["left"] == {}
    assert report["purged"]["image_tags"] == MANY + 2
    assert {report["purged"][table] for table in ("image_properties", "image_locations")} == {2}
    assert report["comment"].startswith(f"Purged {sum(report['purged'].values())} deleted rows")
    assert sql(f"SELECT COUNT(*) FROM task_info WHERE task_id = '{task}'") == [["0"]]
    for table in PARTS:
        counts = [sql(COMMITTED.format(table, one)) for one in (old, older, recent, alive.id)]
        assert counts == [[["0"]], [["0"]], [["1"]], [["1"]]], table
    # Rows of images stay: an id that was in use cannot be used again.
    assert known(sql, old, older, recent) == {old, older, recent}
    assert again(cache, older) == 409

    refused = run("purge", glance_db_purge_images_age=180)
    assert (refused["result"], refused["rc"]) == (False, 1)
    assert "OSSN-0075" in refused["comment"]
    assert known(sql, older) == {older}
    report = run("purge", glance_accepted_advisories=["OSSN-0075"])
    assert report["purged"] == {"images": 1}, report
    assert known(sql, old, older, recent) == {old, recent}
    assert again(cache, older) == 201
    cache.download(alive)


def known(sql, *ids):
    """Which of these ids have a row in the table of images."""
    listed = ", ".join(f"'{one}'" for one in ids)
    return {row[0] for row in sql(f"SELECT id FROM images WHERE id IN ({listed})")}


def again(cache, image):
    """The status of an answer to a request for an image with this id."""
    body = json.dumps({"id": image, "disk_format": "raw", "container_format": "bare"})
    headers = {"Content-Type": "application/json"}
    return cache.glance.ask("POST", "/v2/images", body, headers)[0]


@contextlib.contextmanager
def importing(cache):
    """An image in a web-download that goes on until `finish` is called; yields (id, finish)."""
    data, go_on = os.urandom(2 * MiB), threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:MiB])
            go_on.wait(120)
            self.wfile.write(data[MiB:])

        def log_message(self, *_):
            pass

    where = (session.address(WEB_HOST), WEB_PORT)
    with http.server.ThreadingHTTPServer(where, Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        image = cache.empty()
        uri = "http://{}:{}/it".format(*where)
        body = {"method": {"name": "web-download", "uri": uri}}
        headers = {"Content-Type": "application/json"}
        path = f"/v2/images/{image}/import"
        status, answer = cache.glance.ask("POST", path, json.dumps(body), headers)
        assert status == 202, answer

        def finish():
            go_on.set()
            cache.wait(lambda: cache.shown(image)["status"] == "active", 60)
            status, body = cache.glance.get(f"/v2/images/{image}/file", timeout=60)
            assert status == 200
            assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()

        try:
            yield image, finish
        finally:
            go_on.set()
            server.shutdown()


def staged(cache):
    return cache.run(f"ls {STAGING}")[1].split()


def age(cache, path, seconds=7200):
    code, output = cache.run(f"touch -d '-{seconds} seconds' {path}")
    assert code == 0, output


def test_staged_data_that_nobody_needs_goes_and_a_live_import_stays(cache, run):
    abandoned, waiting, deleted = cache.staged(1), cache.staged(1), str(uuid.uuid4())
    code, output = cache.run(f"head -c {MiB} /dev/zero >{STAGING}/{deleted}")
    assert code == 0, output
    with importing(cache) as (live, finish):
        cache.wait(lambda: live in staged(cache))
        for name in (abandoned, deleted, live):
            age(cache, f"{STAGING}/{name}")
        report = run("leftovers", glance_staging_max_age=3600)
        assert report["result"] is True, report
        assert sorted(report["removed"]) == sorted(
            f"{STAGING}/{name}" for name in (abandoned, deleted)
        )
        assert report["freed_bytes"] == 2 * MiB
        assert set(staged(cache)) == {waiting, live}
        finish()


def state_of(cache, sql):
    """All that an audit could change."""
    tables = [row[0] for row in sql("SHOW TABLES")]
    sums = sql(f"CHECKSUM TABLE {', '.join(tables)}")
    files = cache.run(f"find {IMAGES} {STAGING} -type f -printf '%p %s %T@\\n' | sort")
    return sums, files


def test_the_audit_finds_what_does_not_belong_together_and_changes_nothing(cache, run, sql):
    whole, lost, moved, hanging, young = (cache.upload(0.01) for _ in range(5))
    before = "updated_at = NOW() - INTERVAL 1 HOUR"
    sql(f"UPDATE images SET status = 'importing', {before} WHERE id = '{hanging.id}'")
    sql(f"UPDATE images SET status = 'saving', updated_at = NOW() WHERE id = '{young.id}'")
    sql(
        'UPDATE image_locations SET meta_data = \'{"store": "left"}\''
        f" WHERE image_id = '{moved.id}'"
    )
    assert cache.run(f"rm {IMAGES}/{lost.id}")[0] == 0
    stray, new = str(uuid.uuid4()), str(uuid.uuid4())
    for name in (stray, new):
        assert cache.run(f"head -c 5 /dev/zero >{IMAGES}/{name}")[0] == 0
    age(cache, f"{IMAGES}/{stray}")
    try:
        was = state_of(cache, sql)
        report = run("audit", glance_stuck_age=600)
        assert state_of(cache, sql) == was
    finally:
        cache.run(f"rm -f {IMAGES}/{stray} {IMAGES}/{new}")
        sql(f"UPDATE images SET status = 'active' WHERE id IN ('{hanging.id}', '{young.id}')")
        cache.delete(lost)
    assert (report["result"], report["rc"]) == (False, 1), "data is lost: somebody must look"
    assert [(one["id"], one["status"]) for one in report["stuck"]] == [(hanging.id, "importing")]
    assert report["lost"] == [{"id": lost.id, "store": "file"}]
    assert report["unknown"] == [{"id": moved.id, "store": "left"}]
    assert report["strays"] == [{"file": stray, "store": "file", "bytes": 5}]
    assert report["complete"] is True
    assert f"1 of {report['checked']} have lost their data" in report["comment"]
    assert whole.id not in json.dumps(report)
    sql(
        'UPDATE image_locations SET meta_data = \'{"store": "file"}\''
        f" WHERE image_id = '{moved.id}'"
    )
    assert run("audit")["result"] is True


def test_large_logs_are_put_aside_and_glance_goes_on_in_the_new_ones(cache, run):
    def logs(name):
        """{file: bytes} of a log and what was put aside of it."""
        output = cache.run(f"find {LOGS} -name '{name}*' -printf '%f %s\\n'")[1]
        return {name: int(size) for name, size in map(str.split, output.splitlines())}

    def say():
        """Have both logs written; what is found in them for it."""
        marker = str(uuid.uuid4())
        assert cache.glance.ask("PUT", f"/v2/cache/{marker}")[0] == 404
        return marker

    def holds(name, marker):
        return cache.run(f"grep -q {marker} {LOGS}/{name}")[0] == 0

    names = [one for one in ("glance-api.log", "glance-api-uwsgi.log") if logs(one)]
    keys = {"glance_log_max_size": "1M", "glance_log_keep": 2}
    said = []
    for turn in range(3):
        said.append(say())
        for name in names:
            cache.wait(lambda name=name: holds(name, said[-1]))
            assert cache.run(f"yes turn {turn} | head -c {2 * MiB} >>{LOGS}/{name}")[0] == 0
        report = run("rotate_logs", **keys)
        assert sorted(report["rotated"]) == sorted(names), report
    last = say()
    for name in names:
        cache.wait(lambda name=name: holds(name, last))
        found = logs(name)
        assert sorted(found) == [name, f"{name}.1", f"{name}.2"]
        assert found[name] < MiB
        assert holds(f"{name}.1", said[2]) and holds(f"{name}.2", said[1])


@pytest.mark.soak
def test_a_trial_with_its_sqlite_is_kept_in_order_too(deploy):
    cache = ImageCache(deploy(glance_db_purge_age=30, glance_stuck_age=600), None)
    old, recent, lost = (cache.upload(0.01, tags=["one"]) for _ in range(3))
    cache.delete(old), cache.delete(recent)

    def sql(statement):
        return cache.sqlite("/var/lib/glance/glance.sqlite", statement)

    for table in PARTS:
        when = f"datetime('now', '-{OLD} days')"
        sql(f"UPDATE {table} SET deleted_at = {when} WHERE image_id = '{old.id}'")
    report = cache.job("glance_housekeeping.purge")
    assert (report["result"], report["left"]) == (True, {}), report
    assert report["purged"] == {"image_tags": 1, "image_locations": 1}
    tagged = set(sql("SELECT image_id FROM image_tags"))
    # Images by which the formula checks Glance are tagged too, and were deleted just now.
    assert old.id not in tagged and {recent.id, lost.id} <= tagged

    hanging = cache.empty()
    before = "datetime('now', '-1 hour')"
    sql(f"UPDATE images SET status = 'saving', updated_at = {before} WHERE id = '{hanging}'")
    assert cache.run(f"rm {IMAGES}/{lost.id}")[0] == 0
    report = cache.job("glance_housekeeping.audit")
    assert report["result"] is False
    assert report["lost"] == [{"id": lost.id, "store": "file"}]
    assert [one["id"] for one in report["stuck"]] == [hanging]
