"""Where a schema is between two releases, what is left to be done, and when a backup is enough."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_backup
import glance_schema
import glance_schema_phases
from support.scripts import script

pytestmark = pytest.mark.upgrade

OLD, NEW = {"2023_1_expand01", "2023_1_contract01"}, {"2024_1_expand01", "2024_1_contract01"}


schema = script("schema")


@pytest.mark.parametrize(
    ("heads", "image", "check", "position", "pending"),
    [
        (["2023_1_contract01"], "old", 0, "current", []),
        (["2023_1_contract01"], "new", 3, "behind", ["expand", "migrate", "contract"]),
        (["2023_1_contract01", "2024_1_expand01"], "new", 4, "behind", ["migrate", "contract"]),
        (["2023_1_contract01", "2024_1_expand01"], "new", 5, "uncontracted", ["contract"]),
        (["2023_1_contract01", "2024_1_expand01"], "old", 0, "expanded", []),
        (["2024_1_contract01"], "new", 0, "current", []),
        # For both of these 'glance-manage db check' ends with 3, as for an upgrade.
        (["2024_1_contract01"], "old", 3, "ahead", []),
        (["2027_1_contract01"], "new", 3, "ahead", []),
        (["2023_1_expand01", "2024_1_expand01"], "old", 3, "ahead", []),
        ([], "new", 3, "unknown", []),
    ],
)
def test_the_position_of_a_schema(heads, image, check, position, pending):
    known, contract = (
        (OLD, "2023_1_contract01") if image == "old" else (OLD | NEW, "2024_1_contract01")
    )
    found = schema.place(heads, known, contract, check)
    assert found == position
    assert schema.PENDING.get((found, check), []) == pending


USED = {"metadef_namespaces": 30, "images": 1}
UNUSED = {"metadef_namespaces": 0, "images": 0}


@pytest.mark.parametrize(
    ("position", "content", "serves"),
    [
        ("current", USED, True),
        ("current", UNUSED, True),
        ("uncontracted", USED, True),
        ("uncontracted", UNUSED, False),  # a first bootstrap that was cut
        ("expanded", USED, True),
        ("behind", USED, False),
        ("ahead", USED, False),
        ("empty", UNUSED, False),
        ("unknown", USED, False),
    ],
)
def test_which_schema_an_image_may_serve_with(position, content, serves):
    assert glance_schema.serves({"position": position, **content}) is serves


def found(position, *pending, half_done=None, heads=("2023_1_contract01",)):
    return {"position": position, "pending": list(pending), "half_done": half_done,
            "heads_in_database": list(heads)}  # fmt: skip


ALL = ("expand", "migrate", "contract")


@pytest.mark.parametrize(
    ("step", "pending", "has_work"),
    [
        ("expand", ALL, True),
        ("expand", ("contract",), False),
        ("migrate", ("migrate", "contract"), True),
        ("migrate", ("contract",), False),
        ("contract", ("contract",), True),
        ("contract", ("migrate", "contract"), True),
        ("contract", (), False),
        ("sync", ALL, True),
        ("sync", (), False),
    ],
)
def test_what_a_step_has_to_do(step, pending, has_work):
    assert glance_schema_phases.pending(found("behind", *pending), step) is has_work


@pytest.mark.parametrize("step", ["migrate", "contract"])
def test_nothing_comes_before_the_expansion(step):
    with pytest.raises(CommandExecutionError, match="glance.upgrade.expand first"):
        glance_schema_phases.pending(found("behind", *ALL), step)


@pytest.mark.parametrize("position", ["ahead", "unknown", "empty"])
def test_no_step_is_taken_on_another_schema(position):
    with pytest.raises(CommandExecutionError, match=f"is {position} for this image"):
        glance_schema_phases.pending(found(position), "expand")


def backup(age, *heads):
    return {"path": f"/b/{age}", "heads": list(heads), "age": age}


@pytest.mark.parametrize(
    ("present", "half_done", "enough"),
    [
        ([], None, None),
        ([backup(5000, "2023_1_contract01")], None, None),
        ([backup(5000, "2023_1_contract01"), backup(60, "2023_1_contract01")], None, "/b/60"),
        ([backup(60, "2024_1_contract01")], None, None),
        ([backup(80000, "2023_1_contract01")], {"repairable": True}, "/b/80000"),
        ([backup(90000, "2023_1_contract01")], {"repairable": True}, None),
    ],
)
def test_when_no_other_backup_is_needed(present, half_done, enough):
    one = glance_backup.enough(present, found("behind", half_done=half_done))
    assert (one and one["path"]) == enough


def test_only_whole_backups_are_present(tmp_path):
    whole = "glance-20261122T020506Z-2023_1_contract01+2024_1_expand01.sql"
    for name in (whole, "glance-20261122T020507Z-empty.sql.part", "notes.txt", ".partial"):
        (tmp_path / name).write_text("x", encoding="utf8")
    (only,) = glance_backup.present({"glance_backup_dir": str(tmp_path)})
    assert only["heads"] == ["2023_1_contract01", "2024_1_expand01"]
    assert glance_backup.present({"glance_backup_dir": str(tmp_path / "none")}) == []
