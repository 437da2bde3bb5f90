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
        yield made


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
    assert (told["result"], told["changes"]) == (True, {})
    assert api.requests == []
