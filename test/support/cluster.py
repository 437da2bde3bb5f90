"""Three hosts as an operator has them: minions of one master, behind one load balancer.

Each host has an engine and an address of its own; all are this machine. The directory of images
is one, so that it is as shared as a network filesystem is.
"""

import concurrent.futures
import contextlib
import copy
import http.client
import shutil
import tempfile
from pathlib import Path

from support import cpu, session
from support.deployed import LABEL, WEB_HOST, WEB_PORT, wait_for
from support.docker_engine import TestEngine
from support.load_process import LoadProcess
from support.salt_master import Job

RELEASE = "2026.2"
PORT = 9292
FIRST_ADDRESS = 41  # of session.address
# Keys of a host that answers lists beside slow transfers, each of which holds a worker.
BUSY = {"glance_api_workers": 3}


class Host:
    """One of the hosts.

    id, address, url
        Minion id; where its API listens.
    engine, root
        Its Docker engine (support/docker_engine.py); the folder that stands for its own disk.
    """

    def __init__(self, number, engine, root):
        self.id, self.engine, self.root = f"ctl{number}", engine, root
        self.address = session.address(FIRST_ADDRESS + number - 1)
        self.url = f"http://{self.address}:{PORT}"

    def containers(self):
        """All containers of the service, the newest first, also those that do not run."""
        return self.engine.client.containers.list(all=True, filters={"label": LABEL})

    @property
    def container(self):
        """The container in charge, when there is just one."""
        (only,) = self.containers()
        return only

    def logs(self, lines=30):
        """The end of what containers and Glance's log file say."""
        texts = []
        for container in self.containers():
            texts.append(f"--- {self.id}: {container.name} ({container.status})")
            texts.append(container.logs(tail=lines).decode("utf8", "replace"))
            if container.status == "running":
                command = ["tail", "-n", str(lines), "/var/log/kolla/glance/glance-api.log"]
                texts.append(container.exec_run(command).output.decode("utf8", "replace"))
        return "\n".join(texts)


class Engines:
    """A context in which the engines of so many hosts run; `hosts` are these."""

    def __init__(self, count):
        self._root = Path(tempfile.mkdtemp(prefix="gl-hosts-"))
        self.shared = self._root / "images"  # seen by all hosts
        numbers = range(1, count + 1)
        self.hosts = [
            # No run has such a number: 1 to 25 are theirs, 101 to 125 of their services.
            Host(n, TestEngine(session.ENGINE_NUMBER + 100 + 100 * n), self._root / f"ctl{n}")
            for n in numbers
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        self._each(lambda host: self._stack.enter_context(host.engine.used()))
        self._each(lambda host: host.engine.reset())
        self.image(RELEASE)
        return self

    def __exit__(self, *_):
        self._each(lambda host: host.engine.reset())
        self._stack.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _each(self, do):
        """Do something on all hosts at once."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(do, self.hosts))

    def image(self, release):
        """Bring the image of a release onto every host; return its reference."""
        return self._each(lambda host: host.engine.image(release))[0]

    def minions(self):
        """{id: configuration} of the hosts' minions."""
        return {host.id: {"docker.url": host.engine.url} for host in self.hosts}

    def empty(self):
        """Remove containers, volumes, images of Glance, configuration."""
        self._each(lambda host: host.engine.reset())
        for folder in (self.shared, *(host.root for host in self.hosts)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()


class Cluster:
    """The hosts with their master, services and load balancer.

    hosts, ids
        Three of Host; their minion ids, which are the group.
    master, haproxy, production
        See support/salt_master.py, haproxy.py, production.py (mariadb, keystone, token).
    keys
        The mapping below ``glance:`` of all hosts; change it by ``pillar``.
    shared
        The directory that all hosts see as ``glance_file_datadir_volume``.
    """

    def __init__(self, engines, master, production, haproxy):
        self._engines, self.hosts, self.shared = engines, engines.hosts, engines.shared
        self.ids = [host.id for host in self.hosts]
        self.master, self.production, self.haproxy = master, production, haproxy
        self.keys, self.own, self._token = {}, {}, None
        self._order = self._ordered = None

    def host(self, name):
        """The Host of a minion id."""
        return next(host for host in self.hosts if host.id == name)

    def image(self, release):
        """Bring the image of a release onto every host; return its reference."""
        return self._engines.image(release)

    # Pillar

    def pillar(self, host=None, **keys):
        """Edit the pillar of all hosts, or of one; None takes a key out.

        `state.apply` sees it at once; for a function that reads pillar call ``refresh`` before.
        """
        place = self.keys if host is None else self.own[host]
        place.update(keys)
        for key in [key for key, value in place.items() if value is None]:
            del place[key]
        self._write()

    def _write(self):
        top = {"*": ["glance"], **{name: [f"host_{name}"] for name in self.ids}}
        own = {f"host_{name}": {"glance": keys} for name, keys in self.own.items()}
        self.master.write({"base": top}, {"glance": {"glance": self.keys}, **own})

    def refresh(self, target="*"):
        """Make the minions take the present pillar."""
        answer = self.salt(target, "saltutil.refresh_pillar", wait=True)
        assert set(answer.json.values()) == {True}, answer

    # Commands

    def start(self, target, function, *arguments, **keywords):
        """``salt TARGET FUNCTION ...`` that goes on; returns a Job (support/salt_master.py)."""
        kind = ["-L", ",".join(target)] if isinstance(target, list) else [target]
        return Job(self.master.line("salt", function, *arguments, target=kind, **keywords))

    def salt(self, target, function, *arguments, limit=600, **keywords):
        """``salt TARGET FUNCTION ...``; returns its Answer (support/salt_master.py)."""
        return self.start(target, function, *arguments, **keywords).answer(limit)

    def start_run(self, function, *arguments, **keywords):
        """``salt-run FUNCTION ...`` that goes on; returns a Job."""
        return Job(self.master.line("salt-run", function, *arguments, **keywords))

    def run(self, function, *arguments, limit=600, **keywords):
        """``salt-run FUNCTION ...``; returns its Answer, with the states in ``.result``."""
        return self.start_run(function, *arguments, **keywords).answer(limit)

    def apply(self, target="*", sls="glance", **keywords):
        """state.apply on all hosts at once, or on one; all of it must work. Its Answer."""
        answer = self.salt(target, "state.apply", sls, **keywords)
        self.must_work(answer, self.ids if target == "*" else [target])
        return answer

    def must_work(self, answer, hosts=None):
        """All hosts have answered, and none with a failure."""
        asked = self.ids if hosts is None else hosts
        assert answer.rc == 0 and not answer.failed, self.told(answer)
        assert sorted(answer.hosts) == sorted(asked), self.told(answer)

    def told(self, answer):
        """What went wrong, for the message of an assertion."""
        logs = [host.logs() for host in self.hosts]
        return "\n".join([str(answer.failed), answer.stdout[-3000:], answer.stderr, *logs])

    # Deployments

    def fresh(self, release=RELEASE, **keys):
        """Empty all hosts and the database; set the pillar of a group of all hosts."""
        self._engines.empty()
        self.haproxy.clear()
        self._order = None
        self.keys = {
            "glance_api_image_full": self.image(release),
            "glance_image_pull": "never",
            "glance_api_group": self.ids,
            "glance_api_addresses": {host.id: host.address for host in self.hosts},
            "kolla_internal_vip_address": self.haproxy.vip,
            "glance_loadbalancer_group": self.ids[:1],
            "glance_file_datadir_volume": str(self.shared),
            "glance_file_datadir_shared": "yes",
            "glance_api_workers": 2,
            "glance_min_healthy_time": 2,
            # A machine of tests may not be allowed to raise limits.
            "default_container_dimensions": {},
            # The load imports from its own web server, which is on a loopback address.
            "glance_image_import": {
                "import_filtering_opts": {
                    "allowed_schemes": "[http]",
                    "allowed_hosts": [session.address(WEB_HOST)],
                    "allowed_ports": [WEB_PORT],
                }
            },
            "glance_enable_interoperable_image_import": True,
            **self.production.pillar(),
            **keys,
        }
        self.own = {
            host.id: {
                "api_interface_address": host.address,
                "node_config": str(host.root / "kolla"),
                "glance_backup_dir": str(host.root / "backups"),
            }
            for host in self.hosts
        }
        # All hosts are one machine, but only the first has the HAProxy.
        self.own[self.ids[0]].update(
            glance_haproxy_file=str(self.haproxy.services / "glance-api.cfg"),
            glance_haproxy_reload=self.haproxy.reload_command,
        )
        self._write()

    def deploy(self, release=RELEASE, *, reuse=False, bootstrap=False, **keys):
        """A running deployment on all hosts; returns the Answer of its state.apply, if there was.

        reuse
            Take the present one when it was asked for in the same way and serves. True: when its
            pillar is unchanged, too; "edited": whatever it is by now.
        bootstrap
            Begin with an empty database and an empty Keystone, not with the database that was
            kept for the image.
        keys
            More keys below ``glance:``.
        """
        if reuse and self._order == (release, keys) and self._is_fine(reuse):
            return None
        self.fresh(release, **keys)
        image_id = self.hosts[0].engine.client.images.get(self.image(release)).id
        if bootstrap:
            self.production.keystone.remove_glance()
        kept = not bootstrap and self.production.restore(image_id)
        answer = self.apply()
        if not kept:
            self.production.keep(image_id)
        self.haproxy.wait()
        # The first question with a token fills the cache of tokens, for all that follow.
        for host in self.hosts:
            assert self.ask("GET", "/v2/images?limit=1", host)[0] == 200, host.logs()
        self._order = (release, keys)
        self._ordered = copy.deepcopy((self.keys, self.own))
        return answer

    def restore_database(self, release):
        """Put the database in its first state for a release, under the running service."""
        image_id = self.hosts[0].engine.client.images.get(self.image(release)).id
        assert self.production.restore(image_id), "there is no database of this image yet"
        for host in self.hosts:
            # Connections of before are gone; each process finds out once.
            wait_for(
                lambda host=host: self.ask("GET", "/v2/images?limit=1", host)[0] == 200,
                60,
                f"an answer of {host.id}",
            )

    def _is_fine(self, reuse):
        unchanged = (self.keys, self.own) == self._ordered
        return (unchanged or reuse == "edited") and self.whole()

    def whole(self):
        """Whether every host has its one container, and serves."""
        return all(
            [one.status for one in host.containers()] == ["running"]
            and self.ask("GET", "/v2/images?limit=1", host)[0] == 200
            for host in self.hosts
        )

    def cpu(self):
        """CPU seconds so far of Salt (commands too) and of the hosts' engines and containers."""
        salt = [self.master.daemon.pid, *(one.pid for one in self.master.minions.values())]
        pids = [cpu.family(pid) for pid in salt] + [one.engine.processes() for one in self.hosts]
        return cpu.seconds(set().union(*pids))

    # Requests

    @property
    def url(self):
        """Of the API at the load balancer."""
        return f"http://{self.haproxy.vip}:{PORT}"

    @property
    def token(self):
        """A token of the user that the tests are."""
        if not self._token:
            self._token = self.production.token()
        return self._token

    def ask(self, method, path, host=None, body=None, headers=None, timeout=30):
        """Return (status, body) of a request to the load balancer, or straight to a host."""
        address = host.address if host else self.haproxy.vip
        headers = {"X-Auth-Token": self.token, **(headers or {})}
        connection = http.client.HTTPConnection(address, PORT, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()

    def load(self, url=None, **options):
        """A load through the load balancer, or on `url`, with a token; see load_process.py."""
        file = self._engines.shared.parent / "token"
        file.write_text(self.token, encoding="utf8")
        options.setdefault("token_file", file)
        options.setdefault("web", f"{session.address(WEB_HOST)}:{WEB_PORT}")
        return LoadProcess(url or self.url, **options)

    def empty(self):
        """Remove everything that was deployed."""
        self._order = None
        self._engines.empty()

    def clean(self):
        """Forget what was deployed."""
        self._order = None
