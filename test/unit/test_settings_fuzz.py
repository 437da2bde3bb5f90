"""Whatever stands in pillar: never an exception, always whole settings and whole sentences."""

import copy
import datetime
import json
import random

import pytest

from support.settings import SCHEMA, settings_for

pytestmark = pytest.mark.one_host

KEYS = list(SCHEMA["defaults"])
NAMES = ["glance-api.conf", "ceph.conf", "config.json", "policy.yaml", "DEFAULT", "name", "type",
         "enabled", "options", "ulimits", "own.crt", "cluster", "x", ""]  # fmt: skip
SCALARS = [
    None, True, False, 0, 1, -1, 9292, 10**40, 1.5, float("nan"), float("inf"), "", "yes", "no",
    "x", "10G", "25%", "a b", "a\nb", "\x00", "ä", "%s {} {0}", "{docker_registry}", "{", "::1",
    "127.0.0.1", "10.0.0.5", "[fd00::1]:80", "host:99999", "http://u:p@h:1/v3", "http://[::1", "/",
    "/a/../b", "salt://x", "[DEFAULT]\na=b", "[]", "x" * 5000, b"bytes", datetime.date(2026, 1, 2),
    "file", "rbd", "swift", "vmware", "cinder", "s3", "http", "os_glance_x", 1j, object,
]  # fmt: skip


def junk(rng, depth=0):
    kind = rng.random()
    if depth > 4 or kind < 0.6:
        return rng.choice(SCALARS)
    size = rng.randrange(4)
    if kind < 0.8:
        return [junk(rng, depth + 1) for _ in range(size)]
    keys = [rng.choice([*NAMES, *KEYS, 5, None, True, ("a", 1)]) for _ in range(size)]
    return {key: junk(rng, depth + 1) for key in keys}


def changed(rng, value):
    """A value that is nearly right."""
    value = copy.deepcopy(value)
    if isinstance(value, list) and value and rng.random() < 0.7:
        value[rng.randrange(len(value))] = changed(rng, rng.choice(value))
        return value
    if isinstance(value, dict) and value and rng.random() < 0.7:
        key = rng.choice(list(value))
        value[key] = changed(rng, value[key])
        return value
    return junk(rng)


def check(pillar):
    before = repr(pillar)
    settings, faults = settings_for(pillar)
    assert set(SCHEMA["defaults"]) <= set(settings)
    assert [key for key, value in settings.items() if value is None] == []
    for fault in faults:
        assert fault.startswith("glance")
        assert fault.endswith((".", "?"))
        assert "\n" not in fault
        assert len(fault) < 700
    assert repr(pillar) == before, "pillar was changed"
    if not faults:
        json.dumps(settings)
    return faults


@pytest.mark.parametrize("seed", range(20))
def test_junk_for_known_keys(seed):
    rng = random.Random(seed)
    for _ in range(25):
        keys = rng.sample(KEYS, rng.randrange(1, 12))
        check({key: junk(rng) for key in keys})


@pytest.mark.parametrize("value", SCALARS, ids=range(len(SCALARS)))
def test_every_scalar_for_all_keys(value):
    check(dict.fromkeys(KEYS, value))


def test_scalars_for_every_key():
    rng = random.Random(3)
    for key in KEYS:
        for value in rng.sample(SCALARS, 4):
            check({key: value})


@pytest.mark.parametrize("seed", range(10))
def test_junk_beside_the_structures(seed):
    rng = random.Random(1000 + seed)
    structured = [
        key
        for kind in (
            "overrides",
            "rules",
            "protections",
            "sections",
            "files",
            "dimensions",
            "environment",
            "topics",
            "stores",
        )  # fmt: skip
        for key in SCHEMA["types"][kind]
    ]
    good = {
        "glance_custom_config": {"glance-api.conf": {"DEFAULT": {"a": ["b"]}}, "ceph.conf": "[g]"},
        "glance_ceph_backends": [{"name": "r", "type": "rbd", "options": {"a": "b"}}],
        "glance_additional_stores": [{"name": "s", "type": "s3", "options": {"a": "b"}}],
        "glance_property_protections": {"x": {"create": "a", "read": ["b"]}},
    }
    for _ in range(40):
        key = rng.choice(structured)
        check({key: changed(rng, good.get(key, {"a": {"b": "c"}})), "enable_ceph": True})


@pytest.mark.parametrize("seed", range(5))
def test_junk_in_the_place_of_the_mapping(seed):
    rng = random.Random(2000 + seed)
    for _ in range(40):
        check(junk(rng))


def test_any_one_word_from_the_defaults_is_taken_as_it_is():
    """A default that is written into pillar changes nothing."""
    plain, _ = settings_for({})
    for key, value in SCHEMA["defaults"].items():
        settings, faults = settings_for({key: value})
        assert faults == []
        assert settings == plain


def test_resolved_settings_are_stable():
    """What comes out may stand in pillar, and comes out again."""
    production = {
        "kolla_internal_vip_address": "10.0.0.9",
        "glance_api_group": ["ctl1"],
        "glance_database_password": "d",
        "database_password": "r",
        "glance_keystone_password": "k",
        "keystone_admin_password": "a",
        "memcached_servers": ["10.0.0.1"],
        "memcache_secret_key": "m",
        "rabbitmq_servers": ["10.0.0.1"],
        "rabbitmq_password": "q",
    }
    first, faults = settings_for(production)
    assert faults == []
    second, faults = settings_for({key: first[key] for key in KEYS})
    assert faults == []
    assert {**second, "given": None} == {**first, "given": None}
