"""The pillar of the image cache: what is refused, and what is worth a warning."""

import pytest

from support.settings import settings_for

pytestmark = pytest.mark.cache

ON = {"enable_glance_image_cache": "yes"}


def faults(**pillar):
    return settings_for({**ON, **pillar})[1]


@pytest.mark.parametrize(("given", "number"), [("10G", 10 * 1024**3), ("500M", 500 * 1024**2)])
def test_sizes_with_units(given, number):
    settings, found = settings_for({**ON, "glance_cache_max_size": given})
    assert (settings["glance_cache_max_size"], found) == (number, [])


@pytest.mark.parametrize(
    ("cache", "images", "words"),
    [
        ("glance", None, "which is used for something else"),
        ("glance_work", None, "which is used for something else"),
        ("/srv/glance/cache", "/srv/glance", "which is used for something else"),
        ("/srv", "/srv/glance", "which holds the images"),
    ],
)
def test_copies_never_lie_with_the_images(cache, images, words):
    (fault,) = faults(glance_cache_volume=cache, glance_file_datadir_volume=images)
    assert fault.startswith(f"glance:glance_cache_volume is {cache}, {words}")


def test_a_directory_beside_that_of_the_images_is_fine():
    assert faults(glance_cache_volume="/srv/gl", glance_file_datadir_volume="/srv/glance") == []


def test_two_ways_to_say_when_are_one_too_many():
    (fault,) = faults(glance_cache_clean_cron="5 4 * * *", glance_cache_clean_interval=60,
                      glance_cache_clean_splay=0)  # fmt: skip
    assert "both say when" in fault


def test_hosts_cannot_differ_by_more_than_the_interval():
    (fault,) = faults(glance_cache_clean_interval=60)
    assert fault.startswith("glance:glance_cache_clean_splay is 300, more than")


@pytest.mark.parametrize("cron", ["every day", "* * * *", "60"])
def test_what_is_no_time_of_cron(cron):
    (fault,) = faults(glance_cache_clean_cron=cron)
    assert "it must be five fields of cron" in fault


def test_keys_without_effect_are_told():
    settings, _ = settings_for({"glance_cache_stall_time": 5})
    words = "glance:glance_cache_stall_time has no effect while glance:enable_glance_image_cache"
    assert any(one.startswith(words) for one in settings["warnings"])


def test_images_are_listed_by_any_name_that_they_can_have():
    names = ["Ubuntu 24.04, minimal", "d27620f4-be0a-4b58-8069-a81b8834fbb1"]
    settings, faults = settings_for({"glance_cache_images": names})
    assert (settings["glance_cache_images"], faults) == (names, [])
    _, (fault,) = settings_for({"glance_cache_images": [5]})
    assert fault == (
        "glance:glance_cache_images:0 is 5; it must be the name of an image or its id."
    )


def housekeeping(**pillar):
    return settings_for(pillar)[1]


def test_rows_of_images_are_purged_only_with_the_advisory_accepted():
    ages = {"glance_db_purge_age": 30, "glance_db_purge_images_age": 180}
    (fault,) = housekeeping(**ages)
    assert fault.endswith("listing OSSN-0075 in glance:glance_accepted_advisories.")
    assert housekeeping(**ages, glance_accepted_advisories=["OSSN-0075"]) == []


def test_rows_of_images_go_after_those_that_refer_to_them():
    accepted = {"glance_accepted_advisories": ["OSSN-0075"]}
    (fault,) = housekeeping(glance_db_purge_age=30, glance_db_purge_images_age=29, **accepted)
    assert fault.startswith("glance:glance_db_purge_images_age is 29, less than glance:glance_db_")
    assert housekeeping(glance_db_purge_age=30, glance_db_purge_images_age=30, **accepted) == []


def test_rows_of_images_are_not_purged_alone():
    (fault,) = housekeeping(
        glance_db_purge_images_age=180, glance_accepted_advisories=["OSSN-0075"]
    )
    assert "glance:glance_db_purge_age is 0" in fault


def test_housekeeping_has_one_moment():
    (fault,) = housekeeping(glance_housekeeping_cron="5 4 * * *", glance_housekeeping_interval=7200)
    assert fault.endswith("both say when the housekeeping is done; remove one of them.")
