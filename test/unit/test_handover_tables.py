"""What is read out of the kernel's socket tables, from made-up tables."""

import os
import sys

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_sockets

pytestmark = [
    pytest.mark.one_host,
    pytest.mark.skipif(sys.byteorder != "little", reason="the tables are of such a machine"),
]

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
)
# port 9292 = 0x244C
TCP = HEAD + "".join(
    f"   {n}: {local} {remote} {state} 00000000:{queued:08X} 00:0 0 {user} 0 {inode} 1\n"
    for n, (local, remote, state, queued, user, inode) in enumerate(
        [
            ("0500000A:244C", "00000000:0000", "0A", 3, 42415, 100),  # 10.0.0.5:9292 listens
            ("00000000:244C", "00000000:0000", "0A", 9, 42415, 101),  # 0.0.0.0:9292 listens
            ("0500000A:0050", "00000000:0000", "0A", 7, 0, 102),  # another port
            ("0500000A:244C", "0A00000A:C001", "01", 0, 42415, 110),  # established
            ("0500000A:244C", "0A00000A:C002", "08", 0, 42415, 111),  # the client has ended
            ("0500000A:244C", "0A00000A:C003", "01", 0, 42415, 999),  # of another process
            ("0500000A:244C", "0A00000A:C004", "01", 0, 42415, 0),  # not accepted yet
            ("0500000A:244C", "0A00000A:C005", "06", 0, 0, 0),  # TIME_WAIT
            ("0500000A:244C", "0A00000A:C006", "03", 0, 0, 0),  # handshake
            ("0600000A:244C", "0A00000A:C007", "03", 0, 0, 0),  # handshake, other address
            ("0500000A:C008", "0600000A:244C", "01", 0, 42415, 112),  # its own, to elsewhere
        ]
    )
)
TCP6 = HEAD + "".join(
    f"   {n}: {local} {remote} {state} 00000000:00000000 00:0 0 42415 0 {inode} 1\n"
    for n, (local, remote, state, inode) in enumerate(
        [
            ("0" * 32 + ":244C", "0" * 32 + ":0000", "0A", 200),  # [::]:9292 listens
            (
                "0000000000000000FFFF00000500000A:244C",
                "0000000000000000FFFF00000A00000A:C009",
                "01",
                210,
            ),  # over IPv4
            (
                "000000FD000000000000000005000000:244C",
                "000000FD00000000000000000A000000:C00A",
                "03",
                0,
            ),
        ]
    )
)
HELD = [100, 101, 102, 110, 111, 112, 200, 210]


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    tables = {"/proc/7/net/tcp": TCP, "/proc/7/net/tcp6": TCP6}
    monkeypatch.setattr(glance_sockets, "_ask", lambda function, path: tables.get(path))
    monkeypatch.setattr(glance_sockets, "_family", lambda pids: [6, 7, 8])
    monkeypatch.setattr(
        glance_sockets, "_sockets", lambda family: {inode: (7, inode) for inode in HELD}
    )


def test_a_listener_is_found_by_its_very_address():
    found = glance_sockets.listeners([7], "10.0.0.5", 9292)
    assert found == [{"inode": 100, "pid": 7, "fd": 100, "user": 42415, "queued": 3}]
    found = glance_sockets.listeners([7], "0.0.0.0", 9292)
    assert [one["inode"] for one in found] == [101]
    found = glance_sockets.listeners([7], "::", 9292)
    assert [one["inode"] for one in found] == [200]
    assert glance_sockets.listeners([7], "10.0.0.5", 9293) == []


def test_only_what_the_processes_have_to_answer_counts():
    assert glance_sockets.in_flight([7], "10.0.0.5", 9292) == {
        "listening": True,
        "connections": 2,
        "queued": 3,
        "handshakes": ["10.0.0.10:49158"],
    }


def test_a_listener_for_both_protocols_has_handshakes_of_both():
    found = glance_sockets.in_flight([7], "::", 9292)
    assert found["handshakes"] == ["10.0.0.10:49158", "10.0.0.10:49159", "[fd00::a]:49162"]


class Clock:
    """Time that passes by sleeping."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(glance_sockets, "time", clock)
    return clock


def states(monkeypatch, *rows):
    left = [dict(zip(("connections", "queued", "handshakes"), row, strict=True)) for row in rows]

    def in_flight(pids, address, port):
        state = left.pop(0) if len(left) > 1 else left[0]
        return {"listening": True, **state}

    monkeypatch.setattr(glance_sockets, "in_flight", in_flight)


@pytest.mark.usefixtures("clock")
def test_idle_is_nothing_twice_in_a_row(monkeypatch):
    states(monkeypatch, (1, 0, []), (0, 0, []), (0, 1, []), (0, 0, []), (0, 0, []))
    found = glance_sockets.wait_until_idle([7], "10.0.0.5", 9292, 60)
    assert (found["idle"], found["seconds"], found["successor"]) == (True, 1.0, None)


@pytest.mark.usefixtures("clock")
def test_only_the_handshakes_of_the_switch_are_waited_for(monkeypatch):
    states(monkeypatch, (0, 0, ["a:1", "b:2"]), (0, 0, ["b:2", "c:3"]), (0, 0, ["c:3"]))
    found = glance_sockets.wait_until_idle([7], "10.0.0.5", 9292, 60, handshakes=["a:1", "b:2"])
    assert (found["idle"], found["seconds"], found["handshakes"]) == (True, 0.75, [])


def test_the_time_is_limited(monkeypatch, clock):
    states(monkeypatch, (1, 0, []))
    found = glance_sockets.wait_until_idle([7], "10.0.0.5", 9292, 0.6)
    assert (found["idle"], found["connections"], clock.now) == (False, 1, 0.6)
    found = glance_sockets.wait_until_idle([7], "10.0.0.5", 9292, 0)
    assert (found["idle"], clock.now) == (False, 0.6)


@pytest.mark.usefixtures("clock")
def test_a_lost_successor_ends_the_wait(monkeypatch):
    states(monkeypatch, (1, 0, []))
    monkeypatch.setattr(glance_sockets, "listeners", lambda pids, address, port: [])
    found = glance_sockets.wait_until_idle([7], "10.0.0.5", 9292, 60, successor=[8])
    assert (found["idle"], found["seconds"], found["successor"]) == (False, 0.0, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], "glance.example", 9292), "'glance.example' is not an IPv4 or IPv6 address."),
        (([1], "10.0.0.5", 0), "'0' is not a TCP port, which is a number from 1 to 65535."),
        (([1], "10.0.0.5", "x"), "'x' is not a TCP port, which is a number from 1 to 65535."),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(SaltInvocationError) as caught:
        glance_sockets.in_flight(*arguments)
    assert str(caught.value) == message


def test_wrong_process_ids_are_named(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(SaltInvocationError) as caught:
        glance_sockets.listeners(["glance_api"], "10.0.0.5", 9292)
    assert str(caught.value) == "'['glance_api']' is not a list of process ids."


def test_a_process_that_has_ended_is_normal_and_a_forbidden_one_is_not(monkeypatch, tmp_path):
    monkeypatch.undo()
    assert glance_sockets._ask(os.listdir, tmp_path / "none") is None

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(CommandExecutionError) as caught:
        glance_sockets._ask(forbidden, "/proc/7/fd")
    assert str(caught.value) == (
        "/proc/7/fd cannot be read (Permission denied), which needs root on the host."
    )
