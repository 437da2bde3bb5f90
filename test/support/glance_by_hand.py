"""Glance containers started without the formula, for tests of its parts."""

import http.client
import tempfile
import time
from pathlib import Path

from support import glance_files
from support.docker_engine import archive
from support.engines import work_folder

READY_LIMIT = 120  # seconds until a container serves
BOOTSTRAP_LIMIT = 120  # seconds until a database is made
POLL = 0.1  # seconds between two questions
OWNER = 42415  # user and group id of glance in Kolla's images
DATABASE_FILE = "glance.sqlite"


class GlanceByHand:
    """One running Glance container: `container`, `url`, `release`, `data` (its volume)."""

    def __init__(self, container, release, address, port, data):
        self.container = container
        self.release = release
        self.address = address
        self.port = port
        self.data = data
        self.url = f"http://{glance_files.join(address, port)}"

    def get(self, path, timeout=10):
        """Return (status, body) of a GET; (0, reason) when there is no answer."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
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
        bootstrap=True,
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
        bootstrap
            Whether to make the SQLite database when the volume has none.
        more
            Further arguments of the SDK's `containers.run`.
        """
        image = image or self.engine.image(release)
        files = glance_files.files(release, address, port, workers, options, uwsgi)
        files |= config_files or {}
        folder = Path(tempfile.mkdtemp(prefix="glance-by-hand-"))
        self._folders.append(folder)
        for file, text in files.items():
            if text is not None:
                (folder / file).write_text(text, encoding="utf8")
        if bootstrap:
            self.database(release, data, image)
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
        glance = GlanceByHand(made, release, address, port, data)
        return glance.wait() if wait else glance

    def database(self, release, data, image=None):
        """Put a bootstrapped SQLite database into a volume that has none yet.

        It is made once for each image, by glance-manage in that image, and kept for later runs.
        """
        image = image or self.engine.image(release)
        key = self.engine.client.images.get(image).id.split(":")[1][:16]
        kept = work_folder() / "cache" / f"glance-{key}.sqlite"
        if not kept.exists():
            self._bootstrap(release, image, kept)
        holder = self._holder(image, data)
        try:
            try:
                holder.get_archive(f"/var/lib/glance/{DATABASE_FILE}")
            except Exception as error:  # noqa: BLE001 - the SDK has several kinds of "not found"
                if getattr(error, "status_code", None) != 404:
                    raise
                entry = {DATABASE_FILE: (kept.read_bytes(), 0o640)}
                holder.put_archive("/var/lib/glance", archive(entry, OWNER, OWNER))
        finally:
            holder.remove(force=True)

    def _holder(self, image, data):
        """Return a container that never runs, through which a volume can be reached."""
        volumes = {data: {"bind": "/var/lib/glance", "mode": "rw"}}
        return self.engine.client.containers.create(image, volumes=volumes, network_mode="host")

    def _bootstrap(self, release, image, kept):
        text = glance_files.ini(
            {"database": {"connection": f"sqlite:////tmp/made/{DATABASE_FILE}"}}
        )
        with tempfile.TemporaryDirectory(prefix="bootstrap-") as folder:
            (Path(folder) / "glance-api.conf").write_text(text, encoding="utf8")
            (Path(folder) / "made").mkdir()
            (Path(folder) / "made").chmod(0o777)
            Path(folder).chmod(0o755)
            manage = "glance-manage --config-file /tmp/glance-api.conf"
            volumes = {folder: {"bind": "/tmp", "mode": "rw"}}
            made = self.engine.run(
                image,
                entrypoint=["bash", "-ec", f"{manage} db_sync; {manage} db_load_metadefs"],
                command=[],
                volumes=volumes,
            )
            try:
                result = made.wait(timeout=BOOTSTRAP_LIMIT)
                if result["StatusCode"]:
                    raise AssertionError(f"no database for {release}: {made.logs().decode()}")
            finally:
                made.remove(force=True)
            part = kept.with_suffix(".part")
            part.write_bytes((Path(folder) / "made" / DATABASE_FILE).read_bytes())
            part.replace(kept)

    def clean(self):
        """Delete the configuration folders."""
        import shutil

        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
