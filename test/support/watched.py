"""A production Glance with MariaDB and Keystone, and what others can see while it is deployed."""

import contextlib
import json
import subprocess
import threading
import urllib.error
import urllib.request

import docker.errors

from support import session
from support.salt_call import SaltCall

# Unique strings, one per secret that the pillar may hold here.
CANARIES = {
    "database_password": "canary-dbadmin-7f31@/%",
    "glance_database_password": "canary-dbglance-91c2@/%",
    "glance_keystone_password": "canary-keystone-5ad0",
    "memcache_secret_key": "canary-memcache-66b1",
    "rabbitmq_password": "canary-rabbit-c8f4",
    "docker_registry_password": "canary-registry-0e17",
    "keystone_admin_password": "canary-ksadmin-b2e9{/%",
    "custom": "canary-custom-2d9a0123456789abcd",
}


class Watched:
    """A deployed production Glance, and how to change and ask it."""

    def __init__(self, engine, call, mariadb, keystone, image, folder):
        self.engine, self.call, self.mariadb, self.keystone = engine, call, mariadb, keystone
        self.url = f"http://{session.address()}:9292"
        self.folder = folder
        self.base = {
            "glance_api_image_full": image,
            "glance_image_pull": "never",
            "node_config": str(folder / "kolla"),
            "default_container_dimensions": {},
            "api_interface_address": session.address(),
            "kolla_internal_vip_address": session.address(),
            "enable_haproxy": "no",
            "database_address": mariadb.address,
            "database_port": mariadb.port,
            "database_user": "dbadmin",
            "keystone_internal_url": keystone.url,
            "keystone_public_url": keystone.url,
            "keystone_admin_user": "cloudadmin",
            "rabbitmq_servers": [session.address(202)],
            "memcached_servers": [session.address(202)],
            "docker_registry_username": "somebody",
            "glance_min_healthy_time": 1,
            "glance_custom_config": {
                "glance-api.conf": {"DEFAULT": {"metadata_encryption_key": CANARIES["custom"]}}
            },
            **{key: value for key, value in CANARIES.items() if key != "custom"},
        }

    def apply(self, sls="glance", level="error", test=False, **edits):
        """Apply with an edited pillar; edits last for this one run."""
        self.call.pillar({"glance": {**self.base, **edits}})
        return self.call("state.apply", sls, level=level, test=test)

    def ask(self, method, path, data=None, kind="application/json"):
        """One request with a real token of Glance's own user; status and body."""
        user = self.base.get("glance_keystone_user", "glance")
        token = self.keystone.token(user, self.base["glance_keystone_password"], "service")
        request = urllib.request.Request(
            self.url + path,
            data=data,
            method=method,
            headers={"X-Auth-Token": token, "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as err:
            return err.code, err.read()

    def container(self):
        return self.engine.client.containers.get("glance_api")


class Watch(threading.Thread):
    """Collect what others on the host can see while something runs: arguments, environments."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        self.engine, self.seen, self.over = engine, set(), threading.Event()
        self.error = None  # that has ended it too early

    def run(self):
        try:
            while not self.over.wait(0.05):
                self._look()
        except Exception as err:  # whatever it is, it is raised in the test's own thread
            self.error = err

    def _look(self):
        # Arguments and environments of strangers are not always UTF-8.
        table = subprocess.check_output(["ps", "axwwe"]).decode("utf-8", "replace")
        # The test's own process holds the canaries in its environment of no interest.
        self.seen.update(table.splitlines())
        for one in self.engine.client.api.containers(all=True):
            # It may have ended meanwhile, or is being made.
            with contextlib.suppress(docker.errors.NotFound):
                self.seen.add(json.dumps(self.engine.client.api.inspect_container(one["Id"])))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failed, *_):
        self.over.set()
        self.join()
        if self.error and not failed:
            raise self.error


def leaks(text):
    """Names of the canaries that a text holds."""
    return [name for name, value in CANARIES.items() if value in text or value[:-3] in text]


class Place:
    """Where the deployment is made, once, and again when somebody took it away."""

    def __init__(self, engine, mariadb, keystone, image, folder):
        self.engine, self.mariadb, self.keystone = engine, mariadb, keystone
        self.image, self.folder, self.made, self.call = image, folder, None, None

    def present(self):
        """The deployment; ``first`` and ``watched`` keep what its first apply showed."""
        if not self.made or not self.engine.client.containers.list(filters={"name": "glance_api"}):
            self.made = self._deploy()
        return self.made

    def _deploy(self):
        self.clean()
        self.mariadb.drop()
        self.mariadb.sql(
            "DROP USER IF EXISTS dbadmin@'%';"
            f" CREATE USER dbadmin@'%' IDENTIFIED BY '{CANARIES['database_password']}';"
            " GRANT ALL ON *.* TO dbadmin@'%' WITH GRANT OPTION"
        )
        self.keystone.user("cloudadmin", CANARIES["keystone_admin_password"], project="admin")
        self.keystone.remove_glance()
        self.engine.reset()
        self.call = SaltCall(self.engine.url).__enter__()
        made = Watched(self.engine, self.call, self.mariadb, self.keystone, self.image, self.folder)
        with Watch(self.engine) as watch:
            made.first = made.apply(level="trace")
        made.watched = watch.seen
        return made

    def clean(self):
        """Forget the minion; the engine is emptied by its own fixture."""
        if self.call:
            self.call.__exit__()
        self.made = self.call = None
