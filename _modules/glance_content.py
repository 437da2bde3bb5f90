"""
The structured values of the pillar mapping ``glance:``: looked into, and brought to one form.

Pure.  ``glance_pillar`` has told mappings from lists before.
"""

import difflib
import ipaddress
import json
import re

__virtualname__ = "glance_content"

#: Files of Kolla-Ansible's config directory that may be overridden, all in ini form.
OVERRIDES = (
    "global.conf",
    "glance.conf",
    "glance-api.conf",
    "glance-cache.conf",
    "glance-image-import.conf",
    "glance-swift.conf",
    "glance-api-uwsgi.ini",
)
_ELSEWHERE = {
    "policy.yaml": "glance_policy",
    "policy.json": "glance_policy",
    "property-protections-rules.conf": "glance_property_protections",
}
#: Options that are refused in overrides, and what to do instead.
_REFUSED_OPTIONS = {
    (
        "DEFAULT",
        "show_multiple_locations",
    ): "it lets users replace image data (OSSN-0065); Glance's location API needs no option",
    ("DEFAULT", "show_image_direct_url"): "use glance_show_image_direct_url",
    ("DEFAULT", "enabled_backends"): "use glance_backend_* and glance_additional_stores",
    ("glance_store", "default_backend"): "use glance_default_backend",
    ("glance_store", "stores"): "use glance_backend_* and glance_additional_stores",
    ("DEFAULT", "bind_host"): "use api_interface_address",
    ("DEFAULT", "bind_port"): "use glance_api_listen_port",
    ("DEFAULT", "worker_self_reference_url"): "it follows from api_interface_address",
    ("database", "connection"): "use the glance_database_* keys",
}
_STORE_TYPES = ("file", "http", "rbd", "swift", "vmware", "s3", "cinder")
_STORE_NICKNAMES = {"ceph": "rbd", "rados": "rbd", "filesystem": "file", "nfs": "file"}
_STORE_NICKNAMES["vsphere"] = "vmware"
_DIMENSIONS = (
    "blkio_weight",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpuset_cpus",
    "cpuset_mems",
    "kernel_memory",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "ulimits",
)
_CEPH_FILE = re.compile(r"[A-Za-z0-9_-]+(\.conf|\.client\.[A-Za-z0-9_.-]+\.keyring)")
_CONFIG_JSON = ("command", "config_files", "permissions", "directories", "files")
#: No value of Glance, its libraries or uWSGI has these characters.
_JINJA = re.compile(r"\{\{|\{%")
_NO_JINJA = "has Jinja in it, which is not rendered here; write the value itself"
#: As glance_configuration can write it.
_OPTION = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9_. -]*")
_OPERATIONS = ("create", "read", "update", "delete")
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|passcode|secret|token|credential|(^|[_-])key)s?$"
    r"|(secret|token)[_-]id$"
    r"|^(slave[_-])?connection$|connection[_-]string$|transport[_-]url$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def __virtual__():
    return __virtualname__


def read(given, schema):
    """
    Return the structured values among those given, each in one form.

    given
        Key -> value, from ``glance_pillar.read``.

    schema
        Content of ``glance/defaults.yaml``.

    Returns a mapping with ``given`` (of the structured keys without a fault), ``faults`` (a
    sentence each) and ``faulty`` (the keys that have one).
    """
    result = {"given": {}, "faults": [], "faulty": []}
    for kind, reader in _READERS.items():
        for key in schema["types"][kind]:
            if key in given:
                faults = _Faults(key)
                value = reader(given[key], faults)
                result["faults"] += faults.sentences
                if faults.sentences:
                    result["faulty"].append(key)
                else:
                    result["given"][key] = value
    return result


def secrets(sections):
    """
    Return the names of the options that hold a secret, by name and by form of the value.

    sections
        Options by section.

    Returns a list of ``[section, option]``.
    """
    return [
        [section, name]
        for section, options in sections.items()
        for name, value in options.items()
        if is_secret(name, value)
    ]


def is_secret(name, value):
    """
    Tell whether an option of a configuration file holds a secret.

    name, value
        The option.
    """
    entries = value if isinstance(value, list) else [value]
    return bool(
        _SECRET_NAME.search(name)
        or any(_SECRET_VALUE.search(entry) for entry in entries if isinstance(entry, str))
    )


class _Faults:
    """Collects sentences; a path below the key says where."""

    def __init__(self, key):
        self.key, self.sentences = key, []

    def add(self, path, text):
        where = ":".join(["glance", self.key, *(str(part)[:60] for part in path)])
        self.sentences.append(f"{where} {text}" + ("" if text.endswith("?") else "."))


# ------------------------------------------------------------------ pieces


def _kind(value):
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and "\n" in value:
        return "text of several lines"
    kinds = {dict: "a mapping", list: "a list", str: "text"}
    return kinds.get(type(value), "a number" if isinstance(value, (int, float)) else "not text")


def _scalar(value):
    """An option's value as text, or None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and abs(value) < 10**30:
        return str(value)
    good = isinstance(value, str) and not re.search(r"[\x00-\x08\x0a-\x1f]", value)
    return value.strip() if good else None


def _name(name, path, faults):
    """Whether this may be the name of a section, option or rule."""
    if isinstance(name, str) and re.fullmatch(r"[^\x00-\x1f\[\]=]+", name) and name.strip() == name:
        return True
    faults.add(
        path,
        "has a name that is no plain text"
        if not isinstance(name, str)
        else f"has the name {name[:60]!r}, which cannot stand in a configuration file",
    )
    return False


def _items(value, path, faults, what):
    """The items of a mapping with good names; a fault for anything else."""
    if not isinstance(value, dict):
        faults.add(path, f"is {_kind(value)}; it must be a mapping of {what}")
        return []
    return [(name, item) for name, item in value.items() if _name(name, path, faults)]


def _options(value, path, faults):
    options = {}
    for name, item in _items(value, path, faults, "options to values"):
        texts = [_scalar(entry) for entry in _as_list(item)]
        if not _OPTION.fullmatch(name):
            faults.add(
                (*path, name), "is no name of an option; it may have letters, digits and _ . - only"
            )
        elif any(_JINJA.search(text or "") for text in texts):
            faults.add((*path, name), _NO_JINJA)
        elif None in texts:
            faults.add(
                (*path, name),
                f"is {_kind(item)}; it must be one line of text, a number, "
                "yes or no, or a list of these",
            )
        else:
            options[name] = texts if isinstance(item, list) else texts[0]
    return options


def _sections(value, faults, path=()):
    return {
        section: _options(options, (*path, section), faults)
        for section, options in _items(value, path, faults, "sections to options")
    }


def _ini(text, faults, path):
    """Sections of a text in ini form; an option that stands twice becomes a list."""
    sections, options, last = {}, None, None
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        header = re.fullmatch(r"\[([^\[\]]+)\]", bare)
        option = re.fullmatch(r"([^\s=:\[][^=:]*?)\s*[=:]\s*(.*)", bare)
        if not bare or bare[0] in "#;":
            continue
        if header:
            options, last = sections.setdefault(header[1].strip(), {}), None
        elif line[0] in " \t" and last and not option:
            old = options[last]
            options[last] = (
                f"{old} {bare}" if isinstance(old, str) else [*old[:-1], f"{old[-1]} {bare}"]
            )
        elif option and options is not None:
            last = option[1]
            new = option[2]
            if last in options:
                old = options[last]
                new = [*(old if isinstance(old, list) else [old]), new]
            options[last] = new
        else:
            faults.add(path, f"has neither a section nor an option in line {number}")
            return {}
    return sections


def _text(sections):
    """The text of a file in ini form, as Ceph reads it."""
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [
            f"{name} = {entry}"
            for name, value in options.items()
            for entry in (value if isinstance(value, list) else [value])
        ]
    return "\n".join(lines) + "\n"


def _known(name, names, path, faults):
    if name in names:
        return True
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    faults.add((*path, name), f"is not known; {hint}")
    return False


# ------------------------------------------------------------------ one key, by its type


def _overrides(value, faults):
    result = {}
    for name, content in _items(value, (), faults, "file names to sections"):
        name = name.removeprefix("glance/")
        if name in _ELSEWHERE:
            faults.add((name,), f"is set elsewhere: use {_ELSEWHERE[name]}")
        elif isinstance(content, str) and content.startswith(("salt://", "/")):
            faults.add((name,), f"is {content}, which cannot be read")
        elif name == "config.json":
            result[name] = _config_json(content, faults)
        elif isinstance(content, str) and _JINJA.search(content):
            faults.add((name,), _NO_JINJA)
        elif name in OVERRIDES or _CEPH_FILE.fullmatch(name):
            text = isinstance(content, str)
            sections = _ini(content, faults, (name,)) if text else content
            sections = _sections(sections, faults, (name,))
            _refuse(name, sections, faults)
            result[name] = sections if name in OVERRIDES else _text(sections)
        else:
            _known(
                name,
                (*OVERRIDES, "config.json", "ceph.conf", "ceph.client.glance.keyring"),
                (),
                faults,
            )
    return result


def _config_json(content, faults):
    """What is added to config.json: a command, and more entries of Kolla's lists."""
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError as error:
            faults.add(("config.json",), f"is no JSON: {error}")
            return {}
    if not isinstance(content, dict):
        faults.add(("config.json",), f"is {_kind(content)}; it must be a mapping, or its text")
        return {}
    for name, value in content.items():
        if not _known(name, _CONFIG_JSON, ("config.json",), faults):
            continue
        path = ("config.json", name)
        if name == "command":
            if not isinstance(value, str) or not _scalar(value):
                faults.add(path, f"is {_kind(value)}; it must be one line of text")
        elif not isinstance(value, list):
            faults.add(path, f"is {_kind(value)}; it must be a list")
        else:
            for index, entry in enumerate(value):
                if not _is_json_mapping(entry):
                    faults.add((*path, index), "must be a mapping of names to text, yes or no")
    return content


def _is_json_mapping(value):
    items = value.items() if isinstance(value, dict) else [(None, None)]
    return all(
        isinstance(name, str) and all(isinstance(one, (str, bool)) for one in _as_list(item))
        for name, item in items
    )


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _refuse(name, sections, faults):
    """Options that are unsafe, or have a key of their own."""
    if name not in ("global.conf", "glance.conf", "glance-api.conf"):
        return
    for (section, option), instead in _REFUSED_OPTIONS.items():
        if option in sections.get(section, {}):
            faults.add((name, section, option), f"is refused: {instead}")


def _rules(value, faults):
    rules = {}
    for name, rule in _items(value, (), faults, "rules to expressions"):
        if isinstance(rule, str) and _scalar(rule) is not None:
            rules[name] = rule.strip()
        else:
            faults.add((name,), f"is {_kind(rule)}; it must be an expression, in quotes")
    return rules


def _protections(value, faults):
    result = {}
    for pattern, operations in _items(value, (), faults, "property patterns to operations"):
        try:
            re.compile(pattern)
        except re.error:
            faults.add((pattern,), "is not a regular expression")
        options = _options(operations, (pattern,), faults)
        for name in options:
            _known(name, _OPERATIONS, (pattern,), faults)
        missing = [name for name in _OPERATIONS if name not in options]
        if missing and isinstance(operations, dict):
            faults.add((pattern,), f"lacks {', '.join(missing)}; say who may (! is nobody)")
        result[pattern] = {
            name: ",".join(roles) if isinstance(roles, list) else roles
            for name, roles in options.items()
        }
    return result


def _files(value, faults):
    for name, content in _items(value, (), faults, "file names to certificates"):
        if not re.fullmatch(r"[A-Za-z0-9._-]+\.crt", name):
            faults.add((name,), "is no name for a CA certificate; it must end in .crt")
        if isinstance(content, str) and content.startswith(("salt://", "/")):
            faults.add((name,), f"is {content}, which cannot be read")
        elif not isinstance(content, str) or "-----BEGIN CERTIFICATE-----" not in content:
            faults.add(
                (name,),
                f"is {_kind(content)}; it must be a PEM text, an absolute path on "
                "the minion or a salt:// URL",
            )
    return value


def _dimensions(value, faults):
    for name, limit in _items(value, (), faults, "limits to values"):
        if not _known(name, _DIMENSIONS, (), faults):
            continue
        if name == "ulimits":
            for ulimit, pair in _items(limit, (name,), faults, "names to limits"):
                numbers = pair.values() if isinstance(pair, dict) else [pair]
                good = numbers and all(type(number) is int for number in numbers)
                if not good or isinstance(pair, dict) and set(pair) != {"soft", "hard"}:
                    faults.add((name, ulimit), "must be a number, or soft and hard with numbers")
        elif isinstance(limit, bool) or not isinstance(limit, (int, str)):
            faults.add((name,), f"is {_kind(limit)}; it must be a number or text")
    return value


def _environment(value, faults):
    return {
        name: item if isinstance(item, str) else ",".join(item)
        for name, item in _options(value, (), faults).items()
    }


def _addresses(value, faults):
    found = {}
    for name, address in value.items():
        try:
            found[str(name)] = str(ipaddress.ip_address(str(address).strip("[]")))
        except ValueError:
            faults.add((name,), f"is {_kind(address)}; it must be an IP address")
    return found


def _topics(value, faults):
    topics = []
    for index, topic in enumerate(value):
        topic = {"name": topic} if isinstance(topic, str) else topic
        name = topic.get("name") if isinstance(topic, dict) else None
        enabled = _boolean(topic.get("enabled", True)) if name else None
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or enabled is None:
            faults.add((index,), "must be a mapping with name, and enabled: yes or no")
        else:
            topics.append({"name": name, "enabled": enabled})
    return topics


def _boolean(value):
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    value = words.get(value.strip().lower()) if isinstance(value, str) else value
    return value if isinstance(value, bool) else None


def _stores(value, faults):
    """Name, type, whether enabled, options; a Ceph store also cluster, pool and user."""
    ceph = faults.key == "glance_ceph_backends"
    names = ("name", "type", "enabled", "options", *(("cluster", "pool", "user") if ceph else ()))
    stores = []
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            faults.add((index,), f"is {_kind(entry)}; it must be a mapping with {', '.join(names)}")
            continue
        store = {"type": "rbd"} if ceph else {}
        for name, item in _items(entry, (index,), faults, "fields to values"):
            if not _known(name, names, (index,), faults):
                continue
            if name == "options":
                store[name] = _options(item, (index, name), faults)
            elif name == "enabled":
                store[name] = _boolean(item)
                if store[name] is None:
                    faults.add((index, name), f"is {_kind(item)}; it must be yes or no")
            elif isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", item):
                store[name] = item
            else:
                faults.add(
                    (index, name),
                    f"is {item!r}; it must be a plain name"
                    if isinstance(item, str) and len(item) < 60
                    else f"is {_kind(item)}; it must be a plain name",
                )
        kind = store.get("type", "rbd")
        if kind not in _STORE_TYPES:
            known = (*_STORE_TYPES, *_STORE_NICKNAMES)
            near = "".join(difflib.get_close_matches(kind, known, 1))
            near = _STORE_NICKNAMES.get(near, near)
            hint = (
                f"did you mean {near}?" if near else f"it must be one of {', '.join(_STORE_TYPES)}"
            )
            faults.add((index, "type"), f"is {kind}; {hint}")
        missing = [name for name in ("name", "type") if name not in {**store, **entry}]
        if missing:
            faults.add((index,), f"lacks {' and '.join(missing)}")
        stores.append(store)
    return stores


_READERS = {
    "overrides": _overrides,
    "rules": _rules,
    "protections": _protections,
    "files": _files,
    "sections": _sections,
    "dimensions": _dimensions,
    "environment": _environment,
    "addresses": _addresses,
    "topics": _topics,
    "stores": _stores,
}
