"""The word for the version of the formula that Salt has synced."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_formula

pytestmark = pytest.mark.cluster


@pytest.fixture
def here(tmp_path, monkeypatch):
    options = {"extension_modules": str(tmp_path)}
    monkeypatch.setattr(glance_formula, "__opts__", options, raising=False)
    for form in glance_formula.FORMS:
        (tmp_path / form / "__pycache__").mkdir(parents=True)
        (tmp_path / form / "glance_one.py").write_text("one")
    return tmp_path


def test_the_same_files_have_the_same_word_whatever_else_is_there(here):
    before = glance_formula.digest()
    (here / "modules" / "other.py").write_text("of another formula")
    (here / "modules" / "__pycache__" / "glance_one.pyc").write_text("compiled")
    assert glance_formula.digest() == before


@pytest.mark.parametrize("form", glance_formula.FORMS)
def test_any_other_content_or_file_has_another_word(here, form):
    words = {glance_formula.digest()}
    (here / form / "glance_one.py").write_text("two")
    words.add(glance_formula.digest())
    (here / form / "glance_new.py").write_text("")
    words.add(glance_formula.digest())
    (here / form / "glance_one.py").unlink()
    words.add(glance_formula.digest())
    assert len(words) == 4


def test_a_minion_without_modules_has_a_word_too(tmp_path, monkeypatch):
    options = {"extension_modules": str(tmp_path / "none")}
    monkeypatch.setattr(glance_formula, "__opts__", options, raising=False)
    assert glance_formula.digest()


@pytest.fixture
def job(monkeypatch):
    """A job of a minion whose configuration names an environment; a function: its options."""

    def make(**options):
        functions = {
            "glance_host.facts": lambda **given: (glance_formula.saltenv(), given),
            "glance_settings.get": lambda: "secrets",
        }
        for name, value in (("__salt__", functions), ("__context__", {}), ("__opts__", options)):
            monkeypatch.setattr(glance_formula, name, value, raising=False)

    return make


@pytest.mark.parametrize(("options", "own"), [({"saltenv": "test"}, "test"), ({}, "base")])
def test_a_function_reads_the_files_that_a_step_reads(job, options, own):
    job(**options)
    assert glance_formula.saltenv() == own
    given = {"saltenv": "dev", "look": True}
    asked = glance_formula.within("dev", "glance_host.facts", **given, __pub_jid="7")
    assert asked == ("dev", given)
    assert glance_formula.saltenv() == own, "the next job of this process has its own"


def test_it_calls_nothing_that_tells_secrets(job):
    job()
    with pytest.raises(CommandExecutionError, match=r"glance_settings\.get is no function of"):
        glance_formula.within("dev", "glance_settings.get")
