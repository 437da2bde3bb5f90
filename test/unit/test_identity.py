"""What is to be done in Keystone, and who does it."""

import json

import pytest
from salt.exceptions import CommandExecutionError

import glance_identity
from support.settings import settings_for

pytestmark = pytest.mark.cluster

SECRETS = {
    "glance_keystone_password": "pw of glance",
    "keystone_admin_password": "pw of admin",
}
PILLAR = {
    "kolla_internal_vip_address": "10.0.0.9",
    "kolla_external_vip_address": "203.0.113.9",
    "kolla_external_fqdn": "cloud.example",
    "kolla_enable_tls_external": "yes",
    "api_interface": "eth0",
    "network_interface": "eth0",
    "database_password": "x",
    "glance_database_password": "x",
    **SECRETS,
}
NOTHING = {
    "region": False,
    "services": [],
    "endpoints": [],
    "projects": [],
    "users": [],
    "roles": [],
    "granted": False,
    "password": None,
}


def settings(**more):
    made, faults = settings_for({**PILLAR, **more})
    assert not faults
    return made


def whole(**more):
    """A Keystone in which all is as wanted."""
    service = {"id": "s1", **glance_identity.SERVICE}

    def endpoint(interface, url):
        place = {"interface": interface, "region_id": "RegionOne", "region": "RegionOne"}
        return {"id": f"e-{interface}", **place, "url": url, "enabled": True, "service_id": "s1"}

    return {
        "region": True,
        "services": [service],
        "endpoints": [
            endpoint("internal", "http://10.0.0.9:9292"),
            endpoint("public", "https://cloud.example:9292"),
            {**endpoint("public", "https://far.example:9292"), "region_id": "RegionTwo"},
        ],
        "projects": [{"id": "p1", "name": "service", "domain_id": "default", "enabled": True}],
        "users": [{"id": "u1", "name": "glance", "domain_id": "default", "enabled": True}],
        "roles": [{"id": "r1", "name": "admin"}],
        "granted": True,
        "password": True,
        **more,
    }


def plan(found, **more):
    return glance_identity.plan(glance_identity.wanted(settings(**more)), found)


def test_a_new_keystone_gets_what_kolla_registers():
    made = plan(NOTHING)
    assert made["refusal"] is None
    assert made["changes"] == {
        "region RegionOne": {"old": None, "new": "created"},
        "service glance": {"old": None, "new": "created"},
        "internal endpoint in RegionOne": {"old": None, "new": "http://10.0.0.9:9292"},
        "public endpoint in RegionOne": {"old": None, "new": "https://cloud.example:9292"},
        "project service": {"old": None, "new": "created"},
        "user glance": {"old": None, "new": "created"},
        "role admin": {"old": None, "new": "created"},
        "role admin of glance in project service": {"old": None, "new": "granted"},
    }
    assert [step["call"] for step in made["steps"]] == [
        "create_region",
        "create_service",
        "create_endpoint",
        "create_endpoint",
        "create_project",
        "create_user",
        "create_role",
        "assign_project_role_to_user",
    ]
    assert made["ids"] == {}
    assert made["steps"][1]["with"]["description"] == "Openstack Image"
    user = made["steps"][5]["with"]
    assert user["password"] == "{password}", "the order holds it, not the plan"
    assert user["default_project_id"] == "{project}"


def test_a_keystone_as_wanted_is_left_alone():
    made = plan(whole())
    assert (made["steps"], made["changes"], made["refusal"]) == ([], {}, None)


def test_later_steps_use_what_is_there():
    made = plan(whole(endpoints=[], granted=False))
    assert made["ids"] == {"service": "s1", "project": "p1", "user": "u1", "role": "r1"}
    assert [step["call"] for step in made["steps"]] == [
        "create_endpoint",
        "create_endpoint",
        "assign_project_role_to_user",
    ]
    assert made["steps"][0]["with"]["service_id"] == "{service}"


def test_what_differs_is_changed_and_told():
    found = whole()
    found["endpoints"][0]["url"] = "http://10.0.0.1:9292"
    found["endpoints"][1]["enabled"] = False
    found["services"][0]["enabled"] = False
    found["users"][0]["enabled"] = False
    found["password"] = None
    made = plan(found)
    assert made["changes"] == {
        "service glance": {"old": "disabled", "new": "enabled"},
        "internal endpoint in RegionOne": {
            "old": "http://10.0.0.1:9292",
            "new": "http://10.0.0.9:9292",
        },
        "public endpoint in RegionOne": {"old": "disabled", "new": "enabled"},
        "user glance": {"old": "disabled", "new": "enabled"},
    }
    assert made["steps"][1] == {
        "call": "update_endpoint",
        "id": "e-internal",
        "with": {"url": "http://10.0.0.9:9292"},
        "gives": None,
    }


def test_another_region_gets_endpoints_of_its_own():
    made = plan(whole(region=False), openstack_region_name="RegionThree")
    assert list(made["changes"]) == [
        "region RegionThree",
        "internal endpoint in RegionThree",
        "public endpoint in RegionThree",
    ]


@pytest.mark.parametrize("found", [whole(), NOTHING])
def test_a_password_that_works_or_is_new_is_not_set(found):
    made = plan(found, update_keystone_service_user_passwords="yes")
    assert not [one for one in made["changes"] if one.startswith("password")]


def test_a_password_is_set_anew_on_request_only():
    refused = plan(whole(password=False))
    assert refused["steps"] == []
    assert "glance:glance_keystone_user" in refused["refusal"]
    assert "glance:update_keystone_service_user_passwords" in refused["refusal"]
    made = plan(whole(password=False), update_keystone_service_user_passwords="yes")
    assert made["refusal"] is None
    assert made["changes"] == {"password of user glance": {"old": "another one", "new": "set"}}
    assert made["steps"] == [
        {"call": "update_user", "id": "u1", "with": {"password": "{password}"}, "gives": None}
    ]


def several(**more):
    found = whole()
    found.update({key: [*found[key], value] for key, value in more.items()})
    return found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            several(services={"id": "s2", "name": "old", "type": "image"}),
            "2 services of type image, glance (s1), old (s2)",
        ),
        (
            whole(services=[{"id": "s2", "name": "images", "type": "image"}]),
            "openstack service set --name glance s2",
        ),
        (
            several(endpoints={**whole()["endpoints"][1], "id": "e9", "url": "http://b"}),
            "2 public endpoints of glance in RegionOne, https://cloud.example:9292 (e-public),"
            " http://b (e9)",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(found, words):
    assert words in plan(found)["refusal"]


class Keystone:
    """Answers of a Keystone, by the beginning of METHOD and path."""

    def __init__(self, **answers):
        self.asked, self.login_of_glance = [], None
        self.answers = {
            "POST /auth/tokens": (201, {}),
            "GET /regions/RegionOne": (200, {}),
            "HEAD /projects/p1/users/u1/roles/r1": (204, None),
            **{f"GET /{kind}": (200, {kind: found}) for kind, found in whole().items()
               if isinstance(found, list)},
            **answers,
        }  # fmt: skip

    def ask(self, settings, method, path, body=None, token=None, through=None):
        self.asked.append((method, path, body, token, settings[through]))
        key = next(key for key in self.answers if f"{method} {path}".startswith(key))
        status, told = self.answers[key]
        text = "" if told is None else json.dumps(told)
        return {"status": status, "body": text, "headers": {"x-subject-token": "t1"}}

    def login(self, _settings):
        if not self.login_of_glance:
            raise CommandExecutionError("Keystone refuses user glance.")
        return self.login_of_glance


def compare(monkeypatch, keystone, **more):
    salt = {"glance_http.keystone": keystone.ask, "glance_http.login": keystone.login}
    monkeypatch.setattr(glance_identity, "__salt__", salt, raising=False)
    return glance_identity.compare(settings(**more))


def login(**more):
    """What Keystone tells Glance's user when all is as wanted."""
    image = {"name": "glance", "type": "image", "endpoints": whole()["endpoints"]}
    keystone = {"name": "keystone", "type": "identity", "endpoints": []}
    return {"roles": ["reader", "admin"], "catalog": [keystone, image], **more}


def test_the_login_of_glance_tells_that_all_is_as_wanted(monkeypatch):
    keystone = Keystone()
    keystone.login_of_glance = login()
    assert compare(monkeypatch, keystone)["changes"] == {}
    assert keystone.asked == [], "the administrator is not needed"


def without(number):
    image = login()["catalog"][1]
    kept = [one for index, one in enumerate(image["endpoints"]) if index != number]
    return [{**image, "endpoints": kept}]


@pytest.mark.parametrize(
    "told",
    [
        login(roles=["member"]),
        login(catalog=[]),
        login(catalog=[*login()["catalog"], {"name": "b", "type": "image", "endpoints": []}]),
        login(catalog=[{**login()["catalog"][1], "name": "images"}]),
        login(catalog=without(0)),
        login(catalog=without(1)),
    ],
)
def test_anything_else_is_a_case_for_the_administrator(told):
    want = glance_identity.wanted(settings())
    assert glance_identity.is_as_wanted(want, login())
    assert not glance_identity.is_as_wanted(want, told)
    other = glance_identity.wanted(settings(openstack_region_name="RegionTwo"))
    assert not glance_identity.is_as_wanted(other, login())


def test_looking_takes_few_requests_and_the_administrators_token(monkeypatch):
    keystone = Keystone()
    keystone.login_of_glance = login(catalog=[])
    assert compare(monkeypatch, keystone)["changes"] == {}
    assert len(keystone.asked) == 8
    assert {token for _, _, _, token, _ in keystone.asked[1:]} == {"t1"}
    assert {url for *_, url in keystone.asked} == {"http://10.0.0.9:5000"}
    assert any("service_id=s1" in path for _, path, *_ in keystone.asked)


def test_the_public_interface_on_request(monkeypatch):
    keystone = Keystone()
    compare(monkeypatch, keystone, openstack_interface="public")
    assert {url for *_, url in keystone.asked} == {"https://cloud.example:5000"}


def test_a_lacking_role_is_no_wrong_password(monkeypatch):
    keystone = Keystone(**{"HEAD /projects/p1/users/u1/roles/r1": (404, None)})
    made = compare(monkeypatch, keystone)
    assert list(made["changes"]) == ["role admin of glance in project service"]
    assert [path for _, path, *_ in keystone.asked].count("/auth/tokens") == 2


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"POST /auth/tokens": (401, {})}, "glance:keystone_admin_password"),
        ({"POST /auth/tokens": (503, {})}, "gives no token (HTTP 503)"),
        ({"GET /services": (403, {})}, "give it the role admin"),
        ({"GET /users": (500, {})}, "does not list users (HTTP 500)"),
    ],
)
def test_a_refusal_is_one_sentence_without_secrets(monkeypatch, answers, words):
    with pytest.raises(CommandExecutionError) as caught:
        compare(monkeypatch, Keystone(**answers))
    text = str(caught.value)
    assert words in text
    assert "http://10.0.0.9:5000 (glance:keystone_internal_url)" in text
    assert text.count(". ") == 0
    assert not [secret for secret in SECRETS.values() if secret in text]


def test_the_order_holds_the_secrets_and_the_plan_none():
    planned = plan(NOTHING)
    assert not [secret for secret in SECRETS.values() if secret in json.dumps(planned)]
    order = glance_identity._order(settings(), planned)
    assert order["names"] == {"password": "pw of glance"}
    assert order["admin"]["password"] == "pw of admin"
