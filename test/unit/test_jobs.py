"""The jobs of a minion: which, when, and what differs from them."""

import subprocess

import pytest

import glance_jobs
from support.settings import settings_for

pytestmark = pytest.mark.cache

ON = {"enable_glance_image_cache": "yes"}


def wanted(**pillar):
    settings, faults = settings_for({**ON, **pillar})
    assert not faults, faults
    return glance_jobs.wanted(settings)


def test_a_cache_is_cleaned_every_half_hour():
    assert wanted() == {
        "glance_cache_clean": {"function": "glance_cache.clean", "seconds": 1800, "splay": 300}
    }


def test_by_the_fields_of_cron():
    (job,) = wanted(glance_cache_clean_cron="15 3 * * *").values()
    assert job == {"function": "glance_cache.clean", "cron": "15 3 * * *", "splay": 300}


@pytest.mark.parametrize("pillar", [{"enable_glance_image_cache": "no"}, {"enable_glance": "no"}])
def test_what_is_off_is_not_scheduled(pillar):
    assert wanted(**pillar) == {}


def test_the_entry_is_as_the_scheduler_shows_it():
    assert glance_jobs.entries(wanted(glance_cache_clean_splay=0)) == {
        "glance_cache_clean": {
            "enabled": True,
            "function": "glance_cache.clean",
            "jid_include": True,
            "maxrunning": 1,
            "name": "glance_cache_clean",
            "seconds": 1800,
        }
    }


@pytest.mark.parametrize(
    ("seconds", "fields"),
    [
        (1800, "0,30 * * * *"),
        (3600, "0 * * * *"),
        (5400, "0 * * * *"),
        (7200, "0 0,2,4,6,8,10,12,14,16,18,20,22 * * *"),
        (86400, "0 0 * * *"),
        (900000, "0 0 * * *"),
        (420, "0,6,12,18,24,30,36,42,48,54 * * * *"),
        (5, ",".join(map(str, range(60))) + " * * * *"),
    ],
)
def test_an_interval_for_cron_is_rounded_down(seconds, fields):
    assert glance_jobs.cron_time(seconds, 0, "one") == fields


def test_hosts_differ_within_the_splay_and_stay_as_they_are():
    times = {glance_jobs.cron_time(1800, 300, f"ctl{number}") for number in range(99)}
    assert times == {f"{minute},{minute + 30} * * * *" for minute in range(6)}
    assert glance_jobs.cron_time(1800, 300, "ctl1") == glance_jobs.cron_time(1800, 300, "ctl1")


def test_the_file_for_cron_prints_failures_only():
    text = glance_jobs.cron_text(wanted(glance_cache_clean_cron="5 4 * * *"), ["call", "a b"], "x")
    assert text.splitlines()[1] == (
        "5 4 * * * root out=$(call 'a b' glance_cache.clean 2>&1) || echo \"$out\""
    )
    assert glance_jobs.cron_text({}, ["call"], "x") == ""


@pytest.mark.parametrize(("code", "printed"), [(0, ""), (1, "it failed\n")])
def test_cron_mails_failures_only(tmp_path, code, printed):
    program = tmp_path / "call"
    program.write_text(f"#!/bin/sh\necho it failed >&2\nexit {code}\n")
    program.chmod(0o755)
    text = glance_jobs.cron_text(wanted(), [str(program)], "x")
    command = text.splitlines()[1].split(" root ")[1]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (printed, "")


class Scheduler:
    """Salt's scheduler: what is in it, and whether it takes what it is told."""

    def __init__(self):
        self.jobs, self.takes = {"somebody_elses": {"function": "test.ping"}}, True

    def table(self):
        return {
            "schedule.list": lambda show_all, return_yaml: self.jobs,
            "schedule.add": self.add,
            "schedule.delete": self.delete,
        }

    def add(self, name, **entry):
        self.jobs[name] = {"name": name, **entry}
        return {"result": self.takes, "comment": "said"}

    def delete(self, name):
        del self.jobs[name]
        return {"result": self.takes, "comment": "said"}


@pytest.fixture
def minion(monkeypatch, tmp_path):
    made = Scheduler()
    made.opts = {"file_client": "remote", "glance.cron_dir": str(tmp_path), "id": "one",
                 "conf_file": str(tmp_path / "minion")}  # fmt: skip
    monkeypatch.setattr(glance_jobs, "__salt__", made.table(), raising=False)
    monkeypatch.setattr(glance_jobs, "__opts__", made.opts, raising=False)
    return made


def test_a_schedule_is_made_changed_and_taken_away(minion):
    jobs = wanted()
    entry = glance_jobs.entries(jobs)["glance_cache_clean"]
    assert glance_jobs.compare(jobs) == {"glance_cache_clean": {"old": None, "new": entry}}
    glance_jobs.arrange(jobs)
    assert glance_jobs.compare(jobs) == {}
    edited = wanted(glance_cache_clean_interval=600)
    (change,) = glance_jobs.compare(edited).values()
    assert (change["old"]["seconds"], change["new"]["seconds"]) == (1800, 600)
    glance_jobs.arrange(edited)
    assert glance_jobs.compare(edited) == {}
    glance_jobs.arrange({})
    assert list(minion.jobs) == ["somebody_elses"]


@pytest.mark.parametrize("key", ["enabled", "maxrunning", "splay"])
def test_what_somebody_changed_is_seen(minion, key):
    glance_jobs.arrange(wanted())
    minion.jobs["glance_cache_clean"][key] = False
    assert glance_jobs.compare(wanted())


def test_a_scheduler_that_refuses_is_a_sentence(minion):
    minion.takes = False
    with pytest.raises(glance_jobs.CommandExecutionError, match="see that salt-minion runs"):
        glance_jobs.arrange(wanted())


def test_without_a_master_it_is_a_file_of_cron(minion, tmp_path):
    minion.opts["file_client"] = "local"
    file = tmp_path / "glance"
    assert list(glance_jobs.compare(wanted())) == [str(file)]
    glance_jobs.arrange(wanted())
    assert "glance_cache.clean" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644
    assert glance_jobs.compare(wanted()) == {}
    assert minion.jobs == {"somebody_elses": {"function": "test.ping"}}
    glance_jobs.arrange({})
    assert not file.exists()
    assert glance_jobs.compare({}) == {}


def test_a_host_that_has_got_a_master_loses_the_file(minion, tmp_path):
    minion.opts["file_client"] = "local"
    glance_jobs.arrange(wanted())
    minion.opts["file_client"] = "remote"
    glance_jobs.arrange(wanted())
    assert not (tmp_path / "glance").exists()
    assert "glance_cache_clean" in minion.jobs


def test_a_host_without_cron_is_told(minion, tmp_path):
    minion.opts.update({"file_client": "local", "glance.cron_dir": str(tmp_path / "none")})
    with pytest.raises(glance_jobs.CommandExecutionError, match="install cron"):
        glance_jobs.arrange(wanted())


AGES = {
    "glance_db_purge_age": 30,
    "glance_staging_max_age": 86400,
    "glance_stuck_age": 3600,
    "glance_log_max_size": "100M",
}
ALL = {"glance_db_purge", "glance_staging_leftovers", "glance_store_audit", "glance_log_rotation"}


def test_housekeeping_is_off_until_asked_for():
    assert set(wanted(enable_glance_image_cache="no")) == set()
    assert set(wanted(enable_glance_image_cache="no", **AGES)) == ALL
    for key in AGES:
        assert len(wanted(enable_glance_image_cache="no", **{key: AGES[key]})) == 1


def test_what_is_one_for_all_hosts_is_done_by_the_first():
    settings, _ = settings_for({**ON, **AGES})
    settings.update(glance_api_hosts=["ctl0", "ctl1"])
    jobs = set(glance_jobs.wanted(settings)) - {"glance_cache_clean"}
    assert jobs == {"glance_staging_leftovers", "glance_log_rotation"}


def test_every_job_is_known_to_the_one_that_takes_them_away():
    assert set(wanted(**AGES)) == set(glance_jobs.NAMES)


def test_parts_that_fail_again_and_again_show(minion, monkeypatch):
    asked = []

    def health(job, interval):
        asked.append((job, interval))
        return {"text": "", "warnings": [f"{job} fails."]}

    table = {"glance_care.health": health}
    monkeypatch.setattr(glance_jobs, "__salt__", table, raising=False)
    settings, _ = settings_for({"glance_db_purge_age": 30, "glance_log_max_size": "100M"})
    assert glance_jobs.warnings(settings) == [
        "housekeeping/purge fails.",
        "housekeeping/rotate_logs fails.",
    ]
    assert asked[0] == ("housekeeping/purge", 86400)
