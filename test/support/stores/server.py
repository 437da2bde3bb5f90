"""What all storage servers of the tests have in common."""

import contextlib
import time

from support.docker_engine import archive
from support.session import address

START_LIMIT = 180  # seconds until a server is ready
POLL = 0.2  # seconds between two questions


class Server:
    """A container that is started at once and waited for later, so that all start together.

    address
        Where it listens.
    """

    image = ""  # name for test/testbed/images
    number = 0  # of session.address

    def __init__(self, engine):
        self.engine = engine
        self.address = address(self.number)
        self.container = None

    def run(self, command, files=None, **more):
        """Make the container, put files into it, start it."""
        name = f"{type(self).__name__.lower()}-{self.number}"
        self.container = self.engine.client.containers.create(
            f"store-{self.image}:latest", command, name=name, network_mode="host", **more
        )
        if files:
            self.container.put_archive("/", archive(files))
        self.container.start()

    def is_ready(self):
        """Whether it serves."""
        raise NotImplementedError

    def wait(self):
        """Wait until it is ready; fail with its last words when it is not in time."""
        deadline = time.monotonic() + START_LIMIT
        while not self.is_ready():
            self.container.reload()
            if self.container.status != "running" or time.monotonic() > deadline:
                last = self.container.logs(tail=30).decode("utf8", "replace")
                raise AssertionError(f"{type(self).__name__} does not serve: {last}")
            time.sleep(POLL)
        return self

    @contextlib.contextmanager
    def silent(self):
        """While this lasts it takes connections and never answers; what it holds stays."""
        self.container.pause()
        try:
            yield
        finally:
            self.container.unpause()

    def execute(self, *command):
        """Run a command in it; return what it printed to standard output."""
        code, (output, errors) = self.container.exec_run(list(command), demux=True)
        if code:
            name, told = type(self).__name__, (errors or b"").decode("utf8", "replace")
            raise AssertionError(f"{' '.join(command)} in {name}: {code}: {told}")
        return (output or b"").decode("utf8", "replace")
