"""Which databases may be used, and the sentence for each that may not."""

import pytest

import glance_options
import glance_schema

pytestmark = pytest.mark.one_host

HERE = "mysql://10.0.0.9:3306/glance"
LABELS = {"glance.release": "2026.2"}
CURRENT = {
    "position": "current",
    "heads_in_database": ["2024_1_contract01"],
    "metadef_namespaces": 30,
    "images": 2,
    "changed_by": None,
}
EMPTY = {"position": "empty", "heads_in_database": [], "metadef_namespaces": 0, "images": 0}


def refusal(found, in_use=HERE, move=False):
    return glance_schema.refusal(found, HERE, in_use, move, LABELS)


def test_the_schema_of_the_image_is_fine_wherever_it_lies():
    assert refusal(CURRENT) is None
    assert refusal(CURRENT, in_use="sqlite:///var/lib/glance/glance.sqlite") is None


def test_an_empty_database_is_fine_for_a_first_deployment():
    assert refusal(EMPTY, in_use=None) is None


def test_an_empty_database_is_refused_while_another_is_in_use():
    sentence = refusal(EMPTY, in_use="mysql://10.0.0.8:3306/glance")
    assert sentence.startswith("The running Glance uses mysql://10.0.0.8:3306/glance, and")
    assert "glance:glance_database_move" in sentence


def test_an_empty_database_is_taken_when_the_move_is_accepted():
    assert refusal(EMPTY, in_use="mysql://10.0.0.8:3306/glance", move=True) is None


def test_an_older_schema_is_never_migrated_in_passing():
    behind = {**CURRENT, "position": "behind", "heads_in_database": ["2023_1_contract01"]}
    assert refusal(behind) == (
        f"The schema in {HERE} is older (2023_1_contract01) than Glance 2026.2 needs: migrate it"
        " with 'salt-run state.orchestrate glance.orchestrate.upgrade'."
    )


def test_a_bootstrap_that_was_cut_may_go_on_while_nothing_was_stored():
    cut = {**EMPTY, "position": "behind", "heads_in_database": ["train_expand01"]}
    assert refusal(cut, in_use=None) is None
    assert refusal({**cut, "images": 1}, in_use=None)
    assert refusal(cut, in_use=HERE), "a running Glance has used it"


def test_a_newer_schema_is_refused():
    ahead = {**CURRENT, "position": "ahead", "heads_in_database": ["2027_1_contract01"]}
    assert "newer (2027_1_contract01) than Glance 2026.2 knows" in refusal(ahead)


def test_something_else_is_refused():
    unknown = {**CURRENT, "position": "unknown", "heads_in_database": []}
    assert "is not a schema of Glance 2026.2" in refusal(unknown)


def test_the_rest_of_a_first_step_that_was_cut_is_told_apart():
    """A server that commits each table by itself may leave tables without a version."""
    cut = {**EMPTY, "position": "unknown"}
    assert refusal(cut, in_use=None) == (
        f"What lies in {HERE} is not a schema of Glance 2026.2, and no image was ever stored in"
        " it. If it is the rest of a bootstrap that was cut, drop the database glance and apply"
        " again; else check glance:glance_database_name and glance:glance_database_address."
    )
    other = {**cut, "images": 3}
    assert "drop" not in refusal(other, in_use=None)
    assert "drop" not in refusal(cut, in_use=HERE)


@pytest.mark.parametrize(
    ("found", "fresh", "lacks"),
    [
        ({"metadef_namespaces": 0, "metadefs_missing": ["a"]}, False, True),
        ({"metadef_namespaces": 4, "metadefs_missing": ["a"]}, True, True),
        ({"metadef_namespaces": 4, "metadefs_missing": ["a"]}, False, False),
        ({"metadef_namespaces": 4, "metadefs_missing": []}, True, False),
    ],
)
def test_definitions_that_are_missing_in_a_used_database_may_be_so_on_purpose(found, fresh, lacks):
    assert glance_schema._lacks_metadefs(found, fresh) is lacks


def test_a_release_that_has_no_tls_of_its_own_can_be_asked_about_the_schema(monkeypatch):
    """Backend TLS that is switched on together with an upgrade is not the old one's business."""
    image = {"image": "sha256:1", "labels": {"glance.release": "2024.1", "glance.version": "28.1"}}

    def look(settings, want, quiet):
        glance_options.command(settings, want["labels"]["glance.release"])
        return CURRENT

    functions = {
        "glance_container.wanted": lambda _, image, __: {
            "spec": {},
            "labels": {"glance.release": image["release"]},
        },
        "glance_progress.told": told,
    }
    monkeypatch.setattr(glance_schema, "__salt__", functions, raising=False)
    monkeypatch.setattr(glance_schema, "look", look)
    assert glance_schema.unfit({"glance_enable_tls_backend": True}, image) is None


def told(phase, work, *arguments, text, fault):
    """Stands for the function of glance_progress."""
    assert (phase, text) == ("schema", glance_schema.QUIET)
    result = work(*arguments)
    fault(result)
    return result


LONG = glance_schema.CHANGE_PATIENCE


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, None),
        ({"position": "ahead"}, "Glance 2024.1 does not know the schema (2024_1_contract01) any"
         " more"),
        (
            {"changed_by": 12, "waited": LONG},
            f"connection 12 of the database server has been changing the schema for {LONG} seconds:"
            " wait for its end (SHOW PROCESSLIST tells of it) and run the same command again",
        ),
    ],
)  # fmt: skip
def test_an_old_container_starts_when_nobody_changes_the_schema_any_more(
    monkeypatch, found, reason
):
    """Somebody may be a one-shot container whose minion has died: it is waited for."""

    def look(settings, want, quiet):
        assert quiet == LONG
        return {**CURRENT, **found}

    functions = {
        "glance_container.wanted": lambda *_: {"spec": {}, "labels": {}},
        "glance_progress.told": told,
    }
    monkeypatch.setattr(glance_schema, "__salt__", functions, raising=False)
    monkeypatch.setattr(glance_schema, "look", look)
    image = {"image": "1", "labels": {"glance.release": "2024.1", "glance.version": "28.1"}}
    assert glance_schema.unfit({}, image) == reason
