"""Images through every store: what works, what does not and why, what a newcomer may break."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_check
import glance_http
import glance_process
from support.fake_api import FakeApi, serve

pytestmark = pytest.mark.backends

STORES = [
    {"name": "file", "type": "file", "options": {}, "secrets": []},
    {"name": "http", "type": "http", "options": {}, "secrets": []},
    {
        "name": "archive",
        "type": "s3",
        "options": {"s3_store_secret_key": "hush", "s3_store_bucket": "glance"},
        "secrets": ["s3_store_secret_key"],
    },
]


class Node:
    """An API whose stores fail as a test says, and its log."""

    def __init__(self, api, settings):
        self.api = api
        self.settings = {**settings, "stores": STORES}
        self.reason, self.asked, self.patience = "", [], 5
        self.broken, self.broken_before = set(), set()
        self.uploads, self.known_before = [], ["file", "http", "archive"]
        answer = api.answer

        def with_stores(method, path, query, body, headers):
            incumbent = not any(1000 <= port < 1024 for port in api.source_ports[-1:])
            broken = self.broken_before if incumbent else self.broken
            if path == "/v2/info/stores":
                return 200, {"stores": [{"id": name} for name in self.known_before]}
            if method == "PUT":
                self.uploads.append(headers.get("X-Image-Meta-Store"))
                if self.uploads[-1] in broken:
                    return 500, ""
            return answer(method, path, query, body, headers)

        api.answer = with_stores

    def told(self, since, request_id):
        self.asked.append((since, request_id))
        return self.reason


@pytest.fixture(params=[False, True], ids=["trial", "keystone"])
def node(request, monkeypatch):
    glance_http._tokens.clear()
    api = FakeApi(keystone=request.param)
    with serve(api) as settings:
        made = Node(api, settings)
        table = {
            "glance_http.request": glance_http.request,
            "glance_http.project": glance_http.project,
            "glance_http.at": glance_http.at,
            "glance_haproxy.notice": lambda settings: made.patience,
            "glance_log.position": lambda: 77,
            "glance_log.reason": made.told,
            "glance_process.boot": glance_process.boot,
            "glance_process.started": glance_process.started,
        }
        monkeypatch.setattr(glance_check, "__salt__", table, raising=False)
        monkeypatch.setattr(glance_check, "__context__", {}, raising=False)
        yield made


def test_every_store_that_takes_images_is_tried(node):
    found = glance_check.stores(node.settings)
    assert list(found["works"]) == ["file", "archive"]
    assert found["broken"] == {}
    assert node.api.images == {}


@pytest.mark.parametrize(
    ("disk", "container", "sent"),
    [
        ([None, "ami", "qcow2", "raw"], [None, "ovf", "bare"], ("raw", "bare")),
        ([None, "iso", "qcow2"], [None, "bare"], ("qcow2", "bare")),
        (["iso", "vmdk"], ["ovf", "docker"], ("iso", "ovf")),
    ],
)
def test_the_check_image_has_a_format_that_this_glance_takes(node, disk, container, sent):
    node.api.formats = {"disk_format": disk, "container_format": container}
    kept = []
    answer = node.api.answer

    def noted(method, path, query, body, headers):
        if method == "PUT":
            image = next(iter(node.api.images.values()))
            kept.append((image["disk_format"], image["container_format"], body))
        return answer(method, path, query, body, headers)

    node.api.answer = noted
    glance_check.deep(node.settings)
    ((*formats, body),) = kept
    assert tuple(formats) == sent
    # Glance looks into the data for the format's own form.
    assert body.startswith(b"QFI\xfb\0\0\0\x02" if sent[0] == "qcow2" else b"This is")
    assert len(body) > 512


def test_a_broken_store_is_told_with_the_words_of_its_driver(node):
    node.broken = node.broken_before = {"archive"}
    node.reason = "EndpointConnectionError: Could not connect to the endpoint URL"
    found = glance_check.stores(node.settings)
    assert list(found["works"]) == ["file"]
    assert found["broken"] == {
        "archive": f"The Glance API at {node.settings['self_url']} fails at step 'upload (archive)'"
        " with HTTP 500: the store archive says 'EndpointConnectionError: Could not"
        " connect to the endpoint URL'."
    }
    ((since, request_id),) = node.asked
    assert since == 77
    assert bool(request_id) is node.settings["keystone"], "only Keystone's pipeline takes our name"
    assert node.api.images == {}


def test_without_the_driver_s_words_the_sentence_says_where_to_look(node):
    node.broken = node.broken_before = {"archive"}
    (sentence,) = glance_check.stores(node.settings)["broken"].values()
    assert "'upload (archive)' with HTTP 500 (no reason): the store hangs or fails" in sentence


def test_an_api_that_fails_itself_is_no_matter_of_a_store(node):
    node.api.faults["POST /v2/images"] = (500, "")
    with pytest.raises(CommandExecutionError, match="step 'create"):
        glance_check.stores(node.settings)


def test_a_newcomer_may_not_lose_a_store(node):
    node.broken = {"archive"}
    with pytest.raises(CommandExecutionError, match=r"'upload \(archive\)'"):
        glance_check.no_worse(node.settings, probe=True)


def test_a_store_that_was_lost_before_does_not_hold_a_newcomer_up(node):
    node.broken = node.broken_before = {"archive"}
    glance_check.no_worse(node.settings, probe=True)


def test_a_new_store_must_work(node):
    node.broken = node.broken_before = {"archive"}
    node.known_before = ["file", "http"]
    with pytest.raises(CommandExecutionError, match=r"'upload \(archive\)'"):
        glance_check.no_worse(node.settings, probe=True)


def test_what_was_lost_before_a_drain_does_not_hold_a_newcomer_up(node):
    """The old one is asked while it serves, and the newcomer when the old one is gone."""
    node.broken_before = {"archive"}
    before = glance_check.lost(node.settings)
    assert list(before) == ["archive"]
    glance_check.no_worse(node.settings, before=before)
    assert list(glance_check.after(node.settings)["broken"]) == ["archive"]
    node.known_before = ["file", "http"]
    assert glance_check.lost(node.settings) == {}, "a store that it does not have was not lost"
    with pytest.raises(CommandExecutionError, match=r"'upload \(archive\)'"):
        glance_check.no_worse(node.settings, before={"other": "It fails."})


def test_what_was_looked_at_before_the_switch_is_not_asked_again(node):
    node.broken = node.broken_before = {"archive"}
    glance_check.no_worse(node.settings, probe=True)
    node.uploads.clear()
    found = glance_check.after(node.settings)
    assert list(found["works"]) == ["file"]
    assert list(found["broken"]) == ["archive"]
    assert node.uploads == []
    assert glance_check.after(node.settings)["broken"], "once only"
    assert node.uploads == ["file", "archive"]


def test_with_nobody_to_compare_every_store_counts(node):
    node.broken_before = {"archive"}
    with pytest.raises(CommandExecutionError, match=r"'upload \(archive\)'"):
        glance_check.no_worse(node.settings)


def test_the_default_store_was_looked_at_before(node):
    glance_check.no_worse(node.settings, probe=True)
    assert node.uploads == ["archive"]


class TestByTheLoadBalancer:
    """Its address is the API's here under another name; it answers 503 until it has a host."""

    @pytest.fixture(autouse=True)
    def balanced(self, node, monkeypatch):
        monkeypatch.setattr(glance_check, "POLL", 0.01)
        url = node.settings["self_url"].replace("127.0.0.1", "localhost")
        node.settings.update(enable_haproxy=True, glance_internal_endpoint=url)
        self.url = url

    def test_it_may_take_a_moment_to_see_a_host_again(self, node):
        answer, asked = node.api.answer, []

        def late(method, path, *more):
            if path == "/healthcheck":
                asked.append(path)
                return (200, "OK") if len(asked) > 3 else (503, "")
            assert len(asked) > 3, "nothing is asked before there is a host"
            return answer(method, path, *more)

        node.api.answer = late
        assert glance_check.as_users(node.settings)["where"] == self.url
        assert node.uploads

    def test_it_gets_no_more_time_than_its_own_checks_need(self, node):
        node.patience, node.api.faults = 0, {"GET /healthcheck": (503, "")}
        with pytest.raises(CommandExecutionError, match="503"):
            glance_check.as_users(node.settings)
        assert node.uploads == []

    def test_without_one_the_node_itself_is_asked(self, node):
        node.settings["enable_haproxy"] = False
        assert glance_check.as_users(node.settings)["where"] == node.settings["self_url"]
        assert "GET /healthcheck" not in node.api.requests
