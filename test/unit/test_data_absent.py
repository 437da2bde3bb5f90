"""Images are removed only when asked for twice, and then with every volume of this formula's."""

import pytest

from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.one_host


@pytest.fixture
def remove():
    """A function: keys of the pillar, test -> result of the state, names of what was removed."""

    def run(test=False, **keys):
        settings, faults = settings_for({"glance_remove_data": "yes", "confirm": "glance", **keys})
        assert faults == []
        gone = []
        functions = {
            "glance_settings.get": lambda: settings,
            "glance_engine.volume_exists": lambda name: not name.startswith("/"),
            "glance_engine.remove_volume": gone.append,
        }
        return state_module("glance_container", functions, test).data_absent("x"), gone

    return run


@pytest.mark.parametrize(
    ("keys", "volumes"),
    [
        ({}, ["glance", "glance_work", "glance_cache"]),
        (
            {"enable_glance_image_cache": "yes", "glance_cache_volume": "copies"},
            ["glance", "glance_work", "copies"],
        ),
        (
            {"enable_glance_image_cache": "yes", "glance_cache_volume": "/srv/copies"},
            ["glance", "glance_work"],
        ),
        # The copies are the business of another state then, which would announce them once more.
        ({"glance_cache_remove_data": "yes"}, ["glance", "glance_work"]),
    ],
)
def test_every_volume_of_the_formula_is_removed(remove, keys, volumes):
    assert remove(test=True, **keys)[0]["changes"] == {
        name: {"old": "present", "new": None} for name in volumes
    }
    answer, gone = remove(**keys)
    assert answer["result"] is True
    assert gone == volumes


def test_another_name_on_the_command_line_removes_nothing(remove):
    answer, gone = remove(confirm="other")
    assert (answer["result"], gone) == (False, [])


@pytest.mark.parametrize("confirm", ["", "/srv/images"])
def test_a_folder_that_is_not_deleted_is_not_to_be_confirmed(remove, confirm):
    answer, gone = remove(glance_file_datadir_volume="/srv/images", confirm=confirm)
    assert (answer["result"], gone) == (False, [])
    assert "/srv/images, which this formula does not delete" in answer["comment"]
