"""What a load did: times by kind, failures, acknowledged images, what is in flight."""

import contextlib
import json
import time
from pathlib import Path

# What should be answered at once; the other kinds take as long as the client wants them to.
QUICK = {
    "list_new",
    "list_kept",
    "health",
    "create",
    "show",
    "import",
    "upload",
    "download",
    "delete",
}
SLOW = 1  # seconds from which on the report tells each of them


class Book:
    """What happened: times by kind, failures, acknowledged images."""

    def __init__(self):
        self.begin = time.monotonic()
        self.times = {}
        self.failed = {}
        self.failures = []
        self.ledger = {}
        self.in_flight = {}
        self.slowest = {"kind": None, "seconds": 0.0, "at": 0.0}
        self.slow = []
        self.lag = 0.0
        self.made = {}

    def at(self):
        return round(time.monotonic() - self.begin, 3)

    def success(self, kind, seconds, at):
        self.times.setdefault(kind, []).append(seconds)
        if kind in QUICK:
            request = {"kind": kind, "seconds": round(seconds, 3), "at": at}
            if seconds > self.slowest["seconds"]:
                self.slowest = request
            if seconds >= SLOW:
                self.slow.append(request)

    def failure(self, kind, reason, image=None, began=None):
        self.failed[kind] = self.failed.get(kind, 0) + 1
        now = self.at()
        began = now if began is None else began
        self.failures.append(
            {"at": now, "began": began, "kind": kind, "reason": reason, "image": image}
        )

    @contextlib.contextmanager
    def flight(self, kind):
        self.in_flight[kind] = self.in_flight.get(kind, 0) + 1
        try:
            yield
        finally:
            self.in_flight[kind] -= 1

    def status(self):
        done = sum(map(len, self.times.values()))
        failed = sum(self.failed.values())
        flying = {kind: count for kind, count in self.in_flight.items() if count}
        return {
            "at": self.at(),
            "requests": done + failed,
            "failed": failed,
            "slowest": self.slowest,
            "in_flight": flying,
            "recent": self.failures[-5:],
            "ok": {kind: len(times) for kind, times in self.times.items()},
        }

    def kinds(self):
        return {
            kind: {
                "ok": len(self.times.get(kind, ())),
                "failed": self.failed.get(kind, 0),
                **percentiles(self.times.get(kind, ())),
            }
            for kind in sorted({*self.times, *self.failed})
        }


def percentiles(times):
    """Return p50, p99 and max of some times."""
    ordered = sorted(times)
    if not ordered:
        return {"p50": None, "p99": None, "max": None}
    last = len(ordered) - 1
    pick = {"p50": ordered[last // 2], "p99": ordered[int(last * 0.99)], "max": ordered[-1]}
    return {name: round(value, 4) for name, value in pick.items()}


def write(path, value):
    """Replace a JSON file in one step."""
    beside = Path(f"{path}.part")
    beside.write_text(json.dumps(value, indent=1), encoding="utf8")
    beside.replace(path)
