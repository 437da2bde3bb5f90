"""No variable of Kolla-Ansible's Glance guide and role is a stranger."""

import pytest

from support.settings import ROOT, SCHEMA, settings_for

pytestmark = pytest.mark.one_host

LINES = (ROOT / "test/golden/kolla_variables.txt").read_text(encoding="utf-8").splitlines()
VARIABLES = [line for line in LINES if not line.startswith("#")]


@pytest.mark.parametrize("name", VARIABLES)
def test_known_or_left_out_with_a_reason(name):
    if name in SCHEMA["defaults"]:
        return
    _, faults = settings_for({name: "x"})
    assert len(faults) == 1
    assert faults[0].startswith(f"glance:{name} is left out on purpose: ")


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("docker_registry", "quay.io"),
        ("docker_namespace", "openstack.kolla"),
        ("glance_keystone_user", "glance"),
        ("glance_file_datadir_volume", "glance"),
        ("glance_api_port", 9292),
        ("glance_cache_max_size", 10737418240),
        ("glance_database_name", "glance"),
        ("database_port", 3306),
        ("database_connection_recycle_time", 10),
        ("database_max_pool_size", 1),
        ("memcached_port", 11211),
        ("memcache_security_strategy", "ENCRYPT"),
        ("openstack_region_name", "RegionOne"),
        ("config_strategy", "COPY_ALWAYS"),
        ("docker_restart_policy", "unless-stopped"),
        ("docker_graceful_timeout", 60),
        ("docker_client_timeout", 120),
        ("node_config_directory", "/etc/kolla"),
        ("ceph_cluster", "ceph"),
        ("ceph_glance_pool_name", "images"),
        ("ceph_glance_user", "glance"),
        ("haproxy_glance_api_client_timeout", "6h"),
        ("haproxy_glance_api_server_timeout", "6h"),
        ("glance_api_healthcheck_interval", 30),
        ("glance_api_healthcheck_timeout", 30),
        ("glance_api_healthcheck_retries", 3),
        ("glance_api_healthcheck_start_period", 5),
        ("glance_api_dimensions", {"ulimits": {"nofile": {"soft": 1048576, "hard": 1048576}}}),
        ("glance_enable_rolling_upgrade", False),
        ("enable_glance_image_cache", False),
        ("glance_enable_property_protection", False),
        ("glance_enable_interoperable_image_import", False),
        ("update_keystone_service_user_passwords", False),
        ("external_ceph_cephx_enabled", True),
    ],
)
def test_kollas_default(name, default):
    settings, _ = settings_for({})
    assert settings[name] == default
