"""
The Docker engine, seen from Glance: images, containers, one-shot containers.

Every function takes and returns plain data, waits with a deadline and turns the SDK's
exceptions into one sentence. Nothing here decides anything: what should run, and what
replaces what, is decided in ``glance_container``.

The engine is the one of the minion option ``docker.url`` (as in Salt's own Docker modules),
else of ``DOCKER_HOST``, else the local socket.
"""

import contextlib
import glob
import os
import re
import time
import uuid

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_engine"

SERVICE_LABEL = "glance.service"
SERVICE = "api"
ONE_SHOT_LABEL = "glance.oneshot"
OWNER_LABEL = "glance.owner"  # process that a one-shot container belongs to
# Purposes of one-shot containers that change the database: these are left to end.
WORKS_ON_DATABASE = ("schema", "database")

LOG_END = 256 * 1024  # bytes of a log file that are looked at for its last words
# A line of uWSGI or eventlet about one request.
_REQUEST = re.compile(r"^\[pid: \d+\||INFO eventlet\.wsgi\.server ")

# Seconds the engine may take to answer one call; a pull has its own (docker_client_timeout).
CLIENT_TIMEOUT = 120
COMMAND_TIMEOUT = 60  # seconds that a command in a running container may take
KILLED = 137  # exit code of a process that was killed
#: In __context__: this dry run comes before the SDK that it would install.
_TO_COME = "glance_engine.to_come"


def __virtual__():
    return __virtualname__


def available():
    """
    Make sure that the Docker SDK is installed and that the engine answers.

    Raises CommandExecutionError, naming the command to run.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_engine.available
    """
    with _sentences("reach the Docker engine"):
        _client().ping()
    return True


def is_to_come():
    """
    Whether the Docker SDK is missing and glance.prerequisites may install it.

    A dry run that is told so takes the engine for one that has nothing yet, from now on.
    """
    try:
        import docker  # noqa: F401
    except ImportError:
        __context__[_TO_COME] = _may_install()
        return __context__[_TO_COME]
    return False


def cgroup_version():
    """
    The version of the kernel's control groups that the engine uses: 1 or 2.
    """
    with _sentences("tell about itself"):
        return int(_client().api.info().get("CgroupVersion") or 1)


def image(reference):
    """
    The local image behind a reference, or None when the engine does not have it.

    reference
        Name with tag or digest, or an image id.

    Returns ``{"id"}``.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_engine.image quay.io/openstack.kolla/glance-api:2026.2-debian-trixie
    """
    if __context__.get(_TO_COME):
        return None
    import docker.errors

    with _sentences(f"look up the image {reference}"):
        try:
            attrs = _client().api.inspect_image(reference)
        except docker.errors.ImageNotFound:
            return None
    return {"id": attrs["Id"]}


def pull(reference, timeout, login=None):
    """
    Pull an image; running containers are not touched.

    reference
        Name with tag or digest.
    timeout
        Seconds without any progress after which the pull is given up.
    login
        ``{"username", "password"}`` for the registry, or None.

    Returns the same as :py:func:`image`. Raises CommandExecutionError when the registry does not
    give it, or nothing is heard from it for that long.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_engine.pull quay.io/openstack.kolla/glance-api:2026.2-debian-trixie 120
    """
    import docker
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    class Impatient(docker.APIClient):
        """The SDK's own client waits for ever for the first word about a pull."""

        def post(self, *args, **more):
            return super().post(*args, **{**more, "timeout": self.timeout})

    with _sentences(f"pull the image {reference}"):
        api = Impatient(base_url=_url(), version="auto", timeout=timeout)
    name, tag = _split(reference)
    failure = None
    try:
        for event in api.pull(name, tag=tag, stream=True, decode=True, auth_config=login):
            failure = event.get("error", failure)
    except docker.errors.APIError as err:
        failure = err.explanation or str(err)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError):
        failure = f"nothing was heard for {timeout} seconds"
    finally:
        api.close()
    found = None if failure else image(reference)
    if not found:
        raise CommandExecutionError(
            f"The image {reference} cannot be pulled ({_one_line(failure)}): check"
            " glance:glance_tag, glance:docker_registry and the registry itself."
        )
    return found


def containers(label=SERVICE_LABEL, value=None):
    """
    All containers, running or not, that carry a label.

    label
        Label name.
    value
        Label value; None takes any.

    Returns a list of :py:func:`inspect` results, oldest first.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_engine.containers
    """
    if __context__.get(_TO_COME):
        return []
    wanted = label if value is None else f"{label}={value}"
    with _sentences("list the containers"):
        rows = _client().api.containers(all=True, filters={"label": wanted})
    found = [inspect(row["Id"]) for row in rows]
    return sorted((one for one in found if one), key=lambda one: one["created"])


def inspect(name):
    """
    What the engine knows of one container, reduced to what Glance needs, or None.

    name
        Name or id.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_engine.inspect glance_api
    """
    if __context__.get(_TO_COME):
        return None
    import docker.errors

    with _sentences(f"inspect the container {name}"):
        try:
            attrs = _client().api.inspect_container(name)
        except docker.errors.NotFound:
            return None
    state = attrs["State"]
    return {
        "name": attrs["Name"].lstrip("/"),
        "id": attrs["Id"],
        "created": attrs["Created"],
        "image": attrs["Image"],
        "reference": attrs["Config"]["Image"],
        "labels": attrs["Config"].get("Labels") or {},
        "running": bool(state["Running"]) and not state.get("Restarting"),
        "status": state["Status"],
        "exit_code": state.get("ExitCode"),
        "pid": state.get("Pid") or 0,
        "started_at": state.get("StartedAt"),
        "restarts": attrs.get("RestartCount", 0),
        "health": (state.get("Health") or {}).get("Status"),
        "restart_policy": attrs["HostConfig"]["RestartPolicy"]["Name"] or "no",
        "cpu_shares": attrs["HostConfig"].get("CpuShares") or 0,
        "mounts": [
            {"target": one["Destination"].rstrip("/"), "path": one.get("Source")}
            for one in attrs.get("Mounts", [])
        ],
    }


def create(name, spec, labels, restart_policy="no"):
    """
    Create a container without starting it.

    name
        Container name.
    spec
        Keyword arguments of the Docker SDK's ``containers.create``.
    labels
        Labels to put on it.
    restart_policy
        ``no``, ``always``, ``unless-stopped`` or ``on-failure``.
    """
    from docker.types import Ulimit

    arguments = dict(spec)
    arguments["ulimits"] = [Ulimit(**one) for one in arguments.get("ulimits", [])]
    with _sentences(f"create the container {name}"):
        _client().containers.create(
            name=name, labels=labels, restart_policy={"Name": restart_policy}, **arguments
        )


def start(name):
    """
    Start a container.

    name
        Container name.
    """
    with _sentences(f"start the container {name}"):
        _client().api.start(name)


def stop(name, timeout):
    """
    Stop a container; after the timeout the engine kills it. A container that is gone is fine.

    name
        Container name.
    timeout
        Seconds between SIGTERM and SIGKILL.
    """
    import docker.errors

    with _sentences(f"stop the container {name}"), contextlib.suppress(docker.errors.NotFound):
        _client(timeout + CLIENT_TIMEOUT).api.stop(name, timeout=timeout)


def remove(name):
    """
    Remove a container, killing it when it runs; named volumes stay. Gone already is fine.

    name
        Container name.
    """
    import docker.errors

    with _sentences(f"remove the container {name}"), contextlib.suppress(docker.errors.NotFound):
        _client().api.remove_container(name, force=True)


def rename(name, new_name):
    """
    Rename a container.

    name
        Present name.
    new_name
        Name it gets.
    """
    with _sentences(f"rename the container {name} to {new_name}"):
        _client().api.rename(name, new_name)


def restart_policy(name, policy, cpu_shares=None):
    """
    Set the restart policy of a living container.

    name
        Container name.
    policy
        ``no``, ``always``, ``unless-stopped`` or ``on-failure``.
    cpu_shares
        Its weight for the CPU from now on, in the same step; None leaves it.
    """
    with _sentences(f"set the restart policy of {name}"):
        _client().api.update_container(name, restart_policy={"Name": policy}, cpu_shares=cpu_shares)


def pids(name):
    """
    The main process of a container, as the host sees it, in a list; empty when it does not run.

    name
        Container name.
    """
    present = inspect(name)
    return [present["pid"]] if present and present["running"] else []


def logs(name, lines=12):
    """
    The last words of a container: what it printed, and what was written into Kolla's log folder,
    without secrets.

    Lines about single requests are left out: they are never the reason for an end, and in that
    folder most of them are of another container, which serves.

    name
        Container name.
    lines
        How many of each.
    """
    import docker.errors

    with _sentences(f"read the log of {name}"):
        try:
            printed = _client().api.logs(name, tail=lines).decode("utf-8", "replace")
        except docker.errors.NotFound:
            return ""
    printed = __salt__["glance_settings.masked"](printed)
    # kolla_start traces itself with lines that begin with a plus.
    told = [line for line in printed.splitlines() if line.strip() and line[0] != "+"]
    present = inspect(name)
    mounts = present["mounts"] if present else []
    for folder in (one["path"] for one in mounts if one["target"] == "/var/log/kolla"):
        for path in sorted(glob.glob(f"{folder}/glance/glance-api*.log")):
            told += _tail(path, lines)
    return "\n".join(told)


def execute(name, command, user="root", timeout=COMMAND_TIMEOUT, what=None):
    """
    Run a command inside a running container.

    name
        Container name.
    command
        List of arguments; no shell.
    user
        User inside the container.
    timeout
        Seconds it may take; then it is killed.
    what
        What a sentence about it calls it; by default the command's own name.

    Returns ``{"rc", "output"}``. Raises CommandExecutionError when it was killed.
    """
    what = what or command[0]
    limited = ["timeout", "-s", "KILL", str(timeout), *command]
    with _sentences(f"run {what} in {name}"):
        api = _client().api
        handle = api.exec_create(name, limited, user=user)
        output = api.exec_start(handle["Id"])
        rc = api.exec_inspect(handle["Id"])["ExitCode"]
    if rc == KILLED:
        raise CommandExecutionError(
            f"{what} in the container {name} was killed: it did not end within {timeout} seconds,"
            " or the host had no memory left."
        )
    return {"rc": rc, "output": output.decode("utf-8", "replace").strip()}


def run_once(purpose, spec, timeout):
    """
    Run a container to its end and remove it, whatever happens.

    purpose
        What it is for; part of its name and its label.
    spec
        Keyword arguments of the Docker SDK's ``containers.create``.
    timeout
        Seconds it may take; then it is killed.

    Returns ``{"rc", "output", "seconds"}``. Raises CommandExecutionError at the deadline.
    """
    import requests.exceptions

    name = f"glance_{purpose}_{uuid.uuid4().hex[:8]}"
    began = time.monotonic()
    with _sentences(f"run the one-shot container {name}"):
        try:
            owner = __salt__["glance_process.mark"]()
            create(name, spec, {ONE_SHOT_LABEL: purpose, OWNER_LABEL: owner})
            start(name)
            rc = _client(timeout).api.wait(name, timeout=timeout)["StatusCode"]
            raw = _client().api.logs(name)
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as err:
            if time.monotonic() - began < timeout:
                raise
            raise CommandExecutionError(
                f"The one-shot container for {purpose} did not end within {timeout} seconds and"
                f" was stopped; its last words: {_one_line(logs(name, 3))}"
            ) from err
        finally:
            remove(name)
    return {
        "rc": rc,
        "output": raw.decode("utf-8", "replace"),
        "seconds": round(time.monotonic() - began, 1),
    }


def settle_one_shots(timeout):
    """
    Deal with one-shot containers that a killed run left behind.

    Those that change the database are left to end; all others are removed at once, unless another
    process that lives waits for them.

    timeout
        Seconds to wait for those that must not be interrupted.

    Returns the names of what was removed. Raises CommandExecutionError when one still works on the
    database by then.
    """
    import docker.errors

    removed = []
    for one in containers(ONE_SHOT_LABEL):
        if _changes_database(one):
            began = time.monotonic()
            try:
                gone = contextlib.suppress(docker.errors.NotFound)
                with _sentences(f"wait for the one-shot container {one['name']}"), gone:
                    _client(timeout).api.wait(one["id"], timeout=timeout)
            except CommandExecutionError as err:
                if time.monotonic() - began < timeout:
                    raise
                raise CommandExecutionError(
                    f"The one-shot container {one['name']} of an earlier run still works on the"
                    f" database after {timeout} seconds: look at it with 'docker logs"
                    f" {one['name']}', then apply again."
                ) from err
        if not _is_waited_for(one):
            remove(one["id"])
            removed.append(one["name"])
    return removed


def is_left_alone(one_shot):
    """
    Whether a one-shot container is not to be interrupted: it changes the database, or another
    process waits for it.

    one_shot
        Result of :py:func:`inspect`.
    """
    return _changes_database(one_shot) or _is_waited_for(one_shot)


def _changes_database(one_shot):
    return one_shot["running"] and one_shot["labels"][ONE_SHOT_LABEL] in WORKS_ON_DATABASE


def _is_waited_for(one_shot):
    return __salt__["glance_process.another_lives"](one_shot["labels"].get(OWNER_LABEL))


def remove_volume(name):
    """
    Remove a named volume with all that it holds. Gone already is fine.

    name
        Volume name.

    Returns True when there was one.
    """
    import docker.errors

    with _sentences(f"remove the volume {name}"):
        try:
            _client().api.remove_volume(name)
        except docker.errors.NotFound:
            return False
    return True


def volume(name):
    """
    Where a named volume has its data, or will have it once it is made.

    name
        Volume name.

    Returns ``{"folder", "driver", "kind"}``; ``kind`` is the kind of filesystem that the volume
    mounts itself, empty when it is a folder of the engine's.
    """
    if __context__.get(_TO_COME):
        return {"folder": f"/var/lib/docker/volumes/{name}", "driver": "local", "kind": ""}
    import docker.errors

    with _sentences(f"inspect the volume {name}"):
        try:
            attrs = _client().api.inspect_volume(name)
        except docker.errors.NotFound:
            root = _client().api.info()["DockerRootDir"]
            attrs = {"Mountpoint": os.path.join(root, "volumes", name), "Driver": "local"}
    options = attrs.get("Options") or {}
    kind = options.get("type", "") if options.get("device") else ""
    return {
        "folder": attrs["Mountpoint"],
        "driver": attrs["Driver"],
        "kind": "" if kind == "none" else kind,
    }


def volume_exists(name):
    """
    Whether the engine has a named volume.

    name
        Volume name.
    """
    return volume_path(name) is not None


def volume_path(name):
    """
    Where the data of a named volume lies on the host, or None when the engine does not have it.

    name
        Volume name.
    """
    if __context__.get(_TO_COME):
        return None
    import docker.errors

    with _sentences(f"inspect the volume {name}"):
        try:
            return _client().api.inspect_volume(name)["Mountpoint"]
        except docker.errors.NotFound:
            return None


def _tail(path, lines):
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - LOG_END))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []  # put aside in this very moment, or not readable: another one may tell
    told = [line for line in text.splitlines() if line and not _REQUEST.search(line)]
    return [__salt__["glance_settings.masked"](line)[:400] for line in told[-lines:]]


def _url():
    return (
        __opts__.get("docker.url") or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    )


def _client(timeout=CLIENT_TIMEOUT):
    key = f"glance_engine.client.{_url()}.{timeout}"
    if key not in __context__:
        import docker

        __context__[key] = docker.DockerClient(base_url=_url(), version="auto", timeout=timeout)
    return __context__[key]


@contextlib.contextmanager
def _sentences(doing):
    """Turn what the SDK and its transport raise into one sentence."""
    try:
        import docker.errors
        import requests.exceptions
    except ImportError as err:
        instead = (
            "apply glance.prerequisites, which installs it (glance:glance_prerequisites_install)"
            if _may_install()
            else "install it with salt-call --local pip.install '[\"docker>=7.1,<8\"]', or set"
            " glance:glance_prerequisites_install to yes and apply glance.prerequisites"
        )
        raise CommandExecutionError(
            f"The Python library 'docker' is missing on this minion: {instead}."
        ) from err
    try:
        yield
    except docker.errors.APIError as err:
        reason = _one_line(err.explanation or err)
        raise CommandExecutionError(
            f"The Docker engine could not {doing}: {reason.rstrip('.')}."
        ) from err
    except (docker.errors.DockerException, requests.exceptions.RequestException) as err:
        raise CommandExecutionError(
            f"The Docker engine at {_url()} does not answer (could not {doing}): start it, or name"
            " its socket in the minion option docker.url."
        ) from err


def _may_install():
    return __salt__["glance_settings.show"]()["glance_prerequisites_install"]


def _split(reference):
    if "@" in reference:
        return reference, None
    name, _, tag = reference.rpartition(":")
    return (name, tag) if name and "/" not in tag else (reference, "latest")


def _one_line(text):
    return " ".join(str(text or "no reason given").split())[:400]
