"""HAProxy's part of the service: golden files, members, the map, when a drain is noticed.

GLANCE_UPDATE_GOLDEN=1 writes the golden files anew; read the difference before it is committed.
"""

import os
import pathlib
import socket

import pytest
import yaml
from salt.exceptions import CommandExecutionError

import glance_config_dir
import glance_haproxy
from support.settings import settings_for
from support.states import state_module

pytestmark = pytest.mark.cluster

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
GROUP = ["ctl1", "ctl2", "ctl3"]
ADDRESSES = {"ctl1": "10.0.0.5", "ctl2": "10.0.0.6", "ctl3": "10.0.0.7"}
BASE = {
    "kolla_internal_vip_address": "10.0.0.9",
    "glance_api_group": GROUP,
    "glance_api_addresses": ADDRESSES,
    "glance_file_datadir_volume": "/srv/glance",
    "glance_file_datadir_shared": "yes",
    **{
        f"{name}password": "secret"
        for name in ("database_", "glance_database_", "keystone_admin_", "glance_keystone_")
    },
}
TWO = {"kolla_external_vip_address": "203.0.113.9", "kolla_external_fqdn": "cloud.example"}
TLS = yaml.safe_load((GOLDEN / "pillar" / "tls.yaml").read_text())
BACKEND_TLS = {
    key: TLS[key]
    for key in ("glance_enable_tls_backend", "kolla_tls_backend_cert", "kolla_tls_backend_key")
}
CASES = {
    "one-address": {},
    "two-addresses": {**TWO, "glance_api_listen_port": 19292, "glance_api_public_port": 443},
    "tls": {
        **TWO,
        **BACKEND_TLS,
        "kolla_enable_tls_internal": "yes",
        "kolla_enable_tls_external": "yes",
        "openstack_cacert": "/etc/ssl/certs/ca-certificates.crt",
    },
    "tls-unverified": {
        **BACKEND_TLS,
        "kolla_verify_tls_backend": "no",
        "kolla_enable_tls_internal": "yes",
        "haproxy_enable_http2": "no",
        "openstack_cacert": "/etc/ssl/certs/ca-certificates.crt",
    },
    "single-frontend": {**TWO, "haproxy_single_external_frontend": "yes"},
    "single-frontend-one-address": {
        "haproxy_single_external_frontend": "yes",
        "glance_api_port": 80,
    },
    "ipv6": {
        "kolla_internal_vip_address": "fd00::9",
        "glance_api_addresses": {"ctl1": "fd00::5", "ctl2": "fd00::6", "ctl3": "fd00::7"},
    },
}


def settings_of(**keys):
    settings, faults = settings_for({**BASE, **keys})
    assert not faults, faults
    return settings


def text(**keys):
    settings = settings_of(**keys)
    return glance_haproxy.text(settings, glance_haproxy.members(settings))


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    file = GOLDEN / "haproxy" / f"{case}.cfg"
    found = text(**CASES[case])
    if os.environ.get("GLANCE_UPDATE_GOLDEN"):
        file.write_text(found)
    assert found == file.read_text()


# ------------------------------------------------------------------ members


def test_the_members_are_exactly_the_hosts_that_run_the_api():
    def names(**keys):
        return [one["name"] for one in glance_haproxy.members(settings_of(**keys))]

    assert names() == GROUP
    unshared = {"glance_file_datadir_volume": "glance", "glance_file_datadir_shared": "no"}
    assert names(**unshared) == ["ctl1"]


@pytest.mark.parametrize("own", [["127.0.1.1"], ["127.0.1.1", "10.0.0.5"], []])
def test_the_own_address_is_known_and_others_are_looked_up(monkeypatch, own):
    names(monkeypatch, ctl1=own, ctl2=["127.0.1.1", "10.0.0.77"])
    found = glance_haproxy.members(settings_of(glance_api_addresses={"ctl3": "10.0.0.8"}))
    assert [one["address"] for one in found] == ["10.0.0.5", "10.0.0.77", "10.0.0.8"]


def test_names_on_another_network_than_the_api_are_refused(monkeypatch):
    """Members by such names would pass no check, or be reached over the wrong network."""
    names(monkeypatch, ctl1=["192.0.2.5"], ctl2=["192.0.2.6"], ctl3=["192.0.2.7"])
    with pytest.raises(CommandExecutionError) as refused:
        glance_haproxy.members(settings_of(glance_api_addresses={}))
    assert str(refused.value) == (
        "The name ctl1 leads to 192.0.2.5 and not to 10.0.0.5, where the API of this host listens,"
        " so the name ctl2 may be on another network too: write the addresses into"
        " glance:glance_api_addresses, as {MINION ID: ADDRESS}."
    )
    settings, faults = settings_for(
        {**BASE, "glance_api_addresses": {}, "glance_loadbalancer_group": ["lb1"]}, id="lb1"
    )
    assert not faults
    assert [one["address"] for one in glance_haproxy.members(settings)] == [
        "192.0.2.5",
        "192.0.2.6",
        "192.0.2.7",
    ]


def names(monkeypatch, **addresses):
    """Let names lead to these IPv4 addresses."""

    def lookup(host, port, family, kind):
        assert family == socket.AF_INET
        if not addresses.get(host):
            raise OSError("unknown")
        return [(family, kind, 6, "", (found, 0)) for found in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.mark.parametrize("answer", [OSError("no"), ["127.0.1.1"]])
def test_an_unknown_address_is_one_sentence(monkeypatch, answer):
    def lookup(*_):
        if isinstance(answer, Exception):
            raise answer
        return [(2, 1, 6, "", (one, 0)) for one in answer]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(CommandExecutionError) as refused:
        glance_haproxy.members(settings_of(glance_api_addresses={}))
    assert str(refused.value) == (
        "The address of ctl2 is not known on this host: write it into"
        " glance:glance_api_addresses, as {MINION ID: ADDRESS}."
    )


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kolla_internal_vip_address": "", "enable_haproxy": "yes"}, "vip_address is missing"),
        ({"haproxy_health_check": "check rise 2"}, "server with inter and fall"),
        ({"haproxy_health_check": "check inter 2x fall 3"}, "server with inter and fall"),
        ({"haproxy_health_check": "check inter 0 fall 3"}, "server with inter and fall"),
        ({"haproxy_health_check": "check fastinter 2s fall 3"}, "server with inter and fall"),
        ({"haproxy_health_check": "check inter 2s fall 3x"}, "server with inter and fall"),
        ({"haproxy_health_check": "observe layer7"}, "options of a HAProxy server"),
        ({"glance_haproxy_file": "/etc/haproxy/glance.conf"}, "only files that end in .cfg"),
        ({"glance_haproxy_socket": ["somewhere"]}, "HOST:PORT or the absolute path of a socket"),
        ({"glance_haproxy_socket": "10.0.0.9"}, "HOST:PORT or the absolute path of a socket"),
        ({"glance_api_addresses": {"ctl2": "somewhere"}}, "glance_api_addresses:ctl2 is"),
        ({"kolla_internal_fqdn_cert": "/x.pem"}, "glance_haproxy_certificates is where"),
    ],
)
def test_what_cannot_work_is_told(keys, words):
    named = {"database_address": "10.0.0.9", "keystone_internal_url": "http://10.0.0.9:5000"}
    _, faults = settings_for({**BASE, **named, **keys})
    assert any(words in fault for fault in faults), faults


OWN = {"kolla_internal_vip_address": "10.0.0.5", "glance_api_addresses": ADDRESSES}


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (OWN, "kolla_internal_vip_address"),
        ({**OWN, "enable_haproxy": "no"}, None),
        ({**OWN, "glance_api_listen_port": 19292}, None),
        ({**OWN, "glance_loadbalancer_group": ["ctl2"]}, None),
        ({"kolla_external_vip_address": "10.0.0.5"}, "kolla_external_vip_address"),
        ({"kolla_external_vip_address": "10.0.0.5", "glance_api_public_port": 443}, None),
    ],
)
def test_the_vip_is_no_address_at_which_the_api_itself_listens(keys, refused):
    keys = {"database_address": "10.0.0.8", **keys, "api_interface_address": "10.0.0.5"}
    _, faults = settings_for({**BASE, **keys})
    assert faults == (
        [
            f"glance:{refused} is 10.0.0.5, where the API of this host itself listens on port 9292,"
            " so HAProxy cannot: name another address there, or set glance:enable_haproxy to no"
            " where no load balancer is."
        ]
        if refused
        else []
    )


def test_sockets_for_some_of_the_load_balancers_are_warned_of():
    given = "10.0.0.5:1936, /run/haproxy.sock"
    settings = settings_of(glance_haproxy_socket=given)
    assert settings["glance_haproxy_socket"] == ["10.0.0.5:1936", "/run/haproxy.sock"]
    assert any("names 2 of 3 load balancers" in one for one in settings["warnings"])
    two = settings_of(glance_haproxy_socket=given, glance_loadbalancer_group=["lb1", "lb2"])
    assert not any("load balancers" in one for one in two["warnings"])


def test_a_host_with_nothing_but_the_load_balancer_is_no_fault():
    keys = {**BASE, "glance_loadbalancer_group": ["lb1"]}
    settings, faults = settings_for(keys, id="lb1")
    assert not faults
    assert not settings["runs_api"]
    assert settings_for(keys, id="lb2")[1]


def test_a_host_with_nothing_but_the_load_balancer_needs_nothing_of_the_api():
    keys = {
        **BASE,
        **BACKEND_TLS,
        "kolla_tls_backend_cert": None,
        "kolla_tls_backend_key": None,
        "api_interface": "storage0",
        "glance_loadbalancer_group": ["lb1"],
    }
    assert settings_for(keys, id="lb1")[1] == []
    found = settings_for(keys)[1]
    assert [fault.split(" ")[0] for fault in found] == [
        "glance:api_interface",
        "glance:kolla_tls_backend_cert",
        "glance:kolla_tls_backend_key",
    ]


def test_without_an_address_there_is_no_load_balancer():
    named = {"database_address": "10.0.0.8", "keystone_internal_url": "http://10.0.0.8:5000"}
    named["glance_keystone_register"] = "no"
    settings, faults = settings_for({**BASE, **named, "kolla_internal_vip_address": ""})
    assert not faults
    assert settings["enable_haproxy"] is False


@pytest.mark.parametrize(
    ("check", "seconds"),
    [
        ("check inter 2000 rise 2 fall 5", 11),
        ("check inter 5s rise 2 fall 3", 16),
        ("check fall 2 inter 500ms", 2),
        ("check fall 5 inter 2000", 11),
        ("check fastinter 1s inter 1m fall 1 port 80", 61),
        ("check inter 500000us fall 2", 2),
    ],
)
def test_when_a_drain_is_noticed(check, seconds):
    assert glance_haproxy.notice(settings_of(haproxy_health_check=check)) == seconds


# ------------------------------------------------------------------ the files on a host


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The state on a host: a function of pillar keys, and what its reload command answers."""

    class Host:
        file = tmp_path / "services.d" / "glance-api.cfg"
        map = tmp_path / "external-frontend-map"
        reload_code, commands = 0, []

        def run(self, command, **_):
            self.commands.append(command)
            return {"retcode": self.reload_code, "stdout": "cannot bind"}

        def __call__(self, function="configured", test=False, **keys):
            mine = {"glance_haproxy_file": str(self.file), "node_config": str(tmp_path / "kolla")}
            settings = settings_of(**{**mine, **keys})
            parts = {
                "glance_settings.get": lambda: settings,
                **{
                    f"glance_haproxy.{name}": getattr(glance_haproxy, name)
                    for name in ("paths", "wanted", "reload", "unread")
                },
                **{
                    f"glance_config_dir.{name}": getattr(glance_config_dir, name)
                    for name in ("read_file", "write_file", "diff")
                },
            }
            monkeypatch.setattr(
                glance_haproxy, "__salt__", {"cmd.run_all": self.run}, raising=False
            )
            return getattr(state_module("glance_haproxy", parts, test), function)("it")

    return Host()


def test_written_once_and_reloaded_as_pillar_says(host):
    would = host(test=True, glance_haproxy_reload="kick")
    assert would["result"] is None and would["changes"] == {str(host.file): "new"}
    assert not host.file.exists() and not host.commands
    done = host(glance_haproxy_reload="kick")
    assert done["result"] is True and done["changes"] == would["changes"]
    assert host.file.read_text() == text()
    assert host.file.stat().st_mode & 0o777 == 0o640
    assert host.commands == ["kick"]
    again = host(glance_haproxy_reload="kick")
    assert (again["changes"], again["comment"]) == ({}, "HAProxy's part is as wanted.")
    assert host.commands == ["kick"]


def test_without_a_command_the_reload_is_its_operators(host):
    assert host()["comment"].endswith("HAProxy reads it when its operator reloads it.")
    assert host.commands == []


def test_a_failed_reload_leaves_the_files_as_they_were(host):
    host()
    host.reload_code = 1
    before = host.file.read_text()
    failed = host(glance_haproxy_reload="kick", haproxy_glance_api_client_timeout="1h")
    assert failed["result"] is False and not failed["changes"]
    assert failed["comment"] == (
        "HAProxy was not reloaded: 'kick' (glance:glance_haproxy_reload) ended with 1 and said"
        " 'cannot bind': put that right and apply again; its files are as before."
    )
    assert host.file.read_text() == before
    assert sorted(path.name for path in host.file.parent.iterdir()) == ["glance-api.cfg"]


@pytest.mark.parametrize("function", ["configured", "absent"])
def test_a_reload_that_a_killed_run_did_not_come_to_is_made_up_for(host, function):
    class Killed(BaseException):
        """SIGKILL in the middle of the reload."""

    def run(command, **_):
        host.commands.append(command)
        if len(host.commands) == 2:
            raise Killed
        return {"retcode": 0, "stdout": ""}

    host.run = run
    host(glance_haproxy_reload="kick")
    keys = {"haproxy_glance_api_client_timeout": "1h"} if function == "configured" else {}
    keys["glance_haproxy_reload"] = "kick"
    with pytest.raises(Killed):
        host(function, **keys)
    would = host(function, test=True, **keys)
    assert would["result"] is None and list(would["changes"]) == ["HAProxy"]
    done = host(function, **keys)
    assert (done["result"], done["changes"]) == (True, would["changes"])
    assert host.commands == ["kick"] * 3
    assert host(function, **keys)["changes"] == {}
    assert host.commands == ["kick"] * 3


def test_a_change_is_shown_as_a_difference(host):
    host()
    shown = host(haproxy_glance_api_client_timeout="1h")["changes"][str(host.file)]
    assert "-    timeout client 6h" in shown and "+    timeout client 1h" in shown


@pytest.mark.parametrize(
    "keys",
    [{"enable_haproxy": "no"}, {"glance_loadbalancer_group": ["lb1"]}],
)
def test_where_it_is_not_ours_only_our_own_file_goes(host, keys):
    host()
    gone = host(**keys)
    assert gone["changes"] == {str(host.file): "removed"} and not host.file.exists()
    host.file.write_text("frontend of Kolla-Ansible\n")
    kept = host(**keys)
    assert not kept["changes"] and host.file.exists()
    assert kept["comment"] == "HAProxy's part is not on this host."


def test_absent_takes_our_file_and_our_entry_of_the_map(host):
    host.map.write_text("other.example other_back")
    host(haproxy_single_external_frontend="yes", **TWO)
    assert host.map.read_text() == (
        "other.example other_back\n# BEGIN glance-api\ncloud.example glance_api_external_back\n"
        "# END glance-api\n"
    )
    assert not host(haproxy_single_external_frontend="yes", **TWO)["changes"]
    host(haproxy_single_external_frontend="yes", **{**TWO, "kolla_external_fqdn": "b.example"})
    assert "\nb.example glance_api_external_back\n" in host.map.read_text()
    host("absent", haproxy_single_external_frontend="yes", **TWO)
    assert host.map.read_text() == "other.example other_back\n"
    assert not host.file.exists()
