"""
Which formula this is: the version that Salt has synced, and the environment of its files.
"""

import hashlib
import os

import salt.utils.args
from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_formula"

SALTENV = "glance_formula.saltenv"  # in the context of a job
WITHIN = ("glance_host.", "glance_sharing.")  # what orchestrations ask; none of it tells a secret

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


def saltenv():
    """
    Environment whose files of the formula this job reads: that of :py:func:`within`, of the
    ``state.apply`` that runs, or of the minion's configuration.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_formula.saltenv
    """
    return __context__.get(SALTENV) or __opts__.get("saltenv") or "base"


def within(environment, function, **keywords):
    """
    Call a function with the files of an environment, as ``state.apply saltenv=...`` has them.

    environment
        What ``saltenv`` says there.
    function
        One of the modules ``glance_host`` and ``glance_sharing``.
    keywords
        Its arguments.

    Returns what it returns.

    CLI Example:

    .. code-block:: bash

        salt 'ctl*' glance_formula.within dev glance_host.facts
    """
    if not function.startswith(WITHIN):
        modules = " and ".join(one.rstrip(".") for one in WITHIN)
        raise CommandExecutionError(f"{function} is no function of {modules}.")
    before = __context__.get(SALTENV)
    __context__[SALTENV] = environment
    try:
        return __salt__[function](**salt.utils.args.clean_kwargs(**keywords))
    finally:
        __context__[SALTENV] = before
