"""The proof that hosts see the same images: marks in a directory, on hosts that share it or not."""

import ctypes
import json
import os
import subprocess
import time
import types

import pytest
from salt.exceptions import CommandExecutionError

import glance_backend
import glance_marks
import glance_sharing
from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.cluster

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /srv rw - xfs /dev/vdb rw
31 30 0:41 / /srv/images rw,relatime shared:9 master:2 - nfs4 10.0.0.7:/images rw,vers=4.2
32 21 0:42 / /mnt/with\040space rw - fuse.glusterfs 10.0.0.7:/volume rw
33 21 0:43 / /over rw - ext4 /dev/vdc rw
34 33 0:44 / /over rw - cephfs-like ceph rw
""".strip()
GROUP = ["ctl1", "ctl2", "ctl3"]
MARKS = ["allowed", "folder", "look_around", "read", "write", "remember", "settle", "forget"]
PILLAR = {
    "kolla_internal_vip_address": "10.0.0.9",
    "database_password": "a",
    "glance_database_password": "b",
    "glance_keystone_password": "c",
    "keystone_admin_password": "d",
}


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/srv/images", "/srv/images", "nfs4"),
        ("/srv/images/images", "/srv/images", "nfs4"),
        ("/srv/images2", "/srv", "xfs"),
        ("/srv", "/srv", "xfs"),
        ("/var/lib/glance", "/", "ext4"),
        ("/mnt/with space/images", "/mnt/with space", "fuse.glusterfs"),
        ("/over/x", "/over", "cephfs-like"),
    ],
)
def test_the_filesystem_is_that_of_the_longest_mount_point(path, mount, kind):
    found = glance_marks.filesystem(MOUNTS, path)
    assert (found["mount"], found["type"]) == (mount, kind)


def test_the_machines_own_table_can_be_read(tmp_path):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        text = file.read()
    assert glance_marks.filesystem(text, "/proc/self")["type"] == "proc"
    assert glance_marks.filesystem(text, str(tmp_path))["type"]


def test_two_hosts_share_what_both_have_read():
    both = {
        "a": {"nonce": "1", "seen": {"b": "2"}},
        "b": {"nonce": "2", "seen": {"a": "1"}},
    }
    assert glance_sharing.connected("a", "b", both)
    one_way = {**both, "b": {"nonce": "2", "seen": {}}}
    assert not glance_sharing.connected("a", "b", one_way)
    assert not glance_sharing.connected("b", "a", one_way)
    renewed = {**both, "b": {"nonce": "3", "seen": {"a": "1"}}}
    assert not glance_sharing.connected("a", "b", renewed), "what was read is older than the mark"
    assert not glance_sharing.connected("a", "b", {"b": both["b"]}), "the own mark is not there"


def test_what_is_shared_with_a_second_and_by_it_with_a_third_is_shared_by_all():
    marks = {
        "a": {"nonce": "1", "seen": {"b": "2"}},
        "b": {"nonce": "2", "seen": {"a": "1", "c": "3"}},
        "c": {"nonce": "3", "seen": {"b": "2"}},
        "d": {"nonce": "4", "seen": {"a": "1", "b": "2", "c": "3"}},
    }
    assert glance_sharing.connected("c", "a", marks)
    assert not glance_sharing.connected("d", "a", marks)


class Hosts:
    """Hosts with a disk each; `place` is the directory of the images as each of them sees it."""

    def __init__(self, folder, monkeypatch, shared="yes"):
        self.folder, self.patch, self.shared, self.group = folder, monkeypatch, shared, GROUP
        self.place = folder / "images"
        self.former = []
        self.behind = None  # what all of them really see; by default the folder of each host

    def settings(self, host):
        pillar = {
            **PILLAR,
            "glance_api_group": self.group,
            "glance_file_datadir_volume": str(self.where(host)),
            "glance_file_datadir_shared": self.shared,
            "node_config": str(self.folder / host / "etc"),
        }
        settings, faults = settings_for(pillar, id=host)
        assert faults == []
        return {**settings, "glance_group_timeout": 0}

    def where(self, host):
        return self.behind or self.folder / host / "disk"

    def on(self, host):
        """The module as it is on this host."""
        place = self.where(host)
        place.mkdir(parents=True, exist_ok=True)
        functions = {
            "glance_settings.get": lambda: self.settings(host),
            "glance_backend.elsewhere": glance_backend.elsewhere,
            "glance_leftovers.former": lambda _: self.former,
            **{f"glance_marks.{name}": getattr(glance_marks, name) for name in MARKS},
            "glance_sharing.mark": glance_sharing.mark,
            "glance_sharing.verified": glance_sharing.verified,
            "glance_sharing.await_proof": glance_sharing.await_proof,
        }
        for module in (glance_sharing, glance_marks):
            self.patch.setattr(module, "__salt__", functions, raising=False)
        return glance_sharing

    def state(self, host, name, test=False):
        self.on(host)
        module = state_module("glance_sharing", glance_sharing.__salt__, test)
        return getattr(module, name)("x")


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    return Hosts(tmp_path, monkeypatch)


def test_hosts_that_share_prove_it_by_writing_and_reading(hosts, tmp_path):
    """What an orchestration does: all write, all read, all are asked."""
    hosts.behind = tmp_path / "share"
    for host in GROUP:
        assert hosts.on(host).write() == {"needed": True, "changed": True}
    assert hosts.on("ctl2").verified()["runs"] is False, "nobody has read it yet"
    for host in GROUP:
        assert hosts.on(host).read() == GROUP
    for host in GROUP:
        found = hosts.on(host).verified()
        assert found["shared"] and found["runs"], found
        assert found["hosts"] == dict.fromkeys(GROUP, True)
        assert hosts.on(host).write() == {"needed": True, "changed": False}


def test_hosts_that_do_not_share_are_refused_all_but_the_first(hosts):
    for host in GROUP:
        assert hosts.state(host, "marked")["changes"]
    for host in GROUP:
        hosts.on(host).read()
    assert hosts.state("ctl1", "proved")["result"] is True
    for host in ("ctl2", "ctl3"):
        answer = hosts.state(host, "proved")
        assert answer["result"] is False
        assert answer["comment"] == (
            "It is not proved that this host shares its images with ctl1, the first host of"
            f" glance:glance_api_group: this host sees nothing in {hosts.where(host)} that ctl1"
            " wrote there within 0 seconds (glance:glance_group_timeout); apply glance on all"
            " hosts of the group at once, or on ctl1 again, and check that the same share is"
            " mounted on both."
        )
    found = hosts.on("ctl1").verified()
    assert (found["shared"], found["runs"]) == (False, True)
    assert found["hosts"] == {"ctl1": True, "ctl2": False, "ctl3": False}


def test_a_copy_of_the_share_is_no_share(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    for _ in range(2):
        for host in GROUP:
            hosts.on(host).write()
            hosts.on(host).read()
    text = {host: (tmp_path / "share/images/.glance-hosts" / host).read_text() for host in GROUP}
    os.unlink(hosts.settings("ctl3")["config_dir"] + ".sharing.json")
    hosts.behind = None
    copy = hosts.where("ctl3") / "images" / ".glance-hosts"
    copy.mkdir(parents=True)
    for host in GROUP:
        (copy / host).write_text(text[host])
    hosts.on("ctl3").write()
    assert hosts.on("ctl3").verified()["runs"] is False


def test_one_after_the_other_proves_it_too(hosts, tmp_path):
    """Masterless: ctl2 must wait in vain once, because ctl1 has not read its mark yet."""
    hosts.behind = tmp_path / "share"
    for host, proved in (("ctl1", True), ("ctl2", False), ("ctl1", True), ("ctl2", True)):
        assert hosts.state(host, "marked")["result"] is True
        assert hosts.state(host, "proved")["result"] is proved, host


def test_a_host_that_joins_disturbs_nobody(hosts, tmp_path):
    hosts.behind, hosts.group = tmp_path / "share", GROUP[:2]
    for host in ("ctl1", "ctl2", "ctl1"):
        hosts.on(host).write()
        hosts.on(host).read()
    hosts.group = GROUP
    for host in ("ctl1", "ctl2"):
        assert hosts.state(host, "proved")["result"] is True
    hosts.on("ctl3").write()
    hosts.on("ctl2").read()
    assert hosts.state("ctl3", "proved")["result"] is True, "shared with ctl2, and so with ctl1"


def test_another_first_host_changes_nothing_for_those_that_share(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    for _ in range(2):
        for host in GROUP:
            hosts.on(host).write()
            hosts.on(host).read()
    hosts.group = GROUP[::-1]
    for host in GROUP:
        assert hosts.state(host, "proved")["result"] is True


@pytest.mark.parametrize("group", [GROUP, ["ctl1"]])
def test_a_share_that_is_not_mounted_is_never_written_into(hosts, tmp_path, group):
    hosts.behind, hosts.group = tmp_path / "share", group
    hosts.on("ctl1").write()
    (tmp_path / "share").rename(tmp_path / "unmounted")
    for test in (True, False):
        answer = hosts.state("ctl1", "marked", test)
        assert answer["result"] is False
        assert "its mark is not there, so nothing was written" in answer["comment"]
    assert list((tmp_path / "share").iterdir()) == []
    assert hosts.on("ctl1").verified()["runs"] is False
    (tmp_path / "share").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "share")
    assert hosts.state("ctl1", "marked")["result"] is True, "and mounted again it is fine"


def test_a_directory_emptied_on_purpose_is_taken_after_forgetting_it(hosts, tmp_path):
    hosts.behind, hosts.group = tmp_path / "share", ["ctl1"]
    hosts.on("ctl1").write()
    (tmp_path / "share").rename(tmp_path / "old")
    assert hosts.on("ctl1").forget() is True
    assert hosts.on("ctl1").forget() is False
    assert hosts.state("ctl1", "marked")["changes"]


@pytest.mark.parametrize("test", [False, True])
def test_a_local_filesystem_is_refused_on_every_host_whatever_the_path(hosts, monkeypatch, test):
    hosts.shared = "no"
    local = {"mount": "/srv", "type": "ext4", "source": "/dev/vdb"}
    monkeypatch.setattr(glance_marks, "filesystem", lambda *_: local)
    for host in GROUP:
        answer = hosts.state(host, "marked", test)
        assert answer["result"] is False
        assert answer["comment"] == (
            f"The directory {hosts.where(host)} (glance:glance_file_datadir_volume) lies on ext4,"
            " mounted at /srv, which other hosts cannot see, and glance:glance_api_group has"
            " several: mount the share there, name one host only, or set"
            " glance:glance_file_datadir_shared to yes if hosts share this filesystem."
        )
        assert list(hosts.where(host).iterdir()) == []
    hosts.group = ["ctl1"]
    assert hosts.state("ctl1", "marked", test)["result"] is (None if test else True)


def test_a_network_filesystem_needs_no_word_but_its_marks(hosts, monkeypatch, tmp_path):
    hosts.shared, hosts.behind = "no", tmp_path / "share"
    share = {"mount": "/srv", "type": "nfs4", "source": "10.0.0.7:/images"}
    monkeypatch.setattr(glance_marks, "filesystem", lambda *_: share)
    for host in ("ctl1", "ctl2"):
        hosts.on(host).write()
    assert hosts.on("ctl2").verified()["runs"] is False
    hosts.on("ctl1").read()
    assert hosts.on("ctl2").verified()["runs"] is True


def test_a_dry_run_writes_nothing_and_waits_for_nothing(hosts):
    answer = hosts.state("ctl2", "marked", test=True)
    assert answer["result"] is None and answer["changes"]
    answer = hosts.state("ctl2", "proved", test=True)
    assert answer["result"] is True
    assert "The run would have waited for this" in answer["comment"]
    assert list(hosts.where("ctl2").iterdir()) == []
    assert not (hosts.folder / "ctl2" / "etc").exists()


def test_a_mark_that_is_no_mark_counts_for_nothing(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    hosts.on("ctl1").write()
    folder = tmp_path / "share/images/.glance-hosts"
    for text in ("", "[]", "{}", "no json", '{"nonce": 1, "seen": null}'):
        (folder / "ctl2").write_text(text)
        assert hosts.on("ctl1").read() == ["ctl1"]
    mark = json.loads((folder / "ctl1").read_text())
    assert mark["seen"] == {}


def test_a_share_that_cannot_be_read_is_a_sentence(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "images").write_text("")
    with pytest.raises(CommandExecutionError) as failed:
        hosts.on("ctl1").write()
    assert "cannot be read (Not a directory): check the share" in str(failed.value)


def test_without_a_directory_there_is_nothing_to_prove(hosts, monkeypatch):
    settings, faults = settings_for({**PILLAR, "glance_api_group": GROUP}, id="ctl2")
    assert faults == []
    functions = {
        "glance_settings.get": lambda: settings,
        "glance_backend.elsewhere": glance_backend.elsewhere,
    }
    monkeypatch.setattr(glance_sharing, "__salt__", functions, raising=False)
    assert glance_sharing.write() == {"needed": False, "changed": False}
    assert glance_sharing.read() == []
    found = glance_sharing.verified()
    assert (found["shared"], found["runs"]) == (False, False)
    assert "The API runs on ctl1 only" in found["why"]


def test_a_docker_volume_cannot_be_declared_shared():
    pillar = {**PILLAR, "glance_file_datadir_shared": "yes"}
    assert settings_for(pillar)[1] == [
        "glance:glance_file_datadir_shared is yes, but glance:glance_file_datadir_volume is the"
        " Docker volume glance, in which hosts cannot leave marks for each other; mount the share"
        " on every host and name its path."
    ]


def test_a_host_that_is_just_joining_is_waited_for(hosts, tmp_path, monkeypatch):
    """A converged run is over before a new host's has begun, which needs a reader of its mark."""
    hosts.behind, hosts.group = tmp_path / "share", GROUP[:2]
    naps = []

    def joins(seconds):
        naps.append(seconds)
        glance_sharing.mark(hosts.settings("ctl2"))

    clock = types.SimpleNamespace(sleep=joins, monotonic=time.monotonic)
    monkeypatch.setattr(glance_sharing, "time", clock)
    hosts.on("ctl1").write()
    glance_sharing.await_proof(hosts.settings("ctl1"), 300)
    assert len(naps) == 1
    hosts.on("ctl2").read()
    assert hosts.on("ctl2").verified()["runs"] is True


def test_another_node_config_does_not_forget_the_directory(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    hosts.on("ctl1").write()
    old = hosts.settings("ctl1")["config_dir"]
    before = (hosts.behind / "images/.glance-hosts/ctl1").read_text()
    (tmp_path / "ctl1" / "etc").rename(tmp_path / "moved")
    (tmp_path / "ctl1" / "etc").mkdir()
    hosts.former = [old.replace("ctl1/etc", "moved") + ".d"]
    assert hosts.on("ctl1").write()["changed"] is False
    assert (hosts.behind / "images/.glance-hosts/ctl1").read_text() == before
    hosts.former = []
    assert hosts.on("ctl1").write()["changed"] is False
    assert not list((tmp_path / "moved").iterdir())


def test_a_link_that_the_service_could_lay_is_not_followed(hosts, tmp_path):
    hosts.behind = tmp_path / "share"
    (hosts.behind / "images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (hosts.behind / "images/.glance-hosts").symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in hosts.state("ctl1", "marked")["comment"]
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(("kind", "shared"), [("ext4", False), ("nfs4", True)])
def test_a_host_that_is_alone_shares_what_others_could_mount(hosts, monkeypatch, kind, shared):
    hosts.shared, hosts.group = "no", ["ctl1"]
    here = {"mount": "/srv", "type": kind, "source": "x"}
    monkeypatch.setattr(glance_marks, "filesystem", lambda *_: here)
    hosts.on("ctl1").write()
    found = hosts.on("ctl1").verified()
    assert (found["runs"], found["shared"]) == (True, shared)


def test_where_root_may_nothing_the_owner_of_the_directory_acts(hosts, monkeypatch, tmp_path):
    """As on an NFS server with root_squash."""
    hosts.behind, hosts.group = tmp_path / "share", ["ctl1"]
    who, put = [], glance_marks._put

    def squashed(settings, content):
        user = ctypes.CDLL(None).setfsuid(-1)
        who.append(user)
        if user == 0:
            raise PermissionError(13, "Permission denied")
        ctypes.CDLL(None).setfsuid(0)  # no path of this test is open to others
        put(settings, content)

    hosts.behind.mkdir()
    os.chown(hosts.behind, 42415, 42415)
    monkeypatch.setattr(glance_marks, "_put", squashed)
    assert hosts.on("ctl1").write()["changed"] is True
    assert who == [0, 42415]
    assert ctypes.CDLL(None).setfsuid(-1) == 0


def test_a_container_sees_the_mark_that_only_the_owner_may_look_at(hosts, squashed_share):
    """On an NFS server with root_squash; what nobody may look at is not taken as missing."""
    images, squashed = squashed_share
    folder = images / glance_marks.MARKS
    folder.mkdir()
    (folder / "ctl1").write_text("x")
    os.chown(images, 42415, 42415)
    seen = hosts.on("ctl1").seen_inside

    def sees(name):
        return squashed(lambda: seen({"datadir_marker": str(folder / name)}, os.getpid()))

    assert sees("ctl1") is True
    assert sees("ctl2") is False, "this is another directory"
    os.chown(images, 65533, 65533)
    os.chmod(images, 0)
    assert sees("ctl2") is True, "nobody can tell"
    assert seen({"datadir_marker": "/nowhere"}, 2**22 + 1) is True, "it has just ended"


def test_a_filesystem_that_holds_every_process_does_not_hold_the_minion(monkeypatch):
    """A look at a dead share can sleep where no signal reaches it."""

    class Asleep:
        def __init__(self, *_, **__):
            self.killed = False

        def wait(self, timeout=None):
            assert timeout is not None, "it would be waited for for ever"
            raise subprocess.TimeoutExpired("stat", timeout)

        def kill(self):
            self.killed = True

    monkeypatch.setattr(subprocess, "Popen", Asleep)
    with pytest.raises(CommandExecutionError, match="/srv/images .* does not answer within 10"):
        glance_marks._must_answer("/srv/images")
