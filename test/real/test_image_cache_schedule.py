"""The cleaning by Salt's own scheduler, on a minion of a master."""

import json

import pytest

from support.image_cache import LIMIT, PILLAR, ImageCache
from support.salt_master import Job, Master

pytestmark = pytest.mark.cache

EVENT = "glance/cache/clean"
JOB = "glance_cache_clean"
SCHEDULED = "Glance jobs are scheduled"


class World:
    """A minion of a master, on the host of a deployment; ``salt`` is ``salt MINION ...``."""

    def __init__(self, glance, master):
        self.glance, self.master, self.id = glance, master, glance.salt.minion.id
        self.pillar()

    def pillar(self, **more):
        content = {"glance": {"glance": {**self.glance.pillar, **more}}}
        self.master.write({"base": {"*": ["glance"]}}, content)

    def salt(self, function, *arguments, **keywords):
        line = self.master.line("salt", function, *arguments, target=[self.id], **keywords)
        answer = Job(line).answer(180)
        assert self.id in answer.hosts, (answer.stdout, answer.stderr)
        return answer.hosts[self.id]

    def changes(self, test=False):
        """Names of the states of glance.jobs that change something."""
        applied = self.salt("state.apply", "glance.jobs", test=test)
        assert applied.states and not applied.failed, (applied.failed, applied.json)
        return applied.changed

    def scheduled(self):
        jobs = self.salt("schedule.list", return_yaml=False).json
        return jobs.get(JOB)

    def report(self, seconds=60):
        """The next report that a cleaning sends."""
        return self.master.event(EVENT, seconds)[1]["data"]


@pytest.fixture(scope="module")
def world(deploy, salt_factories):
    glance = deploy(production=True, reuse=True, **PILLAR)
    with Master(salt_factories) as master:
        made = World(glance, master)
        cron = glance.salt.minion.options["glance.cron_dir"]
        master.add({made.id: {"docker.url": glance.engine.url, "glance.cron_dir": cron}})
        yield made


def test_the_scheduler_keeps_the_cache_below_its_limit(world, mariadb):
    cache = ImageCache(world.glance)
    world.pillar(glance_cache_clean_interval=4, glance_cache_clean_splay=1)
    assert world.changes(test=True) == [SCHEDULED]
    assert world.scheduled() is None, "test mode schedules nothing"
    assert world.changes() == [SCHEDULED]
    assert world.changes(test=True) == world.changes() == []
    cache.fill(6, 4)
    while not (report := world.report()).get("freed"):
        assert report["result"] is True, report
    cache.wait(lambda: cache.size <= LIMIT)

    mariadb.sql("RENAME TABLE cached_images TO hidden", "glance")
    try:
        while (report := world.report())["result"]:
            pass
    finally:
        mariadb.sql("RENAME TABLE hidden TO cached_images", "glance")
    assert "could not read the database" in report["comment"]
    assert "cached_images' doesn't exist" in report["comment"]


def test_the_schedule_outlives_a_restart_of_the_minion(world):
    before = world.scheduled()
    assert before["seconds"] == 4
    minion = world.master.minions[world.id]
    minion.terminate()
    minion.start(start_timeout=90)
    assert world.scheduled() == before
    assert world.report()["result"] is True


def test_a_pillar_edit_changes_it_and_takes_it_away(world):
    state = ("state.single", "glance_jobs.scheduled")
    world.pillar(glance_cache_clean_cron="17 3 * * *", glance_cache_clean_splay=0)
    edited = world.salt(*state, name=SCHEDULED)
    assert edited.states[0]["changes"][JOB]["new"]["cron"] == "17 3 * * *"
    fires = world.salt("schedule.show_next_fire_time", JOB).json
    assert "T03:17:00" in json.dumps(fires), fires
    world.pillar(enable_glance_image_cache="no")
    would = world.salt(*state, name=SCHEDULED, test=True)
    assert would.states[0]["result"] is None
    assert world.scheduled() is not None
    world.salt(*state, name=SCHEDULED)
    assert world.scheduled() is None
    world.pillar()
