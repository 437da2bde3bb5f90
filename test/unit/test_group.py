"""A group of hosts: who makes the schema, who waits for it, who runs no API at all."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_backend
import glance_schema
from support.scripts import script
from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.cluster

schema = script("schema")

GROUP = {
    "glance_api_group": ["ctl1", "ctl2", "ctl3"],
    "kolla_internal_vip_address": "10.0.0.9",
    "database_password": "a",
    "glance_database_password": "b",
    "glance_keystone_password": "c",
    "keystone_admin_password": "d",
}
SHARED = {**GROUP, "glance_file_datadir_volume": "/srv/images"}
HERE = "mysql://10.0.0.9:3306/glance"
EMPTY = {"position": "empty", "heads_in_database": [], "metadef_namespaces": 0, "images": 0}
CURRENT = {
    "position": "current",
    "heads_in_database": ["2024_1_contract01"],
    "metadef_namespaces": 30,
    "images": 2,
}


def resolved(pillar, minion):
    settings, faults = settings_for(pillar, id=minion)
    assert faults == []
    return settings


@pytest.mark.parametrize("minion", ["ctl1", "ctl2", "ctl3"])
def test_the_first_host_that_runs_the_api_works_on_the_schema(minion):
    for pillar in (GROUP, SHARED):
        assert resolved(pillar, minion)["schema_host"] == "ctl1"


def test_a_host_without_the_api_tells_why():
    assert glance_backend.elsewhere(resolved(GROUP, "ctl1")) == ""
    assert glance_backend.elsewhere(resolved(SHARED, "ctl2")) == ""
    assert glance_backend.elsewhere(resolved(GROUP, "ctl2")) == (
        "The API runs on ctl1 only, because the images in glance are not shared between hosts"
        " (glance:glance_file_datadir_volume)."
    )
    off = resolved({**GROUP, "enable_glance": "no"}, "ctl1")
    assert "glance:enable_glance" in glance_backend.elsewhere(off)


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("glance_container", "image_present"),
        ("glance_configuration", "proved"),
        ("glance_schema", "database_present"),
        ("glance_schema", "bootstrapped"),
        ("glance_api", "answers"),
    ],
)
def test_a_host_without_the_api_needs_no_image_and_no_database(module, function, test):
    """Whatever else the state called is missing here, so that it would fail."""
    settings = resolved(GROUP, "ctl2")
    functions = {
        "glance_settings.get": lambda: settings,
        "glance_backend.elsewhere": glance_backend.elsewhere,
    }
    answer = getattr(state_module(module, functions, test), function)("x")
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"].startswith("The API runs on ctl1 only")


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("function", ["database_present", "bootstrapped"])
def test_in_an_upgrade_the_database_is_looked_at_once_for_all_hosts(function, test):
    functions = {
        "glance_settings.get": lambda: resolved(GROUP, "ctl1"),
        "glance_backend.elsewhere": glance_backend.elsewhere,
        "glance_container.desired": lambda settings, look: ({"hash": "x"}, {}),
        "glance_schema.skip": lambda: "The upgrade has looked.",
    }
    answer = getattr(state_module("glance_schema", functions, test), function)("x", by_upgrade=True)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"].startswith("The upgrade has ")


@pytest.mark.parametrize("test", [False, True])
def test_a_host_without_the_api_keeps_no_configuration(tmp_path, test):
    settings = {**resolved(GROUP, "ctl2"), "config_dir": str(tmp_path)}
    removed = []
    functions = {
        "glance_settings.get": lambda: settings,
        "glance_backend.elsewhere": glance_backend.elsewhere,
        "glance_container.is_foreign": lambda: False,
        "file.directory_exists": lambda path: path == str(tmp_path),
        "file.remove": removed.append,
    }
    answer = state_module("glance_configuration", functions, test).rendered("x")
    assert answer["result"] is (None if test else True)
    assert answer["changes"] == {str(tmp_path): {"old": "present", "new": None}}
    assert "The API runs on ctl1 only" in answer["comment"]
    assert removed == ([] if test else [str(tmp_path)])


@pytest.mark.parametrize(
    ("answer", "settled"),
    [
        ({"error": "Access denied for user 'glance'."}, False),
        (EMPTY, False),
        ({**EMPTY, "position": "unknown"}, False),
        ({**EMPTY, "position": "behind", "heads_in_database": ["rocky_expand01"]}, False),
        ({**CURRENT, "metadef_namespaces": 0, "images": 0}, False),
        (CURRENT, True),
        ({**CURRENT, "position": "behind"}, True),
        ({**EMPTY, "position": "ahead"}, True),
    ],
)
def test_what_a_bootstrap_in_progress_looks_like(answer, settled):
    assert schema.settled(answer) is settled


class Waiting:
    """``await_first`` on ctl2 over a database that answers as given."""

    def __init__(self, monkeypatch, answer, in_use=None, move=False):
        self.settings = {**resolved(SHARED, "ctl2"), "glance_database_move": move}
        self.patience = None

        def look(_settings, _want, patience=0):
            self.patience = patience
            if "error" in answer:
                raise CommandExecutionError(answer["error"])
            return {"waited": patience, **answer}

        monkeypatch.setattr(glance_schema, "look", look)
        functions = {"glance_container.facts": lambda: {"database": in_use}}
        monkeypatch.setattr(glance_schema, "__salt__", functions, raising=False)

    def run(self):
        return glance_schema.await_first(self.settings, {"labels": {"glance.release": "2026.2"}})

    def failure(self):
        with pytest.raises(CommandExecutionError) as failed:
            self.run()
        return str(failed.value)


def test_a_fresh_host_waits_for_the_first(monkeypatch):
    waiting = Waiting(monkeypatch, CURRENT)
    assert waiting.run() == 300
    assert waiting.patience == 300


def test_a_host_that_serves_from_this_database_waits_for_nobody(monkeypatch):
    waiting = Waiting(monkeypatch, CURRENT, in_use=HERE)
    assert waiting.run() == 0
    assert waiting.patience == 0


def test_a_schema_that_nobody_makes_names_the_host_that_should(monkeypatch):
    assert Waiting(monkeypatch, EMPTY).failure() == (
        f"The schema in {HERE} is not there after 300 seconds; it is made by ctl1, the first host"
        " of glance:glance_api_group, which was waited for (glance:glance_group_timeout): apply"
        " glance there and see what it says."
    )
    refused = Waiting(monkeypatch, {"error": "The database refuses glance."}).failure()
    assert refused.startswith("The database refuses glance; it is made by ctl1")


def test_an_old_schema_is_refused_on_every_host(monkeypatch):
    behind = {**CURRENT, "position": "behind"}
    assert "glance.orchestrate.upgrade" in Waiting(monkeypatch, behind).failure()


def test_another_empty_database_is_refused_at_once_unless_the_move_is_accepted(monkeypatch):
    other = "mysql://10.0.0.8:3306/glance"
    refused = Waiting(monkeypatch, EMPTY, in_use=other)
    assert "all images would seem gone" in refused.failure()
    assert refused.patience == 0
    assert Waiting(monkeypatch, CURRENT, in_use=other, move=True).run() == 300


def test_a_database_that_was_emptied_is_not_filled_by_another_host(monkeypatch):
    assert "is gone; it is made by ctl1" in Waiting(monkeypatch, EMPTY, in_use=HERE).failure()
