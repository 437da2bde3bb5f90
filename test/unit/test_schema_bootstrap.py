"""glance/files/schema_bootstrap.py: commands one after the other, under the lock of the schema."""

import contextlib

import pytest

from support.scripts import FILES, script

pytestmark = pytest.mark.cluster


@pytest.fixture
def bootstrap(monkeypatch, tmp_path):
    """A function: commands -> what happened in order, and the code; the lock is a stand-in."""
    monkeypatch.syspath_prepend(str(FILES))
    module = script("schema_bootstrap")
    log = tmp_path / "log"
    log.touch()

    def note(text):
        with log.open("a", encoding="utf8") as file:
            file.write(text + "\n")

    @contextlib.contextmanager
    def alone(url, patience):
        if url == "taken":
            raise module.schema.Refused("Somebody else changes this schema now")
        note(f"locked {url} for {patience}")
        yield
        note("unlocked")

    monkeypatch.setattr(module.schema_change, "alone", alone)

    def run(*commands, url="mysql://db"):
        order = {"patience": 600, "commands": [["sh", "-c", one] for one in commands]}
        code = module.main(order, url)
        return code, log.read_text(encoding="utf8").splitlines()

    run.log = log
    return run


def test_all_commands_run_under_the_lock(bootstrap):
    code, found = bootstrap(f"echo one >>{bootstrap.log}", f"echo two >>{bootstrap.log}")
    assert code == 0
    assert found == ["locked mysql://db for 600", "one", "two", "unlocked"]


def test_the_first_command_that_fails_ends_it(bootstrap):
    code, found = bootstrap("exit 3", f"echo two >>{bootstrap.log}")
    assert (code, found) == (3, ["locked mysql://db for 600", "unlocked"])


def test_who_waits_in_vain_changes_nothing(bootstrap, capsys):
    code, found = bootstrap(f"echo one >>{bootstrap.log}", url="taken")
    assert (code, found) == (1, [])
    assert capsys.readouterr().err == "Somebody else changes this schema now.\n"
