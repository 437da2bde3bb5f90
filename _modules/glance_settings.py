"""
The pillar mapping ``glance:``, completed with defaults and checked: what all other parts read.

:func:`resolve` is pure: pillar, the content of ``glance/defaults.yaml`` and a few facts about the
host go in; one flat mapping, keyed by Kolla-Ansible's variable names, and all faults come out.
"""

import copy
import difflib
import hashlib
import ipaddress
import logging
import os
import re
import time
import urllib.parse

import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "glance_settings"

DEFAULTS = "salt://glance/defaults.yaml"
SQLITE_FILE = "/var/lib/glance/glance.sqlite"
REDACTED = "(hidden)"

#: Seconds for which a result is used again while pillar stays the same.
_MEMO_SECONDS = 60
_MAX_DEPTH = 20
#: Any of these in pillar says that this is no trial.
_PRODUCTION = (
    "glance_database_address", "glance_database_password", "database_password",
    "keystone_internal_url", "keystone_public_url", "glance_keystone_password",
    "keystone_admin_password",
)
_SECRET_TYPES = ("secret", "secret_file")
#: Values of these types are somebody's text: never searched for {other_key}, never shown.
_CONTENT_TYPES = (*_SECRET_TYPES, "file", "files", "rules", "protections", "sections", "overrides")
_MAPPINGS = ("files", "rules", "protections", "sections", "overrides", "dimensions", "environment")
_LISTS = ("stores", "topics")
#: Kolla's version of each distribution: (last release that has it, version), newest last.
_DISTRO_VERSIONS = {
    "centos": (("2025.1", "stream9"), ("~", "stream10")),
    "debian": (("2023.1", "bullseye"), ("2025.2", "bookworm"), ("~", "trixie")),
    "rocky": (("2025.1", "9"), ("~", "10")),
    "ubuntu": (("2024.1", "jammy"), ("~", "noble")),
}

_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)(/?)\}")
_URL_LOGIN = re.compile(r"://[^/@\s]+@")
_HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?"
                   r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$")
_PATTERNS = {
    "name": (r"^[^\s\x00-\x1f\"'/]+$", "a name without spaces, quotes and slashes"),
    "text": (r"^[^\x00-\x1f]*$", "one line of text"),
    "tag": (r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", "an image tag"),
    "suffix": (r"^[A-Za-z0-9._-]*$", "the end of an image tag"),
    "image": (r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", "an image name"),
    "time": (r"^[1-9][0-9]*(us|ms|s|m|h|d)?$", "a time of HAProxy such as 6h"),
    "path": (r"^/[^\s:]*[^\s:/]/*$", "an absolute path without spaces and colons"),
    "optional_path": (r"^(/[^\s:]*[^\s:/]/*)?$", "an absolute path without spaces and colons"),
    "volume": (r"^(/[^\s:]*[^\s:/]/*|[A-Za-z0-9][A-Za-z0-9_.-]+)$",
               "the name of a Docker volume or an absolute path"),
    "url": (r"^(https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+)(:[0-9]{1,5})?(/\S*)?)?$",
            "a URL that begins with http:// or https://"),
}
_RANGES = {
    "port": (1, 65535, "a port from 1 to 65535"),
    "count": (1, 10**9, "a whole number from 1"),
    "number": (0, 10**9, "a whole number from 0"),
}
_EXPECTED = {
    "boolean": "yes or no",
    "size": "a number of bytes such as 10737418240 or 10G",
    "share": "a whole number from 1 or a percentage such as 25%",
    "address": "an IP address",
    "host": "a host name or an IP address",
    "server": "HOST:PORT",
    "secret": "text of one line (write numbers in quotes)",
    "file": "a PEM text, an absolute path on the minion or a salt:// URL",
    "secret_file": "a PEM text, an absolute path on the minion or a salt:// URL",
    "names": "a list of names",
    "volumes": "a list of mounts such as /on/the/host:/in/the/container:ro",
    "test": "a list that begins with CMD, CMD-SHELL or NONE",
}


def __virtual__():
    return __virtualname__


class _Bad(Exception):
    """A value that cannot be taken; the text says what is wrong."""


# ------------------------------------------------------------------ one value, by its type


def _integer(value):
    if isinstance(value, str) and re.match(r"^[+-]?[0-9]{1,18}$", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _boolean(value, _type):
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    if isinstance(value, str):
        value = words.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _number(value, kind):
    low, high, _ = _RANGES[kind]
    number = _integer(value)
    return number if number is not None and low <= number <= high else None


def _size(value, _type):
    match = re.match(r"^([0-9]{1,15})\s*([KMGT]?)(i?B)?$", str(value).strip(), re.IGNORECASE)
    if not match or isinstance(value, bool):
        return None
    return int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") or None


def _share(value, _type):
    percent = re.match(r"^([0-9]{1,3})%$", value.strip()) if isinstance(value, str) else None
    if percent:
        return value.strip() if 1 <= int(percent[1]) <= 100 else None
    return _number(value, "count")


def _text(value, kind):
    """Text that fits the pattern of its type; releases need no quotes (2026.1 is a float)."""
    if isinstance(value, float) and re.match(r"^20[0-9]{2}\.[12]$", str(value)):
        value = str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not re.match(_PATTERNS[kind][0], value):
        return None
    if kind in ("path", "optional_path", "volume"):
        return None if ".." in value.split("/") else value.rstrip("/")
    return value.rstrip("/") if kind == "url" else value


def _address(value, _type):
    if not isinstance(value, str):
        return None
    try:
        return str(ipaddress.ip_address(value.strip("[]"))) if value else ""
    except ValueError:
        return None


def _host(value, _type):
    if not isinstance(value, str):
        return None
    numeric = re.match(r"^[0-9.]+$", value)
    return _address(value, _type) or (value if not value or _HOST.match(value) and not numeric
                                      else None)


def _server(value, _type):
    """HOST:PORT, with brackets around an IPv6 address; the port may be missing."""
    match = re.match(r"^(\[[^\]]+\]|[^:]+)(?::([0-9]+))?$", value) if isinstance(value, str) else None
    host = _host(match[1] if match else value, _type)
    if not host or match and match[2] and not _number(match[2], "port"):
        return None
    return f"{_bracket(host)}:{match[2]}" if match and match[2] else _bracket(host)


def _secret(value, kind):
    lines = kind != "secret"
    good = isinstance(value, str) and (lines or re.match(r"^[^\x00-\x1f]*$", value))
    return value if good else None


def _names(value, _type):
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    names = [name.strip() for name in names]
    return names if all(re.match(r"^[^\s\x00-\x1f]+$", name) for name in names) else None


def _volumes(value, _type):
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    mounts = [item for item in value if item]
    return mounts if all(re.match(r"^[^\s:]+:/[^:]*(:[^\s:/]+)?$", item) for item in mounts) else None


def _test(value, _type):
    if isinstance(value, str) and value:
        value = ["NONE"] if value == "NONE" else ["CMD-SHELL", value]
    good = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    return value if good and value[0] in ("CMD", "CMD-SHELL", "NONE") else None


_COERCE = {
    "boolean": _boolean, "size": _size, "share": _share, "address": _address, "host": _host,
    "server": _server, "secret": _secret, "secret_file": _secret, "file": _secret,
    "names": _names, "volumes": _volumes, "test": _test,
    **dict.fromkeys(_RANGES, _number), **dict.fromkeys(_PATTERNS, _text),
}


def _coerce(value, kind, choices):
    """Return the value in its type; raise _Bad with what it must be."""
    if kind == "choice":
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if value in choices:
            return value
        raise _Bad(f"it must be {'one of ' * (len(choices) > 1)}{', '.join(choices)}")
    if kind in _MAPPINGS or kind in _LISTS:
        if isinstance(value, dict if kind in _MAPPINGS else list):
            return value
        raise _Bad(f"it must be a {'mapping' if kind in _MAPPINGS else 'list'}")
    result = _COERCE[kind](value, kind)
    if result is None:
        expected = _EXPECTED.get(kind) or (_RANGES.get(kind) or _PATTERNS[kind])[-1]
        raise _Bad(f"it must be {expected}")
    return result


def _shown(value, kind):
    """What a fault may say about a value: never a secret."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "yes", False: "no"}[value]
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if kind in _CONTENT_TYPES or not isinstance(value, (str, int, float)):
        return "not text" if not isinstance(value, str) else "text"
    shown = _URL_LOGIN.sub("://...@", str(value))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return repr(shown) if isinstance(value, str) else shown


# ------------------------------------------------------------------ defaults worked out


def _bracket(host):
    return f"[{host}]" if ":" in host else host


def _url(protocol, host, port):
    """A URL as Kolla writes it: without the protocol's own port; nothing without a host."""
    if not host:
        return ""
    own = {"http": 80, "https": 443}[protocol] == port
    return f"{protocol}://{_bracket(host)}" + ("" if own else f":{port}")


def _distro_version(get, _host):
    for last, version in _DISTRO_VERSIONS[get("kolla_base_distro")]:
        if get("openstack_release") <= last:
            return version
    return _DISTRO_VERSIONS[get("kolla_base_distro")][-1][1]


def _api_address(get, host):
    """The address to listen on, or nothing if the host has none."""
    if get("trial"):
        return "127.0.0.1"
    version = {"ipv4": 4, "ipv6": 6}[get("api_address_family")]
    for text in host.get("interfaces", {}).get(get("api_interface")) or ():
        try:
            address = ipaddress.ip_address(str(text).split("%")[0])
        except ValueError:
            continue
        if address.version == version and not address.is_link_local:
            return str(address)
    return ""


def _two_vips(get, _host=None):
    return get("kolla_external_vip_address") != get("kolla_internal_vip_address")


def _single_frontend(port):
    def public_port(get, _host):
        if get("haproxy_single_external_frontend"):
            return get("haproxy_single_external_frontend_public_port")
        return get(port)
    return public_port


def _database_server(get, _host):
    address = get("database_address")
    return f"{_bracket(address)}:{get('database_port')}" if address else ""


def _transport(prefix):
    def url(get, _host):
        login = ":".join(_quote(get(f"om_{prefix}_{part}")) for part in ("user", "password"))
        servers = [_with_port(server, get(f"om_{prefix}_port")) for server in
                   get("rabbitmq_servers")]
        vhost = get(f"om_{prefix}_vhost")
        all_servers = ",".join(f"{login}@{server}" for server in servers)
        return f"{get(f'om_{prefix}_transport')}://{all_servers}/{vhost}" if servers else ""
    return url


def _with_port(server, port):
    server = _server(server, "server") or server
    return server if re.search(r"[^:]:[0-9]+$|\]:[0-9]+$", server) else f"{server}:{port}"


def _quote(text):
    return urllib.parse.quote(text, safe="")


def _ca_bundle(get, _host):
    debian = get("kolla_base_distro") in ("debian", "ubuntu")
    return "ca-certificates.crt" if debian else "ca-bundle.crt"


def _datastores(get, _host):
    names = get("vmware_vcenter_name"), get("vmware_datastore_name")
    return [":".join(names)] if all(names) else []


def _swift_auth(get, _host):
    url = get("keystone_internal_url")
    return url if not url or url.endswith("/v3") else url + "/v3"


def _health(get, _host):
    if not get("glance_api_enable_healthchecks"):
        return ["NONE"]
    scheme = "https" if get("glance_enable_tls_backend") else "http"
    listen = f"{_bracket(get('api_interface_address'))}:{get('glance_api_listen_port')}"
    return ["CMD-SHELL", f"healthcheck_curl {scheme}://{listen}/healthcheck"]


def _proxy(get, _host):
    keys = {"http_proxy": "container_http_proxy", "https_proxy": "container_https_proxy"}
    proxy = {name: get(key) for name, key in keys.items() if get(key)}
    if proxy:
        entries = (get("container_no_proxy"), get("api_interface_address"),
                   get("kolla_internal_vip_address"))
        proxy["no_proxy"] = ",".join(dict.fromkeys(entry for entry in entries if entry))
    return proxy


def _backends(get, _host):
    """Kolla's list, in its order."""
    switches = {"s3": "glance_backend_s3", "file": "glance_backend_file", "http": None,
                "vmware": "glance_backend_vmware", "cinder": "enable_cinder",
                "swift": "glance_backend_swift"}
    return [{"name": name, "type": name, "enabled": get(key) if key else True}
            for name, key in switches.items()]


def _common_user(get, _host):
    common = get("use_preconfigured_databases") and get("use_common_mariadb_user")
    return get("database_user") if common else "glance"


def _protocol(side):
    return lambda get, _host: "https" if get(f"kolla_enable_tls_{side}") else "http"


_WORKED_OUT = {
    "trial": lambda get, host: not get("production_because"),
    "production_because": lambda get, host: [key for key in _PRODUCTION if get(key)] + (
        ["glance_api_group"] if len(get("glance_api_group")) > 1 else []),
    "glance_api_group": lambda get, host: [host.get("id", "localhost")],
    "kolla_base_distro_version": _distro_version,
    "container_proxy": _proxy,
    "glance_api_healthcheck_test": _health,
    "api_interface_address": _api_address,
    "kolla_external_fqdn": lambda get, host: get(
        "kolla_external_vip_address" if _two_vips(get) else "kolla_internal_fqdn"),
    "internal_protocol": _protocol("internal"),
    "public_protocol": _protocol("external"),
    "glance_api_public_port": _single_frontend("glance_api_port"),
    "glance_internal_endpoint": lambda get, host: _url(
        get("internal_protocol"), get("glance_internal_fqdn"), get("glance_api_port")),
    "glance_public_endpoint": lambda get, host: _url(
        get("public_protocol"), get("glance_external_fqdn"), get("glance_api_public_port")),
    "openstack_service_workers": lambda get, host: max(1, min(_integer(host.get("cpus")) or 1, 5)),
    "glance_backend_file": lambda get, host: not any(
        get(f"glance_backend_{name}") for name in ("ceph", "s3", "swift", "vmware")),
    "glance_backends": _backends,
    "glance_default_backend": lambda get, host: "",
    "glance_vmware_datastores": _datastores,
    "glance_swift_auth_url": _swift_auth,
    "enable_cinder_backend_privileged": lambda get, host: any(get(key) for key in (
        "enable_cinder_backend_iscsi", "cinder_backend_ceph", "enable_cinder_backend_vast")),
    "glance_api_privileged": lambda get, host: (
        get("enable_cinder") and get("enable_cinder_backend_privileged")),
    "database_enable_tls_internal": lambda get, host: (
        get("kolla_enable_tls_internal") and get("enable_proxysql")),
    "glance_database_shard_root_user": lambda get, host: (
        f"root_shard_{get('glance_database_shard_id')}" if get("enable_proxysql")
        else get("database_user")),
    "glance_database_user": _common_user,
    "glance_database_address": _database_server,
    "keystone_public_port": _single_frontend("keystone_public_listen_port"),
    "keystone_internal_url": lambda get, host: _url(
        get("internal_protocol"), get("keystone_internal_fqdn"), get("keystone_internal_port")),
    "keystone_public_url": lambda get, host: _url(
        get("public_protocol"), get("keystone_external_fqdn"), get("keystone_public_port"),
    ) or get("keystone_internal_url"),
    "rabbitmq_port": lambda get, host: 5671 if get("rabbitmq_enable_tls") else 5672,
    "rabbitmq_cacert": lambda get, host: "/etc/ssl/certs/" + _ca_bundle(get, host),
    "rpc_transport_url": _transport("rpc"),
    "notify_transport_url": _transport("notify"),
    "kolla_enable_tls_external": lambda get, host: (
        get("kolla_enable_tls_internal") and not _two_vips(get)),
    "kolla_copy_ca_into_containers": lambda get, host: bool(get("glance_ca_certificates")),
    "enable_haproxy": lambda get, host: not get("trial"),
    "haproxy_single_external_frontend_public_port": lambda get, host: (
        443 if get("kolla_enable_tls_external") else 80),
    "haproxy_enable_external_vip": _two_vips,
    "haproxy_backend_cacert": _ca_bundle,
    "horizon_public_endpoint": lambda get, host: _url(
        get("public_protocol"), get("horizon_external_fqdn"),
        get("horizon_tls_port" if get("kolla_enable_tls_external") else "horizon_port")),
}


# ------------------------------------------------------------------ the whole


class _Resolver:
    """Works out each key when it is asked for; `faults` are about pillar's values only."""

    def __init__(self, given, schema, host, faults):
        self.given, self.host, self.faults = given, host, faults
        self.defaults = schema["defaults"]
        self.kinds = {key: kind for kind, keys in schema["types"].items() for key in keys}
        self.choices = schema["types"]["choice"]
        self.values, self.open, self.bad = {}, [], []

    def get(self, key):
        if key not in self.values:
            if key in self.open:
                raise _Bad("it refers to itself")
            self.open.append(key)
            try:
                self.values[key] = self._value(key)
            finally:
                self.open.pop()
        return self.values[key]

    def _value(self, key):
        if key in self.given:
            try:
                return self._typed(key, self.given[key])
            except _Bad as bad:
                shown = _shown(self.given[key], self.kinds[key])
                self.faults.append(f"glance:{key} is {shown}; {bad}.")
                self.bad.append(key)
        default = self.defaults.get(key)
        return _WORKED_OUT[key](self.get, self.host) if default is None else self._typed(key, default)

    def _typed(self, key, value):
        kind = self.kinds[key]
        if kind not in _CONTENT_TYPES or value == self.defaults[key]:
            value = self._expand(value, kind)
        return _coerce(value, kind, self.choices.get(key))

    def _expand(self, value, kind):
        """Put the values of other keys in the place of {other_key}."""
        if isinstance(value, dict):
            return {key: self._expand(item, kind) for key, item in value.items()}
        if isinstance(value, list):
            return [self._expand(item, kind) for item in value]
        if not isinstance(value, str):
            return value
        whole = _PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in self.defaults and not whole[2]:
            return copy.deepcopy(self._other(whole[1], kind))
        return _PLACEHOLDER.sub(lambda match: self._piece(match, kind), value)

    def _other(self, key, kind):
        if self.kinds[key] in _SECRET_TYPES and kind not in _SECRET_TYPES:
            raise _Bad(f"it must not show the secret {key}")
        return self.get(key)

    def _piece(self, match, kind):
        if match[1] not in self.defaults:
            return match[0]
        value = self._other(match[1], kind)
        return f"{value}{match[2]}" if value not in ("", None) else ""


def resolve(pillar, defaults, host):
    """
    Complete and check the pillar mapping ``glance:``.

    pillar
        The mapping, as it stands in pillar.

    defaults
        Content of ``glance/defaults.yaml``.

    host
        Facts: ``id`` (of the minion), ``cpus`` (how many), ``interfaces`` (a list of addresses for
        each name), ``timezone``.

    Returns the settings, and a list of faults with one sentence each. A value at fault is replaced
    by its default, so that settings are always complete.
    """
    faults = []
    given = _known(pillar, defaults, faults)
    resolver = _Resolver(given, defaults, host, faults)
    for key in (*given, *defaults["defaults"], "trial", "production_because"):
        resolver.get(key)
    settings = resolver.values
    wrong = [key for key in _PRODUCTION if key in resolver.bad]
    if wrong and settings["trial"]:
        settings.update(trial=False, production_because=wrong)
    settings.update(_derived(settings, host), given=list(given), faulty=resolver.bad)
    return settings, faults


def _known(pillar, schema, faults):
    """The keys of pillar that are given and known; faults for the rest."""
    given, defaults = {}, schema["defaults"]
    if pillar is None:
        return given
    if not isinstance(pillar, dict):
        faults.append(f"glance is {_shown(pillar, '')}; it must be a mapping of keys to values.")
        return given
    for key, value in pillar.items():
        if not isinstance(key, str) or key not in defaults:
            faults.append(_unknown(key, schema))
        elif _too_deep(value):
            faults.append(f"glance:{key} is nested too deeply.")
        elif value is None or value == defaults[key] or value == "" and defaults[key] is None:
            continue
        else:
            given[key] = value
    return given


def _unknown(key, schema):
    if not isinstance(key, str):
        return f"glance has the key {_shown(key, '')}; keys are text, and pillar.example lists them."
    shown = key if len(key) <= 60 else key[:57] + "..."
    for name, reason in schema["refused"].items():
        if key == name or name.endswith("_") and key.startswith(name):
            return f"glance:{shown} is left out on purpose: {reason}."
    near = difflib.get_close_matches(key, schema["defaults"], 1)
    hint = f"did you mean {near[0]}?" if near else "pillar.example lists all that are."
    return f"glance:{shown} is not known; {hint}"


def _too_deep(value, depth=0):
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth > _MAX_DEPTH or any(_too_deep(item, depth + 1) for item in inner)


def _derived(settings, host):
    """What follows from the settings and cannot be set."""
    address, port = settings["api_interface_address"], settings["glance_api_listen_port"]
    listen = f"{_bracket(address)}:{port}"
    scheme = "https" if settings["glance_enable_tls_backend"] else "http"
    config_dir = settings["node_config_directory"] + "/glance-api"
    volume = settings["glance_file_datadir_volume"]
    unshared = settings["glance_backend_file"] and not (
        volume.startswith("/") or settings["glance_file_datadir_shared"])
    group = settings["glance_api_group"]
    hosts = group[:1] if unshared else group
    url = settings["keystone_internal_url"]
    return {
        "keystone": not settings["trial"],
        "keystone_internal_url": url.removesuffix("/v3"),
        "keystone_public_url": settings["keystone_public_url"].removesuffix("/v3"),
        "minion_id": host.get("id", "localhost"),
        "timezone": host.get("timezone") or "UTC",
        "api_address": address,
        "listen": listen,
        "api_scheme": scheme,
        "self_url": f"{scheme}://{listen}",
        "config_dir": config_dir,
        "snapshot_dir": config_dir + ".d",
        "glance_api_hosts": hosts,
        "runs_api": bool(settings["enable_glance"]) and host.get("id", "localhost") in hosts,
        "file_unshared": unshared,
        "glance_database_address": _with_port(settings["glance_database_address"],
                                              settings["database_port"])
        if settings["glance_database_address"] else "",
        **_database(settings),
        "warnings": [],
    }


def _database(settings):
    if settings["trial"]:
        return {"database_kind": "sqlite", "database_identity": "sqlite://" + SQLITE_FILE,
                "database_connection": "sqlite:///" + SQLITE_FILE}
    server = _with_port(settings["glance_database_address"], settings["database_port"])
    name = settings["glance_database_name"]
    login = ":".join(_quote(settings[f"glance_database_{part}"]) for part in ("user", "password"))
    authority = settings["openstack_cacert"]
    tls = settings["glance_database_enable_tls_internal"] and authority
    return {
        "database_kind": "mysql",
        "database_identity": f"mysql://{server}/{name}",
        "database_connection": f"mysql+pymysql://{login}@{server}/{_quote(name)}"
        + (f"?ssl_ca={authority}" if tls else ""),
    }
