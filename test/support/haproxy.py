"""HAProxy as Kolla runs it: services come as files into a folder, SIGUSR2 reads them again."""

import csv
import io
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

from support.docker_engine import archive
from support.services import START_LIMIT
from support.session import address

# The last of five numbers in HAProxy's HTTP log is that of its tries, with a + before it.
REDISPATCHED = re.compile(r' \d+/\d+/\d+/\d+/\+\d+ .*"(\S+ \S+)')
POLL = 0.1  # seconds between two looks at a condition
STATS = 1936  # port of the admin socket


class HAProxy:
    """A load balancer for the API at one virtual address.

    vip, admin
        Address of its frontends; "ADDRESS:PORT" of its admin socket, for `glance_haproxy_socket`.
    services, socket
        On the host: the folder of its services.d, and its admin socket as a file.
    reload_command
        What its operator types to reload it.
    """

    def __init__(self, engine):
        self.vip = address(240)
        self.admin = f"{self.vip}:{STATS}"
        self.folder = Path(tempfile.mkdtemp(prefix="gl-lb-"))
        self.services = self.folder / "services.d"
        self.services.mkdir()
        self.socket = self.folder / "run" / "haproxy.sock"
        self.socket.parent.mkdir()
        self.container = engine.run(
            engine.image("haproxy"),
            "haproxy",
            command=[self.vip, str(STATS)],
            volumes={
                str(self.services): {"bind": "/etc/haproxy/services.d", "mode": "ro"},
                str(self.socket.parent): {"bind": "/var/lib/kolla/haproxy", "mode": "rw"},
            },
        )
        engine_url = f"--host={engine.url}"
        self.reload_command = f"docker {engine_url} kill --signal USR2 haproxy"
        self._until(self._answers, "answer")

    def _answers(self):
        try:
            return self.tell("show info")
        except OSError:
            return None

    def _until(self, condition, what, seconds=START_LIMIT):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"HAProxy: no {what} in {seconds} s: {self.logs()}")
            time.sleep(POLL)
        return found

    def tell(self, command):
        """Give one command to the admin socket; return what it says."""
        with socket.create_connection((self.vip, STATS), timeout=10) as link:
            link.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: link.recv(65536), b"")).decode().strip()

    def stats(self):
        """Return the rows of `show stat` as mappings, those of servers alone."""
        rows = csv.DictReader(io.StringIO(self.tell("show stat").lstrip("# ")))
        return [row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]

    def servers(self):
        """Return {server: status} of the internal backend, such as UP, DOWN, DRAIN."""
        rows = [row for row in self.stats() if row["pxname"] == "glance_api_back"]
        return {row["svname"]: row["status"] for row in rows}

    def wait(self, seconds=60, **status):
        """Wait until servers have a status: ``wait(ctl1="UP")``; without, until all are UP."""

        def as_asked():
            seen = self.servers()
            wanted = status or dict.fromkeys(seen, "UP")
            return seen and all(seen.get(name) == state for name, state in wanted.items())

        self._until(as_asked, f"{status or 'all UP'} (now {self.servers()})", seconds)

    def reload(self):
        """Make it read its files again, as its operator does; connections go on."""
        before = self._worker()
        self.container.kill("SIGUSR2")
        self._until(lambda: self._worker() not in (None, before), "reload")

    def _worker(self):
        """What the worker that answers now is: its process id."""
        said = self._answers() or ""
        return next((line for line in said.splitlines() if line.startswith("Pid:")), None)

    def redispatched(self):
        """Return the requests that were given to another server, as "GET /healthcheck"."""
        lines = self.container.logs().decode("utf8", "replace").splitlines()
        found = [REDISPATCHED.search(line) for line in lines]
        return [match[1] for match in found if match]

    def check(self, text):
        """Let the real HAProxy judge a drop-in; return (exit code, what it says)."""
        self.container.put_archive("/tmp", archive({"check.cfg": text}))
        files = ["-f", "/etc/haproxy/haproxy.cfg", "-f", "/tmp/check.cfg"]
        done = self.container.exec_run(["haproxy", "-c", *files])
        return done.exit_code, done.output.decode("utf8", "replace")

    def logs(self, lines=30):
        return self.container.logs(tail=lines).decode("utf8", "replace")

    def clear(self):
        """Forget every service."""
        for file in self.services.iterdir():
            file.unlink()
        self.reload()

    def clean(self):
        """Delete its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
