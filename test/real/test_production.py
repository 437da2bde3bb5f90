"""Production on one host: MariaDB and Keystone in pillar, secrets in files and nowhere else."""

import hashlib
import json
import os
import time
import urllib.error
import urllib.request

import pytest

from support.watched import leaks

pytestmark = pytest.mark.one_host


def test_the_first_apply_makes_database_user_and_schema(production):
    assert production.first.rc == 0, production.first.comments
    assert production.first.changed == [
        "Glance configuration is rendered",
        "Glance database is present",
        "Glance schema is bootstrapped",
        "Glance is registered in Keystone",
        "Glance API runs",
    ]
    namespaces = production.mariadb.sql("SELECT COUNT(*) FROM metadef_namespaces", "glance")
    assert int(namespaces[0][0]) > 20


def test_an_image_comes_back_byte_for_byte_with_a_real_token(production):
    data = os.urandom(3 * 1024 * 1024)
    record = {"name": "kept", "disk_format": "raw", "container_format": "bare"}
    status, body = production.ask("POST", "/v2/images", json.dumps(record).encode())
    assert status == 201, body
    image_id = json.loads(body)["id"]
    status, _ = production.ask(
        "PUT", f"/v2/images/{image_id}/file", data, "application/octet-stream"
    )
    assert status == 204
    status, back = production.ask("GET", f"/v2/images/{image_id}/file")
    assert status == 200
    assert hashlib.sha512(back).digest() == hashlib.sha512(data).digest()


def test_without_a_token_nothing_is_told(production):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{production.url}/v2/images", timeout=10)
    assert refused.value.code == 401


def test_a_second_apply_changes_nothing(production):
    for test in (True, False):
        again = production.apply(test=test)
        assert again.rc == 0, again.comments
        assert again.changed == []


def test_secrets_are_in_the_configuration_files_and_nowhere_else(production):
    rendered = {"glance_database_password", "glance_keystone_password", "memcache_secret_key",
                "rabbitmq_password", "custom"}  # fmt: skip
    found = set()
    for folder, _, names in os.walk(production.folder / "kolla"):
        for name in names:
            path = os.path.join(folder, name)
            assert os.stat(path).st_mode & 0o777 == 0o640
            with open(path, encoding="utf-8") as file:
                text = file.read()
            held = leaks(text) + [
                key for key in ("glance_database_password",) if "canary-dbglance" in text
            ]
            if name != "glance-secrets.conf":
                assert not held, path
            found.update(held)
    assert found == rendered, "the sweep finds what is there"

    assert not leaks(production.first.stdout), "state output"
    assert not leaks(production.first.stderr), "log at level trace"
    root = production.call.minion.root
    for sign in (f"salt-call --local --config-dir={root} ", '"Name": "/glance_api"'):
        assert any(sign in line for line in production.watched), f"nothing watched with {sign}"
    for line in production.watched:
        assert not leaks(line), line[:300]
    for folder, _, names in os.walk(root):
        if folder.startswith(str(production.call.minion.pillar_root)):
            continue
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                text = file.read().decode("utf-8", "replace")
            assert not leaks(text), os.path.join(folder, name)
    logs = production.container().logs().decode("utf-8", "replace")
    assert not leaks(logs), "container log"
    shown = production.call("glance_settings.show")
    assert shown.json, shown.stderr
    assert not leaks(shown.stdout), "glance_settings.show"
    assert not leaks(production.call("glance_api.status").stdout), "glance_api.status"


def test_a_failing_run_tells_no_secret_either(production):
    wrong = "canary-wrong-44aa"
    failed = production.apply(
        level="trace", glance_keystone_password=wrong, keystone_admin_password=wrong
    )
    assert failed.rc != 0
    assert wrong not in failed.stdout + failed.stderr
    assert not leaks(failed.stdout + failed.stderr)


@pytest.mark.soak
def test_a_wrong_keystone_password_is_caught_before_the_switch(production):
    """The health check stays 200 with it; only a request that needs a token shows it."""
    before = production.container().id
    failed = production.apply(glance_keystone_password="not the one", glance_keystone_register="no")
    assert list(failed.failed)[0] == "Glance API runs"
    assert "Keystone" in failed.failed["Glance API runs"]
    assert "went on serving" in failed.failed["Glance API runs"]
    assert production.container().id == before
    assert production.ask("GET", "/v2/images")[0] == 200


@pytest.mark.soak
def test_a_wrong_database_password_is_caught_before_the_switch(production):
    before = production.container().id
    production.mariadb.sql("FLUSH PRIVILEGES")
    failed = production.apply(
        glance_database_password="not the one", use_preconfigured_databases="yes"
    )
    assert failed.rc != 0
    sentence = next(iter(failed.failed.values()))
    assert "not the one" not in failed.stdout
    assert "glance:glance_database_password" in sentence, sentence
    assert production.container().id == before
    assert production.ask("GET", "/v2/images")[0] == 200


def test_the_password_of_a_database_user_in_use_is_not_changed(production):
    """It would break the container that serves before the newcomer is there."""
    refused = production.apply(glance_database_password="another-one")
    assert list(refused.failed)[0] == "Glance database is present"
    assert "glance:glance_database_user" in refused.failed["Glance database is present"]
    assert "another-one" not in refused.stdout
    assert production.ask("GET", "/v2/images")[0] == 200


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("2027_1_contract01", "is newer"),
        pytest.param("2023_1_contract01", "is older", marks=pytest.mark.soak),
    ],
)
def test_a_schema_of_another_release_is_refused(production, revision, words):
    now = production.mariadb.sql("SELECT version_num FROM alembic_version", "glance")[0][0]
    before = production.container().id
    production.mariadb.sql(f"UPDATE alembic_version SET version_num = '{revision}'", "glance")
    try:
        refused = production.apply(glance_logging_debug="yes")
    finally:
        production.mariadb.sql(f"UPDATE alembic_version SET version_num = '{now}'", "glance")
    assert refused.rc != 0
    assert list(refused.failed)[0] == "Glance schema is bootstrapped"
    assert words in refused.failed["Glance schema is bootstrapped"]
    assert revision in refused.failed["Glance schema is bootstrapped"]
    assert production.container().id == before


@pytest.mark.soak
def test_an_empty_database_in_place_of_the_one_in_use_is_refused(production):
    before = production.container().id
    refused = production.apply(glance_database_name="elsewhere")
    production.mariadb.sql("DROP DATABASE elsewhere")
    assert list(refused.failed)[0] == "Glance schema is bootstrapped"
    assert "all images would seem gone" in refused.failed["Glance schema is bootstrapped"]
    assert production.container().id == before
    assert production.ask("GET", "/v2/images")[0] == 200


def test_files_in_the_live_container_are_as_the_security_guide_asks(production):
    """OpenStack Security Guide, Check-Image-01 and 02."""
    # What kolla_set_configs copied, and the folders it lies in.
    looked = production.container().exec_run(
        ["find", "-L", "/etc/glance", "-printf", "%U:%g %m %y %p\\n"], user="root"
    )
    rows = [line.split(" ", 3) for line in looked.output.decode().splitlines()]
    assert any(row[3].endswith("glance-secrets.conf") for row in rows)
    for owner, mode, _, path in rows:
        assert owner == "0:glance", path
        assert int(mode, 8) & 0o027 == 0, (mode, path)


def test_the_container_is_not_privileged(production):
    assert production.container().attrs["HostConfig"]["Privileged"] is False


def test_an_edit_back_converges(production):
    deadline = time.monotonic() + 120
    edited = production.apply()
    assert edited.rc == 0, edited.comments
    assert production.apply().changed == []
    assert time.monotonic() < deadline
