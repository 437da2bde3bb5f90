"""Who registers Glance in Keystone, and who has nothing to do there."""

import pytest

pytestmark = pytest.mark.cluster

STATE = "Glance is registered in Keystone"
PRODUCTION = {
    "kolla_internal_vip_address": "127.0.0.1",
    "enable_haproxy": "no",
    "api_interface_address": "127.0.0.1",
    "keystone_internal_url": "http://127.0.0.1:9",  # nothing listens there
    "database_password": "x",
    "glance_database_password": "x",
    "keystone_admin_password": "admin-secret",
    "glance_keystone_password": "glance-secret",
}


def registered(loaders, test=False, **pillar):
    loaders.pillar({"glance": pillar})
    loaders.test_mode(test)
    return loaders.states["glance_identity.registered"](STATE)


def test_a_trial_has_no_keystone(loaders):
    done = registered(loaders)
    assert (done["result"], done["changes"]) == (True, {})
    assert done["comment"] == "Without Keystone there is nothing to register."


def test_somebody_else_may_register(loaders):
    done = registered(loaders, **PRODUCTION, glance_keystone_register="no")
    assert done["result"] is True, done
    assert "glance_keystone_register is no" in done["comment"]


@pytest.mark.parametrize("test", [True, False])
def test_without_keystone_the_first_host_fails_with_one_sentence(loaders, test):
    done = registered(loaders, test, **PRODUCTION)
    assert (done["result"], done["changes"]) == (False, {})
    assert done["comment"] == (
        "Keystone at http://127.0.0.1:9 (glance:keystone_internal_url) does not answer: nothing"
        " listens there."
    )
