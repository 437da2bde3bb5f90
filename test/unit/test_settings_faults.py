"""Bad pillars: every fault at once, each in one sentence, none with a secret."""

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from support.settings import ROOT, SCHEMA, settings_for
from support.states import state_module

pytestmark = pytest.mark.one_host

BAD = yaml.safe_load((ROOT / "test/golden/settings_faults.yaml").read_text(encoding="utf-8"))
PRODUCTION = {
    "kolla_internal_vip_address": "10.0.0.9",
    "glance_database_password": "d",
    "database_password": "r",
    "glance_keystone_password": "k",
    "keystone_admin_password": "a",
}


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_every_fault_in_one_sentence(case):
    pillar = case["pillar"]
    if case.get("production"):
        pillar = {**PRODUCTION, **pillar}
    settings, found = settings_for(pillar)
    assert found == case["faults"]
    assert set(SCHEMA["defaults"]) <= set(settings)
    for fault in found:
        assert fault.startswith("glance")
        assert fault.endswith((".", "?"))
        assert "\n" not in fault


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("key", ["glance_policy", "s3_secret_key", "glance_api_port"])
def test_deep_values(key):
    value = {"a": nested(40)} if key == "glance_policy" else nested(40)
    kind = "mapping" if key == "glance_policy" else "list"
    _, faults = settings_for({key: value})
    assert faults == [f"glance:{key} is a {kind}; it must not be nested that deeply."]


def test_a_value_that_holds_itself():
    endless = []
    endless.append(endless)
    _, faults = settings_for({"glance_api_group": endless, "glance_policy": {"a": endless}})
    assert len(faults) == 2


def test_a_certificate_that_is_none():
    pillar = {
        "glance_enable_tls_backend": "yes",
        "kolla_tls_backend_cert": "/here/cert.pem",
        "kolla_tls_backend_key": "salt://here/key.pem",
    }
    files = {"/here/cert.pem": "hello", "salt://here/key.pem": "-----BEGIN CERTIFICATE-----"}
    _, faults = settings_for(pillar, files=files)
    assert faults == [
        "glance:kolla_tls_backend_cert is no certificate in PEM form.",
        "glance:kolla_tls_backend_key is no private key in PEM form.",
    ]


@pytest.mark.parametrize(
    "pillar",
    [
        {"glance_databse_password": "hunter2"},
        {"glance_database_password": ["hunter2"]},
        {"glance_database_password": "hunter2\n"},
        {"glance_custom_config": "hunter2"},
        {"glance_custom_config": {"glance.conf": "hunter2"}},
        {"glance_custom_config": {"glance.conf": {"DEFAULT": {"password": {"hunter2": 1}}}}},
        {"glance_policy": "hunter2"},
        {"kolla_tls_backend_key": ["hunter2"]},
        {"keystone_internal_url": "htp://user:hunter2@host"},
        {"s3_url": "http://user:hunter2@host:port/"},
        {"rpc_transport_url": "rabbit:hunter2"},
        {"hunter": "hunter2"},
        "http://user:hunter2@host",
    ],
)
def test_no_fault_shows_a_secret(pillar):
    _, faults = settings_for(pillar)
    assert faults
    assert "hunter2" not in "\n".join(faults)


def test_a_formula_that_is_served_in_parts_is_a_sentence():
    def faults():
        raise CommandExecutionError("salt://glance/defaults.yaml is not on the file server.")

    answer = state_module("glance_settings", {"glance_settings.faults": faults}).valid("x")
    assert answer["result"] is False
    assert answer["comment"] == "salt://glance/defaults.yaml is not on the file server."
