"""Run the load generator beside a test, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("load.py")
POLL = 0.1  # seconds between two looks at the state of the load
START_LIMIT = 30  # seconds until the program sends requests


class LoadProcess:
    """A context in which load runs on an API address.

    url
        API address.
    options
        Options of load.py by name, such as ``rate=60, slow_seconds=4, kinds="lists,transfers"``.

    ``with LoadProcess(url, web="127.0.10.9:18080") as load:`` starts it. Inside,
    ``load.wait(requests=500)`` and ``load.wait(in_flight=["import_web"])`` wait for its progress,
    ``report = load.stop()`` ends it. Leaving the context ends it too.
    """

    def __init__(self, url, **options):
        self.folder = Path(tempfile.mkdtemp(prefix="load-"))
        self._status = self.folder / "status.json"
        self._report = self.folder / "report.json"
        self._output = self.folder / "output"
        # A limit of its own: a test that dies must not leave a load for ever.
        options = {"seconds": 900, "status": self._status, "report": self._report, **options}
        self.command = [sys.executable, str(PROGRAM), url]
        for name, value in options.items():
            if value is not False:
                self.command.append(f"--{name.replace('_', '-')}")
            if not isinstance(value, bool):
                self.command.append(str(value))
        self.process = None
        self.report = None

    def __enter__(self):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with open(self._output, "wb") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=output, env=environment
            )
        self.wait(requests=1, seconds=START_LIMIT)
        return self

    def __exit__(self, *_):
        if self.report is None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def output(self):
        """What the program printed."""
        return self._output.read_text(encoding="utf8")

    def status(self):
        """Return the state now: at, requests, failed, slowest, in_flight, ok."""
        try:
            return json.loads(self._status.read_text(encoding="utf8"))
        except FileNotFoundError:
            return {"at": 0, "requests": 0, "failed": 0, "in_flight": {}, "ok": {}}

    def wait(self, *, requests=0, failed=0, in_flight=(), ok=None, seconds=120):
        """Wait until the load got that far.

        requests, failed
            At least so many requests made, or failed.
        in_flight
            Kinds of which at least one is going on at this moment.
        ok
            {kind: least number of successes}.
        seconds
            When to give up.
        """
        deadline = time.monotonic() + seconds
        while True:
            seen = self.status()
            if (
                seen["requests"] >= requests
                and seen["failed"] >= failed
                and all(seen["in_flight"].get(kind) for kind in in_flight)
                and all(seen["ok"].get(kind, 0) >= count for kind, count in (ok or {}).items())
            ):
                return seen
            if self.process.poll() is not None:
                raise AssertionError(f"the load ended too early: {self.output[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the load did not get that far in {seconds} s: {seen}")
            time.sleep(POLL)

    def begin_nothing_new(self):
        """Let it end what is in flight, and then itself."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=240):
        """End the load, let it verify its ledger, return the report (load.py describes it)."""
        if self.process.poll() is None:
            self.begin_nothing_new()
        self.process.wait(seconds)
        if not self._report.exists():
            raise AssertionError(f"the load left no report: {self.output[-2000:]}")
        self.report = json.loads(self._report.read_text(encoding="utf8"))
        return self.report
