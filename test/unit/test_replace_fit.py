"""When a newcomer counts as fit to take over."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_http
import glance_newcomer
import glance_replace
import glance_retire
import glance_steering
from support.model_host import functions_of

pytestmark = pytest.mark.one_host

SETTINGS = {
    "api_address": "127.0.0.1",
    "glance_api_listen_port": 9292,
    "glance_healthy_deadline": 10,
    "glance_min_healthy_time": 0,
}
SOCKET = {"inode": 7, "pid": 10, "fd": 3, "user": 42415, "queued": 0}


@pytest.fixture
def looks(monkeypatch):
    """What glance_sockets.listeners answers, look by look; the last answer stays."""
    answers = []
    loaded = {
        **functions_of(glance_steering),
        "glance_engine.inspect": lambda name: {"running": True, "started_at": "now"},
        "glance_engine.pids": lambda name: [10],
        "glance_sockets.listeners": lambda *_: answers.pop(0) if answers[1:] else answers[0],
        "glance_api.probe_once": lambda *_, **__: {"ok": True, "reason": ""},
        "glance_api.deep_check": lambda *_, **__: {},
    }
    for module in (glance_newcomer, glance_steering):
        monkeypatch.setattr(module, "__salt__", loaded, raising=False)
    return answers


def test_the_same_socket_may_be_found_in_another_process_or_with_a_queue(looks):
    looks += [[SOCKET], [{**SOCKET, "pid": 11, "fd": 5, "queued": 2}]]
    glance_newcomer.become_fit(SETTINGS, "new")


@pytest.mark.parametrize("later", [[], [{**SOCKET, "inode": 8}]])
def test_another_socket_is_not_fit(looks, later):
    looks += [[SOCKET], later]
    with pytest.raises(CommandExecutionError, match="it closed its listening socket"):
        glance_newcomer.become_fit(SETTINGS, "new")


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        (None, ("127.0.0.1", 9292)),  # a container of an older version of the formula
        ("http://127.0.0.1:9292", ("127.0.0.1", 9292)),
        ("https://127.0.0.1:9292", ("127.0.0.1", 9292)),
        ("http://127.0.0.1:9293", ("127.0.0.1", 9293)),
        ("http://[::1]:9292", ("::1", 9292)),
    ],
)
def test_a_container_is_reached_where_it_serves(monkeypatch, url, reached):
    settings = {**SETTINGS, "self_url": "http://127.0.0.1:9292", "api_scheme": "http"}
    labels = {"glance.url": url} if url else {}
    loaded = {
        "glance_engine.inspect": lambda name: {"labels": labels},
        "glance_http.at": glance_http.at,
    }
    monkeypatch.setattr(glance_steering, "__salt__", loaded, raising=False)
    there = glance_steering.reached(settings, "old")
    assert (there["api_address"], there["glance_api_listen_port"]) == reached
    assert there["api_scheme"] == (url or "http").partition(":")[0]
    elsewhere = reached != ("127.0.0.1", 9292)
    assert glance_steering.serves_elsewhere(settings, "old") is elsewhere


@pytest.mark.parametrize(
    ("files", "shares"),
    [
        ({}, True),  # Glance's own server always does
        ({"glance-api-uwsgi.ini": {"text": "[uwsgi]\nreuse-port = true\nuid = glance\n"}}, True),
        ({"glance-api-uwsgi.ini": {"text": "[uwsgi]\nreuse-port = false\nuid = glance\n"}}, False),
        ({"glance-api-uwsgi.ini": {"text": "[uwsgi]\nuid = glance\n"}}, False),
    ],
)
def test_only_a_shared_address_can_be_handed_over(files, shares):
    assert glance_replace._shares_address(files) is shares


@pytest.mark.parametrize("spec", [{}, {"cpu_shares": 512}])
def test_in_charge_it_gets_the_cpu_that_it_had_to_leave_to_the_other(monkeypatch, spec):
    want, calls = {"policy": "no", "spec": spec}, []
    present = {"cpu_shares": glance_newcomer.BESIDE, "restart_policy": "no"}
    loaded = {
        "glance_engine.inspect": lambda name: present,
        "glance_engine.restart_policy": lambda *call: calls.append(call),
    }
    monkeypatch.setattr(glance_newcomer, "__salt__", loaded, raising=False)
    glance_newcomer.take_charge("new", want, "old")
    # A run that was killed before that is ended by the next one.
    glance_newcomer.keep_charge("new", want)
    usual = spec.get("cpu_shares", 1024)
    assert calls == [("new", "no", usual), ("old", "no"), ("new", "no", usual)]


@pytest.mark.parametrize(
    ("beside", "version", "spec"),
    [(True, 1, {"cpu_shares": 128}), (True, 2, {}), (False, 1, {})],
)
def test_the_cpu_is_left_to_the_other_only_where_that_can_be_taken_back(
    monkeypatch, beside, version, spec
):
    """What weight 1024 shares become in cgroups of version 2 depends on the engine's runtime."""
    made, want = [], {"hash": "x", "name": "new", "spec": {}, "labels": {}}
    loaded = {
        "glance_container.snapshot": lambda *_: "/x",
        "glance_config_dir.write": lambda *_: None,
        "glance_engine.inspect": lambda _: None,
        "glance_engine.cgroup_version": lambda: version,
        "glance_engine.create": lambda name, spec, *_: made.append(spec),
        "glance_engine.start": lambda _: None,
    }
    monkeypatch.setattr(glance_newcomer, "__salt__", loaded, raising=False)
    glance_newcomer.create(SETTINGS, want, {}, beside)
    assert made == [spec]


@pytest.mark.parametrize(
    ("graceful", "cut", "seconds"),
    [(60, [], 60), (60, ["2 transfers"], 80), (300, [], 300), (300, ["2 transfers"], 300)],
)
def test_only_what_still_works_gets_the_time_in_which_uwsgi_ends_requests(graceful, cut, seconds):
    settings = {"docker_graceful_timeout": graceful}
    assert glance_retire.time_to_stop(settings, cut) == seconds
