"""What a minion remembers to save work: nothing depends on it."""

import types

import pytest

import glance_memory

pytestmark = pytest.mark.one_host


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(glance_memory, "__opts__", {"cachedir": str(tmp_path)}, raising=False)
    return tmp_path


def test_what_was_kept_is_recalled(memory):
    assert glance_memory.recall("x.json") == {}
    glance_memory.keep("x.json", {"a": 1})
    assert glance_memory.recall("x.json") == {"a": 1}


def test_a_full_disk_is_no_error(memory, monkeypatch):
    told = []
    log = types.SimpleNamespace(warning=lambda *words: told.append(words))
    monkeypatch.setattr(glance_memory, "log", log)
    monkeypatch.setattr(glance_memory, "__opts__", {"cachedir": "/proc"})
    glance_memory.keep("x.json", {"a": 1})
    assert told[0][1] == "/proc/x.json"
    assert glance_memory.recall("x.json") == {}


def test_what_could_not_be_finished_is_not_left(memory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(glance_memory.os, "replace", full)
    monkeypatch.setattr(glance_memory, "log", types.SimpleNamespace(warning=lambda *words: None))
    glance_memory.keep("x.json", {"a": 1})
    assert list(memory.iterdir()) == []


def test_what_was_cut_counts_for_nothing(memory):
    (memory / "x.json").write_text('{"a":')
    assert glance_memory.recall("x.json") == {}
