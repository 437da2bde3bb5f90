"""Configuration that a change of glance:node_config left behind."""

import json

import pytest

import glance_leftovers

pytestmark = pytest.mark.one_host


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Folders of an old and a new node_config, and the containers of the engine."""
    containers = []
    for path in ("old/glance-api", "old/glance-api.d/1", "new/glance-api", "new/glance-api.d/2"):
        (tmp_path / path).mkdir(parents=True)
    functions = {
        "glance_engine.containers": lambda label=None: [] if label else containers,
        "glance_api.drained_by": lambda pid: None,
        "glance_drain.is_ours": lambda by: False,
        "glance_balancer.drained": lambda settings: [],
        "glance_process.another_lives": lambda text: False,
        "file.remove": lambda path: None,
    }
    monkeypatch.setattr(glance_leftovers, "__salt__", functions, raising=False)
    return containers


def container(folder, digest, former=()):
    mount = {"target": "/var/lib/kolla/config_files", "path": f"{folder}/glance-api.d/{digest}"}
    return {
        "name": "glance_api",
        "running": True,
        "pid": 1,
        "labels": {"glance.spec": digest, "glance.former": json.dumps(list(former))},
        "mounts": [mount],
    }


def test_what_a_container_mounts_is_kept(tmp_path, world):
    settings = {"snapshot_dir": f"{tmp_path}/new/glance-api.d"}
    world += [container(tmp_path / "old", "1"), container(tmp_path / "new", "2")]
    assert glance_leftovers.former(settings) == [f"{tmp_path}/old/glance-api.d"]
    assert glance_leftovers.find(settings)["folders"] == []


def test_the_old_folders_go_when_none_mounts_them_also_after_a_killed_run(tmp_path, world):
    settings = {"snapshot_dir": f"{tmp_path}/new/glance-api.d"}
    world.append(container(tmp_path / "new", "2", [f"{tmp_path}/old/glance-api.d"]))
    assert glance_leftovers.find(settings)["folders"] == [
        f"{tmp_path}/old/glance-api",
        f"{tmp_path}/old/glance-api.d",
    ]


def test_nothing_but_our_own_folders_is_ever_taken(tmp_path, world):
    settings = {"snapshot_dir": f"{tmp_path}/new/glance-api.d"}
    strange = container(tmp_path / "new", "2", ["/etc", str(tmp_path)])
    strange["mounts"][0]["path"] = "/etc/kolla/other"
    world.append(strange)
    assert glance_leftovers.former(settings) == []
