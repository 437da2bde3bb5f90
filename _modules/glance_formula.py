"""
Which version of the formula Salt has synced: the same word where the same modules are.
"""

import hashlib
import os

__virtualname__ = "glance_formula"

FORMS = ("modules", "states")
PREFIX = "glance_"


def __virtual__():
    return __virtualname__


def digest():
    """
    One word for the formula's execution and state modules that lie here, on a minion or the master.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_formula.digest
    """
    made = hashlib.sha256()
    for form in FORMS:
        folder = os.path.join(__opts__["extension_modules"], form)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in names:
            if name.startswith(PREFIX) and name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
                made.update(f"{form}/{name} {content}\n".encode())
    return made.hexdigest()
