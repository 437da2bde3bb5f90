"""Housekeeping: what is asked of the container, and what the report says."""

import contextlib
import json
import types
import uuid

import pytest

import glance_cache_plan
import glance_housekeeping
from support.scripts import script

pytestmark = pytest.mark.cache

housekeeping = script("housekeeping")
SETTINGS = {
    "glance_db_purge_age": 30,
    "glance_db_purge_images_age": 0,
    "glance_staging_max_age": 100,
    "glance_stuck_age": 600,
    "glance_log_max_size": 1000,
    "glance_log_keep": 3,
}


@pytest.fixture
def container(monkeypatch):
    """Answers of the script by what it is asked to do; ``asked`` keeps the questions."""
    answers, asked = {}, []

    def ask(name, timeout, work, *arguments):
        assert name == "housekeeping.py"
        asked.append((work, *arguments))
        return answers[work]

    table = {
        "glance_care.ask": ask,
        "glance_care.skip": lambda reason: {"result": True, "comment": reason, "skipped": reason},
        "glance_care.take": lambda job, work: {**work(), "job": job},
        "glance_cache_plan.text": glance_cache_plan.text,
        "glance_settings.get": lambda: SETTINGS,
    }
    monkeypatch.setattr(glance_housekeeping, "__salt__", table, raising=False)
    answers["asked"] = asked
    return answers


def test_the_purge_tells_what_went_and_what_waits(container):
    container["purge"] = {"purged": {"tasks": 5, "image_tags": 2}, "left": {"tasks": 1}}
    report = glance_housekeeping.purge()
    assert container["asked"] == [("purge", "30", "0")]
    assert report["comment"] == "Purged 7 deleted rows. 1 are left for the next time."
    assert (report["job"], report["result"]) == ("housekeeping/purge", True)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("purge", "glance_db_purge_age"),
        ("leftovers", "glance_staging_max_age"),
        ("audit", "glance_stuck_age"),
        ("rotate_logs", "glance_log_max_size"),
    ],
)
def test_a_part_that_is_off_asks_for_nothing(container, monkeypatch, part, key):
    monkeypatch.setitem(SETTINGS, key, 0)
    report = getattr(glance_housekeeping, part)()
    assert report["skipped"] == f"glance:{key} is 0, so that this part is off."
    assert container["asked"] == []


def staged(path, **more):
    return {"path": path, "image": path[-1], "bytes": 10, "age": 101, "open": False, **more}


@pytest.mark.parametrize(
    ("more", "status", "goes"),
    [
        ({}, "uploading", True),
        ({}, "deleted", True),
        ({}, None, True),
        ({"age": 100}, "uploading", False),
        ({"open": True}, "uploading", False),
        ({}, "importing", False),
    ],
)
def test_what_is_staged_goes_when_nobody_needs_it(more, status, goes):
    images = {"a": status} if status else {}
    assert bool(glance_housekeeping.stale([staged("/s/a", **more)], images, 100)) is goes


def test_left_overs_are_removed_and_counted(container):
    files = [staged("/s/a"), staged("/s/b"), staged("/s/c", age=5)]
    container["staged"] = {"files": files, "images": {}}
    container["unstage"] = {"removed": ["/s/a"]}
    report = glance_housekeeping.leftovers()
    assert json.loads(container["asked"][1][1]) == [["/s/a", 100], ["/s/b", 100]]
    assert report["comment"] == "Removed 1 staged files (10 bytes); 3 were there."


AUDIT = {
    "counts": {"stuck": 1, "lost": 0, "unknown": 0, "strays": 2},
    "checked": 9,
    "unlisted": [],
}


@pytest.mark.parametrize(("lost", "complete"), [(0, True), (1, False)])
def test_the_audit_fails_only_for_lost_data(container, lost, complete):
    counts = {**AUDIT["counts"], "lost": lost}
    container["audit"] = {**AUDIT, "counts": counts, "complete": complete}
    report = glance_housekeeping.audit()
    assert report["result"] is not bool(lost)
    assert report["comment"].startswith(
        f"1 images hang, {lost} of 9 have lost their data, 2 files in the stores belong to no image"
    )
    assert ("the time was up" in report["comment"]) is not complete
    assert container["asked"] == [("audit", "600", "3600")]


def test_stores_that_cannot_be_listed_are_told(container):
    container["audit"] = {**AUDIT, "unlisted": ["ceph", "s3"], "complete": True}
    assert glance_housekeeping.audit()["comment"].endswith(
        "; data without an image is not looked for in ceph, s3."
    )


def test_a_hand_over_is_no_time_for_housekeeping(container):
    container["rotate"] = {"skipped": "two serve."}
    assert glance_housekeeping.rotate_logs()["skipped"] == "two serve."


def test_logs_are_put_aside_and_their_writers_go_on(tmp_path):
    small, large = tmp_path / "small.log", tmp_path / "large.log"
    small.write_text("x" * 10)
    with open(large, "a") as writer:
        for turn in ("first", "second", "third"):
            writer.write(f"{turn} " + "x" * 100)
            writer.flush()
            assert housekeeping.rotate("50", "2", str(tmp_path)) == {"rotated": ["large.log"]}
        writer.write("on")
    assert large.read_text() == "on"
    assert (tmp_path / "large.log.1").read_text().startswith("third ")
    assert (tmp_path / "large.log.2").read_text().startswith("second ")
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "large.log", "large.log.1", "large.log.2", "small.log",
    ]  # fmt: skip


class Logs:
    """A large log of which three were put aside."""

    def __init__(self, folder):
        self.folder, self.path = str(folder), folder / "x.log"
        for end, text in (("", "new"), (".1", "one"), (".2", "two"), (".3", "three")):
            (folder / f"x.log{end}").write_text(f"{text} {'x' * 50}\n")

    def rotate(self):
        assert housekeeping.rotate("50", "3", self.folder) == {"rotated": ["x.log"]}

    def begin_with(self):
        """The first word of each; None where one is missing or empty."""
        paths = [self.path, *(self.path.with_suffix(f".log.{number}") for number in (1, 2, 3))]
        texts = [path.read_text() if path.exists() else "" for path in paths]
        return [text.split()[0] if text else None for text in texts]


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)


def test_a_copy_that_comes_to_no_end_costs_no_old_log(logs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(housekeeping.shutil, "copyfileobj", full)
    for _ in range(2):
        with pytest.raises(OSError):
            logs.rotate()
        assert logs.begin_with() == ["new", "one", "two", "three"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_rotation_that_is_killed_loses_no_line_and_goes_on_next_time(logs, monkeypatch, step):
    class Killed(Exception):
        pass

    replace, done = housekeeping.os.replace, []

    def until(old, new):
        done.append(new)
        if len(done) == step:
            raise Killed
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(housekeeping.os, "replace", until)
        with pytest.raises(Killed):
            logs.rotate()
    assert {"new", "one", "two"} <= set(logs.begin_with())
    logs.rotate()
    assert logs.begin_with() == [None, "new", "one", "two"]


def test_what_is_written_during_a_rotation_is_put_aside_too(logs, monkeypatch):
    replace = housekeeping.os.replace

    def meanwhile(old, new):
        with logs.path.open("a") as writer:
            writer.write("late\n")
        replace(old, new)

    monkeypatch.setattr(housekeeping.os, "replace", meanwhile)
    logs.rotate()
    aside = logs.path.with_suffix(".log.1").read_text()
    assert aside == f"new {'x' * 50}\n" + 3 * "late\n"
    assert logs.path.read_text() == ""


@pytest.fixture
def statuses(monkeypatch):
    """Status by id of what the database knows."""
    known = {}

    def images(link, ids):
        return {one: {"status": known[one], "size": None} for one in ids if one in known}

    connection = types.SimpleNamespace(connect=contextlib.nullcontext)
    monkeypatch.setattr(housekeeping, "engine", lambda conf: connection)
    monkeypatch.setattr(housekeeping.inside, "images", images)
    return known


def test_staged_files_that_are_touched_again_stay(tmp_path, statuses):
    old, fresh, gone = tmp_path / "old", tmp_path / "fresh", tmp_path / "gone"
    old.write_text("x"), fresh.write_text("x")
    paths = json.dumps([[str(old), 0], [str(fresh), 60], [str(gone), 0]])
    assert housekeeping.unstage(None, paths) == {"removed": [str(old)]}
    assert fresh.exists()


def test_a_staged_file_whose_import_has_begun_meanwhile_stays(tmp_path, statuses):
    waiting, begun, part = (str(uuid.uuid4()) for _ in range(3))
    statuses.update({waiting: "uploading", begun: "importing", part: "importing"})
    files = [tmp_path / name for name in (waiting, begun, f"{part}.qcow2")]
    for file in files:
        file.write_text("x")
    paths = json.dumps([[str(file), 0] for file in files])
    assert housekeeping.unstage(None, paths) == {"removed": [str(files[0])]}
    assert [file.exists() for file in files] == [False, True, True]
