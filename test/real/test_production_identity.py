"""Keystone: what is registered there, by whom it is used, and what happens when it is away."""

import contextlib

import pytest

from support import session
from support.deployed import wait_for
from support.watched import CANARIES

STATE = "Glance is registered in Keystone"
SECOND = "canary-second-b"
URL = f"http://{session.address()}:9292"


def changing(test):
    """Mark a test that changes Keystone or its user, as those of a group do."""
    return pytest.mark.cluster(pytest.mark.soak(test))


def state(result):
    (found,) = [one for one in result.states if one["__id__"] == STATE]
    return found


def endpoints(keystone):
    """{interface: endpoint} of Glance."""
    service = keystone.find("service", "glance")
    found = keystone.ask("GET", f"endpoints?service_id={service}")["endpoints"]
    assert len(found) == len({one["interface"] for one in found})
    return {one["interface"]: one for one in found}


@contextlib.contextmanager
def stopped(keystone):
    keystone.container.stop(timeout=1)
    try:
        yield
    finally:
        keystone.container.start()
        wait_for(lambda: keystone._ask("GET", "/v3")[0] == 200, 60, "Keystone's answer")


@pytest.mark.one_host
def test_the_first_apply_registers_what_kolla_registers(production):
    keystone = production.keystone
    assert production.first.rc == 0, production.first.comments
    changes = state(production.first)["changes"]
    assert changes["public endpoint in RegionOne"] == {"old": None, "new": URL}
    assert changes["role admin of glance in project service"] == {"old": None, "new": "granted"}
    service = keystone.ask("GET", "services?type=image")["services"]
    assert [(one["name"], one["description"]) for one in service] == [("glance", "Openstack Image")]
    found = endpoints(keystone)
    assert {name: (one["url"], one["region"]) for name, one in found.items()} == {
        "internal": (URL, "RegionOne"),
        "public": (URL, "RegionOne"),
    }
    assert keystone.token("glance", CANARIES["glance_keystone_password"], "service")


@changing
def test_what_differs_is_told_and_repaired_and_nothing_else(production):
    keystone = production.keystone
    user = keystone.find("user", "glance")
    public = endpoints(keystone)["public"]
    role = keystone.find("role", "admin")
    project = keystone.find("project", "service")
    grant = f"projects/{project}/users/{user}/roles/{role}"
    keystone.ask("PATCH", f"endpoints/{public['id']}", {"endpoint": {"url": "http://old:9292"}})
    keystone.ask("DELETE", f"endpoints/{endpoints(keystone)['internal']['id']}")
    keystone.ask("DELETE", grant)
    wanted = {
        "internal endpoint in RegionOne": {"old": None, "new": URL},
        "public endpoint in RegionOne": {"old": "http://old:9292", "new": URL},
        "role admin of glance in project service": {"old": None, "new": "granted"},
    }

    refused = production.apply("glance.identity", keystone_admin_password="canary-wrong-admin")
    assert list(refused.failed) == [STATE]
    assert "refuses user cloudadmin of project admin" in refused.failed[STATE]
    assert "glance:keystone_admin_password" in refused.failed[STATE]
    assert "\n" not in refused.failed[STATE]
    assert "canary" not in refused.stdout

    told = production.apply("glance.identity", test=True)
    assert told.rc == 0, told.comments
    assert (state(told)["result"], state(told)["changes"]) == (None, wanted)
    assert endpoints(keystone)["public"]["url"] == "http://old:9292", "a test changes nothing"

    done = production.apply("glance.identity")
    assert done.rc == 0, done.comments
    assert done.changed == [STATE]
    assert state(done)["changes"] == wanted
    assert endpoints(keystone)["public"]["id"] == public["id"]
    assert keystone.find("user", "glance") == user

    again = production.apply()
    assert again.rc == 0, again.comments
    assert again.changed == []


@pytest.mark.one_host
def test_requests_are_authenticated_as_the_security_guide_asks(production):
    """OpenStack Security Guide, Check-Image-03; 04 is in the test with TLS."""
    read = production.container().exec_run(["cat", "/etc/glance/glance-api.conf"], user="root")
    text = read.output.decode()
    assert "flavor = keystone\n" in text
    assert "auth_type = password\n" in text
    assert "insecure = true" not in text


@changing
def test_another_password_than_the_users_is_refused_before_anything_stops(production):
    before = production.container().id
    refused = production.apply(glance_keystone_password="canary-other")
    assert list(refused.failed)[0] == STATE
    assert "glance:glance_keystone_user" in refused.failed[STATE]
    assert production.container().id == before
    assert production.ask("GET", "/v2/images")[0] == 200


@changing
def test_keystone_down_is_one_sentence_and_the_api_goes_on(production):
    before = production.container().id
    with stopped(production.keystone):
        refused = production.apply()
        assert list(refused.failed)[0] == STATE
        sentence = refused.failed[STATE]
        assert sentence == (
            f"Keystone at {production.keystone.url} (glance:keystone_internal_url) does not answer:"
            " nothing listens there."
        )
    assert production.container().id == before
    assert production.apply().changed == []


@changing
def test_a_new_password_comes_with_a_new_user_and_without_an_outage(production):
    edits = {"glance_keystone_user": "glance-b", "glance_keystone_password": SECOND}
    done = production.apply(**edits)
    assert done.rc == 0, done.comments
    assert "hand-over" in done.comments, done.comments
    assert list(state(done)["changes"]) == [
        "user glance-b",
        "role admin of glance-b in project service",
    ]
    production.base.update(edits)
    assert production.ask("GET", "/v2/images")[0] == 200


@changing
def test_a_password_is_set_anew_on_request(production):
    """Here that of a user that no container uses any more."""
    edits = {"glance_keystone_user": "glance", "glance_keystone_password": "canary-third-c"}
    done = production.apply(
        "glance.identity", update_keystone_service_user_passwords="yes", **edits
    )
    assert done.rc == 0, done.comments
    assert state(done)["changes"] == {
        "password of user glance": {"old": "another one", "new": "set"}
    }
    assert "canary" not in done.stdout + done.stderr
    assert production.keystone.token("glance", "canary-third-c", "service")
    assert production.ask("GET", "/v2/images")[0] == 200
