"""README's table of stores and releases is the one that the tests are made from.

GLANCE_UPDATE_GOLDEN=1 writes it anew.
"""

import os

import pytest

from support import session
from support.stores import matrix

pytestmark = pytest.mark.backends

README = session.ROOT / "README.md"


def test_the_readme_tells_what_is_run():
    text = README.read_text(encoding="utf8")
    before, _, rest = text.partition(matrix.BEGIN)
    told, _, after = rest.partition(matrix.END)
    if os.environ.get("GLANCE_UPDATE_GOLDEN"):
        README.write_text(before + matrix.BEGIN + matrix.table() + matrix.END + after, "utf8")
    assert told == matrix.table()


def test_every_release_has_images_that_can_be_built():
    known = (session.TESTBED / "releases.txt").read_text(encoding="utf8").split()
    assert set(matrix.releases()) <= set(known)


def test_only_known_ways_are_told():
    ways = {way for row in matrix.read().values() for way in row.values()}
    assert {way for way in ways if not way.startswith("refused")} <= {"run", "by table"}
