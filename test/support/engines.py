"""Private Docker engines of the testbed: start, stop, crash, and nothing of anybody else's.

Standard library only: the set-up scripts use this before any virtualenv exists.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import zlib
from pathlib import Path

POLL = 0.05  # seconds between two looks at a process or socket
START_LIMIT = 30  # seconds until an engine answers
STOP_LIMIT = 60  # seconds until an engine with its containers is gone


def work_folder():
    """Return the folder that holds everything the testbed keeps."""
    given = os.environ.get("GLANCE_TESTBED")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "glance-testbed"


def _until(condition, limit, what):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {limit} s")
        time.sleep(POLL)


def alive(pid):
    """Return whether a process runs; one that has ended but was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _processes():
    """Return {pid: (parent pid, command line)} of everything that runs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                line = (entry / "cmdline").read_bytes().decode("utf8", "replace")
                found[int(entry.name)] = (parent, line)
    return found


class Engine:
    """One numbered engine: its folder, its socket, its processes."""

    def __init__(self, number, folder=None):
        self.number = int(number)
        self.testbed = Path(folder) if folder else work_folder()
        self.home = self.testbed / "engine" / str(self.number)
        self.socket = self.home / "docker.sock"
        # There while the engine runs only as long as somebody uses it.
        self.passing = self.home / "passing"
        self.url = f"unix://{self.socket}"

    def __repr__(self):
        return f"Engine({self.number}, {self.url})"

    @property
    def pid(self):
        """The daemon's process id, or None when it does not run."""
        try:
            pid = int((self.home / "docker.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            return None
        # The number may have been given to another process since.
        return pid if str(self.home) in command and alive(pid) else None

    @property
    def running(self):
        """True when the daemon runs and answers."""
        return self.pid is not None and self._answers()

    def _answers(self):
        import socket

        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(100)
            except OSError:
                return False

    @contextlib.contextmanager
    def _lock(self):
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "lock", "w", encoding="utf8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def start(self):
        """Start the daemon; return False when it ran already."""
        with self._lock():
            if self.pid is None:
                self._spawn()
                started = True
            else:
                started = False
            _until(self._answers_or_died, START_LIMIT, f"answer of engine {self.number}")
        return started

    @contextlib.contextmanager
    def used(self):
        """Use the engine for a while: started if need be, and then stopped by its last user.

        An engine that somebody started to stay (``engine start``) stays.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        users = open(self.home / "users", "w", encoding="utf8")  # noqa: SIM115 - it is a lock
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            if self.start():
                self.passing.touch()
            yield self
        finally:
            with contextlib.suppress(BlockingIOError):
                # Alone now; nobody can come before this lock is given back.
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.passing.exists():
                    self.passing.unlink()
                    self.stop()
            users.close()

    def _answers_or_died(self):
        if self._answers():
            return True
        if self._daemon is not None and self._daemon.poll() is not None:
            tail = (self.home / "log").read_text().splitlines()[-5:]
            raise RuntimeError(f"engine {self.number} ended at once: " + " | ".join(tail))
        return False

    _daemon = None

    def _spawn(self):
        for stale in ("docker.pid", "docker.sock", "exec/containerd/containerd.pid"):
            (self.home / stale).unlink(missing_ok=True)
        name = f"glance-testbed-{zlib.crc32(str(self.home).encode()):08x}"
        command = [
            "dockerd",
            f"--data-root={self.home}/data",
            f"--exec-root={self.home}/exec",
            f"--pidfile={self.home}/docker.pid",
            f"--config-file={self.home}/daemon.json",
            f"--host={self.url}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{name}",
            "--insecure-registry=127.0.0.0/8",
            "--max-concurrent-downloads=6",
            "--shutdown-timeout=20",
        ]
        (self.home / "daemon.json").write_text("{}\n", encoding="utf8")
        with open(self.home / "log", "ab") as log:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self):
        """Stop the daemon and its containers in good order; return False when it did not run."""
        with self._lock():
            pid = self.pid
            if pid is None:
                return False
            os.kill(pid, signal.SIGTERM)
            try:
                _until(lambda: self._reaped(pid), STOP_LIMIT, f"end of engine {self.number}")
            except TimeoutError:
                self._kill_all()
            self._unmount()
        return True

    def _reaped(self, pid):
        if self._daemon is not None:
            self._daemon.poll()
        return not alive(pid)

    def container_processes(self):
        """Return the ids of all processes in containers, and of their shims."""
        table = _processes()
        mark = f"{self.home}/exec/containerd/containerd.sock"
        family = {
            pid for pid, (_, line) in table.items() if "containerd-shim" in line and mark in line
        }
        grown = True
        while grown:
            more = {pid for pid, (parent, _) in table.items() if parent in family} - family
            family |= more
            grown = bool(more)
        return family

    def processes(self):
        """Return the ids of all processes of the engine: daemons, shims, containers."""
        return self._daemons() | self.container_processes()

    def _daemons(self):
        table = _processes()
        pid = self.pid
        own = {pid} if pid else set()
        mark = f"{self.home}/exec/containerd"
        for other, (_, line) in table.items():
            if line.split("\0")[0].endswith("containerd") and mark in line:
                own.add(other)
        return own

    def _kill_all(self):
        # Daemons first: a living one would restart what dies. Shims before their children
        # would let processes slip away to another parent, so everything is listed before.
        victims = self.processes()
        for pid in sorted(victims):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        late = self.container_processes()
        for pid in late:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        victims |= late
        _until(lambda: self._gone(victims), STOP_LIMIT, f"death of engine {self.number}")

    def _gone(self, victims):
        if self._daemon is not None:
            self._daemon.poll()
        return not any(alive(pid) for pid in victims)

    def crash(self):
        """Kill -9 the engine and every container process: what a power cut does."""
        with self._lock():
            self._kill_all()

    def kill_daemon(self):
        """Kill -9 the daemon alone; its containers may live on."""
        with self._lock():
            pid = self.pid
            if pid:
                os.kill(pid, signal.SIGKILL)
                _until(lambda: self._gone({pid}), STOP_LIMIT, f"death of engine {self.number}")

    def _mounts(self):
        lines = Path("/proc/self/mounts").read_text(encoding="utf8").splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith(f"{self.home}/")]

    def _unmount(self):
        for point in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", point], check=False, capture_output=True)

    def remove(self):
        """Stop the engine and delete everything it holds."""
        self.stop()
        self._kill_all()
        self._unmount()
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.home)], check=True)
