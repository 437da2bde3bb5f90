"""
Known holes of Glance by version: which of them an image has.

Pure.  From the OpenStack Security Advisories that name Glance; each is listed with the versions
that have the hole, so that a fixed point release of an old series counts as fixed.
"""

import re

__virtualname__ = "glance_advisories"

#: Advisory -> what it is, and ranges of versions: the first with the hole, the first without.
ADVISORIES = {
    "OSSA-2026-004": (
        "imports can be led to addresses inside the cloud",
        [("0", "29.1.1"), ("30.0.0", "30.1.1"), ("31.0.0", "31.0.1")],
    ),
    "OSSA-2024-001": (
        "a QCOW2 image can read files of the host",
        [("0", "26.0.1"), ("27.0.0", "27.0.1"), ("28.0.0", "28.0.2")],
    ),
    "OSSA-2023-002": (
        "a VMDK image can read files of the host",
        [("0", "23.0.1")],
    ),
}


def __virtual__():
    return __virtualname__


def of(version):
    """
    Return the known holes of a version of Glance.

    version
        Version of the Python package, such as ``28.2.0``.

    Returns a mapping of the advisory's name to what it is about; empty when none is known.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_advisories.of 28.2.0
    """
    at = _key(version)
    return {
        name: what
        for name, (what, ranges) in ADVISORIES.items()
        if any(_key(first) <= at < _key(fixed) for first, fixed in ranges)
    }


def _key(version):
    """A version that sorts; a pre-release comes before its release."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in numbers.group().split(".")[:3]]
    before = bool(re.search(r"(dev|rc|[ab])\d*", version[numbers.end() :]))
    return (*parts, *[0] * (3 - len(parts)), -1 if before else 0)
