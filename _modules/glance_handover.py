"""
Decide which of two containers gets the new connections of one address
=======================================================================

Two processes of the same user may listen on one address and port when both set ``SO_REUSEPORT``;
by itself the kernel spreads new connections over them. This module steers: it attaches a small
eBPF program to that group of listeners, which names the listening socket that new connections go
to. Connections that exist already stay where they are. Everything is done from outside, by process
ids: root duplicates the listening sockets of a running container (``pidfd_getfd``), so neither the
container nor the engine takes part.

What holds while an address is steered:

- Only the named listener gets new connections. A listener that appears later (a container that
  starts) gets none until :py:func:`steer` names it. Sockets are named themselves, not by their
  position or age, so a crash, a restart or a third listener cannot turn the steering round.
- When the named listener closes, or its container dies, new connections go to the ``fallback``
  listener; connections that wait unaccepted in the closed listener's queue move with them. When
  nothing named is left, the kernel spreads over what listens.
- With ``probe``, connections whose source port lies in 1000-1023 (a range that only root may bind)
  go to another listener, or are refused when that one is gone; so the newcomer can be asked alone,
  on the real address, over IPv4, IPv6 and TLS.
- The program lives in the kernel, not in this process: it outlives a killed Salt run and is
  replaced atomically by the next :py:func:`steer`. It goes away with :py:func:`release` or with
  the last listener.

It needs Linux 5.14 and root on the host. Standard library only; knows nothing of containers. What
the processes hold is read by ``glance_sockets``.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_handover"

#: Source ports (first, last) whose connections go to the ``probe`` listener.
PROBE_PORTS = (1000, 1023)

_SYS_PIDFD_OPEN = 434
_SYS_PIDFD_GETFD = 438
_SYS_BPF = {"x86_64": 321, "aarch64": 280}

# socket options (the same on the machines above)
_SOL_SOCKET = 1
_SO_REUSEPORT = 15
_SO_ATTACH_REUSEPORT_EBPF = 52
_SO_COOKIE = 57
_SO_DETACH_REUSEPORT_BPF = 68
_IPPROTO_IPV6 = 41
_IPV6_V6ONLY = 26

# bpf(2)
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _PROG_LOAD = 0, 1, 2, 5
_MAP_NEXT_ID, _MAP_BY_ID, _OBJ_INFO = 12, 14, 15
_MAP_TYPE_REUSEPORT_SOCKARRAY = 20
_PROG_TYPE_SK_REUSEPORT = 21
_SK_REUSEPORT_SELECT_OR_MIGRATE = 40
_CALL_SKB_LOAD_BYTES = 26
_CALL_SK_SELECT_REUSEPORT = 82
_MOV, _MOV_K, _ADD_K, _SHIFT_K, _OR = 0xBF, 0xB7, 0x07, 0x67, 0x4F
_LOAD_BYTE, _STORE_WORD_K, _LOAD_64_K, _TABLE = 0x71, 0x62, 0x18, 1
_JUMP_NOT_K, _JUMP_LESS_K, _JUMP_GREATER_K, _CALL, _EXIT = 0x55, 0xA5, 0x25, 0x85, 0x95
_DROP, _PASS = 0, 1
_NAME = b"glance_handover"  # of the table and the program, at most 15 characters
_SLOTS = 8

_BUSY_SECONDS = 3.0  # a socket leaves a program's table some ms after the program was replaced
_BUSY_INTERVAL = 0.02


def __virtual__():
    return __virtualname__


def unsupported(pids, address, port):
    """
    Say why new connections to these processes' listener cannot be steered here.

    Only looks; changes nothing.

    pids
        Process ids of the container; its main process is enough, children are found.

    address
        Address it listens on, IPv4 or IPv6 without brackets; ``0.0.0.0`` and ``::`` too.

    port
        TCP port it listens on.

    Returns ``None`` when steering works, else one sentence with the reason.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_handover.unsupported '[1234]' 10.0.0.5 9292
    """
    where = _where(address, port)
    if platform.system() != "Linux" or platform.machine() not in _SYS_BPF:
        return (
            f"New connections can be steered on Linux on {' and '.join(_SYS_BPF)} only, "
            f"this is {platform.system()} on {platform.machine()}."
        )
    if os.geteuid() != 0:
        return "Steering new connections needs root on the host, this minion runs as another user."
    try:
        found = __salt__["glance_sockets.listeners"](pids, address, port)
    except CommandExecutionError as exc:
        return f"The container's sockets cannot be looked at: {exc}"
    if not found:
        return f"None of the container's processes listens on {where}."
    try:
        with _duplicates(found) as fds:
            if not all(_getsockopt(fd, _SOL_SOCKET, _SO_REUSEPORT) for fd in fds.values()):
                return (
                    f"The listener on {where} was opened without SO_REUSEPORT, "
                    "so no second process can listen beside it."
                )
    except OSError as exc:
        return (
            f"The kernel does not let this minion share the listener on {where} "
            f"({exc.filename}: {exc.strerror}): ptrace is restricted, or the kernel is too old."
        )
    try:
        with _closing(_new_table()) as table:
            os.close(_load(_program(table, [0], [1])))
    except OSError as exc:
        return (
            f"The kernel does not take the steering program ({exc.filename}: {exc.strerror}): "
            f"bpf is restricted, or the kernel is too old (it is {platform.release()})."
        )
    return None


def steer(to, address, port, fallback=None, probe=None):
    """
    Send all new connections of an address to one container's listener.

    Takes effect at once and atomically, for every packet after the return; may be called again at
    any time, also back and forth. Ends in an error without any change when a listener is missing.

    to
        Process ids of the container that gets the new connections.

    address, port
        What the containers listen on.

    fallback
        Process ids of the container that gets them should the listener of ``to`` go away; it need
        not listen.

    probe
        Process ids of a container that gets the connections from source ports 1000 to 1023, and
        nothing else.

    Returns a mapping: ``to``, ``fallback``, ``probe`` (inodes of the sockets in these roles) and
    ``handshakes`` (``ADDR:PORT`` of clients whose handshake was under way at that moment; those
    may still end up at the listener that was in charge before: give them to
    ``glance_sockets.wait_until_idle``).

    Raises CommandExecutionError when ``to`` or ``probe`` does not listen there, when their
    sockets cannot share the address, or when the kernel refuses.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_handover.steer '[1234]' 10.0.0.5 9292 fallback='[2345]'
    """
    where = _where(address, port)
    roles = {"to": to, "fallback": fallback, "probe": probe}
    listeners = __salt__["glance_sockets.listeners"]
    found = {
        role: [] if pids is None else listeners(pids, address, port) for role, pids in roles.items()
    }
    sockets = {row["inode"]: row for rows in found.values() for row in rows}
    try:
        with _duplicates(sockets.values()) as fds:
            named = {
                role: [row["inode"] for row in rows if row["inode"] in fds]
                for role, rows in found.items()
            }
            for role in ("to", "probe"):
                if roles[role] is not None and not named[role]:
                    raise CommandExecutionError(
                        f"New connections of {where} were not steered: none of the processes "
                        f"given as '{role}' listens there."
                    )
            _check_group([sockets[inode] for inode in fds], fds.values(), address, where)
            order = list(dict.fromkeys(named["to"] + named["fallback"] + named["probe"]))
            _attach(fds, order, named["probe"])
    except OSError as exc:
        raise CommandExecutionError(
            f"New connections of {where} were not steered: {exc.filename}: {exc.strerror}."
        ) from exc
    handshakes = __salt__["glance_sockets.in_flight"](to, address, port)["handshakes"]
    return {**named, "handshakes": handshakes}


def release(pids, address, port):
    """
    Take the steering off an address: the kernel spreads new connections over what listens there.

    To be called when one listener is left; without it the program goes with the last listener.

    pids
        Process ids of a container that listens there.

    address, port
        What it listens on.

    Returns whether something was taken off; ``False`` too when nothing listens.

    Raises CommandExecutionError when the kernel refuses it.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_handover.release '[1234]' 10.0.0.5 9292
    """
    where = _where(address, port)
    try:
        found = __salt__["glance_sockets.listeners"](pids, address, port)
        with _duplicates(found[:1]) as fds:
            for fd in fds.values():
                _setsockopt(fd, _SO_DETACH_REUSEPORT_BPF, 0)
                return True
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.EINVAL):  # nothing attached, not shared at all
            raise CommandExecutionError(
                f"The steering of {where} was not taken off: {exc.filename}: {exc.strerror}."
            ) from exc
    return False


def _where(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# What the kernel is asked

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def _checked(result, name):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


def _syscall(name, number, *arguments):
    arguments = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(number), *arguments), name)


def _bpf(command, attributes):
    """bpf(2); the attributes come back as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    number = _SYS_BPF[platform.machine()]
    return _syscall("bpf", number, command, buffer, len(attributes)), buffer.raw


def _getsockopt(fd, level, option, kind=ctypes.c_int):
    value = kind()
    size = ctypes.c_uint32(ctypes.sizeof(value))
    result = _LIBC.getsockopt(fd, level, option, ctypes.byref(value), ctypes.byref(size))
    _checked(result, "getsockopt")
    return value.value


def _setsockopt(fd, option, value):
    value = ctypes.c_int(value)
    result = _LIBC.setsockopt(fd, _SOL_SOCKET, option, ctypes.byref(value), ctypes.sizeof(value))
    _checked(result, "setsockopt")


@contextlib.contextmanager
def _closing(fd):
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _duplicates(found):
    """{inode: descriptor} of sockets of other processes; without those that are gone by now.

    They are closed at the end: a duplicate kept open would keep the listener alive.
    """
    fds = {}
    with contextlib.ExitStack() as stack:
        for row in found:
            try:
                pidfd = _syscall("pidfd_open", _SYS_PIDFD_OPEN, row["pid"], 0)
                with _closing(pidfd):
                    fd = _syscall("pidfd_getfd", _SYS_PIDFD_GETFD, pidfd, row["fd"], 0)
            except OSError as exc:
                if exc.errno in (errno.ESRCH, errno.EBADF):
                    continue
                raise
            stack.enter_context(_closing(fd))
            if os.fstat(fd).st_ino == row["inode"]:
                fds[row["inode"]] = fd
        yield fds


def _check_group(rows, fds, address, where):
    """Raises when the kernel does not treat these listeners as one group."""
    problem = None
    if len({row["user"] for row in rows}) > 1:
        problem = "its listeners belong to different users"
    elif not all(_getsockopt(fd, _SOL_SOCKET, _SO_REUSEPORT) for fd in fds):
        problem = "a listener was opened without SO_REUSEPORT"
    elif ":" in address and len({_getsockopt(fd, _IPPROTO_IPV6, _IPV6_V6ONLY) for fd in fds}) > 1:
        problem = "one of its listeners takes IPv4 too and the other does not (IPV6_V6ONLY)"
    if problem:
        raise CommandExecutionError(f"New connections of {where} cannot be steered: {problem}.")


# The program and its table


def _attach(fds, order, probe):
    """Attaches a program that prefers the sockets in this order ({inode: fd}, inodes)."""
    deadline = time.monotonic() + _BUSY_SECONDS
    cookies = {
        inode: _getsockopt(fd, _SOL_SOCKET, _SO_COOKIE, ctypes.c_uint64)
        for inode, fd in fds.items()
    }
    while True:
        table = _table_of(set(cookies.values()))
        with _closing(_new_table() if table is None else table) as table:
            try:
                slots = _enlist(table, fds, cookies)
            except OSError as exc:
                # EBUSY: still in the table of a program that is being taken down
                if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            else:
                program = _program(table, [slots[i] for i in order], [slots[i] for i in probe])
                with _closing(_load(program)) as loaded:
                    _setsockopt(fds[order[0]], _SO_ATTACH_REUSEPORT_EBPF, loaded)
                return
        time.sleep(_BUSY_INTERVAL)


def _new_table():
    """A table of listening sockets; a closed socket leaves it by itself."""
    kind = (_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, _SLOTS, 0, 0, 0)
    return _bpf(_MAP_CREATE, struct.pack("=7I16s", *kind, _NAME))[0]


def _table_of(cookies):
    """The table that holds one of these sockets, None if none: a socket fits in only one."""
    number = 0
    while True:
        try:
            _, reply = _bpf(_MAP_NEXT_ID, struct.pack("=3I", number, 0, 0))
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # that was the last one
                return None
            raise
        number = struct.unpack_from("=I", reply, 4)[0]
        try:
            table, _ = _bpf(_MAP_BY_ID, struct.pack("=3I", number, 0, 0))
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # gone meanwhile
                continue
            raise
        if _is_ours(table) and cookies & set(_slots(table)):
            return table
        os.close(table)


def _is_ours(table):
    info = ctypes.create_string_buffer(40)
    _bpf(_OBJ_INFO, struct.pack("=IIQ", table, len(info), ctypes.addressof(info)))
    kind, _, _, _, slots, _, name = struct.unpack("=6I16s", info.raw)
    wanted = (_MAP_TYPE_REUSEPORT_SOCKARRAY, _SLOTS, _NAME)
    return (kind, slots, name.rstrip(b"\0")) == wanted


def _slots(table):
    """The cookie of the socket in each slot, None for a free one."""
    slots = []
    for slot in range(_SLOTS):
        key, value = ctypes.c_uint32(slot), ctypes.c_uint64()
        places = (ctypes.addressof(key), ctypes.addressof(value))
        try:
            _bpf(_MAP_LOOKUP, struct.pack("=IIQQQ", table, 0, *places, 0))
            slots.append(value.value)
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            slots.append(None)
    return slots


def _enlist(table, fds, cookies):
    """Puts the sockets that are missing in free slots; {inode: slot} of all of them."""
    slots = _slots(table)
    for inode, fd in fds.items():
        if cookies[inode] not in slots:
            if None not in slots:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "bpf")
            slot = slots.index(None)
            key, value = ctypes.c_uint32(slot), ctypes.c_uint64(fd)
            places = (ctypes.addressof(key), ctypes.addressof(value))
            _bpf(_MAP_UPDATE, struct.pack("=IIQQQ", table, 0, *places, 0))
            slots[slot] = cookies[inode]
    return {inode: slots.index(cookie) for inode, cookie in cookies.items()}


def _load(program):
    """Descriptor of the loaded program."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        *(_PROG_TYPE_SK_REUSEPORT, len(program) // 8),
        *(ctypes.addressof(code), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0, _NAME),
        *(0, _SK_REUSEPORT_SELECT_OR_MIGRATE),
    )
    return _bpf(_PROG_LOAD, attributes)[0]


def _program(table, order, probe):
    """
    eBPF code that picks the listener of a new connection.

    With ``probe``, a connection from one of the probe ports goes to the first living socket of
    these slots, or is refused. All others go to the first living one in ``order``; without any,
    the kernel spreads. The packet begins at the TCP header, whatever the IP version; it is empty
    when a queued connection moves from a closed listener.
    """
    code = [_insn(_MOV, 6, 1)]  # r6 = context
    if probe:
        code += [
            _insn(_MOV, 1, 6),
            _insn(_MOV_K, 2, imm=0),
            _insn(_MOV, 3, 10),
            _insn(_ADD_K, 3, imm=-8),
            _insn(_MOV_K, 4, imm=2),
            _insn(_CALL, imm=_CALL_SKB_LOAD_BYTES),  # stack[-8:-6] = source port, network order
        ]
        chosen = [insn for slot in probe for insn in _choose(table, slot)]
        chosen += [_insn(_MOV_K, 0, imm=_DROP), _insn(_EXIT)]
        compare = [
            _insn(_LOAD_BYTE, 1, 10, -8),
            _insn(_SHIFT_K, 1, imm=8),
            _insn(_LOAD_BYTE, 2, 10, -7),
            _insn(_OR, 1, 2),
            _insn(_JUMP_LESS_K, 1, off=len(chosen) + 1, imm=PROBE_PORTS[0]),
            _insn(_JUMP_GREATER_K, 1, off=len(chosen), imm=PROBE_PORTS[1]),
        ]
        code += [_insn(_JUMP_NOT_K, 0, off=len(compare) + len(chosen), imm=0), *compare, *chosen]
    for slot in order:
        code += _choose(table, slot)
    return b"".join([*code, _insn(_MOV_K, 0, imm=_PASS), _insn(_EXIT)])


def _choose(table, slot):
    """Ends with the socket in this slot, goes on when the slot is empty."""
    return [
        _insn(_STORE_WORD_K, 10, off=-4, imm=slot),
        _insn(_MOV, 1, 6),
        _insn(_LOAD_64_K, 2, _TABLE, imm=table),
        _insn(0),  # the second half of the one before
        _insn(_MOV, 3, 10),
        _insn(_ADD_K, 3, imm=-4),
        _insn(_MOV_K, 4, imm=0),
        _insn(_CALL, imm=_CALL_SK_SELECT_REUSEPORT),
        _insn(_JUMP_NOT_K, 0, off=2, imm=0),
        _insn(_MOV_K, 0, imm=_PASS),
        _insn(_EXIT),
    ]


def _insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)
