"""What a production Glance has beside it: MariaDB and Keystone, on an engine of their own.

Their engine is not the one under test, so that a test may crash that one.
"""

import http.client
import json
import os
import signal
import time

from support.session import address

START_LIMIT = 120  # seconds until a service answers
POLL = 0.1  # seconds between two questions
MEMORY = {"/var/lib/mysql": "size=1g"}
# The server comes back when it was killed; its data is gone only when the container is.
KEPT_UP = """
trap 'kill $!; wait $!; exit 0' TERM
while :; do start-mariadb "$@" & wait $!; sleep 0.1; done
"""


def _until(condition, what, container):
    deadline = time.monotonic() + START_LIMIT
    while not condition():
        container.reload()
        if container.status == "exited" or time.monotonic() > deadline:
            raise AssertionError(f"{what} does not answer: {container.logs(tail=30).decode()}")
        time.sleep(POLL)


class MariaDB:
    """A server that keeps its data in memory; being started when made, there after ``ready()``.

    address, port, root_user, root_password
        How to reach it.
    """

    root_user = "root"
    root_password = "root"
    port = 3306

    def __init__(self, engine, options=()):
        self.address = address(200)
        image = engine.image("mariadb")
        command = [self.address, str(self.port), *options]
        self.container = engine.run(
            image,
            "mariadb",
            entrypoint=["bash", "-c", KEPT_UP, "mariadb"],
            command=command,
            tmpfs=MEMORY,
        )

    def ready(self):
        """Wait until it answers; return itself."""
        _until(lambda: self._client("select 1")[0] == 0, "MariaDB", self.container)
        return self

    @property
    def pid(self):
        """Of the server, as this machine sees it."""
        top = self.container.top(ps_args="-o pid,comm")
        (found,) = [int(pid) for pid, name in top["Processes"] if name == "mariadbd"]
        return found

    def crash(self):
        """Kill -9 the server; it is started again at once, with its data."""
        os.kill(self.pid, signal.SIGKILL)

    def _client(self, statement, database=""):
        login = ["-h", self.address, "-P", str(self.port), "-uroot", f"-p{self.root_password}"]
        command = [
            "mariadb",
            *login,
            "-N",
            "-B",
            "-e",
            statement,
            *([database] if database else []),
        ]
        return self.container.exec_run(command)

    def sql(self, statement, database=""):
        """Run SQL as root; return the rows as lists of strings."""
        code, output = self._client(statement, database)
        text = output.decode("utf8", "replace")
        if code:
            raise AssertionError(f"SQL failed: {statement}: {text}")
        return [line.split("\t") for line in text.splitlines()]

    def fresh(self, name="glance", user="glance", password="gpw"):
        """Make an empty database with its own user; return its SQLAlchemy URL."""
        self.drop(name, user)
        self.sql(
            f"CREATE DATABASE `{name}` CHARACTER SET utf8; "
            f"CREATE USER `{user}`@'%' IDENTIFIED BY '{password}'; "
            f"GRANT ALL ON `{name}`.* TO `{user}`@'%'"
        )
        return f"mysql+pymysql://{user}:{password}@{self.address}:{self.port}/{name}"

    def drop(self, name="glance", user="glance"):
        """Remove a database and its user."""
        self.sql(f"DROP DATABASE IF EXISTS `{name}`; DROP USER IF EXISTS `{user}`@'%'")


class Keystone:
    """A Keystone with the user admin (password admin, project admin).

    Being started when made, there after ``ready()``.

    url
        Its address, without /v3.
    """

    port = 5000

    def __init__(self, engine):
        self.address = address(201)
        self.url = f"http://{self.address}:{self.port}"
        image = engine.image("keystone")
        command = ["start-keystone", self.address, str(self.port)]
        self.container = engine.run(image, "keystone", command=command)
        self._admin = None

    def ready(self):
        """Wait until it answers; return itself."""
        _until(lambda: self._ask("GET", "/v3")[0] == 200, "Keystone", self.container)
        return self

    def _ask(self, method, path, body=None, token=None):
        connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["X-Auth-Token"] = token
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            raw = answer.read()
            parsed = json.loads(raw) if raw.startswith(b"{") else {}
            return answer.status, parsed, dict(answer.getheaders())
        except OSError:
            return 0, {}, {}
        finally:
            connection.close()

    def token(self, user="admin", password="admin", project="admin"):
        """Return a new token of a user for a project, all in the default domain."""
        domain = {"id": "default"}
        login = {"user": {"name": user, "domain": domain, "password": password}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": login},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        status, answer, headers = self._ask("POST", "/v3/auth/tokens", body)
        if status != 201:
            raise AssertionError(f"no token for {user}: {status} {answer}")
        return headers["X-Subject-Token"]

    def ask(self, method, path, body=None):
        """Ask the v3 API as admin; return the parsed body, raise on an error."""
        self._admin = self._admin or self.token()
        status, answer, _ = self._ask(method, f"/v3/{path}", body, self._admin)
        if not 200 <= status < 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def find(self, kind, name):
        """Return the id of a user, project, role or service of that name, or None."""
        found = self.ask("GET", f"{kind}s?name={name}")[f"{kind}s"]
        return found[0]["id"] if found else None

    def ensure(self, kind, name, **more):
        """Return the id of a user, project, role or service, made if need be."""
        made = self.find(kind, name)
        if made:
            return made
        return self.ask("POST", f"{kind}s", {kind: {"name": name, **more}})[kind]["id"]

    def user(self, name, password, project="service", role="admin"):
        """Make a user with this password and a role in a project, as Kolla does."""
        known = self.find("user", name)
        if known and not self._takes(known, password):
            # A changed password would revoke the tokens of this second too; a new user has none.
            self.ask("DELETE", f"users/{known}")
        ids = {
            "project": self.ensure("project", project, domain_id="default"),
            "user": self.ensure("user", name, domain_id="default", password=password),
            "role": self.ensure("role", role),
        }
        self.ask("PUT", "projects/{project}/users/{user}/roles/{role}".format(**ids))
        return ids["user"]

    def _takes(self, user_id, password):
        login = {"user": {"id": user_id, "password": password}}
        body = {"auth": {"identity": {"methods": ["password"], "password": login}}}
        return self._ask("POST", "/v3/auth/tokens", body)[0] == 201

    def remove_glance(self):
        """Take away what the formula registers: service image with its endpoints, user glance."""
        for kind, name in (("service", "glance"), ("user", "glance")):
            made = self.find(kind, name)
            if made:
                self.ask("DELETE", f"{kind}s/{made}")
