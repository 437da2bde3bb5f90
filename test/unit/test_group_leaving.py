"""A host that may not run the API any more, and an API that is asked while something is pending."""

import datetime
import types

import pytest
from salt.exceptions import CommandExecutionError

import glance_backend
from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.cluster

PILLAR = {
    "glance_api_group": ["ctl1", "ctl2"],
    "kolla_internal_vip_address": "10.0.0.9",
    "database_password": "a",
    "glance_database_password": "b",
    "glance_keystone_password": "c",
    "keystone_admin_password": "d",
}
LEFT = "3 images (a, b, c) in /srv/images on this host can be downloaded without it only if ..."


@pytest.fixture
def functions():
    settings, faults = settings_for(PILLAR, id="ctl2")
    assert faults == []
    stopped = []
    return {
        "glance_settings.get": lambda: settings,
        "glance_backend.elsewhere": glance_backend.elsewhere,
        "glance_engine.containers": lambda: [{"name": "glance_api"}],
        "glance_container.is_foreign": lambda: False,
        "glance_datadir.left_behind": lambda: LEFT,
        "glance_replace.stop_all": lambda _, remove: stopped.append(remove) or ["1 transfers"],
        "stopped": stopped,
    }


def test_a_stale_api_is_told_before_with_the_images_that_lie_here(functions):
    answer = state_module("glance_container", functions, test=True).running("x")
    assert answer["result"] is None
    assert answer["changes"] == {"glance_api": {"old": "present", "new": None}}
    assert LEFT in answer["comment"] and "The API runs on ctl1 only" in answer["comment"]
    assert functions["stopped"] == []


def test_a_stale_api_ends_its_transfers_and_goes(functions):
    answer = state_module("glance_container", functions).running("x")
    assert answer["result"] is True
    assert functions["stopped"] == [True]
    for words in ("data was kept", "1 transfers", LEFT, "The API runs on ctl1 only"):
        assert words in answer["comment"]
    functions["glance_engine.containers"] = lambda: []
    answer = state_module("glance_container", functions).running("x")
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"].startswith("No glance-api is here. The API runs on ctl1 only")


@pytest.mark.parametrize("foreign", [True, False])
@pytest.mark.parametrize("state", ["absent", "rendered"])
@pytest.mark.parametrize("test", [True, False])
def test_the_configuration_of_somebody_elses_container_is_not_removed(
    functions, foreign, state, test
):
    """Kolla-Ansible's container mounts the very folder that this formula renders into."""
    gone = []
    folder = functions["glance_settings.get"]()["config_dir"]
    functions.update({
        "glance_engine.containers": lambda: [],
        "glance_container.is_foreign": lambda: foreign,
        "file.directory_exists": lambda path: path == folder,
        "file.remove": gone.append,
    })  # fmt: skip
    answer = getattr(state_module("glance_configuration", functions, test), state)("x")
    assert answer["result"] is (None if test and not foreign else True)
    assert list(answer["changes"]) == ([] if foreign else [folder])
    assert gone == ([] if foreign or test else [folder])
    assert (f"{folder} is left to a container" in answer["comment"]) is foreign
    said = state_module("glance_container", functions, test).absent("x")["comment"]
    assert ("not made by this formula" in said) is foreign


@pytest.fixture
def asked(functions):
    """An API that does not answer, in a container that runs for long."""
    settings, faults = settings_for(PILLAR, id="ctl1")
    assert faults == []

    def silent(_):
        raise CommandExecutionError("It does not answer.")

    return {
        **functions,
        "glance_settings.get": lambda: settings,
        "glance_api.answers": silent,
        "glance_container.desired": lambda _, look: ({"hash": "new"}, {}),
        "glance_container.facts": lambda: {"started_at": "2020-01-01T00:00:00Z"},
    }


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("serving", ["new", "old"])
def test_a_dry_run_fails_only_where_the_run_would(asked, test, serving):
    asked["glance_container.serves"] = lambda wanted: wanted == serving
    answer = state_module("glance_api", asked, test).answers("x")
    pending = test and serving == "old"
    assert answer["result"] is pending
    assert answer["comment"] == (
        "The API would have been asked once the wanted container is in charge."
        if pending
        else "It does not answer."
    )


def test_an_api_that_crashes_again_and_again_is_not_waited_for_for_ever(asked):
    """The container is young whenever it is looked at."""
    now, slept = datetime.datetime.now(datetime.timezone.utc), []
    asked["glance_container.facts"] = lambda: {"started_at": now.isoformat()}
    asked["glance_container.serves"] = lambda _: True
    module = state_module("glance_api", asked)
    module.time = types.SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    module.POLL = 20
    assert module.answers("x")["result"] is False
    assert sum(slept) > module.LOADING, "a young one gets its time"


def test_a_dry_run_before_the_image_is_known_asks_nobody(asked):
    asked["glance_container.desired"] = lambda _, look: (None, None)
    assert state_module("glance_api", asked, True).answers("x")["result"] is True


@pytest.mark.parametrize("test", [True, False])
def test_a_container_that_cannot_see_the_share_is_restarted(functions, test):
    settings, faults = settings_for({**PILLAR, "glance_file_datadir_volume": "/srv/i"}, id="ctl1")
    assert faults == []
    done = []
    container = {"name": "glance_api", "pid": 7}
    functions = {
        **functions,
        "glance_settings.get": lambda: settings,
        "glance_engine.containers": lambda: [container],
        "glance_container.desired": lambda _, look: ({"hash": "new", "policy": "always"}, {}),
        "glance_container.decide": lambda *_: {"do": "nothing", "incumbent": "glance_api"},
        "glance_sharing.seen_inside": lambda _, pid: pid != 7,
        "glance_replace.restart": lambda _, name: done.append(name) or ["1 transfers"],
    }
    answer = state_module("glance_container", functions, test).running("x")
    assert answer["result"] is (None if test else True)
    assert answer["changes"] == {
        "glance_api": {"old": "sees another data directory", "new": "restarted"}
    }
    assert done == ([] if test else ["glance_api"])
    assert test or "Cut at glance:glance_drain_timeout: 1 transfers." in answer["comment"]
