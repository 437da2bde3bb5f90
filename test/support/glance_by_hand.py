"""Glance containers started without the formula, for tests of its parts."""

import http.client
import io
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import docker.errors

from support import glance_files
from support.docker_engine import archive
from support.engines import work_folder

READY_LIMIT = 120  # seconds until a container serves
BOOTSTRAP_LIMIT = 120  # seconds until a database is made
POLL = 0.1  # seconds between two questions
OWNER = 42415  # user and group id of glance in Kolla's images
DATABASE_FILE = "glance.sqlite"
PASTE = "/etc/glance/identity-paste.ini"
# What a client says of itself to a Glance that was started with identity=True.
IDENTITY = {
    "X-Identity-Status": "Confirmed",
    "X-User-Id": "tester",
    "X-Project-Id": "testing",
    "X-Roles": "admin,member,reader",
}


class GlanceByHand:
    """One running Glance container: `container`, `url`, `release`, `data` (its volume)."""

    def __init__(self, container, release, address, port, data, identity=False):
        self.identity = identity
        self.container = container
        self.release = release
        self.address = address
        self.port = port
        self.data = data
        self.url = f"http://{glance_files.join(address, port)}"

    def get(self, path, timeout=10):
        """Return (status, body) of a GET; (0, reason) when there is no answer."""
        headers = IDENTITY if self.identity else {}
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()

    def logs(self, lines=30):
        """Return the end of what the container and Glance's log file say."""
        text = self.container.logs(tail=lines).decode("utf8", "replace")
        command = ["tail", "-n", str(lines), "/var/log/kolla/glance/glance-api.log"]
        self.container.reload()
        if self.container.status == "running":
            text += self.container.exec_run(command).output.decode("utf8", "replace")
        return text

    def wait(self, seconds=READY_LIMIT):
        """Wait until lists are answered; return self."""
        deadline = time.monotonic() + seconds
        while True:
            status, body = self.get("/v2/images?limit=1")
            if status == 200:
                return self
            self.container.reload()
            if self.container.status not in ("created", "running", "restarting"):
                raise AssertionError(f"{self.container.name} ended: {self.logs()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no list from {self.url}: {status} {body} {self.logs()}")
            time.sleep(POLL)


class Maker:
    """Makes databases and containers; callable as the fixture glance_by_hand."""

    def __init__(self, engine):
        self.engine = engine
        self._folders = []

    def __call__(
        self,
        release,
        address,
        name,
        config_files=None,
        *,
        port=9292,
        workers=2,
        options=None,
        uwsgi=None,
        data="glance_by_hand",
        image=None,
        wait=True,
        database=None,
        identity=False,
        **more,
    ):
        """Start a container; return a GlanceByHand.

        release, address, name
            Release such as ``2026.2``, listen address, container name.
        config_files
            {name: text}: replaces or adds files of config_files; None leaves one out.
        port, workers
            Listen port; processes of eventlet or uWSGI.
        options, uwsgi
            {section: {option: value}} for glance-api.conf, {option: value} for uwsgi.ini.
        data
            Volume or host folder at /var/lib/glance; the same one for two containers that take
            over from each other.
        image
            Another image than the release's own.
        wait
            Whether to wait until it serves.
        database
            SQLAlchemy URL of an empty or ready database, for tests that write much; by default
            SQLite in the data volume, made if it has none; False leaves it unmade.
        identity
            Believe the identity that clients put into their headers, as if Keystone had checked
            it. Imports need an owner, which a Glance without authentication does not have.
        more
            Further arguments of the SDK's `containers.run`.
        """
        image = image or self.engine.image(release)
        if database:
            options = glance_files.merged(options or {}, {"database": {"connection": database}})
        if identity:
            options = glance_files.merged(options or {}, {"paste_deploy": {"config_file": PASTE}})
            config_files = {**self.paste(image), **(config_files or {})}
        files = glance_files.files(release, address, port, workers, options, uwsgi, config_files)
        folder = Path(tempfile.mkdtemp(prefix="glance-by-hand-"))
        self._folders.append(folder)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf8")
        if database:
            self.migrate(image, database)
        elif database is None:
            self.sqlite(image, data)
        volumes = {
            str(folder): {"bind": "/var/lib/kolla/config_files", "mode": "ro"},
            data: {"bind": "/var/lib/glance", "mode": "rw"},
            f"logs_{name}": {"bind": "/var/log/kolla", "mode": "rw"},
            **more.pop("volumes", {}),
        }
        environment = {
            "KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS",
            "KOLLA_SERVICE_NAME": "glance-api",
            **more.pop("environment", {}),
        }
        made = self.engine.run(image, name, volumes=volumes, environment=environment, **more)
        glance = GlanceByHand(made, release, address, port, data, identity)
        return glance.wait() if wait else glance

    def paste(self, image):
        """Return the image's paste file with the identity taken from the request's headers."""
        holder = self.engine.client.containers.create(image, network_mode="host")
        try:
            stream, _ = holder.get_archive("/etc/glance/glance-api-paste.ini")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                text = tar.extractfile("glance-api-paste.ini").read().decode()
        finally:
            holder.remove(force=True)
        return {"identity-paste.ini": text.replace(":UnauthenticatedContext", ":Context")}

    def sqlite(self, image, data):
        """Put a bootstrapped SQLite database into a volume that has none yet.

        It is made once for each image, by glance-manage in that image, and kept for later runs.
        """
        key = self.engine.client.images.get(image).id.split(":")[1][:16]
        kept = work_folder() / "cache" / f"glance-{key}.sqlite"
        if not kept.exists():
            self._make_sqlite(image, kept)
        volumes = {data: {"bind": "/var/lib/glance", "mode": "rw"}}
        # A container that never runs, through which the volume can be reached.
        holder = self.engine.client.containers.create(image, volumes=volumes, network_mode="host")
        try:
            holder.get_archive(f"/var/lib/glance/{DATABASE_FILE}")
        except docker.errors.NotFound:
            entry = {DATABASE_FILE: (kept.read_bytes(), 0o640)}
            holder.put_archive("/var/lib/glance", archive(entry, OWNER, OWNER))
        finally:
            holder.remove(force=True)

    def _make_sqlite(self, image, kept):
        with tempfile.TemporaryDirectory(prefix="bootstrap-") as folder:
            Path(folder).chmod(0o777)
            volumes = {folder: {"bind": "/made", "mode": "rw"}}
            self.migrate(image, f"sqlite:////made/{DATABASE_FILE}", volumes, metadefs=True)
            part = kept.with_suffix(".part")
            shutil.copy(Path(folder) / DATABASE_FILE, part)
            part.replace(kept)

    def migrate(self, image, connection, volumes=None, *, metadefs=False):
        """Bring a database to what an image needs."""
        text = glance_files.ini({"database": {"connection": connection}})
        manage = "glance-manage --config-file /tmp/glance.conf"
        command = f"cat >/tmp/glance.conf <<'END'\n{text}\nEND\n{manage} db_sync"
        if metadefs:
            command += f"\n{manage} db_load_metadefs"
        made = self.engine.run(
            image, entrypoint=["bash", "-ec", command], command=[], volumes=volumes or {}
        )
        try:
            if made.wait(timeout=BOOTSTRAP_LIMIT)["StatusCode"]:
                raise AssertionError(f"no database by {image}: {made.logs(tail=30).decode()}")
        finally:
            made.remove(force=True)

    def clean(self):
        """Delete the configuration folders."""
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
