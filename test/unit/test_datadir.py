"""Another data directory: which images it would put out of reach."""

import os

import pytest

import glance_backend
import glance_datadir
import glance_marks
from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.cluster

IDS = [f"{n:08d}-1111-2222-3333-444444444444" for n in range(9)]


class World:
    """Directories of a host, and the one that the present container uses."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.patch, self.in_use, self.known, self.serving = (
            folder,
            monkeypatch,
            None,
            [],
            "",
        )
        self.hash = "new"

    def fill(self, name, ids):
        images = self.folder / name / "images"
        images.mkdir(parents=True, exist_ok=True)
        for one in ids:
            (images / one).write_text("x")
        (images / ".glance-hosts").mkdir(exist_ok=True)
        return str(self.folder / name)

    def in_reach(self, volume, test=False, confirm=""):
        settings, faults = settings_for({"glance_file_datadir_volume": volume, "confirm": confirm})
        assert faults == []
        mounts = [{"target": "/var/lib/glance", "path": self.in_use}]
        functions = {
            "glance_settings.get": lambda: settings,
            "glance_container.desired": lambda *_, **__: ({"hash": self.hash}, {}),
            "glance_container.serves": lambda digest: digest == self.serving,
            "glance_container.facts": lambda: {"name": "glance_api"},
            "glance_engine.inspect": lambda _: {"mounts": mounts} if self.in_use else None,
            "glance_engine.volume_path": lambda name: str(self.folder / name),
            "glance_datadir.out_of_reach": glance_datadir.out_of_reach,
            "glance_marks.allowed": glance_marks.allowed,
            "glance_backend.elsewhere": glance_backend.elsewhere,
        }
        self.patch.setattr(glance_datadir, "__salt__", functions, raising=False)
        context = {"glance_schema.files": self.known}
        self.patch.setattr(glance_datadir, "__context__", context, raising=False)
        return state_module("glance_sharing", functions, test).in_reach("x")


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize("test", [False, True])
def test_another_directory_without_the_images_is_refused(world, test):
    world.in_use = world.fill("old", IDS[:7])
    new = world.fill("new", [])
    answer = world.in_reach(new, test)
    assert answer["result"] is False
    assert answer["comment"] == (
        f"7 images ({', '.join(IDS[:5])}, ...) in {world.in_use}, which Glance uses now, are not in"
        f" {new} (glance:glance_file_datadir_volume): mount the share or copy the images first, or"
        " confirm on the command line that they are given up, with"
        f' pillar=\'{{"glance": {{"confirm": "{new}"}}}}\'.'
    )


def test_a_volume_is_looked_into_as_well(world):
    world.in_use = world.fill("glance", IDS[:1])
    assert world.in_reach("glance")["result"] is True
    assert "1 image (" in world.in_reach("other")["comment"]


def test_images_that_were_copied_stay_in_reach(world):
    world.in_use = world.fill("old", IDS[:3])
    assert world.in_reach(world.fill("new", IDS))["result"] is True


def test_giving_images_up_is_confirmed_by_name(world):
    world.in_use = world.fill("old", IDS[:3])
    new = world.fill("new", [])
    assert world.in_reach(new, confirm="yes")["result"] is False
    answer = world.in_reach(new, confirm=new)
    assert answer["result"] is True
    assert "this was confirmed" in answer["comment"]


def test_an_edit_of_something_else_is_none_of_its_business(world):
    world.in_use = world.fill("old", IDS)
    assert world.in_reach(world.in_use)["result"] is True
    world.serving = world.hash
    assert world.in_reach(world.fill("new", []))["result"] is True, "it was decided before"


def test_a_first_container_without_the_images_that_the_database_knows_is_refused(world):
    """The other end of a new order of the group, or a share that was never mounted."""
    world.known = IDS[:2]
    empty = world.fill("empty", [])
    answer = world.in_reach(empty)
    assert answer["result"] is False
    assert answer["comment"].startswith(
        f"Of the images that the database knows in files, 2 images ({IDS[0]}, {IDS[1]}) are not in"
    )
    assert world.in_reach(empty, confirm=empty)["result"] is True
    assert world.in_reach(world.fill("full", IDS[1:]))["result"] is True, "one may be damaged"


def test_what_stays_behind_is_told(world):
    world.in_use = world.fill("old", IDS[:2])
    world.in_reach("glance")
    assert glance_datadir.left_behind() == (
        f"2 images ({IDS[0]}, {IDS[1]}) in {world.in_use} on this host can be downloaded without it"
        " only if another host that runs the API sees the same files."
    )
    world.in_use = world.fill("empty", [])
    world.in_reach("glance")
    assert glance_datadir.left_behind() == ""


def test_images_that_only_their_owner_may_list_are_listed(world, squashed_share):
    """On an NFS server with root_squash."""
    images, squashed = squashed_share
    (images / IDS[0]).write_text("x")
    os.chown(images, 42415, 42415)
    world.in_use = str(images.parent)
    assert squashed(lambda: world.in_reach(world.in_use))["result"] is True
    assert IDS[0] in squashed(glance_datadir.left_behind)
    assert squashed(lambda: glance_datadir.images(world.in_use)) == IDS[:1]


def test_images_that_nobody_may_list_keep_no_host_from_leaving(world, squashed_share):
    images, squashed = squashed_share
    os.chown(images, 65533, 65533)
    os.chmod(images, 0)
    world.in_use = str(images.parent)
    world.in_reach(world.in_use)
    assert "cannot be listed (Permission denied)" in squashed(glance_datadir.left_behind)
