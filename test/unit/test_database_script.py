"""glance/files/database.py: whatever goes wrong becomes one sentence, without a password."""

import importlib.util
import ssl
import sys
import types

import pytest

from support import session

pytestmark = pytest.mark.cluster

ORDER = {
    "host": "10.0.0.9",
    "port": 3306,
    "ca": "/etc/ssl/ca.crt",
    "admin": "root",
    "admin_password": "canary-1",
    "database": "glance",
    "user": "glance",
    "password": "canary-2",
    "in_use": False,
}


class MySQLError(Exception):
    """As PyMySQL's."""


@pytest.fixture
def script(monkeypatch):
    """The script over a driver whose ``connect`` the test chooses: module, what it was asked."""
    asked = []
    driver = types.ModuleType("pymysql")
    driver.err = types.SimpleNamespace(MySQLError=MySQLError, OperationalError=MySQLError)

    def connect(**arguments):
        asked.append(arguments)
        raise driver.failure

    driver.connect = connect
    monkeypatch.setitem(sys.modules, "pymysql", driver)
    path = session.ROOT / "glance/files/database.py"
    spec = importlib.util.spec_from_file_location("database", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, driver, asked


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (MySQLError(1045, "Access denied"), "refuses root: check glance:database_password"),
        (MySQLError(2003, "Can't connect"), "cannot be used (2003: Can't connect)."),
        (MySQLError("odd"), "cannot be used (odd: )."),
        (FileNotFoundError(2, "No such file"), "/etc/ssl/ca.crt is not in the image"),
        (RuntimeError("'cryptography' package\nis required"), "package is required."),
        (ssl.SSLError("no start line"), "no start line"),
        (ValueError("canary-1 and canary-2"), "cannot be used: *** and ***."),
        (UnicodeError(), "cannot be used: UnicodeError."),
    ],
)
def test_every_failure_is_a_sentence(script, failure, words):
    module, driver, _ = script
    driver.failure = failure
    error = module.main(ORDER)["error"]
    assert words in error
    assert "canary" not in error
    assert "\n" not in error


@pytest.mark.parametrize(("ca", "ssl"), [("", None), ("/x.crt", {"ca": "/x.crt"})])
def test_the_administrators_login_is_encrypted_as_glances(script, ca, ssl):
    module, driver, asked = script
    driver.failure = MySQLError(1, "x")
    module.main({**ORDER, "ca": ca})
    assert asked[0]["ssl"] == ssl


class Server:
    """A server with Glance's database and its user, whose password is another one."""

    def __init__(self, tables):
        self.tables, self.done = tables, []

    def connect(self, **arguments):
        if arguments["user"] == "glance":
            raise MySQLError(1045, "Access denied")
        return self

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, query, values=()):
        found = "information_schema" not in query or self.tables
        self.rows = [(1,)] if found else []
        if not query.startswith("SELECT") and not query.startswith("SHOW"):
            self.done.append(query)

    def fetchall(self):
        return self.rows


@pytest.mark.parametrize(
    ("in_use", "tables", "changed"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_a_password_that_a_glance_may_use_is_not_changed(script, in_use, tables, changed):
    """Also on a new first host: the others of the group serve with the old password."""
    module, driver, _ = script
    server = Server(tables)
    driver.connect = server.connect
    answer = module.main({**ORDER, "in_use": in_use})
    assert bool(server.done) is changed
    assert ("error" in answer) is not changed
    if not changed:
        assert "name a new user in glance:glance_database_user" in answer["error"]
