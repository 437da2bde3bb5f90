"""The steps of an upgrade as states: exact changes, a truthful test mode, one sentence each."""

import pytest
from salt.exceptions import CommandExecutionError

from support.states import state_module

pytestmark = pytest.mark.upgrade

SETTINGS = {
    "database_identity": "mysql://db:3306/glance",
    "glance_api_image_full": "glance-api:new",
    "glance_backup_dir": "/backups",
    "enable_haproxy": True,
    "glance_internal_endpoint": "http://10.0.0.250:9292",
    "self_url": "http://10.0.0.5:9292",
}
FOUND = {
    "position": "behind",
    "heads_in_database": ["2023_1_contract01"],
    "pending": ["expand", "migrate", "contract"],
    "half_done": None,
    "metadefs_missing": ["OS::A", "OS::B"],
}
MADE = {
    "before": ["2023_1_contract01"],
    "after": ["2024_1_expand01"],
    "repaired": ["table node_reference"],
    "seconds": 2.5,
}


class Asked:
    """Functions that the states may call; those that change something are noted."""

    def __init__(self, test=False, image=True, **more):
        self.done, self.told = [], []
        want = {"hash": "x"} if image else None
        functions = {
            "glance_settings.get": lambda: SETTINGS,
            "glance_container.desired": lambda settings: (want, {}),
            "glance_schema.look": lambda settings, want: FOUND,
            "glance_schema_phases.pending": lambda found, step: step in found["pending"],
            "glance_schema_phases.change": self._note("change", MADE),
            "glance_schema.load_metadefs": self._note(
                "load", {"loaded": ["OS::A", "OS::B"], "seconds": 1.5}
            ),
            "glance_backup.present": lambda settings: [],
            "glance_backup.enough": lambda backups, found: None,
            "glance_backup.make": self._note(
                "backup",
                {
                    "path": "/backups/b.sql",
                    "bytes": 9,
                    "tables": 2,
                    "rows": 3,
                    "seconds": 1.5,
                    "removed": ["old"],
                },
            ),
            "glance_progress.told": self._follow,
            **more,
        }
        self.state = state_module("glance_upgrade", functions, test)

    def _follow(self, step, work, *arguments):
        try:
            result = work(*arguments)
        except CommandExecutionError:
            self.told.append((step, "failed"))
            raise
        self.told.append((step, "ends"))
        return result

    def _note(self, what, result):
        def do(*arguments):
            self.done.append(what)
            return result

        return do


def test_a_phase_tells_the_heads_and_what_was_repaired():
    asked = Asked()
    ret = asked.state.expanded("Expanded")
    assert ret["result"] is True
    assert ret["changes"] == {
        "mysql://db:3306/glance": {"old": "2023_1_contract01", "new": "2024_1_expand01"},
        "table node_reference": {"old": "left by a cut expansion", "new": None},
    }
    assert ret["comment"] == (
        "The schema in mysql://db:3306/glance was expanded; old and new releases work on it. It"
        " took 2.5 seconds."
    )
    assert asked.done == ["change"]
    assert asked.told == [("expand", "ends")]


@pytest.mark.parametrize("name", ["expanded", "migrated", "contracted", "metadefs_loaded",
                                  "backed_up"])  # fmt: skip
def test_test_mode_changes_nothing_and_says_so(name):
    asked = Asked(test=True)
    ret = getattr(asked.state, name)("It")
    assert ret["result"] is None and ret["changes"] and "would have been" in ret["comment"]
    assert asked.done == []


def test_a_phase_that_is_done_changes_nothing():
    same = {
        "before": ["2023_1_contract01"],
        "after": ["2023_1_contract01"],
        "repaired": [],
        "seconds": 2.5,
    }
    functions = {
        "glance_schema_phases.pending": lambda found, step: False,
        "glance_schema_phases.change": lambda *_: same,
    }
    for test in (True, False):
        ret = Asked(test, **functions).state.contracted("It")
        assert (ret["result"], ret["changes"]) == (True, {})
        assert "already (2023_1_contract01)" in ret["comment"]


def test_without_the_image_test_mode_does_not_guess():
    ret = Asked(test=True, image=False).state.expanded("It")
    assert ret["result"] is None and "known when the image is here" in ret["comment"]
    ret = Asked(image=False).state.expanded("It")
    assert ret["result"] is False and "glance.upgrade.pull first" in ret["comment"]


def test_a_failed_phase_says_why_and_reports_no_change():
    def fail(*_):
        raise CommandExecutionError("The database is away.")

    asked = Asked(**{"glance_schema_phases.change": fail})
    ret = asked.state.migrated("It")
    assert (ret["result"], ret["changes"], ret["comment"]) == (False, {}, "The database is away.")
    assert asked.told == [("migrate", "failed")]


def test_a_backup_tells_what_was_made_and_removed():
    ret = Asked().state.backed_up("It")
    assert ret["changes"] == {
        "/backups/b.sql": {"old": None, "new": "2 tables, 3 rows, 9 bytes"},
        "old": {"old": "kept", "new": None},
    }


def test_a_backup_that_is_enough_is_kept():
    enough = {"glance_backup.enough": lambda backups, found: {"path": "/backups/a.sql"}}
    enough["glance_backup.present"] = lambda settings: ["one"]
    ret = Asked(**enough).state.backed_up("It")
    assert ret["changes"] == {} and ret["comment"] == "The database is backed up in /backups/a.sql."


def test_metadefs_tell_what_was_loaded():
    asked = Asked()
    ret = asked.state.metadefs_loaded("It")
    assert ret["changes"] == {one: {"old": None, "new": "loaded"} for one in ("OS::A", "OS::B")}
    assert ret["comment"] == (
        "2 namespaces of metadata definitions were loaded. It took 1.5 seconds."
    )
    assert asked.done == ["load"] and asked.told == [("metadefs", "ends")]
    nothing = {"glance_schema.load_metadefs": lambda *_: {"loaded": [], "seconds": 1.0}}
    ret = Asked(**nothing).state.metadefs_loaded("It")
    assert ret["result"] is True and ret["changes"] == {}


def test_verification_tells_where_an_image_went():
    functions = {"glance_check.as_users": lambda settings: {"where": "http://vip", "seconds": 0.51}}
    ret = Asked(**functions).state.verified("It")
    assert ret["result"] is True and ret["changes"] == {}
    assert ret["comment"] == (
        "An image went up to http://vip and came back unchanged. It took 0.5 seconds."
    )


def container_state(now, test=False, **more):
    functions = {
        "glance_settings.get": lambda: SETTINGS,
        "glance_container.facts": lambda: now,
        **more,
    }
    return state_module("glance_container", functions, test).started_again("It")


STOPPED = {"state": "stopped", "name": "glance_api"}


def test_what_runs_is_not_started_again():
    ret = container_state({"state": "running", "name": "glance_api"})
    assert (ret["result"], ret["changes"]) == (True, {})
    assert container_state({"state": "absent", "name": "glance_api"})["changes"] == {}


def test_what_was_stopped_is_started_again():
    starts = {"glance_replace.start_again": lambda settings, name: f"{name} serves."}
    ret = container_state(STOPPED, **starts)
    assert ret["changes"] == {"glance_api": {"old": "stopped", "new": "running"}}
    assert ret["comment"] == "glance_api serves."
    ret = container_state(STOPPED, test=True)
    assert ret["result"] is None and "would have been started again" in ret["comment"]


def test_what_must_not_start_again_is_told():
    def refuse(settings, name):
        raise CommandExecutionError("Glance 2023.2 does not know the schema (x) any more.")

    ret = container_state(STOPPED, **{"glance_replace.start_again": refuse})
    assert (ret["result"], ret["changes"]) == (False, {}) and "any more" in ret["comment"]


def image_functions(pull):
    """Of a host that has the image, of another release than runs here."""
    settings = {"glance_api_image_full": "glance-api:new", "glance_image_pull": pull}
    return {
        "glance_settings.get": lambda: settings,
        "glance_backend.elsewhere": lambda settings: "",
        "glance_container.is_foreign": lambda: False,
        "glance_image.here": lambda settings: {"id": "sha256:1"},
        "glance_engine.containers": lambda: [],
        "glance_image.release_of": lambda reference, look_inside: {
            "release": "2026.2",
            "version": "33.0.0",
        },
        "glance_container.refusal": lambda containers, foreign, release: "Another release.",
    }


@pytest.mark.parametrize("any_release", [True, False])
def test_another_release_is_for_the_upgrade_alone(any_release):
    module = state_module("glance_container", image_functions("never"))
    assert module.image_present("It", any_release=any_release)["result"] is any_release


def test_another_release_than_was_planned_for_is_refused():
    """The pillar was edited while the upgrade was at work."""
    module = state_module("glance_container", image_functions("never"))
    assert module.image_present("It", any_release=True, planned="2026.2")["result"] is True
    ret = module.image_present("It", any_release=True, planned="2026.1")
    assert ret["result"] is False
    assert ret["comment"] == (
        "The image glance-api:new holds Glance 2026.2, but this was planned for Glance 2026.1:"
        " start the orchestration again, which makes a new plan for what the pillar names by now."
    )


@pytest.mark.parametrize("pulled", [True, False])
def test_what_an_upgrade_has_pulled_it_does_not_pull_anew(pulled):
    functions, asked = image_functions("always"), []
    functions["glance_image.pull"] = lambda settings: asked.append(1) or {"id": "sha256:2"}
    module = state_module("glance_container", functions)
    ret = module.image_present("It", any_release=True, pulled=pulled)
    assert (bool(asked), bool(ret["changes"])) == (not pulled, not pulled)
