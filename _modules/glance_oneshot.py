"""
The formula's scripts for containers, and one-shot containers of the wanted image, with the wanted
configuration and a deadline.

One-shot containers start as the service does (``kolla_start`` copies the configuration), but run a
script of the formula.
"""

import json
import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_oneshot"

CONFIG_MOUNT = "/var/lib/kolla/config_files"
SCRIPTS = "/var/lib/kolla/scripts"
# Weight for the CPU: what runs beside a service leaves the CPU to it (the usual weight is 1024).
BESIDE = 128
PYTHON = "/var/lib/kolla/venv/bin/python3"


def __virtual__():
    return __virtualname__


def with_command(files, script, text):
    """
    The same configuration for a container that runs a script instead of the service. Pure.

    files
        Result of ``glance_configuration.files``.
    script
        File name of the script.
    text
        Its text.

    Returns files of the same kind.
    """
    body = json.loads(files["config.json"]["text"])
    body["command"] = f"{PYTHON} {SCRIPTS}/{script}"
    body["config_files"].append(_copied(script))
    return {
        **files,
        "config.json": {"text": json.dumps(body, indent=4) + "\n", "secret": False},
        script: {"text": text, "secret": False},
    }


def with_order(files, name, order):
    """
    The same configuration with what the script is to do, in a file beside it. Pure.

    files
        Result of :py:func:`with_command`.
    name
        File name.
    order
        A structure; may hold secrets.

    Returns files of the same kind.
    """
    body = json.loads(files["config.json"]["text"])
    body["config_files"].append(_copied(name))
    return {
        **files,
        "config.json": {"text": json.dumps(body, indent=4) + "\n", "secret": False},
        name: {"text": json.dumps(order), "secret": True},
    }


def script(name):
    """
    Text of one of the formula's scripts for one-shot containers.

    name
        File name below ``glance/files``.

    Raises CommandExecutionError when the file server does not have it.
    """
    source = f"salt://glance/files/{name}"
    path = __salt__["cp.cache_file"](source, saltenv=__salt__["glance_formula.saltenv"]())
    if not path:
        raise CommandExecutionError(
            f"{source} is not on the file server: serve the whole formula, not parts of it."
        )
    with open(path, encoding="utf-8") as file:
        return file.read()


def with_scripts(files, names):
    """
    The same configuration for a container that runs one of the formula's scripts.

    files
        Result of ``glance_configuration.files``.
    names
        Scripts below ``glance/files``; the last one is run and may import the others.
    """
    for name in names:
        files = with_command(files, name, script(name))
    return files


def program(texts):
    """
    The same for a container that runs already: one text for ``python3 -c``. Pure.

    texts
        ``{file name: text}`` of scripts; the last one is run and may import the others.
    """
    *parts, (_, main) = texts.items()
    modules = {name.removesuffix(".py"): text for name, text in parts}
    return (
        "import sys, types\n"
        f"for name, text in {modules!r}.items():\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(text, name, 'exec'), vars(sys.modules[name]))\n"
        f"exec(compile({main!r}, 'main', 'exec'))\n"
    )


def run(purpose, settings, want, files, timeout, data=False, environment=None, mounts=()):
    """
    Run a container with these configuration files to its end, and remove both.

    purpose
        What it is for, one word.
    settings
        Result of ``glance_settings.get``.
    want
        Result of ``glance_container.wanted``.
    files
        Configuration files to mount.
    timeout
        Seconds it may take.
    data
        Whether it sees the volumes of the service; False for what must not touch them.
    environment
        More environment; no secrets.
    mounts
        More volumes.

    Returns ``{"rc", "output", "seconds"}``.
    """
    __salt__["glance_engine.settle_one_shots"](timeout)
    owner = __salt__["glance_process.mark"]()
    folder = os.path.join(settings["snapshot_dir"], f"{purpose}.{owner}")
    volumes = [one for one in want["spec"]["volumes"] if f":{CONFIG_MOUNT}/" not in one]
    __salt__["glance_config_dir.write"](folder, files)
    try:
        return __salt__["glance_engine.run_once"](
            purpose,
            {
                "image": want["spec"]["image"],
                "environment": {**want["spec"]["environment"], **(environment or {})},
                "network_mode": "host",
                "privileged": data and want["spec"]["privileged"],
                "healthcheck": {"test": ["NONE"]},
                "cpu_shares": BESIDE,
                "volumes": [f"{folder}:{CONFIG_MOUNT}/:ro", *(volumes if data else []), *mounts],
            },
            timeout,
        )
    finally:
        __salt__["file.remove"](folder)


def answer(run_result, doing):
    """
    The JSON that a script printed as its last line.

    run_result
        Result of :py:func:`run`.
    doing
        What it was to do, for the error.

    Raises CommandExecutionError when it printed none.
    """
    try:
        return json.loads(run_result["output"].strip().splitlines()[-1])
    except (IndexError, ValueError) as err:
        raise CommandExecutionError(
            f"The one-shot container that was to {doing} ended with code {run_result['rc']} and no"
            " answer; put right what its last lines tell and apply again:"
            f" {last_lines(run_result, 5)}"
        ) from err


def last_lines(result, count):
    """
    The end of what a script or command in a container printed, in one line and without secrets.

    result
        Result of :py:func:`run`, or of ``glance_engine.execute``.
    count
        How many lines.
    """
    lines = result["output"].strip().splitlines()[-count:]
    return __salt__["glance_settings.masked"](" | ".join(lines)) or "nothing"


def _copied(name):
    return {
        "source": f"{CONFIG_MOUNT}/{name}",
        "dest": f"{SCRIPTS}/{name}",
        "owner": "root:glance",
        "perm": "0640",
    }
