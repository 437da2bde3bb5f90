"""The script that looks into the cache and removes: what forbids it at the last moment."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from support.scripts import script

pytestmark = pytest.mark.cache

cache = script("cache")


@pytest.fixture
def folder(tmp_path):
    for part in cache.PARTS:
        (tmp_path / part).mkdir()
    return tmp_path


def put(path, size=10, age=3600):
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


@contextlib.contextmanager
def holding(path):
    """Another process of the same user has a file open."""
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as process:
        assert process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()
        process.wait()


class Driver:
    """The release's own driver: what it was told to delete."""

    def __init__(self, rows):
        self.rows, self.deleted, self.driver = dict(rows), [], self

    def get_cached_images(self):
        return [{"image_id": name, "last_accessed": at} for name, at in self.rows.items()]

    def delete_cached_image(self, name):
        self.deleted.append(name)
        self.rows.pop(name, None)


def remove(folder, *steps, rows=(), port=1):
    conf = SimpleNamespace(
        image_cache_dir=str(folder), worker_self_reference_url=f"http://127.0.0.1:{port}"
    )
    driver = Driver(rows)
    result = cache.remove(conf, driver, list(steps), 30)
    kept = {one["step"]: one["why"] for one in result["kept"]}
    return result["removed"], kept, driver.deleted, result["bytes"]


def step(kind, name, why="", **more):
    return {"kind": kind, "id": name, "why": why, "group": "orphans", **more}


def test_files_are_listed_as_the_release_counts_them(folder):
    put(folder / "copy", 5, age=100)
    put(folder / "cache.db")
    (folder / "link").symlink_to("copy")
    (entry,) = cache.contents(str(folder), set())
    assert 99 <= entry.pop("age") <= 130
    assert entry == {"id": "copy", "bytes": 5, "open": False}


def test_a_file_that_a_process_holds_is_known(folder):
    copy = put(folder / "copy")
    assert not cache.contents(str(folder), cache.held())[0]["open"]
    with holding(copy):
        assert cache.contents(str(folder), cache.held())[0]["open"]


def test_a_copy_goes_with_its_row(folder):
    put(folder / "a"), put(folder / "b", 7)
    assert remove(folder, step("file", "a", accessed=1), rows={"a": 1, "b": 2}) == (
        [0], {}, ["a"], 7,
    )  # fmt: skip


def test_a_row_without_its_file_goes_unless_the_file_came_back(folder):
    lost = step("file", "a", "its file is gone")
    assert remove(folder, lost, rows={"a": 1})[:3] == ([0], {}, ["a"])
    put(folder / "a")
    assert remove(folder, lost, rows={"a": 1})[1] == {0: "its file came back"}


def test_what_was_read_meanwhile_stays(folder):
    put(folder / "a")
    removed, kept, deleted, _ = remove(folder, step("file", "a", accessed=1), rows={"a": 2})
    assert (removed, kept, deleted) == ([], {0: "it was read meanwhile"}, [])


def test_what_is_held_stays(folder):
    copy, dead = put(folder / "a"), put(folder / "incomplete" / "b")
    with holding(copy):
        assert remove(folder, step("file", "a"))[1] == {0: "a process holds it"}
    with holding(dead):
        assert remove(folder, step("incomplete", "b", rested=60))[1] == {0: "a process holds it"}
        assert remove(folder, step("incomplete", "b", forced=True))[0] == [0], "as the cleaner"


def test_what_is_written_again_stays(folder):
    put(folder / "incomplete" / "a", age=1)
    assert remove(folder, step("incomplete", "a", rested=60))[1] == {0: "it is written again"}


def test_a_request_that_may_be_about_to_open_a_copy_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(cache, "OPENED", 0.6)
    monkeypatch.setattr(cache, "PATIENCE", 1)
    monkeypatch.setattr(cache, "SHORT", 0.1)
    put(folder / "a"), put(folder / "b"), put(folder / "c")
    with socket.create_server(("127.0.0.1", 0), backlog=4000) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            began = time.monotonic()
            assert remove(folder, step("file", "a"), port=port)[0] == [0]
            assert time.monotonic() - began >= 0.6, "it was old enough then"
        with contextlib.ExitStack() as clients:
            look = cache.Requests.look

            def another(requests):
                new = socket.create_connection(("127.0.0.1", port))
                clients.enter_context(new)
                return look(requests)

            monkeypatch.setattr(cache.Requests, "look", another)
            hot, cold = time.time() - 5, time.time() - 100
            rows = {"b": hot, "c": cold}
            steps = [step("file", name, accessed=rows[name]) for name in rows]
            removed, kept, _, _ = remove(folder, *steps, rows=rows, port=port)
            assert (removed, kept) == ([1], {0: cache.NO_PAUSE})
    assert (folder / "b").exists()


def test_without_requests_nothing_is_waited_for(folder):
    put(folder / "a")
    began = time.monotonic()
    assert remove(folder, step("file", "a"))[0] == [0]
    assert time.monotonic() - began < 2


def test_the_deadline_ends_it_in_good_order(folder, monkeypatch):
    put(folder / "a"), put(folder / "b")
    slow = (folder / "a").exists
    monkeypatch.setattr(cache.time, "monotonic", lambda: 0 if slow() else 99)
    removed, kept, _, _ = remove(folder, step("file", "a"), step("file", "b"))
    assert (removed, kept) == ([0], {1: "the time was up"})


@pytest.mark.parametrize(
    ("reason", "tries"), [("Got error: database is locked.", 3), ("no xattr here", 1)]
)
def test_a_cache_that_the_service_writes_to_is_waited_for(monkeypatch, reason, tries):
    """Glance's SQLite driver gives up after two seconds."""

    class BadDriverConfiguration(Exception):
        pass

    opened = []

    def image_cache():
        opened.append(reason)
        if len(opened) < 3:
            raise BadDriverConfiguration(reason)
        return "the cache"

    for name, module in {
        "glance": SimpleNamespace(image_cache=SimpleNamespace(ImageCache=image_cache)),
        "glance.image_cache": SimpleNamespace(),
        "glance.common": SimpleNamespace(),
        "glance.common.exception": SimpleNamespace(BadDriverConfiguration=BadDriverConfiguration),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    if tries == 3:
        assert cache.opened() == "the cache"
    else:
        with pytest.raises(BadDriverConfiguration, match=reason):
            cache.opened()
    assert len(opened) == tries
