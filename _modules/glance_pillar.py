"""
What stands in the pillar mapping ``glance:``: are the keys known, are the values of their types.

Pure; the types of all keys are in ``glance/defaults.yaml``.  Values that are structures are only
told apart as mapping or list here: ``glance_content`` looks inside.
"""

import difflib
import ipaddress
import re

__virtualname__ = "glance_pillar"

_MAX_DEPTH = 20
_HUGE = 10**30
_MAPPINGS = (
    "files",
    "rules",
    "protections",
    "sections",
    "overrides",
    "dimensions",
    "environment",
    "addresses",
)
_LISTS = ("stores", "topics")
#: Values of these types are secret, or somebody's text: never shown, never searched.
_CONTENT = (
    "secret",
    "secret_file",
    "file",
    "files",
    "rules",
    "protections",
    "sections",
    "overrides",
)

_REFERENCE = re.compile(r"\{([a-z0-9_]+)/?\}")
_URL_LOGIN = re.compile(r"://[^/@\s]+@")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"^(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?$")
_PATTERNS = {
    "name": (r"^[^\s\x00-\x1f\"'/]{1,255}$", "a name without spaces, quotes and slashes"),
    "text": (r"^[^\x00-\x1f]{0,1024}$", "one line of text"),
    "tag": (r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", "an image tag"),
    "suffix": (r"^[A-Za-z0-9._-]{0,99}$", "the end of an image tag"),
    "release": (r"^(20[0-9]{2}\.[12]|master)$", "a release such as 2026.1"),
    "image": (r"^(?!.*//)[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}$", "an image name"),
    "image_name": (
        r"^(?!.*//)([A-Za-z0-9][A-Za-z0-9._:-]{0,250}/)?([A-Za-z0-9._-]+/){0,20}[A-Za-z0-9._-]{1,250}$",
        "an image name without a tag",
    ),
    "image_part": (
        r"^(?!.*//)([A-Za-z0-9][A-Za-z0-9._:/-]{0,250})?$",
        "part of an image name, without https://",
    ),
    "project_user": (r"^[^\x00-\x1f:]{1,255}:[^\x00-\x1f]{1,255}$", "PROJECT:USER"),
    "time": (r"^[1-9][0-9]{0,9}(us|ms|s|m|h|d)?$", "a time of HAProxy such as 6h"),
    "health_check": (
        # By these two a drain knows when HAProxy has noticed.
        r"^check(?=.* inter [1-9][0-9]{0,8}(us|ms|s|m|h|d)?( |$))(?=.* fall [1-9][0-9]{0,3}( |$))"
        r"( [A-Za-z0-9._-]+)*$",
        "options of a HAProxy server with inter and fall such as check inter 2000 rise 2 fall 5",
    ),
    "path": (r"^/[^\s:]{0,250}[^\s:/]/*$", "an absolute path without spaces and colons"),
    "optional_path": (
        r"^(/[^\s:]{0,250}[^\s:/]/*)?$",
        "an absolute path without spaces and colons",
    ),
    "volume": (
        r"^(/[^\s:]{0,250}[^\s:/]/*|[A-Za-z0-9][A-Za-z0-9_.-]{1,250})$",
        "the name of a Docker volume or an absolute path",
    ),
    "url": (
        r"^(https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]@]+)(:[0-9]{1,5})?(/[^\s@]*)?)?$",
        "a URL such as http://192.0.2.1:5000",
    ),
}
_RANGES = {
    "port": (1, 65535, "a port from 1 to 65535"),
    "count": (1, 10**9, "a whole number from 1"),
    "number": (0, 10**9, "a whole number from 0"),
}
_EXPECTED = {
    "boolean": "yes or no",
    "size": "a number of bytes such as 10737418240 or 10G",
    "limit": "a number of bytes such as 10737418240 or 10G, or 0 for none",
    "cron": "five fields of cron such as '*/30 * * * *'",
    "share": "a whole number from 1 or a percentage such as 25%",
    "address": "an IP address",
    "host": "a host name or an IP address",
    "server": "HOST:PORT",
    "secret": "one line of text (write numbers in quotes)",
    "file": "a PEM text, an absolute path on the minion or a salt:// URL",
    "test": "a list that begins with CMD, CMD-SHELL or NONE",
}
_EXPECTED["secret_file"] = _EXPECTED["file"]
#: The same for each entry of a list.
_ENTRIES = {
    "names": "a name",
    "images": "the name of an image or its id",
    "servers": "HOST or HOST:PORT",
    "sockets": "HOST:PORT or the absolute path of a socket",
    "datastores": "DATACENTER:DATASTORE or DATACENTER:DATASTORE:WEIGHT",
    "volumes": "a mount such as /on/the/host:/in/the/container:ro",
}
#: Minute, hour, day of the month, month, day of the week.
_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def __virtual__():
    return __virtualname__


def read(pillar, schema):
    """
    Return what pillar gives, with every value in its type.

    pillar
        The mapping ``glance:``, as it stands in pillar.

    schema
        Content of ``glance/defaults.yaml``.

    Returns a mapping with ``given`` (key -> value; a key that is empty, or as by default, counts
    as not given), ``faults`` (a sentence each), ``faulty`` (the known keys that have one) and
    ``warnings`` (a sentence each).
    """
    given, faults, faulty, warnings = {}, [], [], []
    if pillar is not None and not isinstance(pillar, dict):
        faults.append(f"glance is {_shown(pillar)}; it must be a mapping of keys to values.")
        pillar = None
    kinds = {key: kind for kind, keys in schema["types"].items() for key in keys}
    for key, value in (pillar or {}).items():
        if not isinstance(key, str) or key not in kinds:
            faults.append(_unknown(key, schema))
            continue
        if _absent(value, schema["defaults"][key]):
            continue
        typed, wrong = _typed(value, kinds[key], schema["types"]["choice"].get(key))
        wrong = _left_out(key, value, schema) or wrong
        wrong = wrong or _reference(value, kinds[key], schema["defaults"])
        if not wrong:
            given[key] = typed
            if kinds[key] == "secret" and re.search(r"\{\{|\{%", typed):
                warnings.append(
                    f"glance:{key} has {{{{ or {{% in it: Jinja is not rendered here, so these"
                    " characters are part of the value."
                )
            continue
        faulty.append(key)
        for where, item in _culprits(value, kinds[key]):
            faults.append(f"glance:{key}{where} is {_shown(item, kinds[key])}; {wrong}.")
    return {"given": given, "faults": faults, "faulty": faulty, "warnings": warnings}


def _unknown(key, schema):
    if not isinstance(key, str):
        return f"glance has a key that is {_shown(key)}; keys are text, pillar.example lists them."
    shown = key if len(key) <= 60 else key[:57] + "..."
    for name, reason in schema["refused"].items():
        if key == name or name.endswith("_") and key.startswith(name):
            return f"glance:{shown} is left out on purpose: {reason}."
    near = _near(key, schema["defaults"])
    if near:
        return f"glance:{shown} is not known; did you mean {near}?"
    return f"glance:{shown} is no variable of Glance, so leave it out; pillar.example lists all."


def _near(key, names):
    """
    The name that a key is a typing error of. Kolla-Ansible's names differ in a word: the words of
    other services (nova_api_port), which are no errors, are less alike than those with an error.
    """
    for name in difflib.get_close_matches(key, names, 3, 0.85):
        words, others = key.split("_"), name.split("_")
        if len(words) != len(others):
            words, others = [key.replace("_", "")], [name.replace("_", "")]
        least = 0.7 if len(words) > 1 else 0.95
        pairs = zip(words, others, strict=True)
        if all(difflib.SequenceMatcher(None, *pair).ratio() >= least for pair in pairs):
            return name
    return None


def _left_out(key, value, schema):
    reason = schema["refused"].get(f"{key}={value}") if isinstance(value, str) else None
    return f"this is left out on purpose: {reason}" if reason else None


def _culprits(value, kind):
    """What a fault is about, as (place, value): entries of a list if the others are good."""
    bad = []
    if kind in _ENTRIES and isinstance(value, list):
        bad = [
            (f":{index}", item)
            for index, item in enumerate(value)
            if _COERCE[kind]([item], kind) is None
        ]
    return bad or [("", value)]


def _absent(value, default):
    """Whether a value says no more than the default."""
    if value is None or value == "" and default is None:
        return True
    return type(value) is type(default) and not _too_deep(value) and value == default


def _too_deep(value, depth=0):
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth > _MAX_DEPTH or any(_too_deep(item, depth + 1) for item in inner)


def _reference(value, kind, defaults):
    """Defaults may name other keys in braces; in pillar this would silently do nothing."""
    if kind in _CONTENT or not isinstance(value, str):
        return None
    named = [match[1] for match in _REFERENCE.finditer(value) if match[1] in defaults]
    return f"it must be the value itself, {{{named[0]}}} works in defaults only" if named else None


def _shown(value, kind=""):
    """What a fault may say about a value: never a secret."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "yes", False: "no"}[value]
    if kind == "test" and isinstance(value, list) and value and isinstance(value[0], str):
        return f"a list that begins with {value[0][:60]!r}"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if kind in _CONTENT or not isinstance(value, (str, int, float)):
        lines = " of several lines" if isinstance(value, str) and "\n" in value else ""
        return f"text{lines}" if isinstance(value, str) else "not text"
    if isinstance(value, str):
        shown = _URL_LOGIN.sub("://...@", value)
        return repr(shown if len(shown) <= 60 else shown[:57] + "...")
    return str(value) if isinstance(value, float) or abs(value) < _HUGE else "a huge number"


# ------------------------------------------------------------------ one value, by its type


def _typed(value, kind, choices):
    """Return (value, None), or (None, what it must be)."""
    if _too_deep(value):
        return None, "it must not be nested that deeply"
    if kind in _MAPPINGS or kind in _LISTS:
        good = isinstance(value, dict if kind in _MAPPINGS else list)
        return value, None if good else f"it must be a {'mapping' if kind in _MAPPINGS else 'list'}"
    if kind == "choice":
        if isinstance(value, bool):
            value = "yes" if value else "no"
        good = isinstance(value, str) and value in choices
        one_of = "one of " if len(choices) > 1 else ""
        return value, None if good else f"it must be {one_of}{', '.join(choices)}"
    result = _COERCE[kind](value, kind)
    if result is not None:
        return result, None
    if kind in _ENTRIES:
        lists = "" if isinstance(value, list) and value else "a list, each entry "
        return None, f"it must be {lists}{_ENTRIES[kind]}"
    return None, "it must be " + (_EXPECTED.get(kind) or (_RANGES.get(kind) or _PATTERNS[kind])[-1])


def _boolean(value, _kind):
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _number(value, kind):
    low, high, _ = _RANGES[kind]
    if isinstance(value, str) and re.match(r"^\s*[0-9]{1,18}\s*$", value):
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and low <= value <= high else None


def _size(value, _kind):
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = value.strip() if isinstance(value, str) else f"{value:d}" if abs(value) < _HUGE else ""
    match = re.fullmatch(r"([0-9]{1,15})\s*([KMGT]?)(i?B)?", text, re.IGNORECASE)
    return int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") or None if match else None


def _limit(value, kind):
    return 0 if isinstance(value, str) and value.strip() == "0" else _size(value, kind)


def _cron(value, _kind):
    fields = value.split() if isinstance(value, str) else [None]
    good = len(fields) == len(_CRON) and all(map(_cron_field, fields, _CRON))
    return " ".join(fields) if good or fields == [] else None


def _cron_field(text, limits):
    """Whether each part is *, a number or a range, with a step or without."""
    for part in text.split(","):
        match = re.fullmatch(r"(\*|([0-9]{1,2})(-([0-9]{1,2}))?)(/([0-9]{1,2}))?", part)
        if not match or match[6] and (int(match[6]) < 1 or match[2] and not match[4]):
            return False
        numbers = [int(number) for number in (match[2], match[4]) if number]
        if numbers != sorted(numbers) or any(
            not limits[0] <= number <= limits[1] for number in numbers
        ):
            return False
    return True


def _share(value, _kind):
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = _number(value.strip()[:-1], "count")
        return f"{percent}%" if percent and percent <= 100 else None
    return _number(value, "count")


def _text(value, kind):
    """Text that fits the pattern of its type; releases need no quotes (2026.1 is a float)."""
    if isinstance(value, float) and re.match(r"^20[0-9]{2}\.[12]$", str(value)):
        value = str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _HUGE:
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(_PATTERNS[kind][0], value):
        return None
    if kind in ("path", "optional_path", "volume"):
        return None if ".." in value.split("/") else value.rstrip("/")
    return value.rstrip("/") if kind == "url" else value


def _address(value, _kind):
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        return str(ipaddress.ip_address(value.strip("[]"))) if value else ""
    except ValueError:
        return None


def _host(value, kind):
    address = _address(value, kind)
    if address is not None:
        return address
    numbers = not isinstance(value, str) or re.match(r"^[0-9.]+$", value)
    return value if not numbers and _HOST.fullmatch(value) else None


def _server(value, kind):
    """HOST or HOST:PORT; brackets around an IPv6 address."""
    if not isinstance(value, str) or not value:
        return None
    match = re.match(r"^(\[[^\]]+\]|[^:]+):([0-9]+)$", value)
    host = _host(match[1] if match else value, kind)
    port = _number(match[2], "port") if match else None
    if not host or match and not port:
        return None
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


def _servers(value, kind):
    """A server may be written as memcached's clients want it: inet6:[ADDRESS]:PORT."""
    names = [name and name.removeprefix("inet6:") for name in _names(value, kind) or [None]]
    servers = [_server(name, kind) for name in names]
    return [] if value == [] else servers if all(servers) else None


def _sockets(value, kind):
    found = []
    for name in _names(value, kind) or [None] * (value != []):
        path = str(name).startswith("/")
        found.append(_text(name, "path") if path else _server(name, kind))
        if not found[-1] or not path and not re.search(r":[0-9]+$", found[-1]):
            return None
    return found


def _names(value, _kind):
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    names = [name.strip() for name in names]
    return names if all(re.fullmatch(r"[^\s\x00-\x1f]{1,255}", name) for name in names) else None


def _images(value, _kind):
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    good = all(name.strip() and re.fullmatch(r"[^\x00-\x1f]{1,255}", name) for name in names)
    return names if good else None


def _secret(value, kind):
    if not isinstance(value, str) or kind == "secret" and re.search(r"[\x00-\x1f]", value):
        return None
    return value


def _datastores(value, _kind):
    stores = [value] if isinstance(value, str) else value
    if not isinstance(stores, list) or not all(isinstance(item, str) for item in stores):
        return None
    shape = r"[^:,\x00-\x1f]+:[^:,\x00-\x1f]+(:[0-9]{1,9})?"
    return stores if all(re.fullmatch(shape, item) for item in stores) else None


def _volumes(value, _kind):
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    mounts = [item for item in value if item]
    good = all(re.fullmatch(r"[^\s:]+:/[^\s:]*(:[^\s:/]+)?", item) for item in mounts)
    return mounts if good else None


def _test(value, _kind):
    if isinstance(value, str) and value:
        value = ["NONE"] if value == "NONE" else ["CMD-SHELL", value]
    good = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    return value if good and value[0] in ("CMD", "CMD-SHELL", "NONE") else None


_COERCE = {
    "boolean": _boolean,
    "size": _size,
    "limit": _limit,
    "cron": _cron,
    "share": _share,
    "address": _address,
    "host": _host,
    "server": _server,
    "servers": _servers,
    "sockets": _sockets,
    "names": _names,
    "images": _images,
    "volumes": _volumes,
    "test": _test,
    "datastores": _datastores,
    "secret": _secret,
    "secret_file": _secret,
    "file": _secret,
    **dict.fromkeys(_RANGES, _number),
    **dict.fromkeys(_PATTERNS, _text),
}
