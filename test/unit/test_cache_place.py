"""Where copies may lie, and what is removed of a directory."""

import contextlib
import os
import uuid

import pytest

import glance_cache_place as place
import glance_cache_plan
import glance_marks

pytestmark = pytest.mark.cache


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "ceph", "fuse.glusterfs", "gfs2", "9p"])
def test_a_shared_filesystem_is_refused(kind):
    assert place._refusal("/srv/cache", kind) == (
        f"glance:glance_cache_volume is /srv/cache, on a filesystem ({kind}) that other hosts may"
        " share: each host needs its own copies, so name a volume or directory on a disk of this"
        " host."
    )


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", ""])
def test_a_disk_of_the_host_is_fine(kind):
    assert place._refusal("glance_cache", kind) is None


def test_a_volume_of_a_foreign_driver_is_refused():
    assert "a volume of the driver rexray" in place._refusal("glance_cache", "ext4", "rexray")


def test_room_for_what_the_cache_may_hold():
    assert place.crowded(100, 40, 60, str) is None
    assert place.crowded(10 * 1024**3, 0, 1024**3, glance_cache_plan.text) == (
        "glance:glance_cache_max_size is 10.0 GiB, but its disk has room for 1.0 GiB only: the"
        " cleaning keeps the copies below that."
    )


@pytest.fixture
def salt(monkeypatch, tmp_path):
    import shutil

    def remove(path):
        shutil.rmtree(path, ignore_errors=True)
        (tmp_path / path).unlink(missing_ok=True)

    table = {"file.remove": remove, "glance_marks.filesystem": glance_marks.filesystem}
    monkeypatch.setattr(place, "__salt__", table, raising=False)
    return table


def filled(folder):
    for part in ("incomplete", "invalid", "queue"):
        (folder / part).mkdir(parents=True)
        (folder / part / "x").write_text("x")
    (folder / str(uuid.uuid4())).write_text("copy")
    (folder / "cache.db").write_text("rows")


def test_of_a_directory_only_the_copies_are_removed(salt, tmp_path):
    folder = tmp_path / "cache"
    filled(folder)
    (folder / "mine.txt").write_text("keep")
    settings = {"glance_cache_volume": str(folder)}
    assert place.present(settings)
    place.remove(settings)
    assert [one.name for one in folder.iterdir()] == ["mine.txt"]
    assert not place.present(settings)


def test_an_empty_directory_goes_too(salt, tmp_path):
    folder = tmp_path / "cache"
    filled(folder)
    place.remove({"glance_cache_volume": str(folder)})
    assert not folder.exists()
    assert not place.present({"glance_cache_volume": str(folder)})


def test_a_directory_is_looked_at_where_it_will_be(salt, tmp_path):
    found = place.look({"glance_cache_volume": str(tmp_path / "not" / "yet")})
    assert found["used"] == 0
    assert found["free"] > 0
    assert found["kind"]


def test_a_file_that_goes_while_it_is_looked_at_has_no_size(salt, tmp_path, monkeypatch):
    (tmp_path / "copy").write_text("12345")
    journal = tmp_path / "cache.db-journal"
    journal.write_text("123")
    with os.scandir(tmp_path) as entries:
        listed = list(entries)
    journal.unlink()
    monkeypatch.setattr(place.os, "scandir", lambda _: contextlib.nullcontext(listed))
    assert place.look({"glance_cache_volume": str(tmp_path)})["used"] == 5


def test_a_volume_that_mounts_nfs_is_refused_although_it_is_not_mounted(salt):
    volume = {"folder": "/var/lib/docker/volumes/c/_data", "driver": "local", "kind": "nfs"}
    salt["glance_engine.volume"] = lambda name: volume
    with pytest.raises(place.CommandExecutionError, match=r"filesystem \(nfs\)"):
        place.look({"glance_cache_volume": "c"})
