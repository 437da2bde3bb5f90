"""The steering program, run by a small interpreter, and what is refused without the kernel."""

import struct

import pytest
from salt.exceptions import CommandExecutionError

import glance_handover

pytestmark = pytest.mark.one_host

TABLE = 77
LOAD_BYTES, SELECT = 26, 82
ENOENT, EFAULT = 2, 14


def run(program, living=(), source_port=None):
    """(verdict, chosen slot) for a packet from that port, None for an empty packet."""
    code = [struct.unpack_from("<BBhi", program, at) for at in range(0, len(program), 8)]
    registers, stack, chosen, at = {1: "context", 10: 0}, {}, None, 0
    while True:
        operation, places, offset, value = code[at]
        target, source = places & 15, places >> 4
        at += 1
        if operation == 0x95:
            return registers[0], chosen
        if operation == 0xBF:
            registers[target] = registers[source]
        elif operation == 0xB7:
            registers[target] = value
        elif operation == 0x07:
            registers[target] += value
        elif operation == 0x67:
            registers[target] <<= value
        elif operation == 0x4F:
            registers[target] |= registers[source]
        elif operation == 0x71:
            registers[target] = stack[registers[source] + offset]
        elif operation == 0x62:
            stack[registers[target] + offset] = value
        elif operation == 0x18:
            assert (source, value) == (1, TABLE)
            registers[target] = "table"
            at += 1
        elif operation in (0x55, 0xA5, 0x25):
            now = registers[target]
            if {0x55: now != value, 0xA5: now < value, 0x25: now > value}[operation]:
                at += offset
        elif (operation, value) == (0x85, LOAD_BYTES):
            assert [registers[number] for number in (1, 2, 4)] == ["context", 0, 2]
            registers[0] = -EFAULT if source_port is None else 0
            for index, byte in enumerate(struct.pack("!H", source_port or 0)):
                stack[registers[3] + index] = byte
        elif (operation, value) == (0x85, SELECT):
            assert [registers[number] for number in (1, 2, 4)] == ["context", "table", 0]
            slot = stack[registers[3]]
            registers[0] = 0 if slot in living else -ENOENT
            chosen = slot if slot in living else chosen
        else:
            raise AssertionError(f"no such operation: {operation:#x}")


PASS, DROP = 1, 0


@pytest.mark.parametrize(
    ("living", "slot"), [((0, 1, 2), 1), ((0, 2), 0), ((2,), 2), ((), None), ((5,), None)]
)
def test_the_first_living_listener_is_chosen(living, slot):
    program = glance_handover._program(TABLE, [1, 0, 2], [])
    assert run(program, living, 40000) == (PASS, slot)
    assert run(program, living, 1000) == (PASS, slot)
    assert run(program, living) == (PASS, slot)


@pytest.mark.parametrize(
    ("port", "slot"), [(999, 0), (1000, 3), (1023, 3), (1024, 0), (1, 0), (65535, 0), (None, 0)]
)
def test_probe_ports_go_to_the_probe_listener(port, slot):
    program = glance_handover._program(TABLE, [0, 3], [3])
    assert run(program, (0, 3), port) == (PASS, slot)


def test_a_probe_is_refused_when_its_listener_is_gone():
    program = glance_handover._program(TABLE, [0, 3, 4], [3, 4])
    assert run(program, (0, 4), 1000) == (PASS, 4)
    assert run(program, (0,), 1000) == (DROP, None)
    assert run(program, (0,), 40000) == (PASS, 0)


def test_other_machines_are_refused(monkeypatch):
    monkeypatch.setattr(glance_handover.platform, "machine", lambda: "s390x")
    assert glance_handover.unsupported([1], "10.0.0.5", 9292) == (
        "New connections can be steered on Linux on x86_64 and aarch64 only, "
        "this is Linux on s390x."
    )


def row(inode, user):
    return {"inode": inode, "pid": 1, "fd": inode, "user": user, "queued": 0}


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        ([row(1, 42415), row(2, 0)], {}, "its listeners belong to different users"),
        ([row(1, 0), row(2, 0)], {15: 0}, "a listener was opened without SO_REUSEPORT"),
        (
            [row(1, 0), row(2, 0)],
            {26: 0},
            "one of its listeners takes IPv4 too and the other does not (IPV6_V6ONLY)",
        ),
    ],
)
def test_listeners_that_the_kernel_does_not_group(monkeypatch, rows, options, problem):
    def getsockopt(fd, level, option):
        return options.get(option, 1) if fd == 2 else 1

    monkeypatch.setattr(glance_handover, "_getsockopt", getsockopt)
    with pytest.raises(CommandExecutionError) as caught:
        glance_handover._check_group(rows, [1, 2], "fd00::5", "[fd00::5]:9292")
    assert str(caught.value) == f"New connections of [fd00::5]:9292 cannot be steered: {problem}."
