"""Last words of a container, commands in it, and what an engine that goes away is told as."""

import types

import docker.errors
import pytest
import requests.exceptions
from salt.exceptions import CommandExecutionError

import glance_engine

pytestmark = pytest.mark.one_host

REQUESTS = (
    "[pid: 25|app: 0|req: 104/207] 127.0.0.1 () {22 vars in 263 bytes} [..] GET /v2/images\n",
    "2026-11-22 00:22:22.322 7 INFO eventlet.wsgi.server [-] 127.0.0.1 - - [..] "
    '"GET /healthcheck HTTP/1.1" 200 137 0.001\n',
)


def masked(text):
    return text.replace("hush", "***")


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    table = {"glance_process.another_lives": lambda text: False, "glance_settings.masked": masked}
    monkeypatch.setattr(glance_engine, "__salt__", table, raising=False)


@pytest.mark.parametrize("request_line", REQUESTS)
def test_requests_of_others_do_not_hide_the_reason(tmp_path, request_line):
    log = tmp_path / "glance-api.log"
    log.write_text("Traceback\nImportError: no soup\n" + request_line * 200)
    assert glance_engine._tail(log, 12) == ["Traceback", "ImportError: no soup"]


def test_the_last_lines_of_a_long_log(tmp_path):
    log = tmp_path / "glance-api.log"
    log.write_text("".join(f"{n} {'x' * 1000}\n" for n in range(2000)))
    told = glance_engine._tail(log, 3)
    assert [line.split()[0] for line in told] == ["1997", "1998", "1999"]
    assert {len(line) for line in told} == {400}


def test_a_log_that_was_put_aside_in_this_moment_is_no_error(tmp_path):
    assert glance_engine._tail(tmp_path / "glance-api.log", 3) == []


class Silent:
    """An engine that has just gone away."""

    def __getattr__(self, _):
        raise requests.exceptions.ConnectionError("gone")


@pytest.fixture
def engine(monkeypatch):
    """What the engine's client is; the engine has one container that works on the database."""
    made = types.SimpleNamespace(api=Silent())
    working = {"id": "1", "name": "x", "running": True, "labels": {"glance.oneshot": "schema"}}
    monkeypatch.setattr(glance_engine, "__opts__", {}, raising=False)
    monkeypatch.setattr(glance_engine, "_client", lambda *_: made)
    monkeypatch.setattr(glance_engine, "containers", lambda _: [working])
    monkeypatch.setattr(glance_engine, "remove", lambda _: None)
    return made


def test_an_engine_that_goes_away_meanwhile_is_a_sentence(engine):
    with pytest.raises(CommandExecutionError, match="does not answer .could not wait for"):
        glance_engine.settle_one_shots(60)


def test_a_one_shot_that_ends_in_this_moment_is_no_error(engine):
    def gone(*_, **__):
        raise docker.errors.NotFound("no such container")

    engine.api = types.SimpleNamespace(wait=gone)
    assert glance_engine.settle_one_shots(60) == ["x"]


def test_an_engine_that_is_not_there_for_a_pull_is_a_sentence(monkeypatch, tmp_path):
    url = f"unix://{tmp_path}/nobody.sock"
    monkeypatch.setattr(glance_engine, "__opts__", {"docker.url": url}, raising=False)
    with pytest.raises(CommandExecutionError, match="does not answer .could not pull"):
        glance_engine.pull("glance-api:1", 5)


def test_the_last_words_have_no_secrets(engine, monkeypatch, tmp_path):
    (tmp_path / "glance").mkdir()
    (tmp_path / "glance/glance-api.log").write_text(f"{'x' * 398}hush\n")
    engine.api = types.SimpleNamespace(logs=lambda *_, **__: b"no login with hush\n")
    mounts = [{"target": "/var/log/kolla", "path": str(tmp_path)}]
    monkeypatch.setattr(glance_engine, "inspect", lambda _: {"mounts": mounts})
    assert glance_engine.logs("x").splitlines() == ["no login with ***", "x" * 398 + "**"]


class Commands:
    """As much of the engine as runs commands in containers; each ends with a code."""

    def __init__(self, code):
        self.code, self.asked = code, None

    def exec_create(self, name, command, user):
        self.asked = command
        return {"Id": "1"}

    def exec_start(self, _):
        return b" said \n"

    def exec_inspect(self, _):
        return {"ExitCode": self.code}


def test_a_command_in_a_container_has_a_deadline(engine):
    engine.api = Commands(1)
    assert glance_engine.execute("x", ["ls", "/"]) == {"rc": 1, "output": "said"}
    assert engine.api.asked == ["timeout", "-s", "KILL", "60", "ls", "/"]


@pytest.mark.parametrize(("what", "said"), [(None, "ls"), ("cache.py", "cache.py")])
def test_a_command_that_does_not_end_is_told(engine, what, said):
    engine.api = Commands(137)
    with pytest.raises(CommandExecutionError) as raised:
        glance_engine.execute("x", ["ls", "/"], timeout=7, what=what)
    assert str(raised.value) == (
        f"{said} in the container x was killed: it did not end within 7 seconds, or the host had no"
        " memory left."
    )


def test_a_container_that_somebody_removes_has_no_last_words(engine, monkeypatch):
    engine.api = types.SimpleNamespace(logs=lambda *_, **__: b"the last one\n")
    monkeypatch.setattr(glance_engine, "inspect", lambda _: None)
    assert glance_engine.logs("x") == "the last one"
