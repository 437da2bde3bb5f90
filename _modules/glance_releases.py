"""
OpenStack releases: which one an image holds, and which steps between them are supported.

Pure.  What a release changes in the configuration stands in ``glance_options``.
"""

import re

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "glance_releases"

#: Major version of Glance -> OpenStack release, oldest first.
RELEASES = {
    26: "2023.1",
    27: "2023.2",
    28: "2024.1",
    29: "2024.2",
    30: "2025.1",
    31: "2025.2",
    32: "2026.1",
    33: "2026.2",
}
#: Releases that an upgrade may skip from or to (SLURP).
SLURP = ("2023.1", "2024.1", "2025.1", "2026.1")


def __virtual__():
    return __virtualname__


def release(version):
    """
    Return the OpenStack release of a version of Glance.

    version
        Version of the Python package, such as ``33.0.0``.

    Raises CommandExecutionError when this formula does not know it.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_releases.release 32.0.0
    """
    major = re.match(r"\d+", str(version))
    found = RELEASES.get(int(major.group())) if major else None
    if not found:
        raise CommandExecutionError(
            f"The image holds Glance {version}, which this formula does not know (it knows "
            f"{min(RELEASES)} to {max(RELEASES)}, OpenStack {RELEASES[min(RELEASES)]} to "
            f"{RELEASES[max(RELEASES)]}): name another image in glance:openstack_release, "
            "glance:glance_tag or glance:glance_api_image_full."
        )
    return found


def step(old, new):
    """
    Return what kind of step leads from one release to another.

    old, new
        Releases, such as ``2025.2``.

    Returns ``same``, ``adjacent``, ``slurp`` (both are SLURP releases that follow each other),
    ``down`` or ``too far``; an upgrade may take ``adjacent`` and ``slurp``.

    Raises SaltInvocationError when a release is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_releases.step 2024.1 2025.1
    """
    order = list(RELEASES.values())
    for one in (old, new):
        if one not in order:
            raise SaltInvocationError(
                f"The release {one!r} is not known: use one of {', '.join(order)}."
            )
    distance = order.index(new) - order.index(old)
    if distance == 0:
        return "same"
    if distance < 0:
        return "down"
    if distance == 1:
        return "adjacent"
    if old in SLURP and new in SLURP and SLURP.index(new) - SLURP.index(old) == 1:
        return "slurp"
    return "too far"


def first_step(old, new):
    """
    Return the release to go to first on the way up from one release to another.

    old, new
        Releases, such as ``2023.2`` and ``2025.1``; ``new`` is the higher one.

    Returns the farthest release towards ``new`` that one step may lead to: ``new`` itself when
    :func:`step` supports it.

    Raises SaltInvocationError when a release is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_releases.first_step 2023.2 2025.1
    """
    order = list(RELEASES.values())
    reachable = [
        one for one in order if step(old, one) in ("adjacent", "slurp") and step(one, new) != "down"
    ]
    return reachable[-1] if reachable else new
