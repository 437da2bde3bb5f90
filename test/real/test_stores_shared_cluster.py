"""The file store on two hosts, each with a mount of its own of one GlusterFS volume."""

from pathlib import Path

import pytest

from support.deployed import wait_for
from support.stores.gluster import Gluster
from support.stores.images import CHUNK, Image

pytestmark = [pytest.mark.backends, pytest.mark.soak]

REMEMBERS = 10  # seconds


class OnHost:
    """One host of the cluster, as a deployment that images are sent to."""

    def __init__(self, cluster, host):
        self._cluster, self._host = cluster, host
        self.logs = host.logs

    def ask(self, method, path, body=None, headers=None, timeout=30):
        """Return (status, body) of a request straight to the host."""
        return self._cluster.ask(method, path, self._host, body, headers, timeout)


@pytest.fixture
def pair(cluster, _services):
    """Two hosts of the cluster, and the volume that each of them has mounted."""
    _services.store_image("gluster")
    ids = cluster.ids[:2]
    server = Gluster(_services, ids).wait()
    cluster.fresh(glance_api_group=ids, glance_file_datadir_shared=None)
    cluster.pillar(glance_file_datadir_volume=None)
    for name, mount in server.mounts.items():
        cluster.pillar(name, glance_file_datadir_volume=mount)
    yield server
    cluster.empty()
    server.close()


def apply(cluster, hosts):
    """state.apply on the hosts, all at once; its Answer."""
    return cluster.salt(list(hosts), "state.apply", "glance")


def test_images_of_two_hosts_that_share_a_filesystem(pair, cluster):
    """Proved by the hosts themselves; each serves what the other took."""
    cluster.must_work(apply(cluster, pair.mounts), pair.mounts)
    one, two = (OnHost(cluster, cluster.host(name)) for name in pair.mounts)
    for here, there in ((one, two), (two, one)):
        image = Image(here, size=64 * CHUNK)
        image.check()
        image.glance = there
        image.check()
        image.delete()
        for mount in pair.mounts.values():
            # A mount may remember for a second what another host has deleted.
            file = Path(mount) / "images" / image.id
            wait_for(lambda file=file: not file.exists(), REMEMBERS, "the end of a deleted image")
    again = apply(cluster, pair.mounts)
    cluster.must_work(again, pair.mounts)
    assert again.changed == {}, again.changed


def test_a_host_with_another_directory_runs_no_api(pair, cluster, tmp_path):
    first, second = pair.mounts
    cluster.pillar(second, glance_file_datadir_volume=str(tmp_path), glance_group_timeout=20)
    answer = apply(cluster, pair.mounts)
    told = "\n".join(answer.failed[second].values())
    assert "which other hosts cannot see" in told, cluster.told(answer)
    assert not cluster.host(second).containers()
    cluster.pillar(second, glance_file_datadir_shared="yes")
    answer = apply(cluster, pair.mounts)
    told = "\n".join(answer.failed[second].values())
    assert "It is not proved that this host shares its images" in told, cluster.told(answer)
    assert not cluster.host(second).containers()
    assert cluster.host(first).container.status == "running"
