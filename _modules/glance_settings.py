"""
The settings: pillar's mapping ``glance:``, completed with defaults and checked.

All other parts read settings and nothing else.  They are one flat mapping, keyed by
Kolla-Ansible's variable names, with a few keys that follow from others (``listen``, ``stores``,
``database_connection`` ...).  Pillar -> ``glance_pillar`` (keys, types) -> ``glance_content``
(structures) -> ``glance_defaults`` -> ``glance_backend`` -> ``glance_rules``,
``glance_backend_rules`` (what belongs together): all pure, put together by :func:`resolve`.
"""

import copy
import hashlib
import logging
import os
import re
import time

import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_settings"

DEFAULTS = "salt://glance/defaults.yaml"
HIDDEN = "(hidden)"

#: Seconds for which a result is used again while pillar and host stay the same.
_MEMO_SECONDS = 60
#: Settings that hold a secret without having a key of a secret type.
_DERIVED_SECRETS = ("database_connection", "glance_backend_tls_key")
_URL_LOGIN = re.compile(r"://[^/\s]+@")
#: Letters from which on a secret can be told from any other word.
_SECRET_LENGTH = 4


def __virtual__():
    return __virtualname__


def get(saltenv=None, **job):
    """
    Return the settings of this minion, secrets included.

    Called as a job (``salt '*' glance_settings.get``) it hides them, as :func:`show` does: the
    answers of jobs are kept and logged.

    saltenv
        Environment to take ``glance/defaults.yaml`` from; by default that of this job.

    job
        What Salt adds when this is a job of its own, or one of several functions of a job.

    Raises SaltInvocationError with every fault of the pillar, one a line.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_settings.get
    """
    settings, found = _resolved(saltenv)
    if found:
        raise SaltInvocationError("\n".join(found))
    if "__pub_fun" in job:
        return show(saltenv)
    return settings


def show(saltenv=None):
    """
    Return the settings of this minion with every secret hidden, also when pillar has faults.

    saltenv
        As for :func:`get`.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_settings.show
    """
    settings, _ = _resolved(saltenv)
    return _redact(settings, _secret_keys(_schema(saltenv)))


def masked(text):
    """
    Return a text that others wrote without logins in URLs and without the secrets of the pillar.

    The secrets are those of the settings that this job has read last.

    text
        Such as lines of a log.
    """
    for secret in __context__.get(__virtualname__, {}).get("secrets", ()):
        text = text.replace(secret, "***")
    return _URL_LOGIN.sub("://***@", text)


def faults(saltenv=None):
    """
    Return every fault of the pillar, one sentence each; an empty list if there is none.

    saltenv
        As for :func:`get`.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_settings.faults
    """
    return _resolved(saltenv)[1]


def warnings(saltenv=None):
    """
    Return what is allowed but should be known, one sentence each.

    saltenv
        As for :func:`get`.

    CLI Example:

    .. code-block:: bash

        salt '*' glance_settings.warnings
    """
    return _resolved(saltenv)[0]["warnings"]


def resolve(pillar, defaults, host, parts=None):
    """
    Complete and check the pillar mapping ``glance:``.

    pillar
        The mapping, as it stands in pillar.

    defaults
        Content of ``glance/defaults.yaml``.

    host
        Facts: ``id`` (of the minion), ``cpus`` (how many), ``interfaces`` (a list of addresses for
        each name), ``timezone``, ``files`` (text by name for each file that pillar names).

    parts
        Functions by name, such as ``glance_pillar.read``; those of Salt by default.

    Returns the settings, and a list of faults with one sentence each.  A value at fault is replaced
    by its default, so that settings are always complete.
    """
    parts = __salt__ if parts is None else parts
    read = parts["glance_pillar.read"](pillar, defaults)
    files = host.get("files", {})
    content = parts["glance_content.read"](_with_files(read["given"], defaults, files), defaults)
    given = {**read["given"], **content["given"]}
    faulty = [*read["faulty"], *content["faulty"]]
    settings = parts["glance_defaults.complete"](given, defaults, host, faulty)
    settings.update(_certificates(settings, files))
    settings["faulty"] = faulty
    settings["custom_secrets"] = [
        [name, *option]
        for name, sections in settings["glance_custom_config"].items()
        if isinstance(sections, dict) and name != "config.json"
        for option in parts["glance_content.secrets"](sections)
    ]
    settings.update(parts["glance_backend.describe"](settings))
    for store in settings["stores"]:
        found = parts["glance_content.secrets"]({store["name"]: store["options"]})
        store["secrets"] = [option for _, option in found]
    rules = parts["glance_rules.check"](settings)
    stores = parts["glance_backend_rules.check"](settings)
    jobs = parts["glance_job_rules.check"](settings)
    settings["warnings"] = [
        text for part in (read, rules, stores, jobs) for text in part["warnings"]
    ]
    found = read["faults"] + content["faults"]
    if settings["enable_glance"]:
        found += rules["faults"] + stores["faults"] + jobs["faults"]
    return settings, found


def _redact(settings, names):
    """Return a copy without secrets; `names` are the keys that are secret as a whole."""
    shown = {
        key: HIDDEN if key in names and value else _without_logins(value)
        for key, value in settings.items()
    }
    shown["stores"] = [
        {**store, "options": _hide(store["options"], store["secrets"])}
        for store in shown.get("stores", [])
    ]
    hidden = {}
    for file, section, option in settings.get("custom_secrets", []):
        hidden.setdefault((file, section), []).append(option)
    shown["glance_custom_config"] = {
        file: HIDDEN
        if isinstance(content, str)
        else {
            section: _hide(options, hidden.get((file, section), []))
            for section, options in content.items()
        }
        if file != "config.json"
        else content
        for file, content in shown.get("glance_custom_config", {}).items()
    }
    lists = ("glance_additional_stores", "glance_backends", "glance_ceph_backends")
    shown.update(
        {
            key: [
                {name: item for name, item in entry.items() if name != "options"}
                for entry in shown.get(key, [])
            ]
            for key in lists
        }
    )
    return shown


def _hide(options, names):
    return {name: HIDDEN if name in names else value for name, value in options.items()}


def _without_logins(value):
    """Take names and passwords out of every URL."""
    if isinstance(value, dict):
        return {key: _without_logins(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_logins(item) for item in value]
    return _URL_LOGIN.sub(f"://{HIDDEN}@", value) if isinstance(value, str) else value


# ------------------------------------------------------------------ files that pillar names


def _is_source(value):
    return isinstance(value, str) and value.startswith(("salt://", "/"))


def _sources(given, schema):
    """The files that pillar names: salt:// URLs and paths."""
    types = schema["types"]
    names = [given[key] for kind in ("file", "secret_file") for key in types[kind] if key in given]
    for kind in ("files", "overrides"):
        for key in types[kind]:
            content = given.get(key)
            names += content.values() if isinstance(content, dict) else ()
    return sorted(set(filter(_is_source, names)))


def _with_files(given, schema, files):
    """Put the text of files in the place of their names."""
    result = dict(given)
    for kind in ("files", "overrides"):
        for key in schema["types"][kind]:
            if key in given:
                result[key] = {
                    name: files[item] if isinstance(item, str) and item in files else item
                    for name, item in given[key].items()
                }
    return result


def _certificates(settings, files):
    """The texts of the certificates that are used; nothing where a file is missing."""
    texts = {}
    for name in ("cert", "key"):
        source = settings[f"kolla_tls_backend_{name}"]
        text = files.get(source, "") if _is_source(source) else source
        texts[f"glance_backend_tls_{name}"] = text if settings["glance_enable_tls_backend"] else ""
    return texts


# ------------------------------------------------------------------ Salt


def _resolved(saltenv):
    """Settings and faults; worked out once for the same pillar and host."""
    pillar = _plain(__pillar__.get("glance"))
    host = _host()
    digest = hashlib.sha256(repr((pillar, host, saltenv or _saltenv())).encode()).hexdigest()
    memo = __context__.get(__virtualname__)
    if not memo or memo["digest"] != digest or time.monotonic() > memo["until"]:
        schema = _schema(saltenv)
        host["files"] = _read_files(pillar, schema, saltenv)
        settings, found = resolve(pillar, schema, host)
        memo = {
            "digest": digest,
            "until": time.monotonic() + _MEMO_SECONDS,
            "result": (settings, found),
            "secrets": _secrets(settings, schema),
        }
        __context__[__virtualname__] = memo
    return copy.deepcopy(memo["result"])


def _saltenv():
    return __salt__["glance_formula.saltenv"]()


def _schema(saltenv):
    """Content of glance/defaults.yaml."""
    path = __salt__["cp.cache_file"](DEFAULTS, saltenv or _saltenv())
    if not path:
        raise CommandExecutionError(
            f"{DEFAULTS} is not in the file roots of environment {saltenv or _saltenv()}: put the "
            "directory of the formula there."
        )
    with open(path, encoding="utf-8") as file:
        return salt.utils.yaml.safe_load(file)


def _secret_keys(schema):
    kinds = ("secret", "secret_file")
    return {*_DERIVED_SECRETS, *(key for kind in kinds for key in schema["types"][kind])}


def _secrets(settings, schema):
    """The secrets among the values of the settings, the longest first."""
    values = [settings.get(key) for key in schema["types"]["secret"]]
    values += [store["options"][name] for store in settings["stores"] for name in store["secrets"]]
    custom = settings["glance_custom_config"]
    values += [custom[file][section][name] for file, section, name in settings["custom_secrets"]]
    texts = {one for value in values for one in (value if isinstance(value, list) else [value])}
    found = [one for one in texts if isinstance(one, str) and len(one) >= _SECRET_LENGTH]
    return sorted(found, key=len, reverse=True)


def _plain(value, inside=()):
    """Pillar without its masking types; these print ********** in the place of values."""
    if id(value) in inside or not isinstance(value, (dict, list, tuple)):
        return value
    inside = (*inside, id(value))
    if isinstance(value, dict):
        return {key: _plain(item, inside) for key, item in value.items()}
    return [_plain(item, inside) for item in value]


def _host():
    interfaces = __grains__.get("ip_interfaces") or {}
    return {
        "id": __opts__.get("id") or __grains__.get("id", ""),
        "cpus": __grains__.get("num_cpus") or os.cpu_count() or 1,
        "interfaces": {name: list(found) for name, found in interfaces.items()},
        "timezone": _timezone(),
    }


def _timezone():
    """The host's time zone by name, from where /etc/localtime points."""
    try:
        return os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] or "UTC"
    except OSError:
        return "UTC"


def _read_files(pillar, schema, saltenv):
    """Text by name of each file that pillar names and that is there."""
    given = __salt__["glance_pillar.read"](pillar, schema)["given"]
    names = _sources(given, schema)
    if given.get("glance_enable_tls_backend") or given.get("kolla_enable_tls_backend"):
        settings = __salt__["glance_defaults.complete"](given, schema, {})
        names += [settings[f"kolla_tls_backend_{name}"] for name in ("cert", "key")]
    files = {}
    for name in names:
        text = None
        if name.startswith("salt://"):
            text = __salt__["cp.get_file_str"](name, saltenv or _saltenv())
        elif name.startswith("/"):
            try:
                with open(name, encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError) as error:
                log.debug("%s cannot be read: %s", name, type(error).__name__)
        if text:
            files[name] = text
    return files
