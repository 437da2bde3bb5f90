"""A share that goes away: the health check tells it, the state refuses, mounted again it heals."""

import subprocess

import pytest

from support.deployed import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture
def share(tmp_path, deploy):
    """A directory that stands for the server's, and where the host has it mounted."""
    server, mount = tmp_path / "server", tmp_path / "mount"
    server.mkdir(), mount.mkdir()
    subprocess.run(["mount", "--bind", server, mount], check=True)
    yield server, mount
    deploy.clean()
    subprocess.run(["umount", mount], check=False, capture_output=True)


def health(glance):
    return glance.get("/healthcheck")[0]


def test_a_share_that_goes_away_is_noticed(share, deploy):
    server, mount = share
    glance = deploy(glance_file_datadir_volume=str(mount), glance_min_healthy_time=1)
    mark = server / "images" / ".glance-hosts" / "one"
    assert mark.exists() and health(glance) == 200

    # The server has lost it: the load balancer must learn it without anybody's help.
    mark.parent.rename(server / "lost")
    wait_for(lambda: health(glance) == 503, 5, "an unhealthy answer")
    (server / "lost").rename(mark.parent)
    wait_for(lambda: health(glance) == 200, 5, "a healthy answer")
    assert glance.salt("glance_api.drain").rc == 0
    assert health(glance) == 503, "a drain still works"
    assert glance.salt("glance_api.resume").rc == 0
    assert health(glance) == 200

    # A reboot without the share.
    glance.container.stop(timeout=10)
    subprocess.run(["umount", mount], check=True)
    glance.container.start()
    wait_for(lambda: health(glance) == 503, 60, "an unhealthy answer")
    refused = glance.apply()
    assert list(refused.failed)[0] == "Glance data directory is marked"
    assert "mount the share" in refused.failed["Glance data directory is marked"]
    assert not list(mount.rglob("*.glance-hosts"))

    subprocess.run(["mount", "--bind", server, mount], check=True)
    assert health(glance) == 503, "the container still has what it was started with"
    healed = glance.apply()
    assert healed.rc == 0, healed.failed
    assert healed.changed == ["Glance API runs"]
    assert health(glance) == 200
    assert glance.apply(test=True).changed == []
