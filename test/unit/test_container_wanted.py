"""The container that settings ask for, and what a difference between two of them is called."""

import json

import pytest

import glance_container
import glance_options

pytestmark = pytest.mark.one_host

IMAGE = {"id": "sha256:1", "release": "2026.2", "version": "33.0.0"}
SETTINGS = {
    "glance_api_image_full": "registry/glance-api:2026.2",
    "glance_file_datadir_volume": "glance",
    "glance_api_extra_volumes": [],
    "glance_api_container_proxy": {},
    "glance_api_dimensions": {"ulimits": {"nofile": {"soft": 10, "hard": 20}}},
    "glance_api_healthcheck_test": ["CMD-SHELL", "healthcheck_curl http://127.0.0.1:9292/h"],
    "glance_api_healthcheck_interval": 30,
    "glance_api_healthcheck_timeout": 30,
    "glance_api_healthcheck_retries": 3,
    "glance_api_healthcheck_start_period": 5,
    "enable_glance_image_cache": False,
    "glance_cache_volume": "glance_cache",
    "enable_cinder": False,
    "enable_cinder_backend_iscsi": False,
    "needs_privileged": False,
    "stores": [{"name": "file", "type": "file"}],
    "config_strategy": "COPY_ALWAYS",
    "timezone": "Etc/UTC",
    "docker_restart_policy": "unless-stopped",
    "database_identity": "sqlite:///var/lib/glance/glance.sqlite",
    "glance_database_user": "glance",
    "snapshot_dir": "/etc/kolla/glance-api.d",
    "self_url": "http://127.0.0.1:9292",
}


def wanted(release="2026.2", **edits):
    return glance_container.wanted({**SETTINGS, **edits}, {**IMAGE, "release": release}, "digest")


def test_the_default_container_is_kollas():
    want = wanted()
    assert want["spec"]["network_mode"] == "host"
    assert not want["spec"]["privileged"]
    assert want["spec"]["environment"] == {
        "KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS",
        "KOLLA_SERVICE_NAME": "glance-api",
        "TZ": "Etc/UTC",
    }
    assert want["spec"]["ulimits"] == [{"name": "nofile", "soft": 10, "hard": 20}]
    assert want["spec"]["healthcheck"]["interval"] == 30 * 10**9
    assert want["policy"] == "unless-stopped"


def test_each_container_mounts_its_own_snapshot_of_the_configuration():
    want = wanted()
    assert want["spec"]["volumes"][0] == (
        f"/etc/kolla/glance-api.d/{want['hash']}:/var/lib/kolla/config_files/:ro"
    )


def test_a_container_tells_who_it_is_to_the_database():
    labels = wanted(glance_database_user="glance-b")["labels"]
    assert labels["glance.database_user"] == "glance-b"
    assert labels["glance.spec"] == wanted()["hash"], "the configuration tells the difference"


def test_images_do_not_share_a_tree_with_staging_and_cache():
    volumes = wanted(enable_glance_image_cache=True)["spec"]["volumes"]
    targets = {one.split(":")[1] for one in volumes}
    assert {"/var/lib/glance/", "/var/lib/glance-work/", "/var/lib/glance-cache/"} <= targets


@pytest.mark.parametrize(
    ("edits", "part"),
    [
        ({"glance_api_extra_volumes": ["/a:/b"]}, "volumes"),
        ({"glance_api_container_proxy": {"http_proxy": "http://proxy"}}, "environment"),
        ({"glance_api_dimensions": {"mem_limit": "1g"}}, "mem_limit"),
        ({"glance_api_healthcheck_interval": 31}, "healthcheck"),
        ({"needs_privileged": True}, "privileged"),
        ({"glance_api_image_full": "other"}, "image"),
    ],
)
def test_an_edit_makes_another_container_and_is_named(edits, part):
    old, new = wanted(), wanted(**edits)
    assert old["hash"] != new["hash"]
    summaries = [one["labels"]["glance.summary"] for one in (old, new)]
    assert part in glance_container.changes(*summaries)


def test_the_same_pillar_makes_the_same_container():
    assert wanted() == wanted()


def test_the_restart_policy_alone_makes_no_new_container():
    assert wanted()["hash"] == wanted(docker_restart_policy="always")["hash"]


def test_the_summary_is_readable():
    summary = json.loads(wanted()["labels"]["glance.summary"])
    assert summary["image_id"] == "sha256:1"
    assert summary["configuration"] == "digest"


def test_a_report_is_one_sentence():
    report = {
        "how": "hand-over",
        "why": "",
        "seconds": {"newcomer healthy": 12.1, "transfers ended": 3.0},
        "waited_for": [],
        "cut": [],
    }
    assert glance_container.describe(report) == (
        "The container was replaced by hand-over (newcomer healthy in 12.1 s, transfers ended"
        " in 3.0 s)."
    )
    report["waited_for"] = ["3 connections", "1 import"]
    assert "3.0 s). It waited for 3 connections and 1 import." in glance_container.describe(report)
    report["cut"] = ["2 transfers", "the import of image x"]
    assert "Cut at glance:glance_drain_timeout: 2 transfers; the import of image x." in (
        glance_container.describe(report)
    )


def test_with_vmware_python_finds_the_driver_by_its_scheme():
    want = wanted(stores=[{"name": "vcenter", "type": "vsphere"}])
    assert want["spec"]["environment"]["PYTHONPATH"] == "/etc/glance/python"


def test_old_releases_have_the_environment_tell_the_authorities_of_s3(monkeypatch):
    table = {"glance_options.s3_reads_authorities": glance_options.s3_reads_authorities}
    monkeypatch.setattr(glance_container, "__salt__", table, raising=False)
    s3 = {"name": "archive", "type": "s3", "options": {"s3_store_cacert": "/etc/ca.crt"}}
    assert wanted("2023.2", stores=[s3])["spec"]["environment"]["AWS_CA_BUNDLE"] == "/etc/ca.crt"
    assert "AWS_CA_BUNDLE" not in wanted("2024.1", stores=[s3])["spec"]["environment"]
    bare = {**s3, "options": {}}
    assert "AWS_CA_BUNDLE" not in wanted("2023.2", stores=[bare])["spec"]["environment"]


def test_a_container_that_attaches_volumes_of_cinder_sees_the_devices():
    plain = wanted(enable_cinder=True)["spec"]
    assert not plain["privileged"]
    assert "/dev:/dev" not in plain["volumes"]
    attaching = wanted(enable_cinder=True, enable_cinder_backend_iscsi=True, needs_privileged=True)[
        "spec"
    ]
    assert attaching["privileged"]
    assert {"/dev:/dev", "iscsi_info:/etc/iscsi"} <= set(attaching["volumes"])
