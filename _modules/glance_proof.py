"""
Proving a rendered configuration in its own image, before a running service is touched.
"""

import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_proof"

TIMEOUT = 180  # seconds; stores that connect at start may need some (rados_connect_timeout)
#: Seconds for which a proof holds: an orchestration proves on all hosts before it changes one.
HOLDS = 3600
FILE = "glance-proved.json"


def __virtual__():
    return __virtualname__


def run(settings, want):
    """
    Validate every option and load the application in a one-shot container, unless this very
    container was proved within the last hour.

    Nothing of the service is mounted and the database is a throw-away one, because loading
    Glance has side effects: it makes folders, cleans staging, moves cache records.

    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.

    Returns the seconds it took, 0 when it was proved before. Raises CommandExecutionError with
    everything that was found, one sentence each.
    """
    # The hash of a spec covers image and configuration.
    known = __salt__["glance_memory.recall"](FILE).items()
    proved = {spec: at for spec, at in known if 0 <= time.time() - at < HOLDS}
    if want["hash"] in proved:
        return 0.0
    seconds = __salt__["glance_progress.told"]("proof", _prove, settings, want)
    __salt__["glance_memory.keep"](FILE, {**proved, want["hash"]: time.time()})
    return seconds


def _prove(settings, want):
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
    return result["seconds"]
