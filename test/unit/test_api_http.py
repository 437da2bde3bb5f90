"""The HTTP client: addresses, TLS, probe ports, tokens, and one sentence for each failure."""

import contextlib
import os
import re
import socket
import ssl
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

import glance_http
from support.authority import Authority
from support.fake_api import PASSWORD, PROJECT, TOKEN, FakeApi, html, serve

pytestmark = pytest.mark.one_host

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="probe ports are privileged")


@pytest.fixture(autouse=True)
def no_token():
    glance_http._tokens.clear()


@pytest.fixture
def trial():
    api = FakeApi()
    with serve(api) as settings:
        yield api, settings


@pytest.fixture
def cloud():
    api = FakeApi(keystone=True)
    with serve(api) as settings:
        yield api, settings


def ask(settings, step="list", method="GET", path="/v2/images?limit=1", timeout=5, **more):
    return glance_http.request(settings, step, method, path, timeout=timeout, **more)


def sentence(settings, **more):
    with pytest.raises(CommandExecutionError) as caught:
        ask(settings, **more)
    text = str(caught.value)
    assert PASSWORD not in text
    assert TOKEN not in text
    return text


def page(status, title="Error", text="for a reason"):
    return status, html(status, title, text)


def test_an_answer_is_status_and_text(trial):
    answer = ask(trial[1])
    assert answer["status"] == 200
    assert answer["body"] == '{"images": []}'


def test_ipv6():
    with serve(FakeApi(), "::1") as settings:
        assert settings["listen"].startswith("[::1]:")
        assert ask(settings)["status"] == 200


def test_bytes_survive(trial):
    api, settings = trial
    raw = bytes(range(256))
    api.faults["GET /v2"] = (200, raw.decode("utf-8", "surrogateescape"))
    assert ask(settings)["body"].encode("utf-8", "surrogateescape") == raw


# Probe ports


@needs_root
def test_a_probe_comes_from_privileged_ports_in_turn(trial):
    api, settings = trial
    for _ in range(2 * len(glance_http.PROBE_PORTS)):
        ask(settings, probe=True)
    ports = api.source_ports
    assert set(ports) <= set(glance_http.PROBE_PORTS)
    assert len(set(ports)) > len(glance_http.PROBE_PORTS) // 2
    assert all(one != other for one, other in zip(ports, ports[1:], strict=False))


@pytest.fixture
def taken_port():
    """A probe port on which somebody else listens."""
    for port in glance_http.PROBE_PORTS:
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("", port))
            taken.listen()
            yield port
            return


@needs_root
def test_a_probe_takes_the_next_port_when_one_is_used(trial, monkeypatch, taken_port):
    others = [port for port in glance_http.PROBE_PORTS if port != taken_port]
    monkeypatch.setattr(glance_http, "_next_port", iter([taken_port, *others]))
    ask(trial[1], probe=True)
    assert trial[0].source_ports[0] in others


@needs_root
def test_a_probe_of_ipv6(monkeypatch):
    api = FakeApi()
    with serve(api, "::1") as settings:
        ask(settings, probe=True)
    assert api.source_ports[0] in glance_http.PROBE_PORTS


@needs_root
def test_all_probe_ports_used(trial, monkeypatch, taken_port):
    monkeypatch.setattr(glance_http, "PROBE_PORTS", [taken_port])
    monkeypatch.setattr(glance_http, "_next_port", iter([taken_port]))
    assert "Address already in use" in sentence(trial[1], probe=True)


def test_a_probe_without_root(trial, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(glance_http, "_connect_privileged", refuse)
    assert sentence(trial[1], probe=True).endswith(
        "fails at step 'list': a probe comes from a privileged port, so run it as root."
    )


# TLS


def authority(tmp_path, name):
    """A CA, and a certificate that it signed for another address; the paths of both."""
    made = Authority(name)
    (tmp_path / f"{name}.crt").write_text(made.certificate)
    (tmp_path / f"{name}.pem").write_text("".join(made.issue("127.0.0.99")))
    return str(tmp_path / f"{name}.crt"), str(tmp_path / f"{name}.pem")


def test_tls_checks_the_authority_but_not_the_name(tmp_path):
    ca, pem = authority(tmp_path, "ours")
    other, _ = authority(tmp_path, "theirs")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    with serve(FakeApi(), tls=tls, openstack_cacert=ca) as settings:
        assert ask(settings)["status"] == 200
        for wrong in (other, "", None, "/nowhere"):
            assert re.search(
                r"its certificate is not trusted \(.*\); put its CA into"
                r" glance:glance_ca_certificates, or name a file of this host in"
                r" glance:openstack_cacert\.$",
                sentence({**settings, "openstack_cacert": wrong}),
            )
        untrusted = {**settings, "openstack_cacert": other}
        named = {"ours.crt": Path(ca).read_text(), "theirs.crt": Path(other).read_text()}
        assert ask({**untrusted, "glance_ca_certificates": named})["status"] == 200
        assert ask({**untrusted, "kolla_verify_tls_backend": False})["status"] == 200
        bad = {**settings, "glance_ca_certificates": {"ours.crt": "no certificate"}}
        assert "TLS fails" in sentence(bad)


def test_keystone_must_have_its_name_too(tmp_path):
    ca, pem = authority(tmp_path, "ours")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    with serve(FakeApi(keystone=True), tls=tls, openstack_cacert=ca) as settings:
        url = f"https://{settings['listen']}"
        told = sentence(
            {**settings, "keystone_internal_url": url, "kolla_verify_tls_backend": False}
        )
        assert "gives no token: its certificate is not trusted (IP address mismatch" in told


def test_tls_where_none_is(trial):
    assert sentence({**trial[1], "api_scheme": "https"}).endswith("it does not speak TLS there.")


# Keystone


def test_the_token_is_fetched_once(cloud):
    api, settings = cloud
    assert glance_http.project(settings) == PROJECT
    ask(settings)
    ask(settings)
    assert [one for one in api.requests if "auth" in one] == ["POST /v3/auth/tokens"]


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/"])
def test_keystone_url_with_and_without_version(cloud, path):
    api, settings = cloud
    url = settings["keystone_internal_url"] + path
    assert ask({**settings, "keystone_internal_url": url})["status"] == 200
    assert "POST /v3/auth/tokens" in api.requests


def test_keystone_behind_a_path(cloud):
    api, settings = cloud
    url = settings["keystone_internal_url"] + "/identity"
    api.faults["POST /identity/v3/auth/tokens"] = (201, {"token": {"project": {"id": "p"}}})
    assert glance_http.project({**settings, "keystone_internal_url": url}) == "p"


def test_an_expired_token_is_replaced(cloud):
    api, settings = cloud
    ask(settings)
    api.token = "the next token"
    assert ask(settings)["status"] == 200
    assert api.requests.count("POST /v3/auth/tokens") == 2


@pytest.mark.parametrize("letters", [str.lower, str.upper, str.swapcase])
def test_a_proxy_may_write_names_of_headers_as_it_likes(cloud, letters):
    api, settings = cloud
    api.header_names = letters
    assert ask(settings)["status"] == 200
    answer = glance_http.keystone(
        settings, "POST", "/auth/tokens", glance_http._credentials(settings)
    )
    assert answer["headers"]["x-subject-token"] == TOKEN


def test_no_project_without_keystone(trial):
    assert glance_http.project(trial[1]) is None
    assert trial[0].requests == []


def test_no_token_where_none_is_wanted(cloud):
    api, settings = cloud
    ask(settings, step="health check", path="/healthcheck", login=False)
    assert api.requests == ["GET /healthcheck"]


def test_keystone_refuses_the_password(cloud):
    _, settings = cloud
    text = sentence({**settings, "glance_keystone_password": "another"})
    assert text == (
        f"Keystone at {settings['keystone_internal_url']} (glance:keystone_internal_url) refuses"
        " user glance of project service (HTTP 401): its password there is not"
        " glance:glance_keystone_password, or the user, the project or its role is missing."
    )


def test_keystone_fails(cloud):
    api, settings = cloud
    api.faults["POST /v3"] = (503, {"error": {"message": "The database is away."}})
    assert sentence(settings).endswith(
        "gives no token (HTTP 503: The database is away): check the URL and Keystone itself."
    )


def test_keystone_is_away(cloud):
    _, settings = cloud
    text = sentence({**settings, "keystone_internal_url": "http://127.0.0.1:1"})
    assert text.endswith("gives no token: nothing listens there.")


def test_keystone_has_no_such_name(cloud):
    _, settings = cloud
    url = "http://keystone.invalid:5000"
    assert "the name is not known on this host" in sentence(
        {**settings, "keystone_internal_url": url}
    )


# What a failure means


@pytest.mark.parametrize(
    ("step", "line", "fault", "text"),
    [
        ("list", "GET /v2", page(403, "Forbidden", "Not allowed."), "the policy forbids it"),
        ("list", "GET /v2", page(404), "something else than Glance answers at this address"),
        ("list", "GET /v2", page(500), "the database hangs, is down, refuses the password"),
        ("list", "GET /(v2|health)", page(500), "the application did not load"),
        ("list", "GET /v2", page(503), "another service does not answer to the API"),
        ("list", "GET /v2", page(401), "the pillar has no Keystone; apply the state"),
        ("list", "GET /v2", page(418), "this is not expected"),
        ("list", "GET /v2", page(204), "this is not expected"),
        ("upload", "GET /v2", page(400), "such as a store or disk format that it does not know"),
        ("upload", "GET /v2", page(409), "the API does not know this store"),
        ("upload", "GET /v2", page(410), "the store takes no new images"),
        ("upload", "GET /v2", page(413), "the store is full or a quota is reached"),
        ("upload (rbd)", "GET /v2", page(500), "the store hangs or fails"),
        ("upload (rbd)", "GET /v2", page(503), "user glance may not write to the store"),
        ("show", "GET /v2", page(404), "the image or task is gone"),
    ],
)
def test_status_and_meaning(trial, step, line, fault, text):
    api, settings = trial
    api.faults[line] = fault
    told = sentence(settings, step=step)
    begin = f"The Glance API at {settings['self_url']} fails at step '{step}' with HTTP {fault[0]} "
    assert told.startswith(begin)
    assert text in told
    assert told.endswith(".")


def test_the_reason_is_the_servers_own_and_short(trial):
    api, settings = trial
    api.faults["GET /v2"] = page(403, "Forbidden", "You are not<br/>  authorized.")
    assert "with HTTP 403 (You are not authorized): the policy" in sentence(settings)
    api.faults["GET /v2"] = (403, "x" * 1000)
    assert "x" * 160 + "…)" in sentence(settings)
    api.faults["GET /v2"] = (403, "")
    assert "(no reason)" in sentence(settings)


def test_a_token_that_the_api_refuses(cloud):
    api, settings = cloud
    api.faults["GET /v2"] = page(401, "Unauthorized", "The request requires authentication.")
    assert (
        "it refuses a token that Keystone has just given to its service user, so the container"
        " runs with another Keystone password or URL than the pillar has; apply the state"
    ) in sentence(settings)


def test_a_drained_node(trial):
    api, settings = trial
    api.faults["GET /healthcheck"] = (503, "DISABLED BY FILE")
    assert "the node is drained; glance_api.resume ends that" in sentence(
        settings, step="health check", path="/healthcheck"
    )


def test_nothing_listens(trial):
    settings = {**trial[1], "glance_api_listen_port": 1}
    assert sentence(settings).endswith("fails at step 'list': nothing listens there.")


def test_no_answer(trial):
    api, settings = trial
    api.faults["GET /v2"] = "hang"
    assert "no answer within 0 seconds although the health check answers, so the database" in (
        sentence(settings, timeout=0.2)
    )


def test_no_answer_at_all(trial, monkeypatch):
    api, settings = trial
    monkeypatch.setattr(glance_http, "HEALTH_TIMEOUT", 0.2)
    api.faults["GET"] = "hang"
    assert sentence(settings, timeout=0.2).endswith("no answer within 0 seconds.")


def test_half_an_answer(trial):
    api, settings = trial
    api.faults["GET /v2"] = "cut"
    assert sentence(settings).endswith("the connection was closed in the middle of the answer.")
