"""Kill -9 a salt-call at a point that is seen from outside: an engine's event, a log line.

Nothing here waits for a time: the engine tells its events as they happen, so that the kill comes
within milliseconds of the point.
"""

import os
import queue
import signal
import threading
import time

import docker

LIMIT = 180  # seconds until a point must have been reached
SERVICE, ONE_SHOT = "glance.service", "glance.oneshot"


def event(action, name=None, one_shot=None, count=1):
    """A point: the engine has done something with a container of ours.

    action
        ``create``, ``start``, ``update`` (restart policy), ``rename``, ``kill`` (a signal was
        sent), ``die``, ``destroy``.
    name
        Function of the container's name (after it), such as ``lambda name: "ending" in name``.
    one_shot
        Purpose of a one-shot container; else it is one of the service.
    count
        At which occurrence.
    """
    seen = []

    def is_it(kind, what):
        if kind != "event" or what["Action"].partition(":")[0] != action:
            return False
        labels = what["Actor"]["Attributes"]
        ours = labels.get(ONE_SHOT) == one_shot if one_shot else SERVICE in labels
        if not ours or (name and not name(labels["name"])):
            return False
        seen.append(what)
        return len(seen) == count

    return is_it


def line(text):
    """A point: salt-call has logged a line with this text."""
    return lambda kind, what: kind == "line" and text in what


class Victim:
    """A state.apply that is to be killed.

    deployed
        The deployment (support/deployed.py).
    pillar
        Edit of its pillar.
    """

    def __init__(self, deployed, **pillar):
        deployed.change(**pillar)
        self._queue, self.lines = queue.Queue(), []
        # A client of its own, whose stream of events is open before anything happens.
        self._client = docker.DockerClient(base_url=deployed.engine.url, version="auto")
        self._stream = self._client.events(decode=True, filters={"type": "container"})
        self.process = deployed.salt.start("state.apply", "glance", level="info")
        for kind, source in (("event", self._stream), ("line", self.process.stderr)):
            threading.Thread(target=self._listen, args=[kind, source], daemon=True).start()
        threading.Thread(target=self._printed, daemon=True).start()

    def _listen(self, kind, source):
        try:
            for what in source:
                self._queue.put((kind, what))
        except Exception:  # the engine or this stream was closed
            return

    def _printed(self):
        self.output = self.process.stdout.read()
        self.process.wait()
        self._queue.put(("end", self.output))

    def reach(self, point, seconds=LIMIT):
        """Wait until a point is reached; fail when the run ends before."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                kind, what = self._queue.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not reached in {seconds} s: {self.lines[-20:]}") from None
            if kind == "line":
                self.lines.append(what)
            if point(kind, what):
                return self
            assert kind != "end", f"the run ended before that: {what} {self.lines[-20:]}"

    def end(self):
        """Let the run come to its end; return its exit code."""
        self.reach(lambda kind, what: kind == "end")
        self._close()
        return self.process.returncode

    def kill(self):
        """SIGKILL the whole process group; fail when the run had ended already."""
        os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._close()
        assert code == -signal.SIGKILL, f"ended with {code} before the kill: {self.lines[-20:]}"

    def _close(self):
        self._stream.close()
        self._client.close()

    def kill_at(self, point):
        """Reach a point and kill there."""
        self.reach(point)
        self.kill()


class Client:
    """A context: simple requests, one after the other, with what came of them.

    requests, failures
        Number of answers, and [(time, reason)].
    """

    def __init__(self, deployed, path="/v2/images?limit=1", pause=0.02):
        self._deployed, self._path, self._pause = deployed, path, pause
        self.requests, self.failures, self.slowest = 0, [], 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _run(self):
        while not self._end.wait(self._pause):
            began = time.monotonic()
            status, body = self._deployed.get(self._path, timeout=30)
            self.requests += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if status != 200:
                self.failures.append((time.monotonic(), f"{status} {body[:200]}"))

    @property
    def outage(self):
        """Seconds from the first to the last failure."""
        times = [at for at, _ in self.failures]
        return max(times) - min(times) if times else 0.0
