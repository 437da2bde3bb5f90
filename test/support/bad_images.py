"""Images of Glance that pass the proof of a configuration and fail as a service."""

import io
import tarfile

EXITS = """\
#!/bin/sh
echo "this release cannot start: no such flavour of soup" >&2
exit 3
"""
# The service itself, until it is killed.
DIES = """\
#!/bin/bash
"$0.real" "$@" &
sleep {seconds}
echo "this release runs out of luck after {seconds} seconds" >&2
exit 9
"""
# Listens where the service would, shares the address as it would, and answers with errors only.
REFUSES = """\
#!/var/lib/kolla/venv/bin/python3
import http.server, re, socket, sys

address = re.search(r"^http-socket = (.*):(\\d+)$", open(sys.argv[1]).read(), re.M).groups()


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500, "No soup today")

    do_POST = do_PUT = do_DELETE = do_GET


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


print("this release has no soup today", flush=True)
Server((address[0], int(address[1])), Refusing).serve_forever()
"""
HANGS = """\
#!/bin/sh
echo "waiting for soup"
exec sleep 3600
"""


COMMAND = "/var/lib/kolla/venv/bin/uwsgi"  # what Kolla starts from 2026.1 on


def derive(engine, base, kind, **values):
    """Make a bad image of a good one; return its reference.

    kind
        ``exits``, ``dies`` (`seconds` after its start) or ``refuses`` (answers 500); ``hangs``
        instead of doing anything at all, in one-shot containers too.
    """
    tag = "-".join([base, "bad", kind, *map(str, values.values())])
    scripts = {"exits": EXITS, "dies": DIES, "refuses": REFUSES, "hangs": HANGS}
    script = scripts[kind].replace("{seconds}", str(values.get("seconds")))
    place = "/usr/local/bin/kolla_start" if kind == "hangs" else COMMAND
    files = {place: (script, 0o755)}
    if kind == "dies":
        files[f"{COMMAND}.real"] = (_read(engine, base, COMMAND), 0o755)
    return engine.derive(base, tag, files)


def _read(engine, image, path):
    holder = engine.client.containers.create(image, network_mode="host")
    try:
        stream, _ = holder.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            return tar.extractfile(tar.getmembers()[0]).read()
    finally:
        holder.remove(force=True)
