"""The phases of a schema on a real MariaDB, from 2023.2 to 2024.1: the last step with real work."""

import os
import subprocess

import pytest

from support.docker_engine import archive

pytestmark = pytest.mark.upgrade

OLD, NEW = "2023.2", "2024.1"
OLD_HEADS, NEW_HEADS = "2023_1_contract01", "2024_1_contract01"
BETWEEN = "2023_1_contract01, 2024_1_expand01"


@pytest.fixture(scope="module")
def backups(tmp_path_factory):
    """The folder for backups."""
    return tmp_path_factory.mktemp("backups")


@pytest.fixture
def behind(deploy, mariadb, backups):
    """A deployment of the old release whose pillar names the image of the new one."""
    made = deploy(OLD, production=True, reuse="edited", glance_backup_dir=str(backups))
    made.change(glance_api_image_full=made.engine.image(NEW))
    kept = _dump(mariadb)
    yield made
    _restore(mariadb, kept)
    made.change(glance_api_image_full=made.engine.image(OLD))


def _dump(mariadb):
    login = ["-h", mariadb.address, "-uroot", f"-p{mariadb.root_password}"]
    code, (content, errors) = mariadb.container.exec_run(
        ["mariadb-dump", *login, "--skip-comments", "--order-by-primary", "glance"], demux=True
    )
    assert code == 0, errors
    return content


def _restore(mariadb, content):
    mariadb.sql("DROP DATABASE glance; CREATE DATABASE glance CHARACTER SET utf8mb3")
    mariadb.container.put_archive("/tmp", archive({"restore.sql": content}))
    mariadb.sql("source /tmp/restore.sql", "glance")


def heads(mariadb):
    rows = mariadb.sql("SELECT version_num FROM alembic_version ORDER BY 1", "glance")
    return ", ".join(row[0] for row in rows)


def phase(made, name, **more):
    """Apply one phase; return its state's result."""
    result = made.apply(f"glance.upgrade.{name}", **more)
    return result.states[-1]


def test_phase_by_phase_while_the_old_release_serves(behind, mariadb):
    for name, after in (("expand", BETWEEN), ("migrate", BETWEEN), ("contract", NEW_HEADS)):
        before = heads(mariadb)
        told = phase(behind, name, test=True)
        done = phase(behind, name)
        assert done["result"] is True, done
        assert heads(mariadb) == after
        assert bool(told["changes"]) is bool(done["changes"]) is (before != after), (told, done)
        again = phase(behind, name)
        assert again["result"] is True and not again["changes"], again
        assert behind.get("/v2/images?limit=1")[0] == 200, "the old release serves"


def test_all_phases_in_one_go(behind, mariadb):
    assert phase(behind, "sync")["result"] is True
    assert heads(mariadb) == NEW_HEADS
    assert not phase(behind, "sync")["changes"]


def test_contract_does_not_come_first(behind, mariadb):
    refused = phase(behind, "contract")
    assert refused["result"] is False and "glance.upgrade.expand first" in refused["comment"]
    assert heads(mariadb) == OLD_HEADS


NODES = (
    "CREATE TABLE node_reference (node_reference_id BIGINT NOT NULL AUTO_INCREMENT,"
    " node_reference_url VARCHAR(255) NOT NULL, PRIMARY KEY (node_reference_id),"
    " CONSTRAINT uq_node_reference_node_reference_url UNIQUE (node_reference_url))"
    " ENGINE=InnoDB CHARSET=utf8"
)


def test_what_a_cut_expansion_has_left_is_taken_away(behind, mariadb):
    mariadb.sql(NODES, "glance")
    told = phase(behind, "expand", test=True)
    assert "table node_reference" in told["comment"]
    done = phase(behind, "expand")
    assert done["result"] is True, done
    assert done["changes"]["table node_reference"] == {"old": "left by a cut expansion",
                                                       "new": None}  # fmt: skip
    assert heads(mariadb) == BETWEEN
    assert mariadb.sql("SHOW TABLES LIKE 'cached_images'", "glance")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("INSERT INTO node_reference VALUES (1, 'http://a')", "holds 1 rows"),
        ("ALTER TABLE node_reference ADD note INT", "has other columns"),
    ],
)
def test_what_is_in_use_is_named_with_the_remedy(behind, mariadb, more, words):
    mariadb.sql(f"{NODES}; {more}", "glance")
    refused = phase(behind, "expand")
    assert refused["result"] is False
    assert words in refused["comment"] and "DROP TABLE node_reference" in refused["comment"]
    assert mariadb.sql("SHOW TABLES LIKE 'node_reference'", "glance")
    assert heads(mariadb) == OLD_HEADS


def test_triggers_are_made_without_a_change_of_the_server(behind, mariadb):
    """Only a database of ten years ago needs some; the server has a binary log, and is strict."""
    flag = "SELECT @@log_bin, @@log_bin_trust_function_creators"
    assert mariadb.sql(flag) == [["1", "0"]]
    mariadb.sql("DROP DATABASE glance; CREATE DATABASE glance CHARACTER SET utf8mb3")
    command = ["glance-manage", "db", "upgrade", "--version", "mitaka02"]
    code, output = behind.container.exec_run(command)
    assert code == 0, output
    done = phase(behind, "expand")
    assert done["result"] is True, done
    triggers = mariadb.sql("SELECT definer FROM information_schema.triggers")
    assert {row[0].partition("@")[0] for row in triggers} == {"root"}
    assert mariadb.sql(flag) == [["1", "0"]]


def test_a_backup_brings_everything_back(behind, mariadb, backups):
    behind.ask("POST", "/v2/images", '{"name": "größe \\\\ \'\\"; --"}',
               {"Content-Type": "application/json"})  # fmt: skip
    kept = _dump(mariadb)
    saved = phase(behind, "backup")
    (path,) = saved["changes"]
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(path).st_uid == 0
    assert os.listdir(backups) == [os.path.basename(path)]
    assert OLD_HEADS in path
    assert not phase(behind, "backup")["changes"], "one that was made just now is enough"
    assert phase(behind, "sync")["result"] is True
    assert _dump(mariadb) != kept
    with open(path, "rb") as file:
        _restore(mariadb, file.read())
    assert _dump(mariadb) == kept
    assert behind.get("/v2/images?limit=1")[0] == 200


@pytest.mark.soak
def test_a_full_disk_for_backups_is_named(behind, backups):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", backups], check=True)
    try:
        saved = phase(behind, "backup")
        left = os.listdir(backups)
    finally:
        subprocess.run(["umount", backups], check=True)
    assert saved["result"] is False and left == []
    assert saved["comment"] == (
        "The backup cannot be written: No space left on device: there is no backup in"
        f" {backups} (glance:glance_backup_dir)."
    )
