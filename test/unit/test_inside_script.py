"""What the scripts in the serving container share: one answer, a deadline, no password."""

import json
import subprocess
import sys

import pytest

import glance_oneshot
from support.scripts import FILES, script

pytestmark = pytest.mark.cache

inside = script("inside")
WHO = "Glance's cache"


def run(body, *arguments):
    """Run a script that imports the shared part, as a job does; return its answer."""
    texts = {"inside.py": (FILES / "inside.py").read_text(encoding="utf8"), "it.py": body}
    command = [sys.executable, "-c", glance_oneshot.program(texts), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_last_line_is_the_answer_whatever_is_printed():
    body = "import inside, sys\ninside.answer('It', 5, lambda: [print('noise'), *sys.argv[1:]])"
    assert run(body, "a", "b") == [None, "a", "b"]


def test_a_script_that_hangs_says_where():
    body = "import inside, time\ninside.begin('wait')\n"
    answer = run(f"{body}inside.answer('It', 1, lambda: time.sleep(60))")
    assert answer == {"error": "It could not wait within 1 seconds."}


def test_an_error_is_an_answer():
    assert run("import inside\ninside.answer('It', 5, lambda: 1 / 0)") == {
        "error": "It could not read its configuration: division by zero."
    }


def test_errors_tell_no_password(monkeypatch):
    monkeypatch.setattr(inside, "doing", "read the database")
    error = RuntimeError("mysql://glance:secret@10.0.0.1/glance is gone.")
    assert inside.sentence(WHO, error) == (
        "Glance's cache could not read the database: mysql://10.0.0.1/glance is gone."
    )


def test_what_a_driver_says_comes_with_its_number(monkeypatch):
    monkeypatch.setattr(inside, "doing", "read the database")
    error = RuntimeError("long")
    error.orig = OSError(1146, "Table 'glance.cached_images' doesn't exist")
    assert inside.sentence(WHO, error) == (
        "Glance's cache could not read the database:"
        " Table 'glance.cached_images' doesn't exist (error 1146)."
    )
