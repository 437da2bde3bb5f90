"""The word for the version of the formula that Salt has synced."""

import pytest

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
