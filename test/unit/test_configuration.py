"""The text of the configuration files: golden files and the rules behind them.

GLANCE_UPDATE_GOLDEN=1 writes the golden files anew; read the difference before it is committed.
"""

import json
import os
import pathlib
import re

import glance_configuration
import glance_options
import pytest
from salt.exceptions import SaltInvocationError

pytestmark = pytest.mark.one_host

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
#: Releases whose files were also run in a real image, and those known by table only.
RUN = ("2023.2", "2024.1", "2025.2", "2026.1", "2026.2")
NOT_RUN = ("2023.1", "2024.2", "2025.1")
SAMPLES = ("trial", "production", "ipv6")


@pytest.fixture(autouse=True)
def dunders(monkeypatch):
    salt = {f"glance_options.{n}": getattr(glance_options, n) for n in ("sections", "command")}
    monkeypatch.setattr(glance_configuration, "__salt__", salt, raising=False)


def sample(name, **changes):
    settings = json.loads((GOLDEN / "settings" / f"{name}.json").read_text())
    return {**settings, **changes}


def files(name="trial", release="2026.2", **changes):
    return glance_configuration.files(sample(name, **changes), release)


def text(name, *args, **changes):
    return files(*args, **changes)[name]["text"]


def oslo(found, *names):
    """Return what oslo reads from the files together: section -> option -> last value."""
    result = {}
    for name in names:
        for section, options in glance_configuration._parse(found[name]["text"], name).items():
            result.setdefault(section, {}).update(options)
    return result


@pytest.mark.parametrize("release", RUN)
@pytest.mark.parametrize("name", SAMPLES)
def test_golden(name, release):
    folder = GOLDEN / "files" / name / release
    found = {path: entry["text"] for path, entry in files(name, release).items()}
    if os.environ.get("GLANCE_UPDATE_GOLDEN"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        for path, body in found.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(body)
    wanted = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == wanted


@pytest.mark.parametrize(
    ("release", "like"), [("2023.1", "2023.2"), ("2024.2", "2024.1"), ("2025.1", "2025.2")]
)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_release_that_was_not_run_gets_the_files_of_its_neighbour(name, release, like):
    assert files(name, release) == files(name, like)
