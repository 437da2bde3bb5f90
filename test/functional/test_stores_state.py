"""The state that tells which stores work, with Salt's loaders and an API that is a stand-in."""

import pytest

from support.fake_api import FakeApi, serve

pytestmark = pytest.mark.backends

NAME = "Glance stores work"


@pytest.fixture
def api(loaders):
    """The stand-in; the pillar leads to it."""
    made = FakeApi()
    with serve(made) as settings:
        keys = {
            "api_interface_address": settings["api_address"],
            "glance_api_listen_port": settings["glance_api_listen_port"],
        }
        loaders.pillar({"glance": keys})
        in_charge(loaders, "one", "2026-11-29T10:00:00Z")
        yield made


def in_charge(loaders, container, since):
    """Put a stand-in in the place of the engine's answer."""
    facts = {"state": "running", "id": container, "started_at": since, "name": "glance_api"}
    modules = loaders.modules.pack["__salt__"]  # what one module sees of another
    assert modules["glance_container.facts"]
    modules._dict["glance_container.facts"] = lambda: facts


def test_a_store_that_works(api, loaders):
    told = loaders.states["glance_api.stores_work"](NAME)
    assert told == {
        "name": NAME,
        "result": True,
        "changes": {},
        "comment": "An image went through file and came back.",
    }
    assert api.images == {}


def test_a_store_that_fails(api, loaders):
    api.faults["PUT"] = (500, "")
    told = loaders.states["glance_api.stores_work"](NAME)
    assert (told["result"], told["changes"]) == (False, {})
    assert "fails at step 'upload (file)' with HTTP 500" in told["comment"]


def test_a_dry_run_asks_nothing(api, loaders):
    loaders.test_mode()
    told = loaders.states["glance_api.stores_work"](NAME)
    assert (told["result"], told["changes"]) == (None, {})
    assert told["comment"] == "An image would have gone through every store."
    assert api.requests == []


def test_a_host_without_an_api_says_why(api, loaders):
    loaders.pillar({"glance": {"enable_glance": "no"}})
    told = loaders.states["glance_api.stores_work"](NAME)
    assert (told["result"], told["changes"]) == (True, {})
    assert told["comment"] == "Glance is switched off (glance:enable_glance)."
    assert api.requests == []


def test_what_has_failed_is_asked_again_and_what_has_worked_is_not(api, loaders):
    def result():
        return loaders.states["glance_api.stores_work"](NAME)["result"]

    api.faults["PUT"] = (500, "")
    assert result() is False
    assert result() is False, "a second run does not make it green"
    api.faults.clear()
    assert result() is True
    api.requests.clear()
    assert result() is True
    loaders.test_mode()
    assert result() is True
    assert api.requests == []


@pytest.mark.parametrize(
    "other", [("two", "2026-11-29T10:00:00Z"), ("one", "2026-11-29T11:00:00Z")]
)
def test_another_container_or_another_start_is_asked_anew(api, loaders, other):
    assert loaders.states["glance_api.stores_work"](NAME)["result"] is True
    in_charge(loaders, *other)
    api.requests.clear()
    api.faults["PUT"] = (500, "")
    assert loaders.states["glance_api.stores_work"](NAME)["result"] is False
