#!/usr/bin/env python3
"""A load of real requests on a Glance API, with a checksum ledger.

Runs as a program of its own, so that whoever drives a test cannot stall it. Lists come in an
open loop (a slow answer does not slow the next question down), half of them on new connections
and half on kept ones; beside them run loops of small uploads that are read back, slow uploads
of known length and chunked, slow downloads, staged imports and imports from a slow web server
that the program itself is. SIGTERM or the end of its time stops it: what is in flight may end,
then every acknowledged image is read once more and compared.

The report (JSON):
    asked       {"kinds", "rate"}: what the options have asked for
    seconds     how long requests were sent
    requests    how many were answered or failed
    failed      how many failed
    slowest     {"kind", "seconds", "at"} of the requests that should be quick
    slow        the same of all that took a second or longer
    lag         the longest time (s) for which this program itself was held up
    kinds       {name: {"ok", "failed", "p50", "p99", "max"}}, times in seconds
    failures    [{"at", "began", "kind", "reason", "image"}]: when it failed and when the request
                began, in seconds since the start
    ledger      [{"id", "kind", "size", "sha512", "state"}], state: deleted, verified, lost, differs
    stuck       [{"id", "status", "kind"}]: images left in importing, saving, uploading or queued
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import ssl
import sys
import time
from pathlib import Path

import aiohttp
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.load_book import Book, write

MIB = 1024 * 1024
# For a Glance that believes these headers, without a Keystone.
IDENTITY = {
    "X-Identity-Status": "Confirmed",
    "X-User-Id": "load",
    "X-Project-Id": "load",
    "X-Roles": "admin,member,reader",
}
ENDED = {"active", "killed", "deleted"}
UNLOCKED = 10  # seconds after which an import that has ended counts so although its lock is there
POLL_INTERVAL = 0.2  # seconds between two looks at an import
AFTER_FAILURE = 0.05  # seconds until a loop goes on after a failure
OUTSTANDING_LIMIT = 1000  # lists in flight; more than that is reported, not sent


class Failed(Exception):
    """A request got no answer or a wrong one."""


def sha512(data):
    """Return the hex digest."""
    return hashlib.sha512(data).hexdigest()


class Load:
    """All loops over one API address."""

    def __init__(self, options):
        self.options = options
        self.book = Book()
        self.stopping = asyncio.Event()
        # Two imports that begin in one moment can deadlock in the database: Glance answers one
        # of them with 500 (image_set_property_atomic is not tried again), with any load.
        self.one_import_at_a_time = asyncio.Lock()
        self.block = os.urandom(MIB)
        self.web_content = {}
        self.web_url = None
        headers = {"X-Auth-Token": options.token} if options.token else {}
        headers |= IDENTITY if options.identity else {}
        patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=options.timeout)
        common = {"base_url": options.url, "headers": headers, "timeout": patience}
        tls = ssl.create_default_context(cafile=options.cafile) if options.cafile else True
        self.new = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0, ssl=tls), **common
        )
        self.kept = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls), **common
        )

    # One request

    async def ask(self, kind, method, path, expected, *, session=None, image=None, **more):
        """Send one request, note how it went, return the body (parsed if it is JSON)."""
        begin, at = time.monotonic(), self.book.at()
        try:
            with self.book.flight(kind):
                answer = await self._exchange(session or self.new, method, path, expected, more)
        except Failed as error:
            self.book.failure(kind, str(error), image, at)
            raise
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            self.book.failure(kind, reason, image, at)
            raise Failed(reason) from error
        self.book.success(kind, time.monotonic() - begin, at)
        return answer

    async def _exchange(self, session, method, path, expected, more):
        reader = more.pop("reader", None)
        async with session.request(method, path, **more) as answer:
            if answer.status != expected:
                text = (await answer.text())[:200]
                raise Failed(f"status {answer.status} instead of {expected}: {text}")
            if reader:
                return await reader(answer)
            body = await answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return json.loads(body) if is_json else body

    # Steps that the loops are made of

    async def create(self, kind, sent):
        """Register an image; `sent` = the kind that its loop is."""
        body = {"name": f"load-{sent}", "disk_format": "raw", "container_format": "bare"}
        answer = await self.ask(kind, "POST", "/v2/images", 201, json=body)
        self.book.made[answer["id"]] = sent
        return answer["id"]

    def content(self, size):
        """Return bytes that no other image has."""
        mark = os.urandom(32)
        return mark + (self.block * (size // MIB + 1))[: size - len(mark)]

    async def pieces(self, data, seconds, count):
        """Yield data in `count` parts spread over `seconds`."""
        step = max(1, len(data) // count)
        for begin in range(0, len(data), step):
            yield data[begin : begin + step]
            await asyncio.sleep(seconds / count)

    async def delete(self, image):
        await self.ask("delete", "DELETE", f"/v2/images/{image}", 204, image=image)
        self.book.ledger[image]["state"] = "deleted"

    def acknowledge(self, image, kind, data):
        self.book.ledger[image] = {
            "id": image,
            "kind": kind,
            "size": len(data),
            "sha512": sha512(data),
            "state": "acknowledged",
        }

    async def put(self, kind, image, data, seconds=0.0, *, chunked=False, path="file"):
        headers = {"Content-Type": "application/octet-stream"}
        body = data
        if seconds:
            body = self.pieces(data, seconds, 32)
        if not chunked:
            headers["Content-Length"] = str(len(data))
        await self.ask(
            kind, "PUT", f"/v2/images/{image}/{path}", 204, data=body, headers=headers, image=image
        )

    async def compare(self, kind, image, seconds=0.0):
        """Download an image (slowly) and compare it with the ledger."""
        entry = self.book.ledger[image]

        async def read(answer):
            digest, size = hashlib.sha512(), 0
            count = max(1, entry["size"] // (256 * 1024))
            async for part in answer.content.iter_chunked(256 * 1024):
                digest.update(part)
                size += len(part)
                if seconds:
                    await asyncio.sleep(seconds / count)
            if digest.hexdigest() != entry["sha512"]:
                raise Failed(f"sha512 differs: {size} of {entry['size']} bytes came")

        path = f"/v2/images/{image}/file"
        await self.ask(kind, "GET", path, 200, reader=read, image=image)

    async def imported(self, kind, image, data):
        """Wait until an import has ended and look at its result."""
        begin, ended = time.monotonic(), None
        with self.book.flight(kind):
            while True:
                if time.monotonic() - begin > self.options.import_deadline:
                    self.book.failure(kind, "the import did not end in time", image)
                    raise Failed(kind)
                with contextlib.suppress(Failed):
                    seen = await self.ask("show", "GET", f"/v2/images/{image}", 200, image=image)
                    waits = seen.get("os_glance_importing_to_stores")
                    if seen["status"] in ENDED and not waits or seen.get("os_glance_failed_import"):
                        # Glance's task still takes its lock off the image: who deletes it now
                        # may get 500 (StaleDataError), with any load.
                        ended = ended or time.monotonic()
                        locked = "os_glance_import_task" in seen
                        if not locked or time.monotonic() - ended > UNLOCKED:
                            break
                    if seen["status"] == "queued" and "os_glance_import_task" not in seen:
                        break
                await asyncio.sleep(POLL_INTERVAL)
        if seen["status"] != "active" or seen.get("os_hash_value") != sha512(data):
            self.book.failure(kind, f"the import ended as {seen['status']}", image)
            raise Failed(kind)
        self.book.success(kind, time.monotonic() - begin, self.book.at())

    # Loops

    async def lists(self):
        """Ask for lists and health at a fixed rate whatever the answers do."""
        interval, tasks, count = 1 / self.options.rate, set(), 0
        due = time.monotonic()
        while not self.stopping.is_set():
            due += interval
            pause = due - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self.book.lag = max(self.book.lag, time.monotonic() - due)
            count += 1
            if len(tasks) > OUTSTANDING_LIMIT:
                self.book.failure("list_new", f"more than {OUTSTANDING_LIMIT} lists in flight")
                continue
            tasks.add(task := asyncio.create_task(self.one_list(count)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def one_list(self, count):
        with contextlib.suppress(Failed):
            if count % 10 == 0:
                await self.ask("health", "GET", "/healthcheck", 200)
            elif count % 2:
                await self.ask("list_new", "GET", "/v2/images?limit=5", 200)
            else:
                await self.ask("list_kept", "GET", "/v2/images?limit=5", 200, session=self.kept)

    async def transfers(self):
        """Small images, up and back; every second one stays for the final comparison."""
        data = self.content(int(self.options.size * MIB))
        image = await self.create("create", "upload")
        await self.put("upload", image, data)
        self.acknowledge(image, "upload", data)
        await self.compare("download", image)
        if random.random() < 0.5:
            await self.delete(image)
        await asyncio.sleep(self.options.pause)

    async def upload_slow(self, kind="upload_slow", chunked=False):
        data = self.content(int(self.options.slow_size * MIB))
        image = await self.create("create", kind)
        await self.put(kind, image, data, self.options.slow_seconds, chunked=chunked)
        self.acknowledge(image, kind, data)
        await self.compare("download", image)
        await self.delete(image)

    async def upload_chunked(self):
        await self.upload_slow("upload_chunked", chunked=True)

    async def download_slow(self):
        if not getattr(self, "big", None):
            data = self.content(int(self.options.big_size * MIB))
            image = await self.create("create", "download_slow")
            await self.put("upload_big", image, data)
            self.acknowledge(image, "download_slow", data)
            self.big = image
        await self.compare("download_slow", self.big, self.options.slow_seconds)

    async def import_direct(self):
        data = self.content(int(self.options.direct_size * MIB))
        image = await self.create("create", "import_direct")
        await self.put("stage", image, data, path="stage")
        await self.start_import("import_direct", image, data, {"name": "glance-direct"})

    async def import_web(self):
        data = self.content(int(self.options.slow_size * MIB))
        image = await self.create("create", "import_web")
        self.web_content[image] = data
        method = {"name": "web-download", "uri": f"{self.web_url}/{image}"}
        try:
            await self.start_import("import_web", image, data, method)
        finally:
            self.web_content.pop(image, None)

    async def start_import(self, kind, image, data, method):
        path = f"/v2/images/{image}/import"
        async with self.one_import_at_a_time:
            await self.ask("import", "POST", path, 202, json={"method": method}, image=image)
        await self.imported(kind, image, data)
        self.acknowledge(image, kind, data)
        await self.compare("download", image)
        await self.delete(image)
        await asyncio.sleep(self.options.pause)

    async def repeat(self, loop):
        while not self.stopping.is_set():
            try:
                await loop()
            except Failed:
                await asyncio.sleep(AFTER_FAILURE)

    # The slow web server that web-download reads

    async def serve(self, request):
        data = self.web_content.get(request.match_info["image"])
        if data is None:
            raise web.HTTPNotFound
        answer = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await answer.prepare(request)
        if request.method == "GET":
            async for part in self.pieces(data, self.options.import_seconds, 64):
                await answer.write(part)
        await answer.write_eof()
        return answer

    async def start_web(self):
        address, _, port = self.options.web.rpartition(":")
        application = web.Application()
        application.router.add_get("/{image}", self.serve)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, int(port)).start()
        self.web_url = f"http://{self.options.web}"
        return runner

    # The whole

    async def run(self):
        """Run all loops until stopped, then look at what is left; return the report."""
        runner = await self.start_web() if "import_web" in self.options.kinds else None
        loops = []
        for kind in self.options.kinds:
            if kind == "lists":
                loops.append(self.lists())
            else:
                loops += [self.repeat(getattr(self, kind)) for _ in range(self.options.loops)]
        running = [asyncio.create_task(loop) for loop in loops]
        watcher = asyncio.create_task(self.tell())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), self.options.seconds)
        self.stopping.set()
        seconds = self.book.at()
        _, late = await asyncio.wait(running, timeout=self.options.grace)
        for task in late:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
        broken = [e for e in results if isinstance(e, Exception)]
        if late:
            self.book.failure("end", f"{len(late)} loops did not end in {self.options.grace} s")
        for error in broken:
            self.book.failure("end", f"a loop broke: {error!r}")
        # What was counted until here is the load; the look afterwards is apart from it.
        status, kinds = self.book.status(), self.book.kinds()
        watcher.cancel()
        await self.verify()
        stuck = await self.stuck()
        if runner:
            await runner.cleanup()
        await asyncio.gather(self.new.close(), self.kept.close())
        return {
            "asked": {"kinds": self.options.kinds, "rate": self.options.rate},
            "seconds": seconds,
            "requests": status["requests"],
            "failed": status["failed"],
            "slowest": status["slowest"],
            "slow": self.book.slow,
            "lag": round(self.book.lag, 3),
            "kinds": kinds,
            "failures": self.book.failures,
            "ledger": list(self.book.ledger.values()),
            "stuck": stuck,
        }

    async def tell(self):
        """Write the state of the load where a test can see it."""
        while self.options.status:
            write(self.options.status, self.book.status())
            await asyncio.sleep(POLL_INTERVAL)

    async def verify(self):
        """Read every acknowledged image again."""
        for image, entry in self.book.ledger.items():
            if entry["state"] != "acknowledged":
                continue
            try:
                await self.compare("verify", image)
                entry["state"] = "verified"
            except Failed as error:
                entry["state"] = "differs" if "sha512" in str(error) else "lost"

    async def stuck(self):
        """Return those of our images that are neither active nor gone."""
        left = []
        for image, kind in self.book.made.items():
            if self.book.ledger.get(image, {}).get("state") in ("deleted", "verified"):
                continue
            try:
                seen = await self.ask("verify", "GET", f"/v2/images/{image}", 200, image=image)
            except Failed:
                continue
            if seen["status"] in ("importing", "saving", "uploading", "queued"):
                left.append({"id": image, "status": seen["status"], "kind": kind})
        return left


KINDS = [
    "lists",
    "transfers",
    "upload_slow",
    "upload_chunked",
    "download_slow",
    "import_direct",
    "import_web",
]


def parse(arguments):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="API address, such as http://127.0.0.1:9292")
    parser.add_argument("--seconds", type=float, default=60, help="how long to send requests")
    parser.add_argument("--rate", type=float, default=60, help="lists per second")
    parser.add_argument("--kinds", default=",".join(KINDS), help="what to do: " + " ".join(KINDS))
    parser.add_argument("--loops", type=int, default=1, help="loops of each kind beside lists")
    parser.add_argument("--size", type=float, default=0.25, help="MiB of a small image")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between small images")
    parser.add_argument("--slow-size", type=float, default=2, help="MiB of a slow transfer")
    parser.add_argument("--slow-seconds", type=float, default=6, help="length of a slow transfer")
    parser.add_argument("--big-size", type=float, default=16, help="MiB of the slow download")
    parser.add_argument("--direct-size", type=float, default=16, help="MiB of a staged import")
    parser.add_argument("--import-seconds", type=float, default=6, help="length of a web-download")
    parser.add_argument("--import-deadline", type=float, default=120, help="when to give one up")
    parser.add_argument("--timeout", type=float, default=60, help="seconds without any byte")
    parser.add_argument("--grace", type=float, default=90, help="seconds for what is in flight")
    parser.add_argument("--web", default="127.0.0.1:18080", help="own web server for web-download")
    parser.add_argument("--token-file", help="file with a token for X-Auth-Token")
    parser.add_argument("--cafile", help="file with the CA of an https address")
    parser.add_argument("--identity", action="store_true", help="say who asks, by headers")
    parser.add_argument("--status", help="file that tells the state five times a second")
    parser.add_argument("--report", help="file for the report")
    options = parser.parse_args(arguments)
    options.kinds = options.kinds.split(",")
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown kinds: {' '.join(sorted(unknown))}")
    token = options.token_file and Path(options.token_file).read_text(encoding="utf8").strip()
    options.token = token
    return options


async def _main(options):
    load = Load(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, load.stopping.set)
    return await load.run()


def main(arguments=None):
    """Run the load; return 0 when nothing failed, nothing was lost and nothing is stuck."""
    options = parse(arguments)
    report = asyncio.run(_main(options))
    if options.report:
        write(options.report, report)
    for kind, row in report["kinds"].items():
        counts = f"ok {row['ok']:6} failed {row['failed']:4}"
        print(f"{kind:16} {counts} p50 {row['p50']} max {row['max']}")
    bad = [entry for entry in report["ledger"] if entry["state"] in ("lost", "differs")]
    print(
        f"{report['requests']} requests in {report['seconds']} s, {report['failed']} failed, "
        f"{len(bad)} images lost, {len(report['stuck'])} stuck, slowest {report['slowest']}"
    )
    return 1 if report["failed"] or bad or report["stuck"] else 0


if __name__ == "__main__":
    sys.exit(main())
