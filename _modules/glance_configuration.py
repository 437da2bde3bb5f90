"""
Configuration files of the glance-api container, after the Kolla image contract.

:func:`files` turns the settings into the text of every file, :func:`proof_files` into the
same files for a throw-away container that checks them.  Both are pure: nothing is read from
pillar or disk, nothing is written.  Writing is the work of ``glance_config_dir``.
"""

import json
import re

from salt.exceptions import SaltInvocationError

HEADER = "managed by Salt (glance formula); changes made here are lost"

#: Where the container finds the files, and where it copies them to.
MOUNT = "/var/lib/kolla/config_files"
PYTHON = "/var/lib/kolla/venv/bin/python3"
ETC = "/etc/glance"
CONF_D = "/etc/glance/glance.conf.d"
CEPH = "/etc/ceph"
PROOF_SCRIPT = "/var/lib/kolla/proof/prove.py"

WORK = "/var/lib/glance-work"
CACHE = "/var/lib/glance-cache"
LOGS = "/var/log/kolla/glance"
PROOF = "/tmp/glance-proof"
PROOF_DATABASE = "sqlite:///" + PROOF + "/glance.sqlite"

#: First release (Kolla's) whose images make the directories that config.json names.
DIRECTORIES_SINCE = "2026.1"

#: oslo options that may stand more than once; a list becomes one line per entry.
MULTI = frozenset(("filesystem_store_datadirs", "vmware_datastores", "policy_dirs", "driver"))
#: oslo options whose list stands in brackets.
BOUNDED = frozenset(
    ("enabled_import_methods",)
    + tuple(
        f"{way}_{what}"
        for way in ("allowed", "disallowed")
        for what in ("schemes", "hosts", "ports")
    )
)

_SECRET_NAME = re.compile(
    r"(password|passwd|secret|token|hmac_keys|(^|_)key)$|^(slave_)?connection$|connection_string$"
    r"|transport_url$|credential"
)
_SECRET_VALUE = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
_NAME = re.compile(r"^[A-Za-z0-9_.-]+$")

#: The operator's files that are laid over each of ours, in Kolla's order: the last wins.
OVERRIDES = {
    "glance-api.conf": ("global.conf", "glance.conf", "glance-api.conf"),
    "glance-api-uwsgi.ini": ("glance-api-uwsgi.ini",),
    "glance-image-import.conf": ("glance-image-import.conf",),
    "glance-cache.conf": ("glance-cache.conf",),
    "glance-swift.conf": ("glance-swift.conf",),
}
OWN_NAMES = {"property-protections-rules.conf"}.union(*OVERRIDES.values())


def files(settings, release):
    """
    Return every file of the configuration directory of glance-api.

    settings
        The resolved settings, as ``glance_settings.get`` returns them.

    release
        OpenStack release of the image, such as ``2026.1``.

    Returns a mapping of the path below the directory to ``{"text": str, "secret": bool}``.

    Raises SaltInvocationError when the release cannot do what the settings ask for.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_configuration.files "$SETTINGS" 2026.1
    """
    result, copies = _content(settings, _sections(settings, release), proof=False)
    command = __salt__["glance_options.command"](settings, release)
    result["config.json"] = _config_json(settings, release, command, copies)
    return result


def proof_files(settings, release, script):
    """
    Return the configuration directory of the throw-away container that proves the files.

    It is the configuration of :func:`files` with the database and every writable path turned
    to a temporary directory of the container, and the proof as the command.  Credentials and
    addresses of stores stay real.

    settings, release
        As for :func:`files`.

    script
        Text of ``glance/files/prove.py``.

    Returns a mapping like that of :func:`files`.

    Raises SaltInvocationError when the release cannot do what the settings ask for.
    """
    sections = _sections(settings, release)
    result, copies = _content(settings, sections, proof=True)
    result["prove.py"] = _file(script)
    copies.append(("prove.py", PROOF_SCRIPT))
    command = f"{PYTHON} {PROOF_SCRIPT}"
    result["config.json"] = _config_json(settings, release, command, copies)
    return result


def _sections(settings, release):
    """Return the sections of every ini file with the operator's own laid over them."""
    sections = __salt__["glance_options.sections"](settings, release)
    custom = _custom(settings)
    for name, order in OVERRIDES.items():
        if name in sections:
            for layer in order:
                _override(sections[name], custom.get(layer), layer)
    return sections


def _content(settings, sections, proof):
    """Return (files, copies): all but config.json, and (source, destination) of each."""
    custom = _custom(settings)
    if proof:
        for file_sections in sections.values():
            _redirect(file_sections)
    secrets, cache_secrets = {}, {}
    for name in ("glance-api.conf", "glance-image-import.conf"):
        _take_secrets(sections[name], secrets)
    if "glance-cache.conf" in sections:
        _take_secrets(sections["glance-cache.conf"], cache_secrets)
    result, copies = {}, []

    def add(name, text, folder=ETC, secret=False):
        result[name] = _file(text, secret)
        copies.append((name, f"{folder}/{name.rpartition('/')[2]}"))

    add("glance-api.conf", _ini(sections["glance-api.conf"]))
    if "glance-api-uwsgi.ini" in sections:
        add("glance-api-uwsgi.ini", _ini(sections["glance-api-uwsgi.ini"]))
    add("glance-image-import.conf", _ini(sections["glance-image-import.conf"]), CONF_D)
    add("glance-secrets.conf", _ini(secrets), CONF_D, secret=True)
    if "glance-cache.conf" in sections:
        # The cache tools read glance-secrets.conf too; only what differs stays in their file.
        own = {
            section: {k: v for k, v in options.items() if secrets.get(section, {}).get(k) != v}
            for section, options in cache_secrets.items()
        }
        cache = _merged(sections["glance-cache.conf"], own)
        add("glance-cache.conf", _ini(cache), secret=any(own.values()))
    if "glance-swift.conf" in sections:
        add("glance-swift.conf", _ini(sections["glance-swift.conf"]), secret=True)
    policy = _policy(settings, custom)
    if policy:
        add("policy.yaml", policy)
    if settings.get("glance_enable_property_protection"):
        add("property-protections-rules.conf", _text(custom, "property-protections-rules.conf"))
    _add_ceph(settings, custom, add)
    if settings.get("glance_enable_tls_backend"):
        add("glance-cert.pem", settings["glance_backend_tls_cert"], f"{ETC}/certs")
        add("glance-key.pem", settings["glance_backend_tls_key"], f"{ETC}/certs", secret=True)
    return result, copies


def _file(text, secret=False):
    return {"text": text if text.endswith("\n") else text + "\n", "secret": secret}


def _config_json(settings, release, command, copies):
    """Return config.json.

    Everything below /etc/glance belongs to root and may only be read by glance, as the
    OpenStack Security Guide asks (Check-Image-01 and 02).  /var/lib/glance is not walked:
    on a shared filesystem that would touch every image at each start.
    """
    permissions = [
        {"path": ETC, "owner": "root:glance", "perm": "0640", "recurse": True},
        {"path": f"{LOGS}/*.log", "owner": "glance:kolla", "perm": "0664"},
        {"path": "/var/lib/glance", "owner": "glance:glance"},
        {"path": "/var/lib/glance/images", "owner": "glance:glance"},
        {"path": WORK, "owner": "glance:glance", "perm": "0750"},
    ]
    if settings.get("enable_glance_image_cache"):
        permissions.append({"path": CACHE, "owner": "glance:glance", "perm": "0750"})
    if any(dest.startswith(CEPH) for _name, dest in copies):
        permissions.append({"path": CEPH, "owner": "root:glance", "perm": "0750"})
    body = {
        "command": command,
        "config_files": [
            {"source": f"{MOUNT}/{name}", "dest": dest, "owner": "root:glance", "perm": "0640"}
            for name, dest in copies
        ],
        "permissions": permissions,
    }
    if release >= DIRECTORIES_SINCE:
        body["directories"] = [{"path": LOGS, "owner": "glance:kolla", "perm": "2775"}]
    return _file(json.dumps(body, indent=4))


def _policy(settings, custom):
    """Return policy.yaml or None: the operator's, else what a trial without Keystone needs."""
    text = _text(custom, "policy.yaml", optional=True)
    if text is not None:
        return f"# {HEADER}\n{text}"
    if settings.get("keystone"):
        return None
    return (
        f"# {HEADER}\n"
        "# Trial mode: without Keystone nobody has a role, so everybody is the administrator.\n"
        '"context_is_admin": "@"\n'
    )


def _add_ceph(settings, custom, add):
    """Add the operator's ceph.conf and keyring files, as Kolla takes them from its folder."""
    if not any(store["type"] == "rbd" for store in settings["stores"]):
        return
    for name in sorted(custom):
        if name.endswith(".keyring"):
            add(f"ceph/{name}", _text(custom, name), CEPH, secret=True)
        elif name.endswith(".conf") and name not in OWN_NAMES:
            text = "\n".join(line.strip() for line in _text(custom, name).splitlines())
            add(f"ceph/{name}", text, CEPH)


def _redirect(sections):
    """Turn the database and every path that Glance writes to into the proof's own directory."""
    paths = ("filesystem_store_datadir", "image_cache_dir", "lock_path", "work_dir", "log_dir")
    for section, options in sections.items():
        for name in list(options):
            if name in ("connection", "slave_connection") and section == "database":
                options[name] = PROOF_DATABASE
            elif name in paths:
                options[name] = f"{PROOF}/{section}/{name}"
            elif name == "filesystem_store_datadirs":
                entries = options[name] if isinstance(options[name], list) else [options[name]]
                options[name] = [
                    re.sub(r"^[^:]*", f"{PROOF}/{section}/{index}", str(entry))
                    for index, entry in enumerate(entries)
                ]
            elif name == "node_staging_uri":
                options[name] = f"file://{PROOF}/staging"
            elif name == "log_file":
                options[name] = f"{PROOF}/glance.log"
        if "rbd_store_ceph_conf" in options and "rados_connect_timeout" not in options:
            # librados waits five minutes for monitors that do not answer.
            options["rados_connect_timeout"] = 10


def _custom(settings):
    """Return the operator's own files, by Kolla's name without the leading ``glance/``."""
    custom = settings.get("glance_custom_config") or {}
    return {re.sub(r"^glance/", "", str(name)): body for name, body in custom.items()}


def _override(sections, body, name):
    """Lay one file of the operator over ``sections``: an option is replaced as a whole."""
    if isinstance(body, str):
        body = _parse(body, name)
    for section, options in (body or {}).items():
        target = sections.setdefault(str(section), {})
        for option, value in (options or {}).items():
            target[str(option)] = _listed(str(option), value)


def _merged(sections, more):
    names = [*sections, *(name for name in more if name not in sections)]
    return {name: {**sections.get(name, {}), **more.get(name, {})} for name in names}


def _parse(text, name):
    """Return the sections of ini text; an option that stands twice becomes a list."""
    sections, current, last = {}, None, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        header = re.match(r"^\[([^\]]+)\]\s*$", line)
        if header:
            current, last = sections.setdefault(header.group(1).strip(), {}), None
            continue
        option = re.match(r"^([A-Za-z0-9_.-]+)\s*[=:]\s*(.*?)\s*$", line)
        if option and current is not None:
            last = option.group(1)
            if last in current:
                old = current[last]
                current[last] = (old if isinstance(old, list) else [old]) + [option.group(2)]
            else:
                current[last] = option.group(2)
        elif line[0].isspace() and last and isinstance(current[last], str):
            current[last] += " " + line.strip()
        else:
            raise SaltInvocationError(
                f"glance:glance_custom_config:{name} line {number} is neither a [section] nor "
                "an option of one: write it as 'option = value' below a section."
            )
    return sections


def _listed(option, value):
    """Return a YAML list as oslo reads it: several lines, in brackets, or with commas."""
    if not isinstance(value, (list, tuple)):
        return value
    entries = [_scalar(entry) for entry in value]
    if option in MULTI:
        return entries
    if option in BOUNDED:
        return "[" + ",".join(entries) + "]"
    return ",".join(entries)


def _take_secrets(sections, secrets):
    """Move the options that hold a secret from ``sections`` to ``secrets``."""
    for section, options in sections.items():
        for name in [n for n in options if _is_secret(n, options[n])]:
            secrets.setdefault(section, {})[name] = options.pop(name)


def _is_secret(name, value):
    return bool(_SECRET_NAME.search(name.lower()) or _SECRET_VALUE.search(str(value)))


def _text(custom, name, optional=False):
    body = custom.get(name)
    if body is None and optional:
        return None
    if not isinstance(body, str):
        if name == "policy.yaml" and isinstance(body, dict):
            return "".join(f"{json.dumps(str(k))}: {json.dumps(v)}\n" for k, v in body.items())
        raise SaltInvocationError(
            f"glance:glance_custom_config:{name} must hold the text of the file: give it as one "
            "block of text."
        )
    return body


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _ini(sections):
    lines = [f"# {HEADER}"]
    for section, options in sections.items():
        lines += ["", f"[{section}]"]
        for name, value in options.items():
            for entry in value if isinstance(value, list) else [value]:
                if entry is None:
                    continue
                entry = _scalar(entry)
                if "\n" in entry or "\r" in entry or not _NAME.match(name):
                    raise SaltInvocationError(
                        f"The option {name} of section [{section}] cannot be written to a file: "
                        "its name or value holds a line break or a character that does not "
                        "belong there."
                    )
                lines.append(f"{name} = {entry}".rstrip())
    return "\n".join(lines) + "\n"
