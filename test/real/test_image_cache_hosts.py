"""Hosts with a cache each: hits while the store is away, limits kept, rows of a host that left."""

import os
import threading

import pytest

from support.cluster import PORT
from support.image_cache import LIMIT, PILLAR, ImageCache

pytestmark = [pytest.mark.cache, pytest.mark.cluster, pytest.mark.soak]

EVENT = "glance/cache/clean"
INTERVAL = 10  # seconds


class OnHost:
    """A host of the cluster, as ImageCache takes it."""

    port, release = PORT, "2026.2"

    def __init__(self, cluster, host):
        self._cluster, self._host = cluster, host
        self.address, self.logs = host.address, host.logs

    @property
    def token(self):
        return self._cluster.token

    @property
    def container(self):
        return self._host.container

    def ask(self, method, path, body=None, headers=None, timeout=30):
        return self._cluster.ask(method, path, self._host, body, headers, timeout)

    def get(self, path, timeout=30):
        return self.ask("GET", path, timeout=timeout)

    def call(self, function, **keywords):
        answer = self._cluster.salt(self._host.id, function, **keywords)
        return answer.hosts[self._host.id].json, answer.rc


@pytest.fixture
def caches(cluster, mariadb):
    """An ImageCache of each host."""
    cluster.deploy(reuse="edited", **PILLAR)
    cluster.refresh()
    return [ImageCache(OnHost(cluster, host), mariadb) for host in cluster.hosts]


def test_a_hit_on_each_host_needs_no_store(cluster, caches):
    first, second, third = caches
    image = first.upload(4)
    for cache in (first, second):
        cache.download(image)
        cache.wait(lambda cache=cache: image.id in cache.files())
    stored = cluster.shared / "images" / image.id
    away = stored.with_name("away")
    os.rename(stored, away)
    try:
        first.download(image)
        second.download(image)
        assert third.glance.get(f"/v2/images/{image.id}/file")[0] != 200, "it never had a copy"
    finally:
        os.rename(away, stored)
    third.download(image)


def test_the_schedule_keeps_each_below_its_limit_under_concurrent_downloads(cluster, caches):
    cluster.pillar(glance_cache_clean_interval=INTERVAL, glance_cache_clean_splay=1)
    cluster.apply(sls="glance.jobs")
    images = [caches[0].upload(4) for _ in range(7)]
    over, sizes = threading.Event(), []

    def watch():
        while not over.wait(1):
            sizes.append([cache.size for cache in caches[:2]])

    watcher = threading.Thread(target=watch)
    watcher.start()
    with caches[0].readers(images) as one, caches[1].readers(images) as two:
        reports = {}
        while len(reports) < 6:
            event = cluster.master.event(EVENT, 60)[1]
            assert event["data"]["result"] is True, event
            reports[(event["id"], event["_stamp"])] = event["data"]
    over.set()
    watcher.join()
    print(f"{len(one)} and {len(two)} downloads; sizes {sizes}")
    assert {name for name, _ in reports} == set(cluster.ids)
    for cache in caches[:2]:
        cache.wait(lambda cache=cache: cache.size <= LIMIT, INTERVAL + 15)
        for image in images:
            cache.download(image)
    cluster.pillar(glance_cache_clean_interval=None, glance_cache_clean_splay=None)
    cluster.apply(sls="glance.jobs")


def test_rows_of_a_host_that_left_go(cluster, caches):
    first, _, third = caches
    image = first.upload(1)
    for cache in caches:
        cache.download(image)
    node = "SELECT node_reference_id FROM node_reference WHERE node_reference_url = '{}'"
    left = f"http://{third.glance.address}:{PORT}"
    rows = f"SELECT COUNT(*) FROM cached_images WHERE node_reference_id = ({node.format(left)})"
    assert first.rows(rows) != ["0"]
    idle = "UPDATE cached_images SET last_accessed = NOW() - INTERVAL 2 DAY WHERE image_id != ''"
    first.rows(f"{idle} AND node_reference_id = ({node.format(left)})")
    assert first.clean()["result"] is True
    assert first.rows(rows) != ["0"], "it still answers"
    third.glance.container.stop()
    assert first.clean()["freed"]["orphans"]["count"] == 1
    assert first.rows(rows) == ["0"]
    first.download(image)
