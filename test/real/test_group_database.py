"""Database and schema of a group: made once, by the first host, over TLS."""

import subprocess

import pytest

from support import session
from support.deployed import Run
from support.salt_call import SaltCall
from support.services import MEMORY, MariaDB, _until

pytestmark = pytest.mark.cluster

TLS = "/etc/mysql/tls"
ADDRESS = session.address(210)
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # of the image, with glance_ca_certificates in it
PASSWORD = "canary-glance-9d2"  # of the user glance
PRESENT, BOOTSTRAPPED = "Glance database is present", "Glance schema is bootstrapped"
# What a host lacks that is new; whether it still is depends on the tests before.
FRESH = {"Glance data directory is marked", "Glance configuration is rendered"}


class EncryptedMariaDB(MariaDB):
    """A server that refuses every connection without TLS."""

    def __init__(self, engine, folder):
        self.address = ADDRESS
        base = engine.image("mariadb")
        files = {f"{TLS}/{name}": (folder / name).read_text() for name in ("cert.pem", "key.pem")}
        image = engine.derive(base, "mariadb:tls", files)
        options = [f"--ssl-cert={TLS}/cert.pem", f"--ssl-key={TLS}/key.pem"]
        command = [ADDRESS, str(self.port), *options, "--require-secure-transport=ON"]
        self.container = engine.run(image, "mariadb_tls", command=command, tmpfs=MEMORY)
        _until(lambda: self._client("select 1")[0] == 0, "MariaDB", self.container)


def certificates(folder):
    """A CA and a certificate for the server's address."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name, subject, more in (
        ("other", "/CN=other", []),
        ("ca", "/CN=ca", []),
        ("", "/CN=db", ["-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-addext",
                        f"subjectAltName=IP:{ADDRESS}"]),
    ):  # fmt: skip
        prefix = f"{name}-" if name else ""
        out = ["-keyout", f"{prefix}key.pem", "-out", f"{prefix}cert.pem", "-subj", subject]
        subprocess.run([*make, *out, *more], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def group(_engine, _services, image, tmp_path_factory):
    """Two hosts, each with an engine of its own, and a database that wants TLS."""
    _engine.reset()
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    database = EncryptedMariaDB(_services, folder)
    database.sql(
        "CREATE USER dbadmin@'%' IDENTIFIED BY 'canary-admin-3e1';"
        " GRANT ALL ON *.* TO dbadmin@'%' WITH GRANT OPTION"
    )
    _services.image("2026.2")
    pillar = {
        "glance_api_group": ["ctl1", "ctl2"],
        "glance_api_image_full": image("2026.2"),
        "glance_image_pull": "never",
        "glance_file_datadir_volume": str(tmp_path_factory.mktemp("images")),
        "glance_file_datadir_shared": "yes",
        "default_container_dimensions": {},
        "api_interface_address": session.address(),
        "kolla_internal_vip_address": ADDRESS,
        "database_user": "dbadmin",
        "database_password": "canary-admin-3e1",
        "glance_database_password": PASSWORD,
        "glance_keystone_password": "x",
        "glance_keystone_register": "no",
        "glance_database_enable_tls_internal": "yes",
        "openstack_cacert": BUNDLE,
        "glance_ca_certificates": {"db.crt": (folder / "ca-cert.pem").read_text()},
    }
    with SaltCall(_engine.url) as first, SaltCall(_services.url) as second:
        hosts = {"ctl1": first, "ctl2": second}

        def start(host, method="start", level="error", **edits):
            call = hosts[host]
            local = {"node_config": str(call.minion.root / "kolla")}
            call.pillar({"glance": {**pillar, **local, **edits}})
            run = call.start if method == "start" else call
            return run("state.apply", "glance.database", level=level, options={"id": host})

        yield start, database, folder
    database.container.remove(force=True)
    _engine.reset()


def work(result):
    """The states that changed something, but for what a fresh host lacks."""
    return [name for name in result.changed if name not in FRESH]


@pytest.mark.soak
def test_the_schema_is_made_once_by_the_first_host_while_the_others_wait(group):
    start, database, _ = group
    database.sql("DROP DATABASE IF EXISTS glance")
    variables = database.sql("SHOW GLOBAL VARIABLES LIKE '%creators%'")
    waiting = Run(start("ctl2", level="info"))
    waiting.wait_for("waiting for ctl1 to make the schema")
    first = start("ctl1", "run")
    assert first.rc == 0, (first.failed, first.stderr)
    assert work(first) == [PRESENT, BOOTSTRAPPED]
    second = waiting.result(limit=120)
    assert second.rc == 0, (second.failed, second.stderr)
    assert "ctl1 made it; this took " in second.comments
    assert work(second) == []
    assert int(database.sql("SELECT COUNT(*) FROM metadef_namespaces", "glance")[0][0]) > 20
    assert database.sql("SHOW GLOBAL VARIABLES LIKE '%creators%'") == variables
    assert "canary" not in first.stdout + first.stderr + second.stdout + second.stderr


def test_database_and_schema_are_made_over_tls(group):
    start, database, _ = group
    database.sql("DROP DATABASE IF EXISTS glance")
    done = start("ctl1", "run")
    assert done.rc == 0, (done.failed, done.stderr)
    assert work(done) == [PRESENT, BOOTSTRAPPED]
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.soak
def test_a_server_that_the_ca_does_not_know_is_refused_in_a_sentence(group):
    start, database, folder = group
    database.sql("DROP DATABASE IF EXISTS glance")
    other = {"db.crt": (folder / "other-cert.pem").read_text()}
    refused = start("ctl1", "run", glance_ca_certificates=other)
    sentence = refused.failed[PRESENT]
    assert "certificate verify failed" in sentence
    assert "canary" not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert database.sql("SHOW DATABASES LIKE 'glance'") == []


@pytest.mark.soak
def test_two_hosts_that_do_not_know_of_each_other_never_race(group):
    """Each takes itself for the only one; the schema is made by one after the other."""
    start, database, _ = group
    database.sql("DROP DATABASE IF EXISTS glance")
    runs = [start(host, glance_api_group=[host]) for host in ("ctl1", "ctl2")]
    for run in runs:
        out, err = run.communicate(timeout=240)
        assert run.returncode == 0, out + err
    twice = "SELECT namespace FROM metadef_namespaces GROUP BY namespace HAVING COUNT(*) > 1"
    assert database.sql(twice, "glance") == []
    assert database.sql("SELECT COUNT(*) FROM alembic_version", "glance") == [["1"]]


@pytest.mark.soak
def test_a_preconfigured_database_is_used_as_it_is(group):
    """Who may log in as its user needs nothing else."""
    start, database, _ = group
    database.sql(
        "DROP DATABASE IF EXISTS glance;"
        " CREATE DATABASE glance CHARACTER SET utf8;"
        f" CREATE USER IF NOT EXISTS glance@'%' IDENTIFIED BY '{PASSWORD}';"
        " GRANT ALL ON glance.* TO glance@'%'"
    )
    done = start("ctl1", "run", use_preconfigured_databases="yes", database_password="wrong")
    assert done.rc == 0, done.failed
    assert work(done) == [BOOTSTRAPPED], "the database itself is nobody's work"
