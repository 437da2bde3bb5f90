"""One deployment for all tests that kill and break things, and what must be true after each."""

import itertools
import os
import socket
import sys
from pathlib import Path

import glance_handover
import glance_sockets
from support.keepsakes import Keepsakes

_edits = itertools.count(4)  # numbers that no container had before
_standing = []


def prepared(deploy, **more):
    """Return a deployment that is as small as it may be, so that containers start fast."""
    return deploy("2026.2", glance_api_workers=2, glance_min_healthy_time=1, **more)


def adopt(glance):
    """Use a deployment for the tests that follow."""
    _standing[:] = [glance]
    glance.kept = Keepsakes(glance)
    glance.kept.upload()
    return glance


def standing(deploy):
    """Return the deployment that an earlier test left whole, or a new one."""
    if not _standing or not _standing[0].salt.minion.root.exists() or not _standing[0].whole():
        adopt(prepared(deploy))
    return _standing[0]


def edit():
    """An edit of the pillar that makes another container."""
    return {"glance_api_healthcheck_retries": next(_edits)}


def is_steered(glance):
    """Whether a steering program is attached; takes it off."""
    glance_handover.__salt__ = {"glance_sockets.listeners": glance_sockets.listeners}
    pid = glance.container.attrs["State"]["Pid"]
    return glance_handover.release([pid], glance.address, glance.port)


def listeners_beside(glance):
    """Sockets that listen on the service's address and are not the container's."""
    packed = int.from_bytes(socket.inet_aton(glance.address), sys.byteorder)
    where = f"{packed:08X}:{glance.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {int(row[9]) for row in rows if row[1] == where and row[3] == "0A"}
    pid = glance.container.attrs["State"]["Pid"]
    own = glance_sockets.listeners([pid], glance.address, glance.port)
    return sorted(inodes - {one["inode"] for one in own})


def assert_whole(glance):
    """Exactly one container in charge, as pillar says, nothing left over, images intact."""
    everything = glance.engine.client.containers.list(all=True, sparse=True)
    assert [one.attrs["Names"] for one in everything] == [["/glance_api"]]
    container = glance.container
    container.reload()
    assert container.status == "running"
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    snapshots = glance.pillar["node_config"] + "/glance-api.d"
    assert os.listdir(snapshots) == [container.labels["glance.spec"]]
    assert not is_steered(glance)
    assert listeners_beside(glance) == []
    assert glance.get("/healthcheck")[0] == 200
    glance.kept.check()
    status, checks = glance.get("/v2/images?os_hidden=true&tag=glance-formula-check")
    assert (status, b'"id"' in checks) == (200, False)


def assert_repaired(glance):
    """The next run repairs, as pillar says, and the one after it has nothing to do."""
    comment = glance.comment(glance.apply())
    assert_whole(glance)
    if retries := glance.pillar.get("glance_api_healthcheck_retries"):
        assert f'"retries": {retries},' in glance.container.labels["glance.summary"]
    again = glance.apply()
    assert (again.rc, again.changed) == (0, []), again.comments
    return comment
