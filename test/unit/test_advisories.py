"""Which versions of Glance have which known hole."""

import pytest

import glance_advisories

pytestmark = pytest.mark.upgrade


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("26.0.0", ["OSSA-2026-004", "OSSA-2024-001"]),
        ("26.0.1", ["OSSA-2026-004"]),
        ("27.0.0", ["OSSA-2026-004", "OSSA-2024-001"]),
        ("27.1.1", ["OSSA-2026-004"]),
        ("28.0.1", ["OSSA-2026-004", "OSSA-2024-001"]),
        ("28.2.0", ["OSSA-2026-004"]),
        ("29.1.1.dev4", ["OSSA-2026-004"]),
        ("29.1.1", []),
        ("30.0.0", ["OSSA-2026-004"]),
        ("30.1.0", ["OSSA-2026-004"]),
        ("30.1.1", []),
        ("31.0.0", ["OSSA-2026-004"]),
        ("31.0.1", []),
        ("32.0.0.0rc1", []),
        ("33.0.0", []),
    ],
)
def test_holes_by_version(version, names):
    assert list(glance_advisories.of(version)) == names
