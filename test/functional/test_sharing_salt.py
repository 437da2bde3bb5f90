"""The proof of sharing through Salt's loaders, on the filesystem that this machine really has."""

import contextlib
import subprocess

import pytest

from support.salt_loaders import Loaders

pytestmark = pytest.mark.cluster

GROUP = ["ctl1", "ctl2"]
PILLAR = {
    "glance_api_group": GROUP,
    "api_interface_address": "10.0.0.5",
    "kolla_internal_vip_address": "10.0.0.9",
    "database_password": "a",
    "glance_database_password": "b",
    "glance_keystone_password": "c",
    "keystone_admin_password": "d",
    "glance_group_timeout": 1,
}


@pytest.fixture
def host(tmp_path):
    """A function: minion id, directory of the images, more keys -> Salt's loaders of that host."""
    with contextlib.ExitStack() as stack:

        def get(minion, place, **keys):
            made = Loaders("unix:///nowhere", minion_id=minion)
            pillar = {
                **PILLAR,
                "node_config": str(tmp_path / minion),
                "glance_file_datadir_volume": str(place),
                **keys,
            }
            return stack.enter_context(made).pillar({"glance": pillar})

        yield get


@pytest.mark.parametrize("name", ["nfs", "images", "mnt/shared/glance"])
def test_two_hosts_on_unshared_directories_are_refused_whatever_the_path(host, tmp_path, name):
    place = tmp_path / name
    place.mkdir(parents=True)
    for minion in GROUP:
        answer = host(minion, place).states["glance_sharing.marked"]("x")
        assert answer["result"] is False
        assert "which other hosts cannot see" in answer["comment"]
        assert list(place.iterdir()) == []


def test_a_word_is_no_proof(host, tmp_path):
    """With glance_file_datadir_shared the type is believed, the marks never."""
    places = {"ctl1": tmp_path / "a", "ctl2": tmp_path / "b"}
    for minion in ("ctl1", "ctl2", "ctl1"):
        places[minion].mkdir(exist_ok=True)
        states = host(minion, places[minion], glance_file_datadir_shared="yes").states
        assert states["glance_sharing.marked"]("x")["result"] is True
    states = host("ctl2", places["ctl2"], glance_file_datadir_shared="yes").states
    answer = states["glance_sharing.proved"]("x")
    assert answer["result"] is False
    assert "It is not proved that this host shares its images with ctl1" in answer["comment"]


def test_two_mounts_of_one_directory_are_a_share(host, tmp_path):
    """And when one of them goes away, this host is refused and nothing written."""
    share, mount = tmp_path / "share", tmp_path / "mount"
    share.mkdir(), mount.mkdir()
    subprocess.run(["mount", "--bind", share, mount], check=True)
    try:
        for minion, place in (("ctl1", share), ("ctl2", mount), ("ctl1", share)):
            modules = host(minion, place, glance_file_datadir_shared="yes").modules
            modules["glance_sharing.write"]()
        assert modules["glance_sharing.read"]() == GROUP
        here = host("ctl2", mount, glance_file_datadir_shared="yes")
        assert here.modules["glance_sharing.verified"]()["shared"] is True
        assert here.states["glance_sharing.proved"]("x")["result"] is True
    finally:
        subprocess.run(["umount", mount], check=True)
    answer = here.states["glance_sharing.marked"]("x")
    assert answer["result"] is False
    assert "mount the share" in answer["comment"]
    assert list(mount.iterdir()) == []
