"""The file store on a real shared filesystem, which goes away and comes back."""

import time
from pathlib import Path

import pytest

from support.deployed import wait_for
from support.stores import matrix
from support.stores.gluster import Gluster
from support.stores.images import CHUNK, Image

pytestmark = pytest.mark.backends

HEALTH_KNOWS_SINCE = "2024.2"  # the release whose health check looks at the share
TOLD_WITHIN = 30  # seconds until a share that is broken has been told


@pytest.fixture
def gluster(_services, deploy):
    """A GlusterFS volume with two mounts, as two hosts have them."""
    _services.store_image("gluster")
    server = Gluster(_services).wait()
    yield server
    deploy.clean()
    server.close()


def health(glance):
    return glance.get("/healthcheck")[0]


def test_images_on_a_share_that_goes_away_and_comes_back(gluster, deploy):
    here, there = (Path(path) / "images" for path in gluster.mounts.values())
    glance = deploy("2026.2", glance_file_datadir_volume=gluster.mounts["one"])
    image = Image(glance)
    image.check()
    assert (there / image.id).stat().st_size == image.size, "another host sees it"

    # The server has lost it: the load balancer must learn it without anybody's help.
    marks, lost = here / ".glance-hosts", here / "lost"
    marks.rename(lost)
    wait_for(lambda: health(glance) == 503, 5, "an unhealthy answer")
    lost.rename(marks)
    wait_for(lambda: health(glance) == 200, 5, "a healthy answer")
    assert glance.salt("glance_api.drain").rc == 0
    assert health(glance) == 503, "a drain still works"
    assert glance.salt("glance_api.resume").rc == 0
    assert health(glance) == 200

    # A reboot without the share.
    glance.container.stop(timeout=10)
    gluster.unmount("one")
    glance.container.start()
    wait_for(lambda: health(glance) == 503, 60, "an unhealthy answer")
    must_mount(glance)
    assert not marks.exists(), "nothing is marked below the place of the mount"

    gluster.mount("one")
    assert health(glance) == 503, "the container still has what it was started with"
    healed = glance.apply()
    assert healed.rc == 0, healed.failed
    assert health(glance) == 200
    assert glance.apply(test=True).changed == []
    image.check()
    image.delete()
    assert not (there / image.id).exists()


@pytest.mark.soak
@pytest.mark.parametrize("release", matrix.releases())
def test_a_share_that_is_unmounted_under_the_running_api(gluster, deploy, release):
    """The container keeps what it has mounted, until it is started again."""
    there = Path(gluster.mounts["two"]) / "images"
    glance = deploy(release, production=True, glance_file_datadir_volume=gluster.mounts["one"])
    image = Image(glance, size=64 * CHUNK)
    gluster.unmount("one")
    image.check()
    late = Image(glance, size=64 * CHUNK)
    assert (there / late.id).exists(), "it lies on the share"
    must_mount(glance)
    glance.container.restart(timeout=10)
    if release >= HEALTH_KNOWS_SINCE:
        wait_for(lambda: health(glance) == 503, 60, "an unhealthy answer")

    gluster.mount("one")
    healed = glance.apply()
    assert healed.rc == 0, healed.failed
    assert health(glance) == 200
    for one in (image, late):
        one.check()
        one.delete()
        assert not (there / one.id).exists()


def must_mount(glance):
    """The state must refuse to go on, quickly."""
    began = time.monotonic()
    refused = glance.apply()
    assert refused.rc != 0
    assert "mount the share" in "\n".join(refused.failed.values())
    assert time.monotonic() - began < TOLD_WITHIN


@pytest.mark.soak
@pytest.mark.parametrize(
    ("fault", "words"),
    [("brickless", "Transport endpoint is not connected"), ("read_only", "Read-only file system")],
)
def test_a_broken_share_is_told_by_verify(gluster, deploy, fault, words):
    glance = deploy("2026.2", production=True, glance_file_datadir_volume=gluster.mounts["one"])
    image = Image(glance)
    with getattr(gluster, fault)():
        began = time.monotonic()
        told = glance.salt("glance_api.verify")
        took = time.monotonic() - began
        print(f"told in {took:.1f} s:", told.stderr)
        assert told.rc != 0
        assert "'upload (file)'" in told.stderr
        assert words in told.stderr
        assert took < TOLD_WITHIN, took
        assert glance.get("/v2/images")[0] == 200, "it goes on serving"
    image.check()
    assert glance.salt("glance_api.verify").rc == 0, "it heals by itself"
