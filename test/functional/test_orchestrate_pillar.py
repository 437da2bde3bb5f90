"""The pillars that the master reads to learn the group hold secrets, which stay where they are."""

import pytest
import salt.config
import salt.loader
import yaml

import glance_orchestrate
from support import session

pytestmark = pytest.mark.cluster

SECRET = "canary-orchestrated-3e90"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of a master, as which glance_orchestrate runs; ctl1 alone has the pillar."""
    glance = {"glance": {"glance_api_group": ["ctl1"], "glance_keystone_password": SECRET}}
    folder = tmp_path / "pillar"
    folder.mkdir()
    for name, content in {"top": {"base": {"ctl1": ["glance"]}}, "glance": glance}.items():
        (folder / f"{name}.sls").write_text(yaml.safe_dump(content), encoding="utf8")
    options = {
        "id": "m",
        "root_dir": str(tmp_path),
        "cachedir": str(tmp_path / "cache"),
        "pki_dir": str(tmp_path / "pki"),
        "sock_dir": str(tmp_path / "s"),
        "log_file": str(tmp_path / "log"),
        "file_roots": {"base": [session.file_root()]},
        "pillar_roots": {"base": [str(folder)]},
    }
    for name in ("cache/proc", "pki", "s"):
        (tmp_path / name).mkdir(parents=True)
    file = tmp_path / "master"
    file.write_text(yaml.safe_dump(options), encoding="utf8")
    opts = {**salt.config.master_config(str(file)), "grains": {}, "pillar": {}}
    monkeypatch.setattr(glance_orchestrate, "__opts__", opts, raising=False)
    functions = salt.loader.minion_mods(opts)
    monkeypatch.setattr(glance_orchestrate, "__salt__", functions, raising=False)
    return tmp_path


def test_a_pillar_is_read_and_neither_kept_nor_told(root):
    assert glance_orchestrate._pillar("ctl1")["glance"]["glance_keystone_password"] == SECRET
    assert glance_orchestrate._pillar("web1") == {}
    written = [one for one in root.rglob("*") if one.is_file() and one.parent.name != "pillar"]
    assert not [one for one in written if SECRET.encode() in one.read_bytes()]
