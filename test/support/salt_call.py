"""The real salt-call --local as a process, with a minion of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from support import session
from support.salt_minion import Minion

LIMIT = 600  # seconds that one call may take


@dataclass
class Result:
    """What a call left: exit code, what it returned, what it printed."""

    rc: int
    json: object
    stdout: str
    stderr: str

    @classmethod
    def of(cls, rc, stdout, stderr):
        """The Result of a process that has ended."""
        try:
            parsed = json.loads(stdout)["local"]
        except (ValueError, KeyError, TypeError):
            parsed = None
        return cls(rc, parsed, stdout, stderr)

    @property
    def states(self):
        """The states of a state run, in their order; a render error gives none."""
        if not isinstance(self.json, dict):
            return []
        return sorted(self.json.values(), key=lambda state: state.get("__run_num__", 0))

    @property
    def changed(self):
        """Names of the states that changed something (or would)."""
        return [state.get("__id__") for state in self.states if state.get("changes")]

    @property
    def failed(self):
        """{state: comment} of what failed."""
        return {s.get("__id__"): s.get("comment") for s in self.states if s.get("result") is False}

    @property
    def comments(self):
        """All comments in one text."""
        return "\n".join(str(state.get("comment")) for state in self.states)


class SaltCall:
    """Callable: ``salt_call("state.apply", "glance", test=True)`` -> Result.

    minion
        Its world: `minion.root`, `minion.options`.
    """

    def __init__(self, docker_url):
        self.minion = Minion(docker_url)
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.minion.clean()

    def pillar(self, data):
        """Set the pillar for the calls that follow: {"glance": {...}}."""
        self.minion.pillar(data)

    def command(self, function, *arguments, out="json", level="error", options=None, **keywords):
        """Return the command line; keyword arguments become key=value."""
        configuration = {**self.minion.options, **(options or {})}
        (self.minion.root / "minion").write_text(yaml.safe_dump(configuration), encoding="utf8")
        line = [
            str(Path(sys.executable).with_name("salt-call")),
            "--local",
            f"--config-dir={self.minion.root}",
            f"--out={out}",
            "--no-color",
            f"--log-level={level}",
            "--retcode-passthrough",
            function,
            *map(str, arguments),
        ]
        for name, value in keywords.items():
            text = value if isinstance(value, str) else json.dumps(value)
            line.append(f"{name}={text}")
        return line

    def start(self, function, *arguments, **more):
        """Start a call and return its process, for tests that kill it."""
        process = subprocess.Popen(
            self.command(function, *arguments, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=session.ROOT,
            env=self._environment(),
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def __call__(self, function, *arguments, limit=LIMIT, **more):
        """Run a call to its end.

        function, arguments, more
            As on the command line: ``"state.apply", "glance", test=True, pillar={...}``; also
            `out` (output format), `level` (log level on stderr), `options` (minion options).
        limit
            Seconds after which it is killed and an error raised.
        """
        process = self.start(function, *arguments, **more)
        try:
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            text = f"{function} took longer than {limit} s: {stdout[-2000:]} {stderr[-2000:]}"
            raise AssertionError(text) from None
        return Result.of(process.returncode, stdout, stderr)

    @staticmethod
    def _environment():
        return {**os.environ, "PYTHONWARNINGS": "ignore"}
