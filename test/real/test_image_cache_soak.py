"""The image cache where its disk is full, and after the address of its host has changed."""

import os
import subprocess

import pytest

from support import session
from support.image_cache import PILLAR, ImageCache, MiB

pytestmark = [pytest.mark.cache, pytest.mark.soak]

DISK = 48 * MiB


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of its own."""
    place = tmp_path / "copies"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place], check=True)
    yield place
    # The container still has it.
    subprocess.run(["umount", "--lazy", place], check=True)


def free(folder):
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@pytest.mark.parametrize("release", ["2026.2", "2023.2"])
def test_a_full_disk_stops_no_download_and_gets_room_again(deploy, mariadb, small_disk, release):
    keys = {"glance_cache_volume": str(small_disk), "glance_cache_max_size": "1G"}
    glance = deploy(release, production=True, **{**PILLAR, **keys})
    said = glance.apply("glance.cache", test=True)
    assert "glance:glance_cache_max_size is 1.0 GiB, but its disk has room for 4" in said.comments
    cache = ImageCache(glance, mariadb)
    images = [cache.upload(8) for _ in range(8)]
    for image in images:
        cache.download(image)
    # To the last byte, so that not even a row could be written.
    cache.run(f"head -c {DISK} /dev/zero >/var/lib/glance-cache/invalid/{images[0].id}")
    assert free(small_disk) == 0
    if cache.central:  # else Glance itself cannot note that a copy was read
        cache.download(images[-1])
    report = cache.clean()
    assert report["result"] is True, report
    assert free(small_disk) >= DISK // 20
    assert report["bytes"] == cache.size <= report["limit_bytes"] < DISK
    assert set(cache.rows()) == set(cache.files())
    assert cache.run(f"rm -f /var/lib/glance-cache/{images[-1].id}")[0] == 0
    for image in images:
        cache.download(image)
    assert cache.clean()["result"] is True
    assert free(small_disk) >= DISK // 20


def test_what_is_left_of_a_former_address_goes(deploy, mariadb):
    """The host is another node for Glance then: its copies, and its rows, are nobody's."""
    glance = deploy(production=True, **PILLAR)
    cache = ImageCache(glance, mariadb)
    former = {one.id for one in cache.fill(3, 1)}
    nodes = "SELECT node_reference_url FROM node_reference"
    (old,) = cache.rows(nodes)
    glance.edit(api_interface_address=session.address(32))
    (image,) = cache.fill(1, 1)
    assert set(cache.rows(nodes)) == {old, glance.url}
    cache.age(former)
    report = cache.clean()
    assert report["result"] is True, report
    assert report["freed"]["orphans"]["count"] == 4
    assert cache.rows(nodes) == [glance.url]
    assert cache.rows() == list(cache.files()) == [image.id]
    assert cache.clean()["freed"] == {}


def test_switched_off_it_leaves_neither_job_nor_copies(deploy, mariadb):
    glance = deploy(production=True, **PILLAR)
    cache = ImageCache(glance, mariadb)
    cache.fill(1, 1)
    file = glance.salt.minion.root / "cron.d" / "glance"
    volume = "glance_cache"
    off = {"enable_glance_image_cache": "no"}

    def volumes():
        return [one.name for one in glance.engine.client.volumes.list()]

    assert file.exists() and volume in volumes()
    glance.edit(**off)
    assert not file.exists()
    assert volume in volumes(), "it was not asked for"
    glance.change(glance_cache_remove_data="yes")
    would = glance.apply("glance.jobs", test=True)
    assert would.changed == ["Copies of images are gone where the cache is off"]
    assert volume in volumes()
    assert glance.apply("glance.jobs").changed == would.changed
    assert volume not in volumes()
    assert not glance.apply("glance.jobs", test=True).changed
