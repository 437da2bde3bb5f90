"""test=True touches nothing and foresees what the real run does; no change, nothing done."""

import pytest

import glance_container
import glance_schema
from support.states import state_module

pytestmark = pytest.mark.one_host

IMAGE = "glance-api:2026.2"
SUMMARY = '{"image": "%s"}'
WANT = {
    "hash": "new",
    "name": "glance_api_new",
    "policy": "unless-stopped",
    "spec": {"image": IMAGE},
    "labels": {"glance.spec": "new", "glance.summary": SUMMARY % IMAGE},
}
PRESENT = {
    "name": "glance_api",
    "running": True,
    "status": "running",
    "restart_policy": "unless-stopped",
    "pid": 7,
    "labels": {"glance.spec": "old", "glance.summary": SUMMARY % "glance-api:before"},
}
SETTINGS = {
    "glance_api_image_full": IMAGE,
    "glance_image_pull": "missing",
    "glance_api_group": ["ctl1"],
    "config_dir": "/etc/kolla/glance-api",
    "snapshot_dir": "/etc/kolla/glance-api.d",
    "datadir_marker": "",
    "database_kind": "mysql",
    "database_identity": "mysql://10.0.0.9:3306/glance",
    "use_preconfigured_databases": False,
    "schema_host": "ctl1",
    "minion_id": "ctl1",
    "glance_remove_data": True,
    "glance_cache_remove_data": False,
    "glance_cache_volume": "glance_cache",
    "glance_file_datadir_volume": "glance",
    "confirm": "glance",
}
MADE = {"mysql://10.0.0.9:3306/glance": "made"}


class World:
    """The functions that states call: those that look, and those that do, which are noted."""

    def __init__(self):
        self.done, self.ours, self.settings = [], [dict(PRESENT)], dict(SETTINGS)
        self.image, self.left = {"id": "sha256:1"}, {"folders": []}
        self.compared = {"glance-api.conf": "changed"}
        self.foreseen = MADE

    def act(self, what, result=None):
        """A function that does something: notes it."""
        return lambda *_, **__: self.done.append(what) or result

    def salt(self):
        report = {"how": "hand-over", "why": "", "seconds": {}, "waited_for": [], "cut": []}
        return {
            "glance_settings.get": lambda: self.settings,
            "glance_backend.elsewhere": lambda settings: "",
            "glance_container.desired": lambda settings, look: (WANT, {}),
            "glance_container.decide": glance_container.decide,
            "glance_container.announce": glance_container.announce,
            "glance_container.describe": glance_container.describe,
            "glance_container.serves": lambda spec: spec == self.ours[0]["labels"]["glance.spec"],
            "glance_container.facts": lambda: {"database": None},
            "glance_schema.foreseen": lambda settings: self.foreseen,
            "glance_container.is_foreign": lambda: False,
            "glance_image.here": lambda settings: self.image,
            "glance_container.refusal": lambda *_: None,
            "glance_image.release_of": lambda *_, **__: {
                "release": "2026.2",
                "version": "33.0.0",
            },
            "glance_engine.containers": lambda: self.ours,
            "glance_engine.volume_exists": lambda name: name == "glance",
            "glance_config_dir.compare": lambda folder, files: self.compared,
            "glance_leftovers.find": lambda settings: self.left,
            "glance_sharing.seen_inside": lambda settings, pid: False,
            "file.directory_exists": lambda path: True,
            "glance_image.pull": self.act("pull", {"id": "sha256:2"}),
            "glance_replace.run": self.act("replace", report),
            "glance_replace.stop_all": self.act("stop", []),
            "glance_engine.remove_volume": self.act("remove volume"),
            "glance_replace.restart": self.act("restart", []),
            "glance_config_dir.write": self.act("write"),
            "glance_leftovers.remove": self.act("tidy"),
            "glance_proof.run": self.act("prove"),
            "glance_schema.create_database": self.act("create", MADE),
            "glance_schema.bootstrap": self.act("bootstrap", MADE),
            "file.remove": self.act("remove"),
        }

    def run(self, module, function, test):
        return getattr(state_module(module, self.salt(), test), function)("It")


def no_image(world):
    world.image = None


def wanted_runs(world):
    world.ours[0]["labels"] = WANT["labels"]


def leftovers(world):
    wanted_runs(world)
    world.left = {"folders": ["/etc/kolla/glance-api.d/older"]}


def blind(world):
    wanted_runs(world)
    world.settings["datadir_marker"] = "/srv/images/.mark"


def nothing_runs(world):
    world.ours = []


CHANGES = {
    "image": ("glance_container", "image_present", no_image, ["pull"]),
    "configuration": ("glance_configuration", "rendered", None, ["write"]),
    "replacement": ("glance_container", "running", None, ["replace"]),
    "first container": ("glance_container", "running", nothing_runs, ["replace"]),
    "leftovers": ("glance_container", "running", leftovers, ["tidy"]),
    "unseen share": ("glance_container", "running", blind, ["restart"]),
    "container goes": ("glance_container", "absent", None, ["stop"]),
    "container stops": ("glance_container", "stopped", None, ["stop"]),
    "data goes": ("glance_container", "data_absent", None, ["remove volume"]),
    "configuration goes": ("glance_configuration", "absent", None, ["remove", "remove"]),
    "database": ("glance_schema", "database_present", None, ["create"]),
    "schema": ("glance_schema", "bootstrapped", None, ["bootstrap"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_dry_run_touches_nothing_and_names_what_would_change(case):
    module, function, prepare, does = CHANGES[case]
    told = {}
    for test in (True, False):
        world = World()
        if prepare:
            prepare(world)
        told[test] = world.run(module, function, test)
        assert world.done == ([] if test else does)
    assert told[True]["result"] is None, told
    assert "would have been" in told[True]["comment"]
    assert told[False]["result"] is True, told
    assert set(told[True]["changes"]) == set(told[False]["changes"]) != set()


def test_a_configuration_is_proved_before_it_is_used_but_not_in_a_dry_run():
    for test, does in ((True, []), (False, ["prove"])):
        world = World()
        told = world.run("glance_configuration", "proved", test)
        assert (told["result"], told["changes"], world.done) == (True, {}, does)


UNCHANGED = [
    ("glance_container", "image_present"),
    ("glance_configuration", "rendered"),
    ("glance_configuration", "proved"),
    ("glance_container", "running"),
    ("glance_schema", "database_present"),
    ("glance_schema", "bootstrapped"),
]


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(("module", "function"), UNCHANGED)
def test_where_all_is_as_wanted_nothing_is_done(module, function, test):
    world = World()
    wanted_runs(world)
    world.compared = {}
    told = world.run(module, function, test)
    assert (told["result"], told["changes"], world.done) == (True, {}, [])


def test_a_dry_run_of_what_the_database_has_already_changes_nothing():
    world = World()
    world.foreseen = {}
    told = world.run("glance_schema", "database_present", True)
    assert (told["result"], told["changes"], world.done) == (True, {}, [])


@pytest.mark.parametrize(
    ("present", "made"),
    [
        ({"glance.database_user": "glance-b"}, []),
        ({"glance.database_user": "glance"}, ["user glance-b", "grants on glance"]),
        ({}, []),  # made before there was such a label
        (
            {"glance.database": "mysql://10.0.0.8:3306/glance", "glance.database_user": "glance-b"},
            ["database glance", "user glance-b", "grants on glance"],
        ),
        (None, ["database glance", "user glance-b", "grants on glance"]),
    ],
)
def test_a_new_user_of_the_database_is_foreseen(monkeypatch, present, made):
    """By the labels of the container in charge."""
    settings = {
        "database_identity": "mysql://10.0.0.9:3306/glance",
        "glance_database_name": "glance",
        "glance_database_user": "glance-b",
    }
    ours = []
    if present is not None:
        labels = {"glance.database": settings["database_identity"], **present}
        more = {"id": "1", "image": "sha256:1", "reference": IMAGE, "health": "healthy"}
        times = {"created": "1", "started_at": "1", "restarts": 0}
        ours = [{**PRESENT, **more, **times, "labels": labels}]
    engine = {
        "glance_engine.containers": lambda *_: ours,
        "glance_engine.inspect": lambda _: None,
    }
    monkeypatch.setattr(glance_container, "__salt__", engine, raising=False)
    facts = {"glance_container.facts": glance_container.facts}
    monkeypatch.setattr(glance_schema, "__salt__", facts, raising=False)
    assert list(glance_schema.foreseen(settings)) == made
