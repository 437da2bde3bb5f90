"""The real HAProxy takes what is rendered for it, and does what its admin sockets are told."""

import http.client
import http.server
import subprocess
import threading

import pytest

import glance_balancer
import glance_haproxy
from support import session
from support.docker_engine import archive
from support.settings import settings_for

pytestmark = pytest.mark.cluster

GOLDEN = session.ROOT / "test" / "golden" / "haproxy"
PORT = 19292


@pytest.fixture(scope="module")
def certificates(haproxy, tmp_path_factory):
    """What the drop-ins name: HAProxy's own certificates, and the CA bundle of Kolla's image."""
    folder = tmp_path_factory.mktemp("certificates")
    names = [folder / name for name in ("cert", "key")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        + ["-subj", "/CN=cloud", "-out", names[0], "-keyout", names[1]],
        check=True,
        capture_output=True,
    )
    both = "".join(name.read_text() for name in names)
    files = {
        "/etc/haproxy/certificates/haproxy.pem": both,
        "/etc/haproxy/certificates/haproxy-internal.pem": both,
        "/etc/ssl/certs/ca-bundle.crt": names[0].read_text(),
    }
    haproxy.container.put_archive("/", archive(files))


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.cfg")), ids=lambda file: file.stem)
def test_haproxy_accepts_the_drop_in(haproxy, certificates, file):
    code, said = haproxy.check(file.read_text())
    assert code == 0, said
    assert "WARNING" not in said, said


def test_haproxy_refuses_a_wrong_one(haproxy):
    code, said = haproxy.check("frontend f\n    bind nowhere\n")
    assert code != 0 and "nowhere" in said


class Healthy(http.server.BaseHTTPRequestHandler):
    """An API of which the health check is well, unless its server has `drains`."""

    def do_GET(self):  # the name that the library asks for
        bad = self.path == "/v2/bad" or (self.server.drains and self.path == "/healthcheck")
        if bad and "X-Client" in self.headers:
            self.server.refused += 1
        self.send_response(503 if bad else 200)
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def apis():
    """{minion id: the API of that host} of two hosts."""
    made = {
        f"ctl{n}": http.server.ThreadingHTTPServer((session.address(60 + n), PORT), Healthy)
        for n in (1, 2)
    }
    for api in made.values():
        api.drains, api.refused = False, 0
        threading.Thread(target=api.serve_forever, daemon=True).start()
    yield made
    for api in made.values():
        api.shutdown()
        api.server_close()


@pytest.fixture
def two_hosts(haproxy, apis, monkeypatch):
    """Settings of the second of two hosts that HAProxy sees as up."""
    addresses = {name: api.server_address[0] for name, api in apis.items()}
    pillar = {
        "glance_api_group": list(addresses),
        "glance_api_addresses": addresses,
        "api_interface_address": addresses["ctl2"],
        "kolla_internal_vip_address": haproxy.vip,
        "glance_api_port": PORT,
        "glance_haproxy_socket": [haproxy.admin],
        "glance_loadbalancer_group": ["lb1"],
        "haproxy_health_check": "check inter 200 rise 1 fall 2",
        "glance_file_datadir_volume": "/srv/glance",
        "glance_keystone_register": "no",
        **dict.fromkeys(
            ("database_password", "glance_database_password", "glance_keystone_password"), "x"
        ),
    }
    settings, faults = settings_for(pillar, id="ctl2")
    assert not faults
    text = glance_haproxy.text(settings, glance_haproxy.members(settings))
    (haproxy.services / "glance-api.cfg").write_text(text)
    haproxy.reload()
    haproxy.wait()
    parts = {"glance_haproxy.notice": glance_haproxy.notice}
    monkeypatch.setattr(glance_balancer, "SETTLE", 1)
    monkeypatch.setattr(glance_balancer, "__salt__", parts, raising=False)
    yield settings
    haproxy.clear()


def test_a_host_is_drained_and_put_back(haproxy, two_hosts):
    for socket in (haproxy.admin, str(haproxy.socket)):
        settings = {**two_hosts, "glance_haproxy_socket": [socket]}
        assert glance_balancer.drain(settings) is True
        assert haproxy.servers() == {"ctl1": "UP", "ctl2": "DRAIN"}
        assert glance_balancer.idle(settings) is True
        assert glance_balancer.drained(settings) == [
            f"glance_api_back/ctl2 at HAProxy {socket} is drained"
        ]
        # The other host knows that this one is out.
        other = {**settings, "api_address": settings["glance_api_addresses"]["ctl1"]}
        (out,) = glance_balancer.out_of_rotation(other)["servers"]
        assert (out["name"], out["status"]) == ("ctl2", "drained")
        assert glance_balancer.out_of_rotation(settings)["servers"] == []
        assert len(glance_balancer.ready(settings)) == 1
        assert haproxy.servers() == {"ctl1": "UP", "ctl2": "UP"}


def test_a_drain_that_haproxy_does_not_know_yet_is_hidden_from_clients(haproxy, apis, two_hosts):
    """The health of the service is that of a host that serves; other answers are passed on."""
    apis["ctl1"].drains = True
    asked = [ask(haproxy.vip, "/healthcheck") for _ in range(20)]
    assert set(asked) == {200}
    assert apis["ctl1"].refused, "HAProxy had noticed before it was asked"
    assert ask(haproxy.vip, "/v2/bad") == 503


def ask(address, path):
    """Status of a client's request to the load balancer."""
    link = http.client.HTTPConnection(address, PORT, timeout=10)
    try:
        link.request("GET", path, headers={"X-Client": "test"})
        return link.getresponse().status
    finally:
        link.close()


def test_a_reload_forgets_a_drain(haproxy, two_hosts):
    assert glance_balancer.drain(two_hosts) is True
    haproxy.reload()
    assert glance_balancer.drained(two_hosts) == glance_balancer.ready(two_hosts) == []
