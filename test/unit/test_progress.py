"""Events about the work on a host: sent where somebody listens, and never waited for."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_progress

pytestmark = pytest.mark.cluster


@pytest.fixture
def host(monkeypatch):
    sent = []

    def send(tag, data):
        sent.append((tag, data))
        return send.works

    send.works = True
    options = {"id": "ctl1", "file_client": "remote", "__cli": "salt-minion"}
    monkeypatch.setattr(glance_progress, "__opts__", options, raising=False)
    monkeypatch.setattr(glance_progress, "__salt__", {"event.send": send}, raising=False)
    monkeypatch.setattr(glance_progress, "__context__", {}, raising=False)
    send.options, send.sent = options, sent
    return send


def test_tag_and_data(host):
    tag = glance_progress.tell("newcomer healthy", "ends", 9.1, "It answers.")
    assert tag == "glance/ctl1/newcomer-healthy"
    data = {"phase": "newcomer healthy", "state": "ends", "seconds": 9.1, "text": "It answers."}
    assert host.sent == [(tag, data)]


def test_what_is_followed_begins_and_ends(host):
    assert glance_progress.told("pull", lambda *given: given, 1, 2, text="an image") == (1, 2)
    told = [(data["state"], data["text"]) for _, data in host.sent]
    assert told == [("begins", "an image"), ("ends", "an image")]
    seconds = [data["seconds"] for _, data in host.sent]
    assert seconds[0] is None and seconds[1] >= 0


def test_what_fails_never_only_begins(host):
    def broken():
        raise CommandExecutionError("It is refused:\nno registry.")

    with pytest.raises(CommandExecutionError, match="no registry"):
        glance_progress.told("pull", broken)
    told = [(data["state"], data["text"]) for _, data in host.sent]
    assert told == [("begins", ""), ("failed", "It is refused: no registry.")]
    assert host.sent[1][1]["seconds"] >= 0


@pytest.mark.parametrize(("code", "state"), [(0, "ends"), (1, "failed")])
def test_work_that_fails_without_raising(host, code, state):
    made = glance_progress.told("schema", lambda: code, fault=lambda rc: "Code 1." if rc else "")
    assert made == code
    assert [data["state"] for _, data in host.sent] == ["begins", state]
    assert host.sent[1][1]["text"] == ("Code 1." if code else "")


@pytest.mark.parametrize(
    "options",
    [{"file_client": "local"}, {"local": True}, {"master_type": "disable"}, {"__cli": "salt-call"}],
)
def test_nothing_is_sent_where_no_master_listens(host, options):
    host.options.update(options)
    assert glance_progress.tell("pull", "begins") is None
    assert host.sent == []


def test_after_a_failure_it_is_silent(host):
    host.works = False
    assert glance_progress.tell("pull", "begins") is None
    assert glance_progress.tell("pull", "ends", 3) is None
    assert len(host.sent) == 1
