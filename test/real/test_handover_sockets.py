"""The hand-over between small servers on plain sockets: who gets which connection."""

import collections
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

import glance_handover
import glance_sockets
from support.listener import DEADLINE, Listener, ask, connect, free_port

pytestmark = [
    pytest.mark.one_host,
    pytest.mark.skipif(os.geteuid() != 0, reason="sockets of other processes need root"),
]

# listening address -> addresses that clients connect to
ADDRESSES = {
    "127.0.70.1": ["127.0.70.1"],
    "::1": ["::1"],
    "0.0.0.0": ["127.0.70.1", "127.0.0.1"],
    "::": ["127.0.70.1", "::1"],
}
V4 = "127.0.70.1"
MODULES = Path(glance_handover.__file__).parent


@pytest.fixture(autouse=True)
def _dunders(monkeypatch):
    names = ("listeners", "in_flight", "wait_until_idle")
    loaded = {f"glance_sockets.{name}": getattr(glance_sockets, name) for name in names}
    monkeypatch.setattr(glance_handover, "__salt__", loaded, raising=False)


@pytest.fixture
def listen():
    """Starts a listener; the second on the same address gets the same port."""
    running, ports = [], {}

    def start(name, address=V4, *options):
        if address not in ports:
            ports[address] = free_port(address)
        running.append(Listener(name, address, ports[address], *options))
        return running[-1].ready()

    yield start
    for listener in running:
        listener.kill()


def answers(listener, count=25, source_ports=(0,), **how):
    """Who answers how many of these connections, over every address of the listener."""
    ports = itertools.cycle(source_ports)
    return collections.Counter(
        ask(address, listener.port, next(ports), **how)
        for address in ADDRESSES[listener.address]
        for _ in range(count)
    )


def probes(listener, count=24):
    return answers(listener, count, range(1000, 1024))


def steer(to, **roles):
    roles = {role: listener.pids for role, listener in roles.items()}
    return glance_handover.steer(to.pids, to.address, to.port, **roles)


def until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_flight(listener):
    return glance_sockets.in_flight(listener.pids, listener.address, listener.port)


@pytest.mark.parametrize("address", ADDRESSES)
def test_all_connections_go_where_they_are_steered(listen, address):
    old, new = listen("old", address), listen("new", address)
    assert glance_handover.unsupported(old.pids, address, old.port) is None
    assert set(answers(old)) == {"old", "new"}
    for to, other in ((old, new), (new, old), (old, new)):
        result = steer(to, fallback=other)
        assert len(result["to"]) == len(result["fallback"]) == 1
        assert set(answers(old)) == {to.name}
    assert glance_handover.release(old.pids, address, old.port) is True
    assert set(answers(old)) == {"old", "new"}
    assert glance_handover.release(old.pids, address, old.port) is False


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_source_port_of_a_probe_reaches_the_newcomer(listen, address):
    old, new = listen("old", address), listen("new", address)
    steer(old, probe=new)
    assert set(answers(old)) == {"old"}
    assert set(probes(old)) == {"new"}
    assert set(answers(old, 2, (999, 1024))) == {"old"}
    new.kill()
    with pytest.raises(ConnectionRefusedError):
        ask(ADDRESSES[address][0], old.port, 1000)
    assert set(answers(old)) == {"old"}


def test_a_listener_that_appears_later_gets_nothing(listen):
    old = listen("old")
    steer(old)
    new = listen("new")
    assert set(answers(old)) == {"old"}
    steer(new, fallback=old)
    third = listen("third")
    assert set(answers(old)) == {"new"}
    third.kill()
    assert set(answers(old)) == {"new"}


def test_a_dead_listener_is_followed_by_its_fallback_and_steering_again_repairs(listen):
    old, new, third = listen("old"), listen("new"), listen("third")
    steer(new, fallback=old)
    new.kill()
    assert set(answers(old)) == {"old"}
    new = listen("new")
    assert set(answers(old)) == {"old"}
    steer(new, fallback=old)
    assert set(answers(old)) == {"new"}
    old.kill()
    old = listen("old")
    assert set(answers(old)) == {"new"}
    steer(old, fallback=new)
    assert set(answers(old)) == {"old"}
    third.kill()
    assert set(answers(old)) == {"old"}


def test_without_a_named_listener_the_kernel_takes_any(listen):
    old, new = listen("old"), listen("new")
    steer(old)
    old.kill()
    assert set(answers(new)) == {"new"}


@pytest.mark.skipif(os.cpu_count() < 2, reason="socket numbers grow in order on one CPU")
def test_the_number_of_a_socket_does_not_matter(listen):
    # Each CPU takes socket numbers from its own batch, so the older one may have the higher.
    for first, second in ((0, 1), (1, 0)):
        one = listen("one", V4, "--cpu", first)
        two = listen("two", V4, "--cpu", second)
        for to in (one, two):
            steer(to)
            assert set(answers(one)) == {to.name}
        one.kill()
        two.kill()


def test_the_program_outlives_a_killed_run(listen):
    old, new = listen("old"), listen("new")
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "import glance_handover, glance_sockets\n"
        "glance_handover.__salt__ = {f'glance_sockets.{n}': getattr(glance_sockets, n)"
        " for n in ('listeners', 'in_flight')}\n"
        "pids = [[int(pid)] for pid in sys.argv[4:]]\n"
        "glance_handover.steer(pids[1], sys.argv[2], int(sys.argv[3]), probe=pids[0])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    arguments = [MODULES, V4, old.port, *old.pids, *new.pids]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert set(answers(old)) == {"new"}
    assert set(probes(old)) == {"old"}
    old.kill()
    again = listen("again")
    assert set(answers(again)) == {"new"}
    steer(new, probe=again)
    assert set(probes(new)) == {"again"}
    steer(again, fallback=new)
    assert set(answers(new)) == {"again"}


def test_a_classic_program_by_position_is_replaced(listen):
    old = listen("old")
    # What a simpler tool leaves: "return 1" while one listener is there.
    with (
        glance_handover._duplicates(
            glance_sockets.listeners(old.pids, old.address, old.port)
        ) as fds,
        socket.socket(fileno=os.dup(*fds.values())) as duplicate,
    ):
        _attach_position(duplicate, 1)
    steer(old)
    new = listen("new")
    assert set(answers(old)) == {"old"}
    steer(old, probe=new)
    assert set(answers(old)) == {"old"}


def _attach_position(sock, position):
    import ctypes
    import struct

    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, position))
    sock.setsockopt(socket.SOL_SOCKET, 51, struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))


@pytest.mark.parametrize("address", [V4, "::"])
def test_waiting_connections_of_a_dead_listener_move_to_its_fallback(listen, address):
    old, deaf = listen("old", address), listen("deaf", address, "--deaf")
    steer(deaf, fallback=old)
    clients = [connect(V4, old.port) for _ in range(20)]
    for client in clients:
        client.sendall(b"\n")
    assert in_flight(deaf)["queued"] == 20
    deaf.kill()
    assert [client.recv(10) for client in clients] == [b"old\n"] * 20
    for client in clients:
        client.close()


def test_tls_is_steered_and_probed(listen, tmp_path):
    both = tmp_path / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -keyout - -out -"
    both.write_bytes(subprocess.run(command.split(), check=True, capture_output=True).stdout)
    old, new = (listen(name, V4, "--tls", both) for name in ("old", "new"))
    context = ssl.create_default_context(cafile=both)
    context.check_hostname = False
    steer(old, probe=new)
    assert set(answers(old, 5, tls=context)) == {"old"}
    assert set(answers(old, 5, range(1000, 1005), tls=context)) == {"new"}
    steer(new)
    assert set(answers(old, 5, tls=context)) == {"new"}


def test_no_connection_fails_or_goes_astray_while_steering_changes(listen):
    old, new = listen("old", V4, "--workers", 3), listen("new", V4, "--workers", 3)
    steer(old)
    counts, faults, over = collections.Counter(), [], threading.Event()

    def load():
        while not over.is_set():
            try:
                counts[ask(V4, old.port)] += 1
            except OSError as exc:
                faults.append(exc)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for to, other in [(new, old), (old, new)] * 6:
            steer(to, fallback=other)
            assert set(answers(old, 10)) == {to.name}
            steer(to, probe=other)
            assert set(probes(old, 5)) == {other.name}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert counts["old"] > 100 < counts["new"]
    assert sum(counts.values()) == counts["old"] + counts["new"]


def test_connections_in_flight_are_counted_once(listen):
    old, new = listen("old", V4, "--workers", 4), listen("new")
    steer(old, fallback=new)
    nothing = {"listening": True, "connections": 0, "queued": 0, "handshakes": []}
    assert in_flight(old) == nothing
    clients = [connect(V4, old.port) for _ in range(3)]
    for client in clients:
        client.sendall(b"slow 9\n")
    until(lambda: in_flight(old) == {**nothing, "connections": 3})
    assert in_flight(new) == nothing
    # The other side has ended its half: still to be answered.
    clients[0].shutdown(socket.SHUT_WR)
    assert in_flight(old)["connections"] == 3
    steer(new, fallback=old)
    assert in_flight(old)["connections"] == 3
    for client in clients:
        client.close()
    old.kill()
    assert in_flight(old) == {**nothing, "listening": False}


@pytest.mark.parametrize("address", ["::1", V4, "::"])
def test_handshakes_and_the_queue_are_seen(listen, address):
    old, new = listen("old", address, "--defer", "--deaf"), listen("new", address)
    client_address = ADDRESSES[address][0]
    steer(old, fallback=new)
    client = connect(client_address, old.port)
    port = client.getsockname()[1]
    peer = f"[{client_address}]:{port}" if ":" in client_address else f"{client_address}:{port}"
    peer = peer.replace("127.0.70.1", client.getsockname()[0])
    assert in_flight(old)["handshakes"] == [peer]
    result = steer(new, fallback=old)
    assert result["handshakes"] == [peer]
    with connect(client_address, old.port):  # after the switch: not the old one's business
        waited = glance_sockets.wait_until_idle(
            old.pids, address, old.port, 0.3, handshakes=result["handshakes"]
        )
    assert (waited["idle"], waited["handshakes"]) == (False, [peer])
    client.sendall(b"\n")  # ends the handshake with the listener that it began with
    until(lambda: in_flight(old)["queued"] == 1)
    assert in_flight(old)["handshakes"] == []
    client.close()


def test_waiting_until_the_last_response_has_been_sent(listen):
    old, new = listen("old"), listen("new")
    steer(old)
    with connect(V4, old.port) as client:
        client.sendall(b"slow 0.8\n")
        until(lambda: in_flight(old)["connections"] == 1)
        steer(new, fallback=old)
        where = (old.pids, V4, old.port)
        short = glance_sockets.wait_until_idle(*where, 0.2, successor=new.pids)
        assert (short["idle"], short["connections"], short["successor"]) == (False, 1, True)
        assert 0.2 <= short["seconds"] < 0.4
        closer = threading.Thread(target=lambda: (client.recv(10), client.close()))
        closer.start()
        done = glance_sockets.wait_until_idle(*where, 5, successor=new.pids)
        closer.join()
    assert (done["idle"], done["connections"]) == (True, 0)
    assert 0.4 < done["seconds"] < 2


def test_waiting_ends_when_the_successor_is_gone(listen):
    old, new = listen("old"), listen("new")
    steer(old)
    with connect(V4, old.port):
        steer(new, fallback=old)
        threading.Timer(0.3, new.kill).start()
        waited = glance_sockets.wait_until_idle(old.pids, V4, old.port, 5, successor=new.pids)
    assert waited["successor"] is False
    assert waited["seconds"] < 2


def test_a_listener_without_reuseport_is_refused(listen):
    alone = listen("alone", V4, "--alone")
    reason = glance_handover.unsupported(alone.pids, V4, alone.port)
    assert reason == (
        f"The listener on {V4}:{alone.port} was opened without SO_REUSEPORT, "
        "so no second process can listen beside it."
    )
    with pytest.raises(CommandExecutionError, match="without SO_REUSEPORT"):
        steer(alone)
    assert glance_handover.release(alone.pids, V4, alone.port) is False


def test_an_address_that_nobody_listens_on_is_refused(listen):
    old = listen("old", "0.0.0.0")
    reason = glance_handover.unsupported(old.pids, V4, old.port)
    assert reason == f"None of the container's processes listens on {V4}:{old.port}."
    with pytest.raises(CommandExecutionError, match="given as 'to' listens there"):
        glance_handover.steer(old.pids, V4, old.port)
    other = listen("other", "::1")
    with pytest.raises(CommandExecutionError, match="given as 'probe' listens there"):
        steer(old, probe=other)
    old.kill()
    with pytest.raises(CommandExecutionError, match="given as 'to' listens there"):
        steer(old)
    assert glance_sockets.listeners(old.pids, old.address, old.port) == []


def test_listeners_that_are_not_one_group_are_refused(listen):
    dual, only = listen("dual", "::"), listen("only", "::", "--v6only")
    with pytest.raises(CommandExecutionError, match="IPV6_V6ONLY"):
        steer(dual, fallback=only)


UNFIT = {
    "user": (
        ["--reuid=65534", "--regid=65534", "--clear-groups"],
        "Steering new connections needs root on the host, this minion runs as another user.",
    ),
    "ptrace": (
        ["--bounding-set=-sys_ptrace"],
        "The container's sockets cannot be looked at: /proc",
    ),
    "bpf": (
        ["--bounding-set=-bpf,-sys_admin,-net_admin"],
        "The kernel does not take the steering program (bpf: Operation not permitted)",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_minion_without_the_rights_says_so(listen, tmp_path, case):
    options, sentence = UNFIT[case]
    old = listen("old", V4, "--user", 42415)
    # A copy of the modules and a stand-in for Salt that any user can read.
    tmp_path.chmod(0o755)
    for name in ("glance_handover", "glance_sockets"):
        (tmp_path / f"{name}.py").write_text((MODULES / f"{name}.py").read_text())
    (tmp_path / "salt").mkdir()
    errors = "class CommandExecutionError(Exception): pass\nSaltInvocationError = ValueError\n"
    (tmp_path / "salt/exceptions.py").write_text(errors)
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import glance_handover, glance_sockets\n"
        "glance_handover.__salt__ = {'glance_sockets.listeners': glance_sockets.listeners}\n"
        f"print(glance_handover.unsupported({old.pids}, {V4!r}, {old.port}))\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o111)
    done = subprocess.run(
        ["setpriv", *options, "/usr/bin/python3", "-B", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(sentence), done
