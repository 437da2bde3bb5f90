"""What pillar becomes: defaults, types, trial and production, what follows from what."""

import ipaddress

import pytest

from support.settings import HOST, SCHEMA, settings_for

pytestmark = pytest.mark.one_host

PRODUCTION = {
    "kolla_internal_vip_address": "10.0.0.9",
    "glance_database_password": "db-secret",
    "database_password": "root-secret",
    "glance_keystone_password": "ks-secret",
    "keystone_admin_password": "admin-secret",
}


def good(pillar, **host):
    settings, faults = settings_for(pillar, **host)
    assert faults == []
    return settings


@pytest.mark.parametrize("pillar", [None, {}])
def test_nothing_in_pillar_is_a_trial(pillar):
    settings = good(pillar)
    assert settings["trial"] is True
    assert settings["keystone"] is False
    assert settings["listen"] == "127.0.0.1:9292"
    assert settings["self_url"] == "http://127.0.0.1:9292"
    assert settings["glance_api_image_full"] == (
        "quay.io/openstack.kolla/glance-api:2026.2-rocky-10"
    )
    assert settings["database_kind"] == "sqlite"
    assert settings["database_connection"] == "sqlite:////var/lib/glance/glance.sqlite?timeout=60"
    assert settings["database_identity"] == "sqlite://glance/glance.sqlite"
    assert [store["name"] for store in settings["stores"]] == ["file", "http"]
    assert settings["default_store"] == "file"
    assert settings["glance_api_hosts"] == ["ctl1"]
    assert settings["runs_api"] is True
    assert settings["needs_privileged"] is False
    assert settings["config_dir"] == "/etc/kolla/glance-api"
    assert settings["snapshot_dir"] == "/etc/kolla/glance-api.d"
    assert settings["warnings"] == [
        "Trial mode: SQLite, no Keystone, and whoever reaches 127.0.0.1:9292 on this host may do "
        "anything with the images; name a database and Keystone in pillar for production."
    ]


def test_every_key_has_one_type():
    listed = [key for keys in SCHEMA["types"].values() for key in keys]
    assert sorted(listed) == sorted(SCHEMA["defaults"])


def test_no_setting_is_missing_or_null():
    settings = good({})
    assert set(SCHEMA["defaults"]) <= set(settings)
    assert [key for key, value in settings.items() if value is None] == []


def test_no_refused_key_is_known():
    for name in SCHEMA["refused"]:
        assert not [
            key
            for key in SCHEMA["defaults"]
            if key == name or (name.endswith("_") and key.startswith(name))
        ]


@pytest.mark.parametrize("word", ["yes", "Yes", "true", "True", "on", True, " TRUE "])
def test_words_for_yes(word):
    settings = good({"glance_logging_debug": word})
    assert settings["glance_logging_debug"] is True


@pytest.mark.parametrize("word", ["no", "No", "false", "False", "off", False])
def test_words_for_no(word):
    settings = good({"enable_openstack_core": word})
    assert settings["enable_openstack_core"] is False
    assert settings["enable_glance"] is False


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("glance_cache_max_size", "10737418240", 10737418240),
        ("glance_cache_max_size", "10G", 10737418240),
        ("glance_cache_max_size", "512 MiB", 536870912),
        ("glance_cache_max_size", 4096, 4096),
        ("glance_api_port", "19292", 19292),
        ("glance_api_workers", "3", 3),
        ("glance_upgrade_max_unavailable", "25%", "25%"),
        ("glance_upgrade_max_unavailable", "2", 2),
        ("openstack_release", 2026.1, "2026.1"),
        ("glance_tag", 20260101, "20260101"),
        ("docker_restart_policy", False, "no"),
        ("docker_restart_policy", "no", "no"),
        ("glance_file_datadir_volume", "/srv/images/", "/srv/images"),
        ("glance_api_group", "ctl1, ctl2", ["ctl1", "ctl2"]),
        ("memcached_servers", "10.0.0.1,fd00::2", ["10.0.0.1:11211", "[fd00::2]:11211"]),
        ("memcached_servers", ["inet6:[fd00::2]:11212"], ["[fd00::2]:11212"]),
        ("memcached_servers", "inet6:[fd00::2]", ["[fd00::2]:11211"]),
        ("rabbitmq_servers", ["mq1:5673"], ["mq1:5673"]),
        ("glance_vmware_datastores", "DC 1:ds", ["DC 1:ds"]),
        ("glance_api_healthcheck_test", "NONE", ["NONE"]),
        ("glance_api_healthcheck_test", "curl x", ["CMD-SHELL", "curl x"]),
        ("glance_notification_topics", ["a"], [{"name": "a", "enabled": True}]),
        ("glance_api_container_proxy", {"A": 1, "B": True}, {"A": "1", "B": "true"}),
        ("glance_policy", {"publicize_image": "role:admin"}, {"publicize_image": "role:admin"}),
        ("api_interface_address", "127.0.10.1", "127.0.10.1"),
        ("api_interface_address", "[::1]", "::1"),
        ("s3_url", "http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("glance_api_extra_volumes", ["/a:/b:ro", ""], ["/a:/b:ro"]),
    ],
)
def test_values_in_their_type(key, value, expected):
    settings, _ = settings_for({key: value})
    assert settings[key] == expected
    assert type(settings[key]) is type(expected)


def test_empty_values_count_as_not_given():
    settings = good(
        {"glance_api_workers": None, "keystone_internal_url": "", "database_port": None}
    )
    assert settings["given"] == []
    assert settings["trial"] is True


@pytest.mark.parametrize(
    ("release", "distro", "tag"),
    [
        ("2023.1", "debian", "2023.1-debian-bullseye"),
        ("2023.2", "debian", "2023.2-debian-bookworm"),
        ("2025.2", "debian", "2025.2-debian-bookworm"),
        ("2026.1", "debian", "2026.1-debian-trixie"),
        ("2025.1", "rocky", "2025.1-rocky-9"),
        ("2025.2", "rocky", "2025.2-rocky-10"),
        ("2024.1", "ubuntu", "2024.1-ubuntu-jammy"),
        ("2024.2", "ubuntu", "2024.2-ubuntu-noble"),
        ("2025.1", "centos", "2025.1-centos-stream9"),
        ("master", "debian", "master-debian-trixie"),
    ],
)
def test_tag_of_a_release(release, distro, tag):
    settings = good({"openstack_release": release, "kolla_base_distro": distro})
    assert settings["glance_tag"] == tag


@pytest.mark.parametrize(
    ("pillar", "image"),
    [
        ({"docker_registry": ""}, "openstack.kolla/glance-api:2026.2-rocky-10"),
        ({"docker_registry": "reg:5000", "docker_namespace": "mine"}, "reg:5000/mine/glance-api:"),
        ({"docker_image_name_prefix": "debian-"}, "quay.io/openstack.kolla/debian-glance-api:"),
        ({"openstack_tag_suffix": "-aarch64"}, "glance-api:2026.2-rocky-10-aarch64"),
        ({"openstack_tag": "x1"}, "quay.io/openstack.kolla/glance-api:x1"),
        ({"glance_tag": "x2", "openstack_tag": "x1"}, "quay.io/openstack.kolla/glance-api:x2"),
        ({"glance_api_tag": "x3"}, "quay.io/openstack.kolla/glance-api:x3"),
        ({"glance_api_image": "127.0.0.1:5000/glance-api"}, "127.0.0.1:5000/glance-api:2026.2-"),
        ({"glance_api_image_full": "a/b@sha256:00"}, "a/b@sha256:00"),
    ],
)
def test_each_part_of_the_image_follows_the_one_before(pillar, image):
    assert image in good(pillar)["glance_api_image_full"]


def test_production_of_kolla_globals():
    settings = good(PRODUCTION)
    assert settings["trial"] is False
    assert settings["api_address"] == "10.0.0.5"
    assert settings["glance_database_address"] == "10.0.0.9:3306"
    assert settings["keystone_internal_url"] == "http://10.0.0.9:5000"
    assert settings["keystone_public_url"] == "http://10.0.0.9:5000"
    assert settings["glance_internal_endpoint"] == "http://10.0.0.9:9292"
    assert settings["glance_public_endpoint"] == "http://10.0.0.9:9292"
    assert settings["horizon_public_endpoint"] == "http://10.0.0.9"
    assert settings["database_identity"] == "mysql://10.0.0.9:3306/glance"
    assert settings["database_connection"] == (
        "mysql+pymysql://glance:db-secret@10.0.0.9:3306/glance"
    )
    assert settings["enable_haproxy"] is True
    assert settings["warnings"] == [
        "Keystone is asked at http://10.0.0.9:5000 (glance:keystone_internal_url), so passwords and"
        " tokens go over the network unencrypted; https is what the OpenStack Security Guide asks"
        " (Check-Image-04).",
        "glance:glance_api_group is not given, so ctl1 is taken for the only host of this Glance;"
        " where there are more, list all of them there, or each serves by itself and leaves the"
        " others out of the load balancer.",
        "glance:memcached_servers is empty: every process asks Keystone again for every token.",
    ]


@pytest.mark.parametrize(
    "pillar",
    [
        {"database_address": "10.0.0.9"},
        {"glance_database_address": "10.0.0.9:3306"},
        {"glance_database_password": "x"},
        {"database_password": "x"},
        {"keystone_internal_url": "http://10.0.0.9:5000"},
        {"keystone_public_url": "http://10.0.0.9:5000"},
        {"glance_keystone_password": "x"},
        {"keystone_admin_password": "x"},
        {"kolla_internal_vip_address": "10.0.0.9"},
        {"kolla_internal_fqdn": "cloud.example.org"},
        {"glance_api_group": ["ctl1", "ctl2"]},
        {"glance_database_password": 5},
    ],
)
def test_what_makes_it_production(pillar):
    settings, faults = settings_for(pillar)
    assert settings["trial"] is False
    assert [fault for fault in faults if "is missing" in fault]


def test_passwords_are_quoted_in_urls():
    pillar = {**PRODUCTION, "glance_database_password": "p@ss/w:r%d $&"}
    settings = good(pillar)
    assert settings["database_connection"] == (
        "mysql+pymysql://glance:p%40ss%2Fw%3Ar%25d%20%24%26@10.0.0.9:3306/glance"
    )
    pillar = {**PRODUCTION, "rabbitmq_servers": ["10.0.0.1", "fd00::1"], "rabbitmq_password": "a@b"}
    assert good(pillar)["rpc_transport_url"] == (
        "rabbit://openstack:a%40b@10.0.0.1:5672,openstack:a%40b@[fd00::1]:5672//"
    )


def test_database_over_tls():
    pillar = {
        **PRODUCTION,
        "kolla_enable_tls_internal": "yes",
        "enable_proxysql": "yes",
        "openstack_cacert": "/etc/ssl/certs/ca-certificates.crt",
    }
    settings = good(pillar)
    assert settings["database_connection"].endswith(
        "/glance?ssl_ca=/etc/ssl/certs/ca-certificates.crt"
    )
    assert settings["glance_database_shard_root_user"] == "root_shard_0"


def test_shared_database_user():
    pillar = {
        **PRODUCTION,
        "database_password": "",
        "use_preconfigured_databases": "yes",
        "use_common_mariadb_user": "yes",
        "database_user": "cloud",
    }
    assert good(pillar)["glance_database_user"] == "cloud"


def test_keystone_urls_lose_their_version():
    pillar = {
        **PRODUCTION,
        "keystone_internal_url": "http://10.0.0.7:5000/v3/",
        "keystone_public_url": "https://cloud.example.org:5000/v3",
    }
    settings = good(pillar)
    assert settings["keystone_internal_url"] == "http://10.0.0.7:5000"
    assert settings["keystone_public_url"] == "https://cloud.example.org:5000"
    assert settings["glance_swift_auth_url"] == "http://10.0.0.7:5000/v3"


def test_ipv6_everywhere():
    pillar = {
        **PRODUCTION,
        "kolla_internal_vip_address": "fd00::9",
        "network_address_family": "ipv6",
    }
    settings = good(pillar)
    assert settings["api_address"] == "fd00::5"
    assert settings["listen"] == "[fd00::5]:9292"
    assert settings["self_url"] == "http://[fd00::5]:9292"
    assert settings["keystone_internal_url"] == "http://[fd00::9]:5000"
    assert settings["database_identity"] == "mysql://[fd00::9]:3306/glance"
    assert settings["glance_api_healthcheck_test"] == [
        "CMD-SHELL",
        "healthcheck_curl http://[fd00::5]:9292/healthcheck",
    ]


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        (["fd00::9", "fd00::5"], "fd00::5"),
        (["fd00::a", "fd00:0::9", "fd00::5"], "fd00::5"),
        (["fe80::1", "10.0.0.5", "fd00::9"], "fd00::9"),
        (["fd00::6", "fd00::9"], "fd00::6"),
    ],
)
def test_the_vip_is_not_the_address_of_a_host(addresses, chosen):
    pillar = {
        **PRODUCTION,
        "kolla_internal_vip_address": "fd00::9",
        "kolla_external_vip_address": "fd00::a",
        "network_address_family": "ipv6",
        "enable_haproxy": "no",
    }
    settings = good(pillar, interfaces={"eth0": addresses})
    assert settings["api_address"] == chosen


def test_the_vip_is_not_the_address_of_a_host_in_ipv4():
    settings = good(PRODUCTION, interfaces={"eth0": ["10.0.0.9", "10.0.0.5"]})
    assert settings["api_address"] == "10.0.0.5"


def test_ipv6_trial():
    assert good({"api_interface_address": "::1"})["listen"] == "[::1]:9292"


def test_tls_and_two_addresses():
    pillar = {
        **PRODUCTION,
        "kolla_external_vip_address": "192.0.2.9",
        "kolla_external_fqdn": "cloud.example.org",
        "kolla_enable_tls_external": "yes",
        "haproxy_single_external_frontend": "yes",
    }
    settings = good(pillar)
    assert settings["glance_public_endpoint"] == "https://cloud.example.org"
    assert settings["keystone_public_url"] == "https://cloud.example.org"
    assert settings["glance_internal_endpoint"] == "http://10.0.0.9:9292"
    assert settings["horizon_public_endpoint"] == "https://cloud.example.org"
    assert settings["haproxy_enable_external_vip"] is True


def test_listen_port_differs_from_that_of_the_load_balancer():
    settings = good({**PRODUCTION, "glance_api_listen_port": 19292})
    assert settings["self_url"] == "http://10.0.0.5:19292"
    assert settings["glance_internal_endpoint"] == "http://10.0.0.9:9292"


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (4, 4), (64, 5), (0, 1)])
def test_workers_follow_the_cpus(cpus, workers):
    assert good({}, cpus=cpus)["glance_api_workers"] == workers


def test_interface_by_name():
    interfaces = {**HOST["interfaces"], "bond0": ["not an address", "10.9.0.1"]}
    settings = good({**PRODUCTION, "api_interface": "bond0"}, interfaces=interfaces)
    assert ipaddress.ip_address(settings["api_address"]) == ipaddress.ip_address("10.9.0.1")


def test_group_and_the_hosts_that_run_the_api():
    pillar = {**PRODUCTION, "glance_api_group": ["ctl2", "ctl1"]}
    settings = good(pillar)
    assert settings["glance_api_hosts"] == ["ctl2"]
    assert settings["runs_api"] is False
    assert (
        "Only ctl2 runs the API, because the images are on its volume glance; put a shared "
        "filesystem into glance:glance_file_datadir_volume to use the others."
    ) in settings["warnings"]
    settings = good({**pillar, "glance_file_datadir_volume": "/mnt/images"})
    assert settings["glance_api_hosts"] == ["ctl2", "ctl1"]
    assert settings["runs_api"] is True


@pytest.mark.parametrize(
    ("pillar", "warned"),
    [
        (PRODUCTION, True),
        ({**PRODUCTION, "glance_api_group": ["ctl1"]}, False),
        ({**PRODUCTION, "enable_haproxy": "no"}, False),
        ({}, False),
    ],
)
def test_a_group_that_is_not_given_behind_a_vip_is_warned_of(pillar, warned):
    told = [text for text in good(pillar)["warnings"] if "glance_api_group is not given" in text]
    assert bool(told) is warned


def test_switched_off_is_fine_with_anything():
    pillar = {
        "enable_glance": "no",
        "glance_api_group": ["elsewhere", "far"],
        "glance_backend_s3": "yes",
        "glance_enable_rolling_upgrade": "yes",
        "kolla_internal_vip_address": "10.0.0.9",
        "api_interface": "none0",
        "glance_default_backend": "nowhere",
    }
    settings = good(pillar)
    assert settings["enable_glance"] is False
    assert settings["runs_api"] is False


def test_proxies_become_the_environment():
    pillar = {
        **PRODUCTION,
        "container_http_proxy": "http://proxy:3128",
        "container_no_proxy": "localhost",
    }
    assert good(pillar)["glance_api_container_proxy"] == {
        "http_proxy": "http://proxy:3128",
        "no_proxy": "localhost,10.0.0.5,10.0.0.9",
    }
    assert good(PRODUCTION)["glance_api_container_proxy"] == {}


def test_overrides_in_every_form_become_one():
    text = """
# a comment
[DEFAULT]
debug = True
image_size_cap: 5
location = a
location = b
long = one
   two
[oslo_policy]
enforce_scope=false
"""
    settings = good({"glance_custom_config": {"glance/glance-api.conf": text}})
    assert settings["glance_custom_config"]["glance-api.conf"] == {
        "DEFAULT": {
            "debug": "True",
            "image_size_cap": "5",
            "location": ["a", "b"],
            "long": "one two",
        },
        "oslo_policy": {"enforce_scope": "false"},
    }
    mapping = {"DEFAULT": {"debug": True, "image_size_cap": 5, "location": ["a", 7]}}
    settings = good({"glance_custom_config": {"global.conf": mapping}})
    assert settings["glance_custom_config"]["global.conf"] == {
        "DEFAULT": {"debug": "true", "image_size_cap": "5", "location": ["a", "7"]}
    }


def test_secrets_among_the_overrides_are_found():
    overrides = {
        "glance.conf": {
            "DEFAULT": {"transport_url": "x", "debug": "yes"},
            "keystone_authtoken": {"password": "x", "username": "y"},
            "profiler": {"hmac_keys": "x"},
            "s3": {"s3_store_secret_key": "x", "s3_store_access_key": "y"},
            "other": {"url": "http://user:pw@host/", "plain": "http://host/"},
        }
    }
    found = good({"glance_custom_config": overrides})["custom_secrets"]
    assert found == [
        ["glance.conf", "DEFAULT", "transport_url"],
        ["glance.conf", "keystone_authtoken", "password"],
        ["glance.conf", "profiler", "hmac_keys"],
        ["glance.conf", "s3", "s3_store_secret_key"],
        ["glance.conf", "s3", "s3_store_access_key"],
        ["glance.conf", "other", "url"],
    ]


def test_property_protections_keep_their_order():
    rules = {
        "x_.*": {"create": ["admin", "member"], "read": "@", "update": "admin", "delete": "!"},
        ".*": {"create": "@", "read": "@", "update": "@", "delete": "@"},
    }
    settings = good(
        {"glance_enable_property_protection": "yes", "glance_property_protections": rules}
    )
    assert list(settings["glance_property_protections"]) == ["x_.*", ".*"]
    assert settings["glance_property_protections"]["x_.*"]["create"] == "admin,member"


def test_files_take_the_place_of_their_names():
    certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n"
    files = {
        "/etc/kolla/certificates/backend-cert.pem": certificate,
        "salt://tls/key.pem": key,
        "salt://tls/ca.pem": certificate,
        "salt://glance.conf": "[DEFAULT]\ndebug = yes\n",
    }
    pillar = {
        "glance_enable_tls_backend": "yes",
        "kolla_tls_backend_key": "salt://tls/key.pem",
        "glance_ca_certificates": {"own.crt": "salt://tls/ca.pem"},
        "glance_custom_config": {"glance-api.conf": "salt://glance.conf"},
    }
    settings = good(pillar, files=files)
    assert settings["glance_backend_tls_cert"] == certificate
    assert settings["glance_backend_tls_key"] == key
    assert settings["glance_ca_certificates"] == {"own.crt": certificate}
    assert settings["kolla_copy_ca_into_containers"] is True
    assert settings["glance_custom_config"]["glance-api.conf"] == {"DEFAULT": {"debug": "yes"}}
    assert settings["api_scheme"] == "https"
    assert settings["self_url"] == "https://127.0.0.1:9292"


def test_cephs_files_may_be_paths_on_the_host():
    files = {
        "/etc/ceph/ceph.conf": "[global]\nfsid = x\n",
        "/etc/ceph/ceph.client.glance.keyring": "[client.glance]\nkey = AQ==\n",
    }
    names = {path.rpartition("/")[2]: path for path in files}
    settings = good({"enable_ceph": "yes", "glance_custom_config": names}, files=files)
    assert settings["glance_custom_config"] == {name: files[names[name]] for name in names}


@pytest.mark.parametrize(
    ("pillar", "warning"),
    [
        (
            {**PRODUCTION, "glance_keystone_password": "{{ vault_password }}"},
            "glance:glance_keystone_password has {{ or {% in it: Jinja is not rendered here, so"
            " these characters are part of the value.",
        ),
        (
            {
                "glance_property_protections": {
                    "a": dict.fromkeys(("create", "read", "update", "delete"), "@")
                }
            },
            "glance:glance_property_protections has no effect while "
            "glance:glance_enable_property_protection is no.",
        ),
        (
            {"glance_image_import": {"image_import_opts": {"image_import_plugins": ["no_op"]}}},
            "glance:glance_image_import has no effect while "
            "glance:glance_enable_interoperable_image_import is no.",
        ),
        (
            {"glance_show_image_direct_url": "yes"},
            "glance:glance_show_image_direct_url is on: users see where images are stored, which "
            "helps with ceph only and not with file.",
        ),
        (
            {
                **PRODUCTION,
                "kolla_enable_tls_internal": "yes",
                "glance_ca_certificates": {"own.crt": "-----BEGIN CERTIFICATE-----\n"},
            },
            "glance:openstack_cacert is empty: glance_ca_certificates go into the CA bundle of the"
            " container, which Python libraries use only if it is named there; in images of rocky"
            " (glance:kolla_base_distro) it is /etc/pki/tls/certs/ca-bundle.crt.",
        ),
        (
            {**PRODUCTION, "openstack_cacert": "/etc/ssl/certs/ca-certificates.crt"},
            "glance:openstack_cacert is /etc/ssl/certs/ca-certificates.crt, but in images of rocky"
            " (glance:kolla_base_distro) the CA bundle is /etc/pki/tls/certs/ca-bundle.crt.",
        ),
        (
            {
                **PRODUCTION,
                "kolla_base_distro": "ubuntu",
                "openstack_cacert": "/etc/pki/tls/certs/ca-bundle.crt",
            },
            "glance:openstack_cacert is /etc/pki/tls/certs/ca-bundle.crt, but in images of ubuntu"
            " (glance:kolla_base_distro) the CA bundle is /etc/ssl/certs/ca-certificates.crt.",
        ),
    ],
)
def test_warnings(pillar, warning):
    assert warning in good(pillar)["warnings"]


@pytest.mark.parametrize(
    "keys",
    [
        {"openstack_cacert": "/etc/pki/tls/certs/ca-bundle.crt"},
        {"openstack_cacert": "/etc/own.crt"},
        # Nobody knows of which distribution it is.
        {
            "openstack_cacert": "/etc/ssl/certs/ca-certificates.crt",
            "glance_api_image_full": "registry:5000/glance-api:mine",
        },
    ],
)
def test_a_bundle_that_may_be_there_is_not_warned_of(keys):
    assert not [one for one in good({**PRODUCTION, **keys})["warnings"] if "CA bundle" in one]


def test_a_container_without_health_checks_has_no_test():
    keys = {"glance_api_healthcheck_test": ["CMD", "true"], "glance_api_enable_healthchecks": "no"}
    assert good(keys)["glance_api_healthcheck_test"] == ["NONE"]
    assert good({"enable_container_healthchecks": "no"})["glance_api_healthcheck_test"] == ["NONE"]


@pytest.mark.parametrize("off", ["0", " 0 ", 0])
def test_a_log_without_limit(off):
    assert good({"glance_log_max_size": off})["glance_log_max_size"] == 0
    assert good({"glance_log_max_size": "10M"})["glance_log_max_size"] == 10 * 1024**2


@pytest.mark.parametrize(
    ("cron", "good_one"),
    [
        ("*/30 * * * *", True),
        ("0,30 4-6/2 1,15 1-12 0-7", True),
        ("59 23 31 12 7", True),
        ("60 * * * *", False),
        ("* 24 * * *", False),
        ("* * 0 * *", False),
        ("* * 32 * *", False),
        ("* * * 13 *", False),
        ("* * * 0 *", False),
        ("* * * * 8", False),
        ("30-10 * * * *", False),
        ("*/0 * * * *", False),
        ("5/10 * * * *", False),
        ("-5 * * * *", False),
        ("1, * * * *", False),
        ("* * * *", False),
    ],
)
def test_fields_of_cron_are_in_their_range(cron, good_one):
    settings, faults = settings_for({"glance_housekeeping_cron": cron})
    if good_one:
        assert (faults, settings["glance_housekeeping_cron"]) == ([], cron)
    else:
        assert faults == [
            f"glance:glance_housekeeping_cron is {cron!r}; it must be five fields of cron such as"
            " '*/30 * * * *'."
        ]
