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

from support.salt_call import Result

FOLDER = "/var/lib/glance-cache"
MiB = 1024 * 1024
LIMIT = 20 * MiB
PILLAR = {
    "enable_glance_image_cache": "yes",
    "glance_cache_max_size": "20M",
    "glance_api_workers": 4,
}
CHUNK = 64 * 1024
PACE = 0.2  # seconds between two downloads of a reader


@dataclass
class Image:
    """An image and what it must read like."""

    id: str
    sha256: str


class ImageCache:
    """The cache of a Deployed (support/deployed.py)."""

    def __init__(self, glance):
        self.glance = glance

    # Images

    def upload(self, mebibytes):
        """Make an image of random bytes; return an Image."""
        record = {"name": "cached", "disk_format": "raw", "container_format": "bare"}
        headers = {"Content-Type": "application/json"}
        status, body = self.glance.ask("POST", "/v2/images", json.dumps(record), headers)
        assert status == 201, body
        data, name = os.urandom(int(mebibytes * MiB)), json.loads(body)["id"]
        headers = {"Content-Type": "application/octet-stream"}
        status, body = self.glance.ask("PUT", f"/v2/images/{name}/file", data, headers, timeout=60)
        assert status == 204, body
        return Image(name, hashlib.sha256(data).hexdigest())

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
                except Exception as error:  # noqa: BLE001 - told at the end, from this thread
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
        return self.report(self.glance.salt("glance_cache.clean", **more))

    def start(self, **more):
        """Start the job, and wait until it looks into the cache; return its process."""
        process = self.glance.salt.start("glance_cache.clean", **more)
        self.wait(lambda: self.scripts() or process.poll() is not None)
        return process

    def scripts(self):
        """Whether a script of the job runs in the container."""
        return any("Look at the image cache" in " ".join(row) for row in self.processes())

    def processes(self):
        """The rows that ps has for the container's processes, not cut at its width of a screen."""
        return self.glance.container.top(ps_args="-efww")["Processes"]

    @staticmethod
    def report(result):
        """The report of a Result (support/salt_call.py)."""
        assert isinstance(result.json, dict), (result.stdout, result.stderr)
        return {**result.json, "rc": result.rc}

    def end(self, process):
        """Wait for a job that was started; return its report."""
        stdout, stderr = process.communicate(timeout=120)
        return self.report(Result.of(process.returncode, stdout, stderr))


@contextlib.contextmanager
def frozen(container):
    """A container whose processes stand still, as those of a server that hangs."""
    pids = [int(row[1]) for row in container.top()["Processes"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
