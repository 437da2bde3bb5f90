"""A server that tells its name, to see which of several listeners gets a connection.

Run as a program: it listens with SO_REUSEPORT, prints "ready" and answers every line with its
name; the line "slow 1.5" is answered after 1.5 seconds. Standard library only.
"""

import argparse
import contextlib
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import time

DEADLINE = 10  # seconds that anything of these tests may take


class Handler(socketserver.StreamRequestHandler):
    """Answers a line with the name."""

    def handle(self):
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                words = line.split()
                if words[:1] == [b"slow"]:
                    time.sleep(float(words[1]))
                self.wfile.write(self.server.name.encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """As the arguments say."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, arguments):
        self.address_family = socket.AF_INET6 if ":" in arguments.address else socket.AF_INET
        self.arguments, self.name = arguments, arguments.name
        super().__init__((arguments.address, arguments.port), Handler)

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, not self.arguments.alone)
        if self.address_family == socket.AF_INET6:
            only = self.arguments.v6only
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if self.arguments.defer:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEADLINE)
        self.socket.bind(self.server_address)

    def get_request(self):
        connection, peer = super().get_request()
        if self.arguments.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.arguments.tls)
            connection = context.wrap_socket(connection, server_side=True)
        return connection, peer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--alone", action="store_true", help="without SO_REUSEPORT")
    parser.add_argument("--v6only", action="store_true")
    parser.add_argument("--defer", action="store_true", help="a handshake ends with the first data")
    parser.add_argument("--deaf", action="store_true", help="listen, but accept nothing")
    parser.add_argument("--workers", type=int, default=0, help="accept in that many children")
    parser.add_argument("--cpu", type=int, help="open the socket on this CPU")
    parser.add_argument("--user", type=int, help="run as this user")
    parser.add_argument("--tls", help="file with certificate and key")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    if arguments.user:
        os.setgroups([])
        os.setgid(arguments.user)
        os.setuid(arguments.user)
    server = Server(arguments)
    for _ in range(arguments.workers):
        if os.fork() == 0:
            server.serve_forever()
    print("ready", flush=True)
    if arguments.deaf or arguments.workers:
        sys.stdin.read()  # until the test goes away
    else:
        server.serve_forever()


class Listener:
    """Such a server, running."""

    def __init__(self, name, address, port, *options):
        self.name, self.address, self.port = name, address, port
        command = [sys.executable, "-S", __file__, name, address, str(port), *map(str, options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pids = [self.process.pid]

    def ready(self):
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(DEADLINE)
        self.process.stdin.close()
        self.process.stdout.close()


def free_port(address):
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def connect(address, port, source_port=0):
    """A connection, from that port."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        client = stack.enter_context(socket.socket(family))
        client.settimeout(DEADLINE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Closed by a reset: no TIME_WAIT, so that a source port can be used again at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind(("", source_port))
        client.connect((address, port))
        stack.pop_all()
        return client


def ask(address, port, source_port=0, text="", tls=None):
    """The name of the listener that got this connection."""
    with connect(address, port, source_port) as client:
        if tls:
            client = tls.wrap_socket(client)
        client.sendall(text.encode() + b"\n")
        with client.makefile() as answer:
            return answer.readline().strip()


if __name__ == "__main__":
    main()
