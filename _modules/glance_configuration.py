"""
Configuration files of the glance-api container, after the Kolla image contract.

:func:`files` turns the settings into the text of every file, :func:`proof_files` into the
same files for a throw-away container that checks them.  Both are pure: nothing is read from
pillar or disk, nothing is written.  Writing is the work of ``glance_config_dir``.
"""

import json
import re

from salt.exceptions import SaltInvocationError

__virtualname__ = "glance_configuration"

HEADER = "managed by Salt (glance formula); changes made here are lost"

#: Where the container finds the files, and where it copies them to.
MOUNT = "/var/lib/kolla/config_files"
PYTHON = "/var/lib/kolla/venv/bin/python3"
ETC = "/etc/glance"
CONF_D = "/etc/glance/glance.conf.d"
CEPH = "/etc/ceph"
#: A package of nothing but a second name for VMware's driver; glance_container puts its folder on
#: the path of Python.
VSPHERE = f"{ETC}/python/glance_formula_vsphere-1.dist-info"
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

_CEPH_KEY = re.compile(r"^\s*key\s*=", re.MULTILINE)
_NAME = re.compile(r"^[A-Za-z0-9_.-][A-Za-z0-9_. -]*$")

#: The operator's files that are laid over each of ours, in Kolla's order: the last wins.
OVERRIDES = {
    "glance-api.conf": ("global.conf", "glance.conf", "glance-api.conf"),
    "glance-api-uwsgi.ini": ("glance-api-uwsgi.ini",),
    "glance-image-import.conf": ("glance-image-import.conf",),
    "glance-cache.conf": ("glance-cache.conf",),
    "glance-swift.conf": ("glance-swift.conf",),
}


def __virtual__():
    return __virtualname__


def files(settings, release):
    """
    Return every file of the configuration directory of glance-api.

    settings
        The resolved settings, as ``glance_settings.get`` returns them.

    release
        OpenStack release of the image, such as ``2026.1``.

    Returns a mapping of the path below the directory to ``{"text": str, "secret": bool}``.

    Raises SaltInvocationError when the release cannot do what the settings ask for.
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
    custom = settings.get("glance_custom_config", {})
    _give_way(sections["glance-image-import.conf"], settings)
    for name, file_sections in sections.items():
        for layer in _layers(name, settings):
            for section, options in custom.get(layer, {}).items():
                # An option is replaced as a whole, also when it stands more than once.
                file_sections.setdefault(section, {}).update(options)
        if name.endswith(".conf"):
            for options in file_sections.values():
                if "filesystem_store_datadirs" in options:
                    # Glance refuses a store that has both forms.
                    options.pop("filesystem_store_datadir", None)
                options.update({key: _listed(key, value) for key, value in options.items()})
    return sections


def _layers(name, settings):
    """The operator's files that are laid over one of ours."""
    switch = "glance_enable_interoperable_image_import"
    if name == "glance-image-import.conf" and not settings.get(switch):
        return ()  # as Kolla-Ansible, which copies the file only with the switch
    return OVERRIDES[name]


def _give_way(image_import, settings):
    """Take out of glance-image-import.conf what the operator sets in glance-api.conf.

    Glance reads that file later, so that our defaults in it would win over the operator.
    """
    for layer in OVERRIDES["glance-api.conf"]:
        for section, options in settings.get("glance_custom_config", {}).get(layer, {}).items():
            given = settings.get("glance_image_import", {}).get(section, {})
            for option in options:
                if option not in given:
                    image_import.get(section, {}).pop(option, None)


def _content(settings, sections, proof):
    """Return (files, copies): all but config.json, and (source, destination) of each."""
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

    add("glance-api.conf", _ini("glance-api.conf", sections["glance-api.conf"]))
    if "glance-api-uwsgi.ini" in sections:
        add("glance-api-uwsgi.ini", _ini("glance-api-uwsgi.ini", sections["glance-api-uwsgi.ini"]))
    paste = sections["glance-api.conf"].get("paste_deploy", {})
    if paste.get("config_file") == f"{ETC}/glance-health-paste.ini":
        text = __salt__["glance_options.health_paste"](settings, paste.get("flavor"))
        add("glance-health-paste.ini", f"# {HEADER}\n{text}")
    add(
        "glance-image-import.conf",
        _ini("glance-image-import.conf", sections["glance-image-import.conf"]),
        CONF_D,
    )
    add("glance-secrets.conf", _ini("glance-secrets.conf", secrets), CONF_D, secret=True)
    if "glance-cache.conf" in sections:
        # The cache tools read glance-secrets.conf too; only what differs stays in their file.
        own = {
            section: {k: v for k, v in options.items() if secrets.get(section, {}).get(k) != v}
            for section, options in cache_secrets.items()
        }
        cache = _merged(sections["glance-cache.conf"], own)
        add("glance-cache.conf", _ini("glance-cache.conf", cache), secret=any(own.values()))
    if "glance-swift.conf" in sections:
        add(
            "glance-swift.conf",
            _ini("glance-swift.conf", sections["glance-swift.conf"]),
            secret=True,
        )
    policy = dict(settings.get("glance_policy", {}))
    if not settings["keystone"]:
        # Without Keystone nobody has a role, so in a trial everybody is the administrator.
        policy = {"context_is_admin": "@", **policy}
    if policy:
        add("policy.yaml", _yaml(policy))
    if settings.get("glance_enable_property_protection"):
        add(
            "property-protections-rules.conf",
            _ini("property-protections-rules.conf", settings["glance_property_protections"]),
        )
    _add_ceph(settings, add)
    _add_vsphere(settings, add)
    if settings.get("glance_enable_tls_backend"):
        certificate = settings["glance_backend_tls_cert"]
        # HAProxy's kind of file holds the key as well.
        add("glance-cert.pem", certificate, f"{ETC}/certs", secret="PRIVATE KEY" in certificate)
        add("glance-key.pem", settings["glance_backend_tls_key"], f"{ETC}/certs", secret=True)
    if settings.get("kolla_copy_ca_into_containers"):
        for name, text in settings["glance_ca_certificates"].items():
            # kolla_copy_cacerts of every release looks for them here: nothing is to be copied.
            result[f"ca-certificates/{name}"] = _file(text)
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
        # The 0o is for Kolla 22, which makes 2o775 of a four-digit mode and fails.
        body["directories"] = [{"path": LOGS, "owner": "glance:kolla", "perm": "0o2775"}]
    for key, value in settings.get("glance_custom_config", {}).get("config.json", {}).items():
        body[key] = body.get(key, []) + value if isinstance(value, list) else value
    return _file(json.dumps(body, indent=4))


def _add_vsphere(settings, add):
    """Let Glance find VMware's driver by the name of its only scheme.

    The type in enabled_backends must be the name of a driver and, for uploads, that of a scheme;
    the driver vmware has the scheme vsphere alone (glance_store: multi_backend.py).
    """
    if any(store["type"] == "vsphere" for store in settings["stores"]):
        metadata = "Metadata-Version: 2.1\nName: glance-formula-vsphere\nVersion: 1\n"
        driver = "vsphere = glance_store._drivers.vmware_datastore:Store"
        add("vsphere/METADATA", metadata, VSPHERE)
        add("vsphere/entry_points.txt", f"[glance_store.drivers]\n{driver}\n", VSPHERE)


def _add_ceph(settings, add):
    """Add ceph.conf and keyring of every cluster that a store uses, as Kolla names them."""
    custom = settings.get("glance_custom_config", {})
    for store in settings["stores"]:
        if store["type"] != "rbd":
            continue
        for name in (
            f"{store['cluster']}.conf",
            f"{store['cluster']}.client.{store['user']}.keyring",
        ):
            if name in custom:
                secret = name.endswith(".keyring") or bool(_CEPH_KEY.search(custom[name]))
                add(f"ceph/{name}", custom[name], CEPH, secret=secret)


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


def _merged(sections, more):
    names = [*sections, *(name for name in more if name not in sections)]
    return {name: {**sections.get(name, {}), **more.get(name, {})} for name in names}


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
    for section, name in __salt__["glance_content.secrets"](sections):
        secrets.setdefault(section, {})[name] = sections[section].pop(name)


def _yaml(mapping):
    lines = [f"{json.dumps(str(key))}: {json.dumps(value)}" for key, value in mapping.items()]
    return "\n".join([f"# {HEADER}", *lines])


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _ini(file, sections):
    lines = [f"# {HEADER}"]
    for section, options in sections.items():
        if "\n" in section or "\r" in section:
            raise SaltInvocationError(
                f"The section {section!r} of {file} has a line break in its name: take it out."
            )
        lines += ["", f"[{section}]"]
        for name, value in options.items():
            for entry in value if isinstance(value, list) else [value]:
                if entry is None:
                    continue
                entry = _scalar(entry)
                if "\n" in entry or "\r" in entry or not _NAME.match(name):
                    raise SaltInvocationError(
                        f"The option {name} of section [{section}] cannot be written to {file}: "
                        "take out of its name or value the line break or the character that does "
                        "not belong there."
                    )
                lines.append(f"{name} = {entry}".rstrip())
    return "\n".join(lines) + "\n"
