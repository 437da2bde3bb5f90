"""Glance as an operator has it: deployed from pillar by the real ``salt-call state.apply glance``.

The schema is bootstrapped by the formula itself once per image; later deployments get a copy of
that database, which the formula finds and takes as it is.
"""

import contextlib
import copy
import http.client
import io
import ssl
import tarfile
import threading
import time

import docker.errors

from support import session
from support.docker_engine import archive
from support.glance_files import join
from support.load_process import LoadProcess
from support.production import Production, write_whole
from support.salt_call import LIMIT, Result, SaltCall
from support.salt_loaders import Loaders

OWNER = 42415  # user and group id of glance in Kolla's images
DATA, DATABASE_FILE = "glance", "glance.sqlite"
LABEL = "glance.service=api"
HOST = 31  # of session.address: where it listens unless told otherwise
WEB_HOST, WEB_PORT = 9, 18080  # the web server of the load, for web-download
RUNNING = "Glance API runs"  # the state that replaces the container


class Deployed:
    """A running deployment.

    pillar
        The mapping below ``glance:``; change it by :py:meth:`edit`.
    url, address, port, release
        Of its API.
    salt, engine
        The minion (support/salt_call.py) and the engine (support/docker_engine.py).
    """

    def __init__(self, deployer, release, pillar, production):
        self.engine, self.release = deployer.engine, release
        self.production, self._deployer, self._token = production, deployer, None
        self.salt = SaltCall(docker_url=self.engine.url)
        self.pillar = {
            "glance_api_image_full": self.engine.image(release),
            "glance_image_pull": "never",
            "node_config": str(self.salt.minion.root / "etc" / "kolla"),
            "api_interface_address": session.address(HOST),
            # A machine of tests may not be allowed to raise limits.
            "default_container_dimensions": {},
            "glance_min_healthy_time": 2,
            **pillar,
        }
        self.salt.pillar({"glance": self.pillar})

    @property
    def token(self):
        """A token for its API; None without Keystone."""
        # Not at once: one of the same second as the user's new password counts as revoked.
        if self.production and not self._token:
            self._token = self._deployer.token()
        return self._token

    @property
    def address(self):
        return self.pillar["api_interface_address"]

    @property
    def port(self):
        return self.pillar.get("glance_api_listen_port", 9292)

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://{join(self.address, self.port)}"

    @property
    def _tls(self):
        """What to check the API's certificate with: the CAs in pillar alone; None without TLS."""
        if not self.pillar.get("glance_enable_tls_backend"):
            return None
        return ssl.create_default_context(cadata=self._authorities)

    @property
    def _authorities(self):
        return "\n".join(self.pillar["glance_ca_certificates"].values())

    def change(self, **pillar):
        """Edit the pillar without applying it; None takes a key out."""
        merged = {**self.pillar, **pillar}
        self.pillar = {key: value for key, value in merged.items() if value is not None}
        self.salt.pillar({"glance": self.pillar})

    def call(self, function, **more):
        """Call a function in this process, for speed; return its answer and the return code."""
        loaders = Loaders(self.engine.url, {"glance": self.pillar}, minion=self.salt.minion)
        answer = loaders.modules[function](**more)
        return answer, loaders.context.get("retcode", 0)

    def apply(self, sls="glance", **more):
        """Run state.apply to its end; return its Result (support/salt_call.py)."""
        return self.salt("state.apply", sls, **more)

    def edit(self, **pillar):
        """Edit the pillar, apply it, see to it that it worked; return the replacement's comment."""
        self.change(**pillar)
        return self.comment(self.apply())

    def replace(self, **pillar):
        """Edit the pillar and run the state that replaces the container alone; its Result."""
        return self.start_to_replace(**pillar).result()

    def start_to_replace(self, **pillar):
        """Edit the pillar and start that state; return a Run."""
        self.change(**pillar)
        state = ("state.single", "glance_container.running")
        return Run(self.salt.start(*state, name=RUNNING, level="info"))

    def start(self, **pillar):
        """Edit the pillar and start to apply it; return a Run."""
        self.change(**pillar)
        return Run(self.salt.start("state.apply", "glance", level="info"))

    def comment(self, result):
        """What a successful run says about the container."""
        assert result.rc == 0, (result.failed or result.json, result.stderr, self.logs())
        return next(s["comment"] for s in result.states if s["name"] == RUNNING)

    def containers(self):
        """All containers of the service, the newest first, also those that do not run."""
        return self.engine.client.containers.list(all=True, filters={"label": LABEL})

    @property
    def container(self):
        """The container in charge, when there is just one."""
        (only,) = self.containers()
        return only

    def get(self, path, timeout=10):
        """Return (status, body) of a GET; (0, reason) when there is no answer."""
        return self.ask("GET", path, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=10):
        """Return (status, body) of a request; (0, reason) when there is no answer."""
        headers = {**({"X-Auth-Token": self.token} if self.token else {}), **(headers or {})}
        where, tls = (self.address, self.port), self._tls
        if tls:
            connection = http.client.HTTPSConnection(*where, timeout=timeout, context=tls)
        else:
            connection = http.client.HTTPConnection(*where, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()

    def load(self, **options):
        """A load on this API, with its token; see support/load_process.py."""
        if self.token:
            file = self.salt.minion.root / "token"
            file.write_text(self.token, encoding="utf8")
            options.setdefault("token_file", file)
        if self._tls:
            file = self.salt.minion.root / "cas"
            file.write_text(self._authorities, encoding="ascii")
            options.setdefault("cafile", file)
        options.setdefault("web", f"{session.address(WEB_HOST)}:{WEB_PORT}")
        return LoadProcess(self.url, **options)

    def logs(self, lines=30):
        """The end of what containers and Glance's log file say."""
        texts = []
        for container in self.containers():
            texts.append(f"--- {container.name} ({container.status})")
            texts.append(container.logs(tail=lines).decode("utf8", "replace"))
            if container.status == "running":
                command = ["tail", "-n", str(lines), "/var/log/kolla/glance/glance-api.log"]
                texts.append(container.exec_run(command).output.decode("utf8", "replace"))
        return "\n".join(texts)

    def whole(self):
        """Whether the one container serves."""
        found = self.containers()
        running = [one.name for one in found if one.status == "running"]
        return len(found) == 1 and running == ["glance_api"] and self.get("/v2/images")[0] == 200

    def clean(self):
        """Forget the minion."""
        self.salt.__exit__()


class Run:
    """A state.apply that goes on; `process` may be killed."""

    def __init__(self, process):
        self.process = process
        self._said, self._printed = [], []
        self._threads = [
            threading.Thread(target=self._listen, args=[process.stderr, self._said], daemon=True),
            threading.Thread(
                target=self._listen, args=[process.stdout, self._printed], daemon=True
            ),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _listen(stream, said):
        for line in stream:
            said.append((time.time(), line))

    @property
    def log(self):
        """What it logged so far."""
        return "".join(line for _, line in list(self._said))

    def wait_for(self, text, seconds=240):
        """Wait until it logs a text; return when that was, as of time.time()."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            for at, line in list(self._said):
                if text in line:
                    return at
            assert not ended, (
                f"it ended without '{text}': {self.printed[-3000:]} {self.log[-3000:]}"
            )
            assert time.monotonic() < deadline, f"no '{text}' in {seconds} s: {self.log[-3000:]}"
            time.sleep(0.02)

    @property
    def printed(self):
        """What it printed so far."""
        return "".join(line for _, line in list(self._printed))

    def result(self, limit=LIMIT):
        """Wait for its end; return its Result (support/salt_call.py)."""
        self.process.wait(limit)
        for thread in self._threads:
            thread.join()
        return Result.of(self.process.returncode, self.printed, self.log)


class Deployer:
    """The fixture ``deploy``; one deployment at a time, as an engine is one host.

    production
        A function that returns the services beside it (support/production.py).
    """

    def __init__(self, engine, production):
        self.engine = engine
        self._production = production
        self._present, self._order = None, None

    def __call__(self, release="2026.2", *, production=False, reuse=False, apply=True, **pillar):
        """Deploy on the emptied engine; return a Deployed.

        release
            Release of the image; ``glance_api_image_full`` in pillar names another image of it.
        production
            With MariaDB, Keystone and a cache of tokens. Without it is a trial: SQLite, everybody
            is administrator, and Glance cannot import.
        reuse
            Take the present deployment when it was asked for in the same way and serves. True:
            when its pillar is unchanged, too; "edited": whatever it is by now.
        apply
            Whether to run state.apply; False leaves that to the test.
        pillar
            More keys below ``glance:``.
        """
        order = copy.deepcopy((release, production, pillar))
        if reuse and order == self._order and self._is_fine(reuse):
            return self._present
        self.clean()
        self.engine.reset()
        if production:
            # Without a load balancer there is no endpoint to register.
            pillar = {**self._production().pillar(), "glance_keystone_register": "no", **pillar}
        made = Deployed(self, release, pillar, production)
        self._present, self._order = made, order
        self._ordered = copy.deepcopy(made.pillar)
        if apply:
            kept = self._restore(made)
            made.comment(made.apply())
            if not kept:
                self._keep(made)
            # The first question with a token fills the cache of tokens, for all that follow.
            assert made.get("/v2/images?limit=1")[0] == 200, made.logs()
        return made

    def _is_fine(self, reuse):
        unchanged = self._present.pillar == self._ordered
        return (unchanged or reuse == "edited") and self._present.whole()

    def token(self):
        """A new token of the user that the tests are."""
        return self._production().token()

    # The database that was bootstrapped once

    def _image_id(self, made):
        return self.engine.client.images.get(self.engine.image(made.release)).id

    def _restore(self, made):
        """Put the kept database where the formula will look for it; whether there was one."""
        if made.production:
            return self._production().restore(self._image_id(made))
        kept = Production.kept(self._image_id(made), "sqlite")
        if not kept.exists():
            return False
        entry = {DATABASE_FILE: (kept.read_bytes(), 0o640)}
        with self._holder(made) as holder:
            holder.put_archive("/var/lib/glance", archive(entry, OWNER, OWNER))
        return True

    def _keep(self, made):
        """Keep the database that the formula has just made."""
        if made.production:
            self._production().keep(self._image_id(made))
            return
        with self._holder(made) as holder:
            stream, _ = holder.get_archive(f"/var/lib/glance/{DATABASE_FILE}")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                content = tar.extractfile(DATABASE_FILE).read()
        write_whole(Production.kept(self._image_id(made), "sqlite"), content)

    def _holder(self, made):
        return _Holder(self.engine, made)

    def clean(self):
        """Forget the present deployment; the engine is emptied by its own fixture."""
        if self._present:
            self._present.clean()
        self._present = self._order = None


class _Holder:
    """A container that never runs, through which the data volume can be reached."""

    def __init__(self, engine, made):
        data = made.pillar.get("glance_file_datadir_volume", DATA)
        self._made = engine.client.containers.create(
            engine.image(made.release),
            volumes={data: {"bind": "/var/lib/glance", "mode": "rw"}},
            network_mode="host",
        )

    def __enter__(self):
        return self._made

    def __exit__(self, *_):
        self._made.remove(force=True)


def wait_for(condition, seconds, what):
    """Wait until a condition holds; `what` says in the error what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(docker.errors.NotFound):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)
