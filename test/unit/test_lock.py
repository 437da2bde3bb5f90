"""The lock of the orchestrations: one process, and nothing of a dead one."""

import json
import subprocess
import sys
import time

import pytest

import glance_lock
import glance_process

pytestmark = pytest.mark.cluster


@pytest.fixture
def lock(tmp_path, monkeypatch):
    functions = {
        "glance_process.boot": glance_process.boot,
        "glance_process.started": glance_process.started,
    }
    monkeypatch.setattr(glance_lock, "__salt__", functions, raising=False)
    monkeypatch.setattr(glance_lock, "__opts__", {"cachedir": str(tmp_path)}, raising=False)
    return tmp_path / glance_lock.FILE


def taken_by(path, **changes):
    owner = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(owner))


def test_it_is_taken_held_and_given_back(lock):
    assert glance_lock.take("deploy", 60) is None
    assert glance_lock.take("deploy", 60, again=True) is None, "a nested run is the same process"
    assert "deploy by" in glance_lock.take("deploy", 60)["owner"], "another thread of the reactor"
    assert glance_lock.held() and glance_lock.look() is None
    assert glance_lock.release() is True
    assert not glance_lock.held() and glance_lock.release() is False


def test_another_living_process_is_told_and_not_robbed(lock):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        glance_lock.take("upgrade", 60)
        taken_by(lock, process=glance_lock._process(other.pid), owner="upgrade by root")
        found = glance_lock.take("deploy", 60)
        assert found["owner"] == "upgrade by root" and found["dead"] is False
        assert not glance_lock.held() and glance_lock.release() is False
        assert "upgrade by root" in glance_lock.sentence(found)
    finally:
        other.kill()
    # Nobody has waited for it: it is a zombie, and as dead.
    deadline = time.monotonic() + 10
    while not glance_lock.look()["dead"]:
        assert time.monotonic() < deadline
    assert glance_lock.take("deploy", 60) is None and glance_lock.held()
    other.wait()


@pytest.mark.parametrize("field, value", [(3, "1"), (1, "another boot")])
def test_a_process_number_that_was_given_again_is_no_owner(lock, field, value):
    glance_lock.take("upgrade", 60)
    process = json.loads(lock.read_text())["process"]
    process[field] = value
    taken_by(lock, process=process)
    assert glance_lock.look()["dead"] is True
    assert glance_lock.take("deploy", 60) is None


@pytest.mark.parametrize("left, dead", [(60, False), (-1, True)])
def test_a_lock_of_another_machine_counts_until_it_expires(lock, left, dead):
    glance_lock.take("upgrade", 60)
    process = ["another machine", *json.loads(lock.read_text())["process"][1:]]
    taken_by(lock, process=process, expires=time.time() + left)
    assert glance_lock.look()["dead"] is dead


def test_a_file_that_was_cut_is_no_lock(lock):
    lock.write_text('{"owner": "dep')
    assert glance_lock.look() is None and glance_lock.take("deploy", 60) is None
