"""The cleaning by Salt's own scheduler, on a minion of a master."""

import datetime
import json
import re
import time

import pytest

from support.deployed import RUNNING
from support.image_cache import LIMIT, PILLAR, ImageCache
from support.salt_master import Job, Master

pytestmark = pytest.mark.cache

EVENT = "glance/cache/clean"
JOB = "glance_cache_clean"
SCHEDULED = "Glance jobs are scheduled"
SPLAY, LATE = 20, 5  # seconds; the second is what a busy machine may take to begin and to report
DOCUMENTED = {
    "result",
    "comment",
    "freed_bytes",
    "freed",
    "left",
    "bytes",
    "limit_bytes",
    "requested",
    "seconds",
}


class World:
    """A minion of a master, on the host of a deployment; ``salt`` is ``salt MINION ...``."""

    def __init__(self, glance, master):
        self.glance, self.master, self.id = glance, master, glance.salt.minion.id
        self.pillar()

    def pillar(self, **more):
        content = {"glance": {"glance": {**self.glance.pillar, **more}}}
        self.master.write({"base": {"*": ["glance"]}}, content)

    def start(self, function, *arguments, **keywords):
        """``salt MINION FUNCTION ...`` that goes on; a Job (support/salt_master.py)."""
        line = self.master.line("salt", function, *arguments, target=[self.id], **keywords)
        return Job(line)

    def salt(self, function, *arguments, **keywords):
        return self.answer(self.start(function, *arguments, **keywords))

    def answer(self, job):
        """The Result of a Job (support/salt_call.py)."""
        answer = job.answer(180)
        assert self.id in answer.hosts, (answer.stdout, answer.stderr)
        return answer.hosts[self.id]

    def changes(self, test=False):
        """{name: changes} of the states of glance.jobs that change something."""
        applied = self.salt("state.apply", "glance.jobs", test=test)
        assert applied.states and not applied.failed, (applied.failed, applied.json)
        return {one["__id__"]: one["changes"] for one in applied.states if one["changes"]}

    def schedule(self, test=False):
        """The state that schedules the jobs alone; as it returned."""
        (state,) = self.salt("state.single", "glance_jobs.scheduled", name="it", test=test).states
        return state

    def scheduled(self):
        jobs = self.salt("schedule.list", return_yaml=False).json
        return jobs.get(JOB)

    def moment(self):
        """When the next job began, as of its event, in UTC."""
        event = self.master.event(EVENT, 120)[1]
        sent = datetime.datetime.fromisoformat(event["_stamp"])
        return sent - datetime.timedelta(seconds=event["data"]["seconds"])

    def report(self, seconds=60, event=EVENT, wanted=lambda _: True):
        """The next report of a job that is wanted."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.master.event(event, max(1, deadline - time.monotonic()))[1]["data"]
            if wanted(found):
                return found


@pytest.fixture(scope="module")
def world(deploy, salt_factories):
    glance = deploy(production=True, reuse=True, **PILLAR)
    with Master(salt_factories) as master:
        made = World(glance, master)
        cron = glance.salt.minion.options["glance.cron_dir"]
        master.add({made.id: {"docker.url": glance.engine.url, "glance.cron_dir": cron}})
        made.salt("saltutil.sync_all")
        yield made


def test_the_scheduler_keeps_the_cache_below_its_limit(world, mariadb):
    cache = ImageCache(world.glance, mariadb)
    world.pillar(glance_cache_clean_interval=4, glance_cache_clean_splay=1)
    would = world.changes(test=True)
    assert list(would) == [SCHEDULED]
    assert world.scheduled() is None, "test mode schedules nothing"
    assert world.schedule()["changes"] == would[SCHEDULED]
    assert world.schedule(test=True)["changes"] == world.schedule()["changes"] == {}
    cache.fill(3, 8)
    report = world.report(wanted=lambda one: one["freed"] or not one["result"])
    assert report["result"] is True, report
    assert set(report) == DOCUMENTED
    assert report["freed"]["pruned"]["bytes"] <= report["freed_bytes"]
    assert report["bytes"] <= report["limit_bytes"] == LIMIT
    cache.wait(lambda: cache.size <= LIMIT)

    mariadb.sql("RENAME TABLE cached_images TO hidden", "glance")
    try:
        report = world.report(wanted=lambda one: not one["result"])
    finally:
        mariadb.sql("RENAME TABLE hidden TO cached_images", "glance")
    assert "could not read the database" in report["comment"]
    assert "cached_images' doesn't exist" in report["comment"]


@pytest.mark.soak
def test_the_schedule_outlives_a_restart_of_the_minion(world):
    before = world.scheduled()
    assert before["seconds"] == 4
    minion = world.master.minions[world.id]
    minion.terminate()
    minion.start(start_timeout=90)
    assert world.scheduled() == before
    assert world.report()["result"] is True


@pytest.mark.soak
def test_housekeeping_tells_the_master_what_it_found(world, mariadb):
    """Lost data is a failure: it is on the bus with its reason, and then on the screen."""
    cache, audit = ImageCache(world.glance, mariadb), "glance/housekeeping/audit"
    lost = cache.upload(0.01)
    assert cache.run(f"rm /var/lib/glance/images/{lost.id}")[0] == 0
    world.pillar(
        glance_stuck_age=600,
        glance_housekeeping_interval=3,
        glance_housekeeping_splay=0,
    )
    assert world.schedule()["result"] is True
    reports = [world.report(event=audit) for _ in range(2)]
    for report in reports:
        assert report["result"] is False
        assert report["lost"] == [{"id": lost.id, "store": "file"}]
        assert f"1 of {report['checked']} have lost their data" in report["comment"]
    (warning,) = world.salt("glance_api.status").json["warnings"]
    reason = re.escape(report["comment"].rstrip("."))
    assert re.fullmatch(rf"The last \d runs of housekeeping/audit failed: {reason}\.", warning)
    cache.delete(lost)
    assert world.report(event=audit, wanted=lambda one: one["result"])["lost"] == []
    assert world.salt("glance_api.status").json["warnings"] == "none"


@pytest.mark.soak
def test_it_fires_at_the_minute_with_its_splay(world):
    world.pillar(glance_cache_clean_cron="* * * * *", glance_cache_clean_splay=SPLAY)
    assert world.schedule()["result"] is True
    offsets = []
    for _ in range(3):
        at = world.moment()
        offsets.append(at.second + at.microsecond / 1e6)
    print(f"seconds after the minute: {offsets}")
    assert all(1 <= one <= SPLAY + LATE for one in offsets)
    assert len({round(one) for one in offsets}) > 1, "hosts would all clean at once"


@pytest.mark.soak
def test_a_hand_over_is_no_time_for_the_job(world):
    """Two containers of one node share the cache directory then."""
    world.pillar(glance_cache_clean_interval=2, glance_cache_clean_splay=0)
    assert world.schedule()["result"] is True
    cap = {"glance-api.conf": {"DEFAULT": {"image_size_cap": 1024**3}}}
    world.pillar(
        glance_cache_clean_interval=2,
        glance_cache_clean_splay=0,
        glance_custom_config=cap,
        glance_min_healthy_time=5,
    )
    state = ("state.single", "glance_container.running")
    replacing = world.start(*state, name=RUNNING)
    report = world.report(wanted=lambda one: "skipped" in one)
    assert re.fullmatch(
        r"glance_api\S* and glance_api\S* both serve, as in a hand-over\.", (report["skipped"])
    ), report
    assert report["result"] is True
    replaced = world.answer(replacing)
    assert replaced.states[0]["result"] is True, replaced.states
    assert "freed" in world.report(wanted=lambda one: "skipped" not in one)


def test_a_pillar_edit_changes_it_and_takes_it_away(world):
    world.pillar(glance_cache_clean_cron="17 3 * * *", glance_cache_clean_splay=0)
    assert world.schedule()["changes"][JOB]["new"]["cron"] == "17 3 * * *"
    fires = world.salt("schedule.show_next_fire_time", JOB).json
    assert "T03:17:00" in json.dumps(fires), fires
    world.pillar(enable_glance_image_cache="no")
    would = world.schedule(test=True)
    assert would["result"] is None
    assert world.scheduled() is not None
    assert world.schedule()["changes"] == would["changes"]
    assert world.scheduled() is None
    world.pillar()
