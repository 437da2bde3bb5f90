"""This host at HAProxy's admin sockets; a socket that speaks like HAProxy's stands for it."""

import contextlib
import socket
import threading

import pytest
from salt.exceptions import CommandExecutionError

import glance_balancer

pytestmark = pytest.mark.cluster

COLUMNS = "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port"


class HAProxy(threading.Thread):
    """Two backends of three servers. ``refuses`` is what it says to every change."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.refuses, self.deaf, self.requests = str(path), "", False, 0
        self.servers = {
            (backend, f"ctl{n}"): {"addr": f"10.0.0.{n}", "up": "2", "admin": 0}
            for backend in ("glance_api_back", "glance_api_external_back")
            for n in (1, 2, 3)
        }
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.socket.accept()
                with link:
                    link.sendall(self.answer(link.recv(1000).decode().strip()).encode())

    def answer(self, command):
        if command == "show servers state":
            rows = [
                f"1 {backend} 1 {name} {row['addr']} {row['up']} {row['admin']} 9292"
                for (backend, name), row in self.servers.items()
            ]
            return "\n".join(["1", f"# {COLUMNS}", *rows, ""])
        if command == "show stat":
            rows = [f"{b},{s},{self.requests}" for b, s in self.servers]
            return "\n".join(["# pxname,svname,scur", "glance_api_front,FRONTEND,9", *rows])
        _, _, server, _, state = command.split()
        if not self.refuses and not self.deaf:
            self.servers[tuple(server.split("/"))]["admin"] = 8 if state == "drain" else 0
        return f"{self.refuses}\n"

    def states(self, name):
        return {row["admin"] for (_, server), row in self.servers.items() if server == name}


@pytest.fixture
def haproxy(tmp_path, monkeypatch):
    made = HAProxy(tmp_path / "socket")
    made.start()
    monkeypatch.setattr(glance_balancer, "SETTLE", 0.3)
    monkeypatch.setattr(glance_balancer, "POLL", 0.01)
    notice = {"glance_haproxy.notice": lambda settings: 0.2}
    monkeypatch.setattr(glance_balancer, "__salt__", notice, raising=False)
    monkeypatch.setattr(glance_balancer.log, "disabled", True)
    yield made
    made.socket.close()


def settings_of(haproxy, **keys):
    return {
        "api_address": "10.0.0.2",
        "glance_api_listen_port": 9292,
        "listen": "10.0.0.2:9292",
        "glance_haproxy_socket": [haproxy.path],
        "glance_loadbalancer_group": ["lb1"],
        **keys,
    }


def test_drained_and_put_back_in_every_backend(haproxy):
    settings = settings_of(haproxy)
    assert glance_balancer.drain(settings) is True
    assert haproxy.states("ctl2") == {8}
    assert haproxy.states("ctl1") | haproxy.states("ctl3") == {0}, "no other host is touched"
    assert glance_balancer.drained(settings) == [
        f"glance_api_back/ctl2 at HAProxy {haproxy.path} is drained",
        f"glance_api_external_back/ctl2 at HAProxy {haproxy.path} is drained",
    ]
    assert len(glance_balancer.ready(settings)) == 2
    assert haproxy.states("ctl2") == {0}
    assert glance_balancer.ready(settings) == glance_balancer.drained(settings) == []


def test_a_drain_that_haproxy_forgot_is_renewed_unless_it_has_noticed_itself(haproxy):
    settings = settings_of(haproxy)
    glance_balancer.drain(settings)
    assert glance_balancer.renew(settings) is False
    haproxy.servers["glance_api_back", "ctl2"]["admin"] = 0  # as after a reload
    assert glance_balancer.renew(settings) is True
    assert haproxy.states("ctl2") == {8}
    haproxy.servers["glance_api_back", "ctl2"].update(admin=0, up="0")
    assert glance_balancer.renew(settings) is False


def test_requests_that_haproxy_still_has(haproxy):
    haproxy.requests = 1
    assert glance_balancer.idle(settings_of(haproxy)) is False
    haproxy.requests = 0
    assert glance_balancer.idle(settings_of(haproxy)) is True


@pytest.mark.parametrize("refusal", ["Permission denied", "No such server."])
def test_a_socket_that_is_not_of_an_administrator_falls_back(haproxy, refusal):
    haproxy.refuses = refusal
    assert glance_balancer.drain(settings_of(haproxy)) is False


def test_what_haproxy_does_not_show_is_not_believed(haproxy):
    haproxy.deaf = True
    assert glance_balancer.drain(settings_of(haproxy)) is False


def test_nobody_at_the_socket_falls_back(haproxy, tmp_path):
    settings = settings_of(haproxy, glance_haproxy_socket=[str(tmp_path / "nobody")])
    assert glance_balancer.drain(settings) is False
    assert glance_balancer.idle(settings) is True
    assert glance_balancer.renew(settings) is False
    assert glance_balancer.drained(settings) == glance_balancer.ready(settings) == []


def test_without_a_socket_for_each_load_balancer_the_health_check_counts(haproxy):
    assert glance_balancer.drain(settings_of(haproxy, glance_haproxy_socket=[])) is False
    two = settings_of(haproxy, glance_loadbalancer_group=["lb1", "lb2"])
    assert glance_balancer.drain(two) is False
    assert haproxy.states("ctl2") == {8}, "the one that can be told is told"


def test_which_others_haproxy_keeps_out(haproxy, tmp_path):
    nobody = str(tmp_path / "nobody")
    settings = settings_of(haproxy, glance_haproxy_socket=[nobody, haproxy.path])

    def out():
        found = glance_balancer.out_of_rotation(settings)
        assert found["asked"] == [haproxy.path]
        return [(one["name"], one["status"]) for one in found["servers"]]

    assert out() == []
    haproxy.servers["glance_api_back", "ctl1"]["admin"] = 1
    haproxy.servers["glance_api_back", "ctl3"]["up"] = "0"
    haproxy.servers["glance_api_back", "ctl2"]["up"] = "0"
    assert out() == [("ctl1", "in maint"), ("ctl3", "down")], "this host is none of them"
    haproxy.servers["glance_api_back", "ctl1"]["admin"] = 8
    assert out() == [("ctl1", "drained"), ("ctl3", "down")]
    (first, _) = glance_balancer.out_of_rotation(settings)["servers"]
    assert first["text"] == f"glance_api_back/ctl1 at HAProxy {haproxy.path} is drained"
    assert first["address"] == "10.0.0.1"


def test_a_host_that_stays_down_is_told(haproxy):
    settings = settings_of(haproxy)
    glance_balancer.drain(settings)
    haproxy.servers["glance_api_back", "ctl2"]["up"] = "0"
    with pytest.raises(CommandExecutionError, match=r"does not see 10\.0\.0\.2:9292 as up"):
        glance_balancer.ready(settings)
    assert haproxy.states("ctl2") == {0}


def test_a_drain_that_haproxy_does_not_lift_is_told(haproxy):
    settings = settings_of(haproxy)
    glance_balancer.drain(settings)
    haproxy.refuses = "Permission denied"
    with pytest.raises(CommandExecutionError) as refused:
        glance_balancer.ready(settings)
    assert str(refused.value) == (
        f"HAProxy at {haproxy.path} (glance:glance_haproxy_socket) refuses to ready this host:"
        " Permission denied"
    )


def test_an_address_that_haproxy_does_not_have_falls_back(haproxy):
    assert glance_balancer.drain(settings_of(haproxy, api_address="10.0.0.9")) is False
