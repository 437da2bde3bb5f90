"""The image cache of a deployed Glance: fill it, spoil it, look at it, clean it."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass

from support import session
from support.deployed import WEB_HOST, WEB_PORT
from support.salt_call import Result

FOLDER = "/var/lib/glance-cache"
CENTRAL_SINCE = "2024.1"  # the release
MiB = 1024 * 1024
LIMIT = 20 * MiB
PILLAR = {
    "enable_glance_image_cache": "yes",
    "glance_cache_max_size": "20M",
    "glance_api_workers": 4,
    # Imports of the tests come from a loopback address.
    "glance_enable_interoperable_image_import": "yes",
    "glance_image_import": {
        "import_filtering_opts": {
            "allowed_schemes": "[http]",
            "allowed_hosts": [session.address(WEB_HOST)],
            "allowed_ports": [WEB_PORT],
        }
    },
}
CHUNK = 64 * 1024
PACE = 0.2  # seconds between two downloads of a reader


@dataclass
class Image:
    """An image and what it must read like."""

    id: str
    sha256: str


class ImageCache:
    """The cache of a Glance, and its housekeeping.

    glance
        A Deployed (support/deployed.py), or what is like it in ask, get, call, container, address,
        port, token and release.
    mariadb
        The server of its database (support/services.py).
    """

    def __init__(self, glance, mariadb):
        self.glance, self.mariadb = glance, mariadb

    @property
    def central(self):
        """Whether the rows of all nodes are in Glance's database; else in a file of the node."""
        return self.glance.release >= CENTRAL_SINCE

    def rows(self, statement="SELECT image_id FROM cached_images"):
        """First column of what a statement on the rows of copies finds."""
        if self.central:
            return [row[0] for row in self.mariadb.sql(statement, "glance")]
        return self.sqlite(f"{FOLDER}/cache.db", statement)

    def sqlite(self, path, statement):
        """First column of what a statement finds in a database file of the container."""
        code = (
            "import sqlite3, sys\n"
            "link = sqlite3.connect(sys.argv[1], timeout=20)\n"
            "print(*(row[0] for row in link.execute(sys.argv[2])))\n"
            "link.commit()"
        )
        command = ["python3", "-c", code, path, statement]
        done, output = self.glance.container.exec_run(command, user="glance")
        assert done == 0, output
        return output.decode().split()

    def forget(self, image):
        """Remove the row of a copy."""
        self.rows(f"DELETE FROM cached_images WHERE image_id = '{image.id}'")

    # Images

    def empty(self, **record):
        """Make an image without data; return its id."""
        record = {"name": "cached", "disk_format": "raw", "container_format": "bare", **record}
        headers = {"Content-Type": "application/json"}
        status, body = self.glance.ask("POST", "/v2/images", json.dumps(record), headers)
        assert status == 201, body
        return json.loads(body)["id"]

    def upload(self, mebibytes, part="file", **record):
        """Make an image of random bytes; return an Image."""
        name, data = self.empty(**record), os.urandom(int(mebibytes * MiB))
        headers = {"Content-Type": "application/octet-stream"}
        path = f"/v2/images/{name}/{part}"
        status, body = self.glance.ask("PUT", path, data, headers, timeout=60)
        assert status == 204, body
        return Image(name, hashlib.sha256(data).hexdigest())

    def staged(self, mebibytes):
        """Stage random bytes for an image that nobody imports; return its id."""
        return self.upload(mebibytes, "stage").id

    def shown(self, image):
        """What the API tells of an image, by its id."""
        status, body = self.glance.get(f"/v2/images/{image}")
        assert status == 200, body
        return json.loads(body)

    def delete(self, image):
        """Delete an image, also one that has lost its data."""
        assert self.glance.ask("DELETE", f"/v2/images/{image.id}")[0] == 204

    def download(self, image):
        """Download once, so that it is cached; what comes must be right."""
        status, body = self.glance.get(f"/v2/images/{image.id}/file", timeout=60)
        assert status == 200, (body[:300], self.glance.logs())
        assert hashlib.sha256(body).hexdigest() == image.sha256, len(body)

    def fill(self, count, mebibytes):
        """Upload and download so many; return them, the least recently used first."""
        images = [self.upload(mebibytes) for _ in range(count)]
        for image in images:
            self.download(image)
        self.wait(lambda: {one.id for one in images} <= set(self.files()))
        return images

    @contextlib.contextmanager
    def slow_download(self, image):
        """A download that stands still after its beginning until `finish` is called."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        sock.settimeout(60)
        sock.connect((self.glance.address, self.glance.port))
        connection = http.client.HTTPConnection(self.glance.address, self.glance.port)
        connection.sock = sock
        headers = {"X-Auth-Token": self.glance.token}
        connection.request("GET", f"/v2/images/{image.id}/file", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        digest = hashlib.sha256(answer.read(CHUNK))

        def finish():
            for part in iter(lambda: answer.read(CHUNK), b""):
                digest.update(part)
            assert digest.hexdigest() == image.sha256

        try:
            yield finish
        finally:
            connection.close()

    @contextlib.contextmanager
    def readers(self, images, count=3):
        """Threads that download in turn; at the end every byte must have been right."""
        over, done, faults = threading.Event(), [], []

        def read(number):
            turn = number
            while not over.is_set():
                try:
                    self.download(images[turn % len(images)])
                    done.append(turn)
                except Exception as error:  # told at the end, from this thread
                    faults.append(repr(error)[:2000])
                turn += count + 1
                over.wait(PACE)

        threads = [threading.Thread(target=read, args=[number]) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield done
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not faults, faults
        assert done

    # What lies on the disk

    def run(self, command, user="glance"):
        """Run a shell command in the container; return (exit code, output)."""
        code, output = self.glance.container.exec_run(["sh", "-c", command], user=user)
        return code, output.decode("utf8", "replace")

    def files(self, part="."):
        """{name: bytes} of the files in the cache directory, or in one of its parts."""
        code, output = self.run(f"find {FOLDER}/{part} -maxdepth 1 -type f -printf '%f %s\\n'")
        assert code == 0, output
        pairs = (line.split() for line in output.splitlines())
        return {name: int(size) for name, size in pairs if not name.endswith(".db")}

    @property
    def size(self):
        return sum(self.files().values())

    def put(self, path, mebibytes, age=3600):
        """Put a file below the cache directory that was written `age` seconds ago."""
        path = f"{FOLDER}/{path}"
        write = f"head -c {int(mebibytes * MiB)} /dev/zero >{path}"
        code, output = self.run(f"{write} && touch -d '-{age} seconds' {path}")
        assert code == 0, output

    def age(self, names, seconds=3600):
        """Make copies look as if they had been written long ago."""
        for name in names:
            assert self.run(f"touch -d '-{seconds} seconds' {FOLDER}/{name}")[0] == 0

    @staticmethod
    def wait(condition, seconds=20):
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.1)

    @contextlib.contextmanager
    def own_pruner(self):
        """Glance's own pruner, at work; a function tells how often it has pruned nothing."""
        log = "/var/log/kolla/glance/glance-cache.log"
        self.run(f"rm -f {log}")
        command = ["timeout", "300", "glance-cache-pruner", "--debug"]
        self.glance.container.exec_run(command, user="glance", detach=True)
        count = f"grep -c \"Pruning 'None' to free 0 bytes\" {log}"
        try:
            yield lambda: int(self.run(f"{count} 2>/dev/null || echo 0")[1].split()[0])
        finally:
            for row in self.processes():
                if "glance-cache-pruner" in " ".join(row):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(row[1]), signal.SIGKILL)

    # The job

    def clean(self, **more):
        """Run the job by hand; return its report, with the exit code in ``rc``."""
        return self.job("glance_cache.clean", **more)

    def job(self, function, **more):
        """Run any job by hand; return its report likewise."""
        report, code = self.glance.call(function, **more)
        return {**report, "rc": code}

    def start(self, **more):
        """Start the job, and wait until it looks into the cache; return its process."""
        before = set(self.scripts())
        process = self.glance.salt.start("glance_cache.clean", **more)
        self.wait(lambda: set(self.scripts()) - before or process.poll() is not None)
        return process

    def scripts(self):
        """The ids of the processes of the job's script in the container."""
        mark = "Look at the image cache"
        rows = [(int(row[1]), " ".join(row[7:])) for row in self.processes()]
        return [pid for pid, line in rows if line.startswith("python3 ") and mark in line]

    def processes(self):
        """The rows that ps has for the container's processes, not cut at its width of a screen."""
        return self.glance.container.top(ps_args="-efww")["Processes"]

    def end(self, process):
        """Wait for a job that was started; return its report."""
        stdout, stderr = process.communicate(timeout=120)
        result = Result.of(process.returncode, stdout, stderr)
        assert isinstance(result.json, dict), (stdout, stderr)
        return {**result.json, "rc": result.rc}


@contextlib.contextmanager
def frozen(container):
    """A container whose processes stand still, as those of a server that hangs."""
    pids = [int(row[1]) for row in container.top()["Processes"]]
    with stopped(pids):
        yield


@contextlib.contextmanager
def stopped(pids):
    """Processes that stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
