"""What others can learn of the work of a Salt master: events, kept jobs, logs."""

import os
import threading
from pathlib import Path

import salt.config
import salt.utils.event

START = 30  # seconds until the bus is listened to
WAIT = 0.5  # seconds for one event


class Overheard(threading.Thread):
    """A context; afterwards :py:meth:`leaks` tells where words were found meanwhile.

    master
        See support/salt_master.py. Its daemon, and those of its minions, write all that they log
        from level debug on. Its own cache of the minions' pillar is no concern of anybody else.
    """

    def __init__(self, master):
        super().__init__(daemon=True)
        daemon = master.daemon
        self._options = salt.config.client_config(str(Path(daemon.config_dir) / "master"))
        self._jobs = Path(daemon.config["cachedir"]) / "jobs"
        every = [daemon, *master.minions.values()]
        self._logs = {Path(one.config["log_file"]): 0 for one in every}
        self._events, self._before = [], set()
        self._listens, self._over = threading.Event(), threading.Event()
        self._error = None  # that has ended it too early

    def run(self):
        try:
            with salt.utils.event.get_event("master", opts=self._options, listen=True) as bus:
                while not self._over.is_set():
                    found = bus.get_event(wait=WAIT, full=True)
                    self._listens.set()
                    if found:
                        self._events.append((found["tag"], repr(found["data"])))
        except Exception as error:  # whatever it is, it is raised in the test's own thread
            self._error = error

    def __enter__(self):
        self._logs = {path: path.stat().st_size for path in self._logs}
        self._before = set(self._kept())
        self.start()
        assert self._listens.wait(START), self._error
        return self

    def __exit__(self, failed, *_):
        self._over.set()
        self.join()
        if self._error and not failed:
            raise self._error

    def leaks(self, words, printed):
        """Where one of some words is; everything is looked through, and none of it is empty.

        words
            ``{what it is: the word}``.
        printed
            What commands have printed.
        """
        texts = {f"printed by command {n}": text for n, text in enumerate(printed)}
        texts.update((f"event {tag} ({n})", data) for n, (tag, data) in enumerate(self._events))
        kept = [path for path in self._kept() if path not in self._before]
        texts.update((str(path), _read(path)) for path in kept)
        texts.update((str(path), _read(path, offset)) for path, offset in self._logs.items())
        assert any(tag.startswith("glance/") for tag, _ in self._events), "no progress was told"
        assert kept, "no job was kept"
        assert all(texts[str(path)] for path in self._logs), "no log"
        assert all(printed), "nothing was printed"
        return [(what, place) for place, text in texts.items() for what in _held(words, text)]

    def _kept(self):
        return [Path(folder) / name for folder, _, names in os.walk(self._jobs) for name in names]


def _held(words, text):
    return [what for what, word in words.items() if word in text]


def _read(path, offset=0):
    with path.open("rb") as file:
        # A daemon that starts again may begin anew.
        file.seek(offset if offset <= path.stat().st_size else 0)
        return file.read().decode("utf-8", "replace")
