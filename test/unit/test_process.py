"""Whose a one-shot container, and the folder that it mounts, is."""

import os
import subprocess
import sys

import pytest

import glance_engine
import glance_leftovers
import glance_process

pytestmark = pytest.mark.one_host

MOUNT = "/var/lib/kolla/config_files"


@pytest.fixture
def another():
    """``(mark of another process, a function that ends it)``."""
    code = "import glance_process; print(glance_process.mark(), flush=True); input()"
    pipe = subprocess.PIPE
    path = {**os.environ, "PYTHONPATH": os.path.dirname(glance_process.__file__)}
    started = subprocess.Popen([sys.executable, "-c", code], env=path, stdin=pipe, stdout=pipe)

    def end():
        started.stdin.close()
        started.wait()

    with started:
        yield started.stdout.readline().decode().strip(), end
        if not started.stdin.closed:
            end()


def test_a_mark_is_that_of_a_life(another):
    mark, end = another
    assert glance_process.another_lives(mark)
    pid, _, start = mark.partition("-")
    assert not glance_process.another_lives(f"{pid}-{int(start) + 1}"), "its number came again"
    end()
    assert not glance_process.another_lives(mark)


@pytest.mark.parametrize("text", [None, "", "x", "1", "-5", "None-None", glance_process.mark()])
def test_no_mark_and_the_own_one_is_of_nobody_else(text):
    assert not glance_process.another_lives(text)


@pytest.mark.parametrize("purpose", ["proof", "schema"])
def test_a_one_shot_is_left_to_the_process_that_waits_for_it(
    another, purpose, monkeypatch, tmp_path
):
    """An orchestration looks at a host on which somebody applies a state by hand."""
    mark, end = another
    (tmp_path / f"{purpose}.{mark}").mkdir()
    labels = {"glance.oneshot": purpose, "glance.owner": mark}
    mount = {"target": MOUNT, "path": f"{tmp_path}/{purpose}.{mark}"}
    one = {"id": "1", "name": "x", "running": False, "labels": labels, "mounts": [mount]}
    functions = {
        "glance_engine.containers": lambda label=None: [one] if label else [],
        "glance_engine.is_left_alone": glance_engine.is_left_alone,
        "glance_process.another_lives": glance_process.another_lives,
        "glance_balancer.drained": lambda settings: [],
    }
    for module in (glance_engine, glance_leftovers):
        monkeypatch.setattr(module, "__salt__", functions, raising=False)
    monkeypatch.setattr(glance_engine, "containers", lambda _: [one])
    monkeypatch.setattr(glance_engine, "remove", lambda _: None)
    settings = {"snapshot_dir": str(tmp_path)}
    assert glance_engine.settle_one_shots(1) == []
    found = glance_leftovers.find(settings)
    assert found["containers"] == found["folders"] == []
    end()
    assert glance_engine.settle_one_shots(1) == ["x"]
    found = glance_leftovers.find(settings)
    assert (found["containers"], found["folders"]) == (["x"], [mount["path"]])


@pytest.mark.parametrize(
    ("purpose", "running", "left"),
    [
        ("schema", True, []),
        ("database", True, []),
        ("schema", False, ["x"]),
        ("proof", True, ["x"]),
    ],
)
def test_what_changes_the_database_is_left_to_end_although_nobody_waits(
    monkeypatch, tmp_path, purpose, running, left
):
    one = {"id": "1", "name": "x", "running": running, "labels": {"glance.oneshot": purpose}}
    functions = {
        "glance_engine.containers": lambda label=None: [one] if label else [],
        "glance_engine.is_left_alone": glance_engine.is_left_alone,
        "glance_process.another_lives": lambda text: False,
        "glance_balancer.drained": lambda settings: [],
    }
    for module in (glance_engine, glance_leftovers):
        monkeypatch.setattr(module, "__salt__", functions, raising=False)
    assert glance_leftovers.find({"snapshot_dir": str(tmp_path)})["containers"] == left
