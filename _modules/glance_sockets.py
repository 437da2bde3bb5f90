"""
What a container's processes hold on an address: listeners and connections
==========================================================================

Read from ``/proc`` alone, by process ids, in the network namespace of those processes. Changes
nothing; knows nothing of containers. Processes and descriptors that end while it looks are normal
and count as gone. Standard library only; needs root, as descriptors of other users are read.
"""

import errno
import ipaddress
import os
import struct
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_sockets"

# states in /proc/net/tcp
_SYN_RECV, _TIME_WAIT, _LISTEN = "03", "06", "0A"

_GONE = (errno.ENOENT, errno.ESRCH, errno.ENXIO)  # the process or descriptor has just ended
_IDLE_INTERVAL = 0.25


def __virtual__():
    return __virtualname__


def listeners(pids, address, port):
    """
    List the listening sockets that these processes and their children hold on an address.

    pids
        Process ids of the container; its main process is enough.

    address
        The listening address itself: a listener on ``0.0.0.0`` is not one on ``10.0.0.5``.

    port
        TCP port.

    Returns a list of mappings, empty if nothing listens: ``inode`` (of the socket), ``pid`` and
    ``fd`` (one of its holders), ``user`` (id of the owner; two listeners can share an address only
    when these are equal) and ``queued`` (connections not accepted yet).

    CLI Example:

    .. code-block:: bash

        salt '*' glance_sockets.listeners '[1234]' 10.0.0.5 9292
    """
    local = _address(address)
    family = _family(pids)
    rows = [
        row
        for row in _rows(family, local, _port(port))
        if row["state"] == _LISTEN and row["local"] == local
    ]
    held = _sockets(family) if rows else {}
    return [
        {
            "inode": row["inode"],
            "pid": held[row["inode"]][0],
            "fd": held[row["inode"]][1],
            "user": row["user"],
            "queued": row["queued"],
        }
        for row in rows
        if row["inode"] in held
    ]


def in_flight(pids, address, port):
    """
    Count what a container still has to answer on an address.

    pids
        Process ids of the container; its main process is enough.

    address, port
        What it listens on.

    Returns a mapping: ``listening`` (whether it listens there), ``connections`` (accepted and not
    closed by it; connections that it opened itself do not count), ``queued`` (established but not
    accepted yet), ``handshakes`` (``ADDR:PORT`` of clients in the middle of a handshake with the
    address; the kernel does not tell with which of its listeners).

    CLI Example:

    .. code-block:: bash

        salt '*' glance_sockets.in_flight '[1234]' 10.0.0.5 9292
    """
    local = _address(address)
    family = _family(pids)
    # A connection goes from handshake to queue to descriptor: read in this order, none is missed.
    rows = _rows(family, local, _port(port))
    held = _sockets(family)
    mine = [row for row in rows if row["inode"] in held]
    listening = [row for row in mine if row["state"] == _LISTEN and row["local"] == local]
    connected = {
        row["inode"] for row in mine if row["state"] not in (_LISTEN, _SYN_RECV, _TIME_WAIT)
    }
    return {
        "listening": bool(listening),
        "connections": len(connected),
        "queued": sum(row["queued"] for row in listening),
        "handshakes": sorted(
            _peer(row["remote"])
            for row in rows
            if row["state"] == _SYN_RECV and (_is_wildcard(local) or row["local"] == local)
        ),
    }


def wait_until_idle(pids, address, port, timeout, handshakes=None, successor=None):
    """
    Wait until a container has nothing left to answer on an address.

    Idle means: nothing found by :py:func:`in_flight` twice in a row. Ends without error when the
    time is over; the caller decides.

    pids
        Process ids of the container that is to be stopped.

    address, port
        What it listens on.

    timeout
        Seconds to wait at most.

    handshakes
        ``handshakes`` as returned by ``glance_handover.steer``: these too must have ended. Later
        ones belong to the successor.

    successor
        Process ids of the container that gets the new connections: when it stops listening, the
        wait ends at once, since its connections come back to this one.

    Returns the last result of :py:func:`in_flight` (``handshakes`` reduced to those asked for),
    with ``idle``, ``seconds`` waited and ``successor`` (whether it listens; ``None`` if not given).
    """
    deadline = _Stopwatch(timeout)
    calm = 0
    while True:
        state = in_flight(pids, address, port)
        state["handshakes"] = sorted(set(handshakes or []) & set(state["handshakes"]))
        calm = 0 if state["connections"] or state["queued"] or state["handshakes"] else calm + 1
        alive = None if successor is None else bool(listeners(successor, address, port))
        if calm >= 2 or alive is False or deadline.over():
            return {
                **state,
                "idle": calm >= 2,
                "seconds": round(deadline.seconds(), 3),
                "successor": alive,
            }
        deadline.pause(_IDLE_INTERVAL)


class _Stopwatch:
    """A deadline, and the pauses until then."""

    def __init__(self, timeout):
        self._started = time.monotonic()
        self._timeout = timeout

    def seconds(self):
        return time.monotonic() - self._started

    def over(self):
        return self.seconds() >= self._timeout

    def pause(self, interval):
        time.sleep(max(0.0, min(interval, self._timeout - self.seconds())))


# Arguments


def _address(address):
    """The address as it stands in /proc/net/tcp and tcp6."""
    try:
        packed = ipaddress.ip_address(str(address).strip("[]")).packed
    except ValueError as exc:
        raise SaltInvocationError(f"'{address}' is not an IPv4 or IPv6 address.") from exc
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def _port(port):
    if isinstance(port, int) and 0 < port < 65536:
        return port
    raise SaltInvocationError(f"'{port}' is not a TCP port, which is a number from 1 to 65535.")


def _is_wildcard(local):
    return not local.strip("0")


# What /proc tells


def _ask(function, path):
    """What the function says about a path of /proc, None when its process has ended."""
    try:
        return function(path)
    except OSError as exc:
        if exc.errno in _GONE:
            return None
        raise CommandExecutionError(
            f"{path} cannot be read ({exc.strerror}), which needs root on the host."
        ) from exc


def _content(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _family(pids):
    """These processes as far as they live, and their descendants; the given ones first."""
    pids = [pids] if isinstance(pids, int) else pids
    if not isinstance(pids, (list, tuple)) or not all(isinstance(pid, int) for pid in pids):
        raise SaltInvocationError(f"'{pids}' is not a list of process ids.")
    children, family = {}, []
    for name in os.listdir("/proc"):
        stat = _ask(_content, f"/proc/{name}/stat") if name.isdigit() else None
        if stat:
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
            if int(name) in pids:
                family.append(int(name))
    for pid in family:  # grows while it is walked
        family.extend(child for child in children.get(pid, []) if child not in family)
    return family


def _rows(family, local, port):
    """Rows of a local port in the socket tables of the family's network namespace."""
    names = ["tcp" if len(local) == 8 else "tcp6"]
    if names == ["tcp6"] and _is_wildcard(local):
        names.append("tcp")  # handshakes over IPv4 with a listener that takes both
    mark = f":{port:04X} "
    rows = []
    for pid in family:
        tables = [_ask(_content, f"/proc/{pid}/net/{name}") for name in names]
        if tables[0] is not None:
            for line in "".join(text or "" for text in tables).splitlines():
                cells = line.split() if mark in line else []
                if cells and cells[1].endswith(mark.strip()):
                    rows.append(
                        {
                            "local": cells[1].partition(":")[0],
                            "remote": cells[2],
                            "state": cells[3],
                            "queued": int(cells[4].partition(":")[2], 16),
                            "user": int(cells[7]),
                            "inode": int(cells[9]),
                        }
                    )
            break
    return rows


def _sockets(family):
    """{inode: (pid, fd)} of all sockets that the family holds; each once."""
    held = {}
    for pid in family:
        folder = f"/proc/{pid}/fd"
        for name in _ask(os.listdir, folder) or []:
            target = _ask(os.readlink, f"{folder}/{name}") or ""
            if target.startswith("socket:["):
                held.setdefault(int(target[8:-1]), (pid, int(name)))
    return held


def _peer(remote):
    """ADDR:PORT of a cell of /proc/net/tcp or tcp6."""
    words, _, port = remote.partition(":")
    packed = struct.pack(
        f"={len(words) // 8}I", *(int(words[at : at + 8], 16) for at in range(0, len(words), 8))
    )
    address = ipaddress.ip_address(packed)
    address = getattr(address, "ipv4_mapped", None) or address
    return f"[{address}]:{int(port, 16)}" if address.version == 6 else f"{address}:{int(port, 16)}"
