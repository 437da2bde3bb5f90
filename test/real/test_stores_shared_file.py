"""The file store on a real shared filesystem, which goes away and comes back."""

from pathlib import Path

import pytest

from support.deployed import wait_for
from support.stores.gluster import Gluster
from support.stores.images import Image

pytestmark = pytest.mark.backends


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


def test_images_on_a_share_that_is_unmounted_and_mounted_again(gluster, deploy):
    here, there = (Path(path) / "images" for path in gluster.mounts.values())
    glance = deploy("2026.2", glance_file_datadir_volume=gluster.mounts["one"])
    image = Image(glance)
    image.check()
    assert (there / image.id).stat().st_size == image.size, "another host sees it"

    glance.container.stop(timeout=10)
    gluster.unmount("one")
    glance.container.start()
    wait_for(lambda: health(glance) == 503, 60, "an unhealthy answer")
    refused = glance.apply()
    assert refused.rc != 0
    assert "mount the share" in "\n".join(refused.failed.values())
    assert not (here / ".glance-hosts").exists(), "nothing is marked below the place of the mount"

    gluster.mount("one")
    healed = glance.apply()
    assert healed.rc == 0, healed.failed
    assert health(glance) == 200
    image.check()
    image.delete()
    assert not (there / image.id).exists()
