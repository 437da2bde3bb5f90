"""
Proving a rendered configuration in its own image, before a running service is touched.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_proof"

TIMEOUT = 180  # seconds; stores that connect at start may need some (rados_connect_timeout)


def __virtual__():
    return __virtualname__


def run(settings, want):
    """
    Validate every option and load the application in a one-shot container.

    Nothing of the service is mounted and the database is a throw-away one, because loading
    Glance has side effects: it makes folders, cleans staging, moves cache records.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Raises CommandExecutionError with everything that was found, one sentence each.
    """
    files = __salt__["glance_configuration.proof_files"](
        settings, want["labels"]["glance.release"], __salt__["glance_oneshot.script"]("prove.py")
    )
    result = __salt__["glance_oneshot.run"]("proof", settings, want, files, TIMEOUT)
    verdict = __salt__["glance_oneshot.answer"](result, "prove the configuration")
    if not verdict["ok"]:
        raise CommandExecutionError(
            "The image does not accept the configuration, so the service was not touched:\n"
            + "\n".join(verdict["findings"])
        )
    return verdict
