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
"{real}" "$@" &
sleep {seconds}
echo "this release runs out of luck after {seconds} seconds" >&2
exit 9
"""
# The same, but until it is told to.
FAILS = """\
#!/bin/bash
"{real}" "$@" &
until test -e {file}; do sleep 0.1; done
echo "this release was told to die" >&2
exit 9
"""
# Listens where the service would, shares the address as it would, and answers with errors only.
REFUSES = """\
#!/var/lib/kolla/venv/bin/python3
import http.server, re, socket, sys

eventlet = ["/etc/glance/glance-api.conf"]
text = open((sys.argv[1:] or eventlet)[0]).read()
found = re.search(r"^http-socket = (.*):(\\d+)$", text, re.M)
address = found.groups() if found else [
    re.search(rf"^bind_{part} *= *(.*)$", text, re.M)[1] for part in ("host", "port")
]


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


REAL = "/usr/local/share"  # the service itself lies there, since its name tells its configuration
COMMAND = "/var/lib/kolla/venv/bin/uwsgi"  # what Kolla starts from 2026.1 on
EVENTLET = "/var/lib/kolla/venv/bin/glance-api"  # and before


def derive(engine, base, kind, command=COMMAND, **values):
    """Make a bad image of a good one; return its reference.

    kind
        ``exits``, ``dies`` (`seconds` after its start), ``fails`` (when there is a `file` in the
        container) or ``refuses`` (answers 500); ``hangs`` instead of doing anything at all, in
        one-shot containers too.
    command
        What the release starts.
    """
    tag = "-".join([base, "bad", kind, *(str(value).strip("/") for value in values.values())])
    tag = tag.replace("/", "-")
    scripts = {"exits": EXITS, "dies": DIES, "fails": FAILS, "refuses": REFUSES, "hangs": HANGS}
    script = scripts[kind]
    real = f"{REAL}/{command.rpartition('/')[2]}"
    for name, value in {**values, "real": real}.items():
        script = script.replace(f"{{{name}}}", str(value))
    place = "/usr/local/bin/kolla_start" if kind == "hangs" else command
    files = {place: (script, 0o755)}
    if kind in ("dies", "fails"):
        files[real] = (_read(engine, base, command), 0o755)
    return engine.derive(base, tag, files)


def _read(engine, image, path):
    holder = engine.client.containers.create(image, network_mode="host")
    try:
        stream, _ = holder.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            return tar.extractfile(tar.getmembers()[0]).read()
    finally:
        holder.remove(force=True)
