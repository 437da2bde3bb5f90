"""The state that schedules the jobs, on a minion without a master: a file of cron."""

import pytest

pytestmark = pytest.mark.cache

NAME = "Glance jobs are scheduled"


@pytest.fixture
def host(loaders):
    """A function: keys of the pillar, test mode -> what the state returns."""

    def scheduled(test=False, **keys):
        loaders.pillar({"glance": {"enable_glance_image_cache": "yes", **keys}})
        loaders.test_mode(test)
        return loaders.states["glance_jobs.scheduled"](NAME)

    scheduled.file = loaders.minion.root / "cron.d" / "glance"
    return scheduled


@pytest.mark.parametrize(
    "keys",
    [
        {"glance_cache_clean_cron": "17 3 * * *"},
        {"glance_stuck_age": 600},
        {"enable_glance_image_cache": "no"},
    ],
    ids=["another moment", "another job", "no job"],
)
def test_what_would_change_is_what_changes(host, keys):
    assert host()["result"] is True
    before = host.file.read_text()
    would = host(test=True, **keys)
    assert would["result"] is None
    assert host.file.read_text() == before
    done = host(**keys)
    assert (done["result"], done["changes"]) == (True, would["changes"])
    after = host.file.read_text() if host.file.exists() else None
    assert done["changes"] == {str(host.file): {"old": before, "new": after}}
    for test in (True, False):
        again = host(test=test, **keys)
        assert (again["result"], again["changes"]) == (True, {})


def test_a_first_dry_run_makes_no_file(host):
    would = host(test=True)
    assert would["result"] is None
    assert not host.file.exists()
    assert host()["changes"] == would["changes"]
    assert "glance_cache.clean" in host.file.read_text()


def test_a_faulty_pillar_is_a_sentence(host):
    told = host(glance_cache_clean_cron="soon")
    assert (told["result"], told["changes"]) == (False, {})
    assert "glance:glance_cache_clean_cron is 'soon'" in told["comment"]
