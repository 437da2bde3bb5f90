"""What a one-shot container says at its end."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_oneshot
import glance_schema

pytestmark = pytest.mark.one_host

NOISE = {"rc": 1, "output": "one\ntwo\nno login with hush\n", "seconds": 1}


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    table = {"glance_settings.masked": lambda text: text.replace("hush", "***")}
    monkeypatch.setattr(glance_oneshot, "__salt__", table, raising=False)


def test_the_last_line_is_the_answer():
    assert glance_oneshot.answer({"rc": 0, "output": 'noise\n{"a": "hush"}\n'}, "try") == {
        "a": "hush"
    }


@pytest.mark.parametrize(
    ("output", "words"), [(NOISE["output"], "two | no login with ***"), ("", "nothing")]
)
def test_without_an_answer_its_last_words_are_told_without_secrets(output, words):
    with pytest.raises(CommandExecutionError) as raised:
        glance_oneshot.answer({"rc": 1, "output": output}, "try")
    text = str(raised.value)
    assert text.startswith("The one-shot container that was to try ended with code 1 and no answer")
    assert text.endswith(words)


def test_a_bootstrap_that_fails_is_told_without_secrets(monkeypatch):
    empty = {
        "position": "empty",
        "images": 0,
        "metadef_namespaces": 0,
        "metadefs_missing": [],
        "heads_in_database": [],
    }
    table = {
        "glance_container.facts": lambda: {},
        "glance_oneshot.last_lines": glance_oneshot.last_lines,
    }
    monkeypatch.setattr(glance_schema, "__salt__", table, raising=False)
    monkeypatch.setattr(glance_schema, "look", lambda *_: empty)
    monkeypatch.setattr(glance_schema, "_work", lambda *_: NOISE)
    settings = {"database_identity": "mysql://db:3306/glance", "glance_database_move": False}
    with pytest.raises(CommandExecutionError, match=r"one \| two \| no login with \*\*\*$"):
        glance_schema.bootstrap(settings, {"labels": {"glance.release": "2026.2"}})
