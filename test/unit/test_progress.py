"""Events about the work on a host: sent where somebody listens, and never waited for."""

import pytest

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
