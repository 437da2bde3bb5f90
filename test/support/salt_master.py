"""A Salt master with its minions, real daemons, and its commands as an operator types them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from support import session
from support.salt_call import LIMIT, Result

START_LIMIT = 90  # seconds until a daemon is up
PATIENCE = 300  # seconds without an answer after which a minion is asked whether it still works
POLL = 0.05


@dataclass
class Answer:
    """What a command of the master left.

    rc, json, stdout, stderr
        Exit code, what it printed as data, what it printed.
    hosts
        ``salt``: {minion: its Result (support/salt_call.py)}.
    """

    rc: int
    json: object
    stdout: str
    stderr: str
    hosts: dict = field(default_factory=dict)

    @classmethod
    def of(cls, rc, stdout, stderr):
        """The Answer of a process that has ended."""
        try:
            parsed = json.loads(stdout)
        except ValueError:
            parsed = None
        hosts = {}
        if isinstance(parsed, dict):
            # An orchestration is wrapped once more.
            inner = parsed.get("data", parsed)
            if isinstance(inner, dict):
                hosts = {name: Result(rc, made, "", "") for name, made in inner.items()}
        return cls(rc, parsed, stdout, stderr, hosts)

    @property
    def result(self):
        """The Result of the only host, which for an orchestration is the master."""
        assert len(self.hosts) == 1, (self.rc, self.stdout[-3000:], self.stderr[-3000:])
        return next(iter(self.hosts.values()))

    @property
    def failed(self):
        """{minion: {state: comment}} of what failed; a minion without states tells all it said."""
        found = {
            name: made.failed if made.states else {"no states": made.json}
            for name, made in self.hosts.items()
        }
        return {name: comments for name, comments in found.items() if comments}

    @property
    def changed(self):
        """{minion: names of the states that changed something} of the minions that changed."""
        return {name: made.changed for name, made in self.hosts.items() if made.changed}


class Job:
    """A command that goes on; `process` may be killed."""

    def __init__(self, line):
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            # Tests that were started in the background ignore Ctrl-C, and so would their children.
            ["env", "--default-signal=INT", *line],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            cwd=session.ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            start_new_session=True,
        )

    @property
    def ended(self):
        return self.process.poll() is not None

    def answer(self, limit=LIMIT):
        """Wait for its end; return its Answer."""
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it took longer than {limit} s: {self._said()}") from None
        return Answer.of(self.process.returncode, *self._said())

    def interrupt(self):
        """End it as Ctrl-C does; return what it has printed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(LIMIT)
        return self._said()[0]

    def _said(self):
        texts = []
        for stream in (self._out, self._err):
            stream.seek(0)
            texts.append(stream.read().decode("utf8", "replace"))
        return texts


class Master:
    """A context in which the master runs; ``add`` starts minions.

    pillar_root
        Folder of its pillar.
    """

    def __init__(self, salt_factories):
        self._factories, self._stack = salt_factories, contextlib.ExitStack()
        self.pillar_root = Path(tempfile.mkdtemp(prefix="gl-pillar-"))
        self.daemon, self.minions = None, {}
        self.write({"base": {}}, {})

    def __enter__(self):
        self.daemon = self._factories.salt_master_daemon(
            "gc",
            overrides={
                "interface": "127.0.0.1",
                "open_mode": True,
                "worker_threads": 4,
                "timeout": 60,
                # A busy machine is slow to say that it still works.
                "gather_job_timeout": 60,
                # What an orchestration makes good, and its report, must come even then.
                "failhard": True,
                "file_roots": {"base": [session.file_root()]},
                "pillar_roots": {"base": [str(self.pillar_root)]},
            },
        )
        self._stack.enter_context(self.daemon.started(start_timeout=START_LIMIT))
        return self

    def __exit__(self, *_):
        self._stack.close()

    def add(self, minions):
        """Start minions: {id: configuration}."""
        for name, overrides in minions.items():
            self.minions[name] = self.daemon.salt_minion_daemon(
                name, overrides={"enable_fqdns_grains": False, "mine_enabled": False, **overrides}
            )
            running = self.minions[name].started(start_timeout=START_LIMIT)
            self._stack.enter_context(running)

    def write(self, top, pillar):
        """Write the pillar: top file, and {name of SLS: content}."""
        for name, content in {"top": top, **pillar}.items():
            # sort_keys off: the order of some mappings has a meaning.
            text = yaml.safe_dump(content, sort_keys=False)
            part = self.pillar_root / f".{name}"
            part.write_text(text, encoding="utf8")
            part.replace(self.pillar_root / f"{name}.sls")

    def line(self, program, function, *arguments, target=(), **keywords):
        """The command line of ``salt TARGET`` or ``salt-run``; keywords become key=value."""
        line = [
            str(Path(sys.executable).with_name(program)),
            f"--config-dir={self.daemon.config_dir}",
            "--out=json",
            "--no-color",
            "--log-level=error",
            *(["--static", f"--timeout={PATIENCE}"] if program == "salt" else []),
            *target,
            function,
            *map(str, arguments),
        ]
        for name, value in keywords.items():
            text = value if isinstance(value, str) else json.dumps(value)
            line.append(f"{name}={text}")
        return line

    def event(self, tag, seconds=60):
        """Wait for an event on the bus whose tag begins so; return (tag, data)."""
        import salt.config
        import salt.utils.event

        options = salt.config.client_config(str(Path(self.daemon.config_dir) / "master"))
        with salt.utils.event.get_event("master", opts=options, listen=True) as bus:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                found = bus.get_event(wait=1, tag=tag, full=True)
                if found:
                    return found["tag"], found["data"]
        raise AssertionError(f"no event {tag} in {seconds} s")
