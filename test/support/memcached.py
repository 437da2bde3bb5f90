"""As much of memcached as a token cache needs, as a process of its own.

It is what keeps many workers from asking Keystone about the same token all at once.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time

PORT = 11211
START_LIMIT = 30  # seconds until it answers
POLL = 0.05


class Memcached:
    """A context in which it runs on an address."""

    def __init__(self, address):
        self.address = address
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__, self.address])
        deadline = time.monotonic() + START_LIMIT
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no memcached at {self.address}")
            time.sleep(POLL)
        return self

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex((self.address, PORT)) == 0

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


async def _serve(reader, writer, kept):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while line := await reader.readline():
            command, *words = line.decode().split()
            if command in ("get", "gets"):
                for key in words:
                    if key in kept:
                        flags, data = kept[key]
                        head = f"VALUE {key} {flags} {len(data)}" + " 1" * (command == "gets")
                        writer.write(head.encode() + b"\r\n" + data + b"\r\n")
                writer.write(b"END\r\n")
            elif command in ("set", "add", "replace", "cas"):
                data = await reader.readexactly(int(words[3]) + 2)
                kept[words[0]] = (words[1], data[:-2])
                writer.write(b"STORED\r\n")
            elif command == "delete":
                writer.write(
                    b"NOT_FOUND\r\n" if kept.pop(words[0], None) is None else b"DELETED\r\n"
                )
            else:
                writer.write(b"VERSION 1.6.0\r\n" if command == "version" else b"ERROR\r\n")
            await writer.drain()
    writer.close()


async def _main(address):
    kept = {}
    server = await asyncio.start_server(lambda *pair: _serve(*pair, kept), address, PORT)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
