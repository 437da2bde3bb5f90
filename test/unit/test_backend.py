"""Which stores there are, which is the default, what they lack."""

import pytest

import glance_backend
from support.settings import settings_for

pytestmark = pytest.mark.one_host

CEPH = {
    "ceph.conf": "[global]\n\tfsid = x\n\tmon host = 10.0.0.1\n",
    "ceph.client.glance.keyring": {"client.glance": {"key": "AQ=="}},
}
S3 = {
    "glance_backend_s3": "yes",
    "glance_backend_s3_url": "http://127.0.0.1:9000",
    "glance_backend_s3_bucket": "glance",
    "glance_backend_s3_access_key": "minio",
    "glance_backend_s3_secret_key": "admin",
}
VMWARE = {
    "glance_backend_vmware": "yes",
    "vmware_vcenter_host_ip": "127.0.31.1",
    "vmware_vcenter_host_username": "glance",
    "vmware_vcenter_host_password": "vcpass",
    "vmware_vcenter_name": "DC0",
    "vmware_datastore_name": "LocalDS_0",
}
SWIFT = {
    "enable_swift": "yes",
    "glance_swift_auth_url": "http://127.0.31.5:5000",
    "glance_swift_password": "glancepass",
}
KEYSTONE = {
    "kolla_internal_vip_address": "10.0.0.9",
    "glance_database_password": "d",
    "database_password": "r",
    "glance_keystone_password": "k",
    "keystone_admin_password": "a",
}
WITH_CEPH = {"enable_ceph": "yes", "glance_custom_config": CEPH}


def good(pillar):
    settings, faults = settings_for(pillar)
    assert faults == []
    return settings


def store(settings, name):
    return next(item for item in settings["stores"] if item["name"] == name)


@pytest.mark.parametrize(
    ("pillar", "backends", "default"),
    [
        ({}, ["file:file", "http:http"], "file"),
        (S3, ["s3:s3", "http:http"], "s3"),
        (VMWARE, ["http:http", "vmware:vsphere"], "vmware"),
        (SWIFT, ["http:http", "swift:swift"], "swift"),
        (WITH_CEPH, ["http:http", "rbd:rbd"], "rbd"),
        ({**WITH_CEPH, **SWIFT}, ["http:http", "swift:swift", "rbd:rbd"], "rbd"),
        ({**SWIFT, **S3}, ["s3:s3", "http:http", "swift:swift"], "swift"),
        (
            {**WITH_CEPH, **SWIFT, **S3, **VMWARE, "glance_backend_file": "yes"},
            ["s3:s3", "file:file", "http:http", "vmware:vsphere", "swift:swift", "rbd:rbd"],
            "vmware",
        ),
        ({**S3, "glance_backend_file": "yes"}, ["s3:s3", "file:file", "http:http"], "s3"),
        (
            {**S3, "glance_backend_file": True, "glance_default_backend": "file"},
            ["s3:s3", "file:file", "http:http"],
            "file",
        ),
        (
            {"enable_ceph": "yes", "glance_backend_ceph": "no"},
            ["file:file", "http:http"],
            "file",
        ),
        (
            {**KEYSTONE, "enable_cinder": "yes", "glance_backend_file": "no"},
            ["http:http", "cinder:cinder"],
            "cinder",
        ),
    ],
)
def test_stores_and_default_by_kollas_precedence(pillar, backends, default):
    settings = good(pillar)
    found = [f"{item['name']}:{item['type']}" for item in settings["stores"]]
    assert found == backends
    assert settings["default_store"] == default
    told = [{key: item[key] for key in item if key != "secrets"} for item in settings["stores"]]
    assert glance_backend.stores(settings) == told
    assert glance_backend.default_store(settings) == default


def test_every_option_of_a_store_that_is_secret_anywhere_is_so_there():
    more = {"name": "more", "type": "s3", "options": {"root_token_id": "x", "passcode": "y"}}
    secrets = store(good({**S3, "glance_additional_stores": [more]}), "more")["secrets"]
    assert {"root_token_id", "passcode"} <= set(secrets)


def test_options_of_each_store():
    authority = "/etc/ssl/certs/ca-certificates.crt"
    settings = good(
        {
            **WITH_CEPH,
            **SWIFT,
            **S3,
            **VMWARE,
            "glance_backend_file": 1 == 1,
            "openstack_cacert": authority,
        }  # fmt: skip
    )
    assert store(settings, "file")["options"] == {
        "filesystem_store_datadir": "/var/lib/glance/images"
    }
    assert store(settings, "http")["options"] == {
        "https_ca_certificates_file": authority,
        "https_insecure": "false",
    }
    assert store(settings, "s3")["options"] == {
        "s3_store_host": "http://127.0.0.1:9000",
        "s3_store_access_key": "minio",
        "s3_store_secret_key": "admin",
        "s3_store_bucket": "glance",
        "s3_store_cacert": authority,
    }
    assert store(settings, "s3")["secrets"] == ["s3_store_access_key", "s3_store_secret_key"]
    assert store(settings, "vmware") == {
        "name": "vmware",
        "type": "vsphere",
        "options": {
            "vmware_server_host": "127.0.31.1",
            "vmware_server_username": "glance",
            "vmware_server_password": "vcpass",
            "vmware_datastores": ["DC0:LocalDS_0"],
            "vmware_insecure": "false",
            "vmware_ca_file": authority,
        },
        "secrets": ["vmware_server_password"],
    }
    assert store(settings, "rbd") == {
        "name": "rbd",
        "type": "rbd",
        "options": {
            "rbd_store_user": "glance",
            "rbd_store_pool": "images",
            "rbd_store_ceph_conf": "/etc/ceph/ceph.conf",
            "rados_connect_timeout": "5",
        },
        "secrets": [],
        "cluster": "ceph",
        "user": "glance",
    }
    assert store(settings, "swift")["options"] == {
        "swift_store_container": "glance",
        "swift_store_multiple_containers_seed": "0",
        "swift_store_multi_tenant": "false",
        "swift_store_create_container_on_put": "true",
        "swift_store_region": "RegionOne",
        "swift_store_endpoint_type": "publicURL",
        "swift_store_large_object_size": "5120",
        "swift_store_large_object_chunk_size": "200",
        "default_swift_reference": "swift",
        "swift_store_config_file": "/etc/glance/glance-swift.conf",
        "swift_store_auth_insecure": "false",
        "swift_store_cacert": authority,
    }
    assert store(settings, "swift")["secrets"] == []


@pytest.mark.parametrize(
    ("pillar", "bundle"),
    [
        ({"kolla_base_distro": "debian"}, "/etc/ssl/certs/ca-certificates.crt"),
        ({"kolla_base_distro": "ubuntu"}, "/etc/ssl/certs/ca-certificates.crt"),
        ({}, "/etc/pki/tls/certs/ca-bundle.crt"),
        ({"openstack_cacert": "/etc/own.crt"}, "/etc/own.crt"),
    ],
)
def test_certificates_of_stores_are_checked_with_the_authorities_of_the_pillar(pillar, bundle):
    own = {"own.crt": "-----BEGIN CERTIFICATE-----\n"}
    settings = good({**SWIFT, **S3, **VMWARE, "glance_ca_certificates": own, **pillar})
    options = ("swift_store_cacert", "s3_store_cacert", "vmware_ca_file")
    found = {
        name: value
        for item in settings["stores"]
        for name, value in item["options"].items()
        if name in options
    }
    assert found == dict.fromkeys(options, bundle)


def test_cinder_as_kolla_has_it():
    settings = good({**KEYSTONE, "enable_cinder": "yes"})
    assert store(settings, "cinder")["options"] == {
        "cinder_catalog_info": "block-storage::internalURL",
        "cinder_store_auth_address": "http://10.0.0.9:5000/v3",
        "cinder_store_user_name": "glance",
        "cinder_store_password": "k",
        "cinder_store_project_domain_name": "Default",
        "cinder_store_project_name": "service",
    }
    assert settings["needs_privileged"] is False


@pytest.mark.parametrize(
    ("pillar", "privileged"),
    [
        ({"enable_cinder_backend_lvm": "yes"}, True),
        ({"enable_cinder_backend_iscsi": "yes"}, True),
        ({"cinder_backend_ceph": "yes"}, True),
        ({"enable_cinder_backend_vast": "yes"}, True),
        ({"enable_cinder_backend_privileged": "yes"}, True),
        ({"cinder_backend_ceph": "yes", "enable_cinder_backend_privileged": "no"}, False),
        ({"cinder_backend_ceph": "yes", "enable_cinder": "no"}, False),
        ({"glance_api_privileged": "yes", "enable_cinder": "no"}, True),
        ({"cinder_backend_ceph": "yes", "glance_api_privileged": "no"}, False),
        (
            {
                "enable_cinder": "no",
                "cinder_backend_ceph": "yes",
                "glance_additional_stores": [{"name": "volumes", "type": "cinder"}],
            },
            True,
        ),
    ],
)
def test_privileged_only_when_cinder_attaches_volumes(pillar, privileged):
    settings = good({**KEYSTONE, "enable_cinder": "yes", **pillar})
    assert settings["needs_privileged"] is privileged


def test_several_ceph_clusters_and_pools():
    files = {
        **CEPH,
        "cold.conf": "[global]\nfsid = y\n",
        "cold.client.images.keyring": "[client.images]\nkey = AQ==\n",
    }
    pillar = {
        "glance_backend_ceph": "yes",
        "glance_custom_config": files,
        "glance_ceph_backends": [
            {"name": "rbd-1"},
            {"name": "rbd-2", "pool": "more"},
            {"name": "cold", "cluster": "cold", "user": "images", "options": {"weight": 5}},
            {"name": "off", "cluster": "gone", "enabled": "no"},
        ],
    }
    settings = good(pillar)
    assert [item["name"] for item in settings["stores"]] == ["http", "rbd-1", "rbd-2", "cold"]
    assert settings["default_store"] == "rbd-1"
    assert store(settings, "rbd-2")["options"]["rbd_store_pool"] == "more"
    cold = store(settings, "cold")
    assert cold["options"]["rbd_store_ceph_conf"] == "/etc/ceph/cold.conf"
    assert cold["options"]["weight"] == "5"
    assert (cold["cluster"], cold["user"]) == ("cold", "images")
    content = settings["glance_custom_config"]
    assert content["ceph.conf"] == "[global]\nfsid = x\nmon host = 10.0.0.1\n"
    assert content["ceph.client.glance.keyring"] == "[client.glance]\nkey = AQ==\n"
    assert content["cold.client.images.keyring"] == "[client.images]\nkey = AQ==\n"


def test_ceph_without_keyring():
    files = {"ceph.conf": CEPH["ceph.conf"]}
    pillar = {**WITH_CEPH, "glance_custom_config": files, "external_ceph_cephx_enabled": "no"}
    assert good(pillar)["default_store"] == "rbd"


def test_more_stores_with_names_of_their_own():
    archive = {
        "s3_store_host": "https://s3.example.org",
        "s3_store_bucket": "old",
        "s3_store_access_key": "a",
        "s3_store_secret_key": "b",
    }
    pillar = {
        "glance_additional_stores": [
            {"name": "archive", "type": "s3", "options": archive},
            {"name": "off", "type": "s3", "enabled": False},
        ]
    }
    settings = good(pillar)
    assert [item["name"] for item in settings["stores"]] == ["file", "http", "archive"]
    assert store(settings, "archive")["options"] == archive
    assert settings["default_store"] == "archive"
    settings = good({**pillar, "glance_default_backend": "file"})
    assert settings["default_store"] == "file"


def test_the_list_replaces_the_switches():
    pillar = {"glance_backends": [{"name": "images", "type": "file"}]}
    settings = good(pillar)
    assert [item["name"] for item in settings["stores"]] == ["images"]
    assert settings["default_store"] == "images"
    assert settings["file_unshared"] is True


def test_weighted_datastores():
    datastores = ["DC0:fast:200", "DC0:slow"]
    pillar = {**VMWARE, "glance_vmware_datastores": datastores, "vmware_vcenter_insecure": "yes"}
    settings = good(pillar)
    options = store(settings, "vmware")["options"]
    assert options["vmware_datastores"] == datastores
    assert options["vmware_insecure"] == "true"
    assert "vmware_ca_file" not in options
    assert (
        "glance:vmware_vcenter_insecure is on: anyone on the way can pose as the vCenter."
        in (settings["warnings"])
    )


def test_s3_variables_for_all_services():
    pillar = {
        "glance_backend_s3": "yes",
        "s3_url": "http://127.0.0.1:9000",
        "s3_glance_bucket": "images",
        "s3_access_key": "a",
        "s3_secret_key": "b",
    }
    options = store(good(pillar), "s3")["options"]
    assert options["s3_store_bucket"] == "images"
    assert options["s3_store_secret_key"] == "b"


def test_swift_of_the_cloud_itself():
    settings = good({**KEYSTONE, "glance_backend_swift": "yes"})
    assert settings["glance_swift_auth_url"] == "http://10.0.0.9:5000/v3"
    assert settings["glance_swift_user"] == "service:glance"
    assert settings["glance_swift_password"] == "k"


def test_why_a_host_runs_no_api():
    pillar = {**KEYSTONE, "glance_api_group": ["ctl2", "ctl1"]}
    assert glance_backend.elsewhere(good(pillar)) == (
        "The API runs on ctl2 only, because the images in glance are not shared between hosts"
        " (glance:glance_file_datadir_volume)."
    )
    pillar = {
        **KEYSTONE,
        "glance_api_group": ["ctl2", "ctl3"],
        "glance_loadbalancer_group": ["ctl1"],
        "glance_file_datadir_volume": "/mnt/images",
    }
    assert glance_backend.elsewhere(good(pillar)) == (
        "The API runs on ctl2, ctl3 only; ctl1 is not in glance:glance_api_group."
    )


@pytest.mark.parametrize(
    ("pillar", "unshared"),
    [
        ({}, True),
        ({"glance_file_datadir_volume": "glance_images"}, True),
        ({"glance_file_datadir_volume": "/mnt/i", "glance_file_datadir_shared": "yes"}, False),
        ({"glance_file_datadir_volume": "/mnt/images"}, False),
        (S3, False),
        ({**WITH_CEPH, "glance_backend_file": "yes"}, True),
    ],
)
def test_what_counts_as_unshared(pillar, unshared):
    settings = good(pillar)
    assert settings["file_unshared"] is unshared
    assert glance_backend.file_unshared(settings) is unshared


@pytest.mark.parametrize(
    ("pillar", "rolling"),
    [
        ({"glance_file_datadir_volume": "/mnt/images"}, True),
        ({"glance_upgrade_handover_single_host": "yes"}, True),
        (S3, True),
        ({}, False),
        ({**WITH_CEPH, "glance_backend_file": "yes"}, False),
    ],
)
def test_rolling_needs_shared_images(pillar, rolling):
    _, faults = settings_for({**pillar, "glance_enable_rolling_upgrade": "yes"})
    assert (faults == []) is rolling
    if not rolling:
        assert faults == [
            "glance:glance_enable_rolling_upgrade is yes, but the images are on the volume glance "
            "of one host; set it to no for a legacy upgrade, put a shared filesystem into "
            "glance:glance_file_datadir_volume, or allow the hand-over on this one host by "
            "glance:glance_upgrade_handover_single_host."
        ]


def test_cache_with_ceph_warns_as_the_guide_does():
    settings = good({**WITH_CEPH, "enable_glance_image_cache": "yes"})
    assert (
        "glance:enable_glance_image_cache is on together with ceph: Nova copies images from ceph "
        "and has a cache of its own, so this one only takes space."
    ) in settings["warnings"]
    assert not [
        text
        for text in good({"enable_glance_image_cache": "yes"})["warnings"]
        if "glance_image_cache" in text
    ]


def test_direct_url_is_fine_with_ceph_alone():
    warnings = good({**WITH_CEPH, "glance_show_image_direct_url": "yes"})["warnings"]
    assert not [text for text in warnings if "direct_url" in text]


@pytest.mark.parametrize(
    ("pillar", "warned"),
    [
        ({"openstack_release": "2024.1"}, False),
        ({"openstack_release": "2024.2"}, True),
        ({"openstack_release": "2026.1"}, True),
        ({"openstack_release": "2026.2"}, False),
        (
            {
                "openstack_release": "2026.1",
                "glance_policy": {"add_image_location": "rule:service_api"},
            },
            False,
        ),
        (
            {
                "openstack_release": "2026.1",
                "glance_backends": [{"name": "file", "type": "file"}],
            },
            False,
        ),
    ],
)
def test_addresses_that_users_may_register_as_images(pillar, warned):
    found = [text for text in good({**KEYSTONE, **pillar})["warnings"] if "register any" in text]
    assert len(found) == warned
    trial = {key: value for key, value in pillar.items() if key != "glance_policy"}
    assert not [text for text in good(trial)["warnings"] if "register any" in text]


def test_parts_of_large_images_in_swift():
    def told(**more):
        return [text for text in good({**SWIFT, **more})["warnings"] if text.startswith("Swift:")]

    assert told(openstack_release="2025.1") == []
    (text,) = told()
    assert "5242880000 bytes or more" in text
    assert "no multiple of 204800000" in text
    (text,) = told(glance_swift_large_object_chunk_size=100)
    assert "no multiple of 102400000" in text
