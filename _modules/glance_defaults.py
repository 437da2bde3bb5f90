"""
Defaults: what pillar gives becomes the complete settings, and what follows from them is added.

Pure.  Fixed defaults and those that follow another key are in ``glance/defaults.yaml``; here are
those that depend on more than one key or on the host.
"""

import copy
import ipaddress
import re
import urllib.parse

__virtualname__ = "glance_defaults"

SQLITE_FILE = "/var/lib/glance/glance.sqlite"
SQLITE_PATIENCE = 60  # seconds that one process waits while another writes

#: Any of these in pillar says that this is no trial.
_PRODUCTION = (
    "glance_database_address",
    "glance_database_password",
    "database_password",
    "keystone_internal_url",
    "keystone_public_url",
    "glance_keystone_password",
    "keystone_admin_password",
)
#: Kolla's version of each distribution: (last release that has it, version), newest last.
_DISTRO_VERSIONS = {
    "centos": (("2025.1", "stream9"), ("~", "stream10")),
    "debian": (("2023.1", "bullseye"), ("2025.2", "bookworm"), ("~", "trixie")),
    "rocky": (("2025.1", "9"), ("~", "10")),
    "ubuntu": (("2024.1", "jammy"), ("~", "noble")),
}
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)(/?)\}")


def __virtual__():
    return __virtualname__


def complete(given, schema, host, faulty=()):
    """
    Return the complete settings.

    given
        Key -> value, in its type, as ``glance_pillar`` and ``glance_content`` return them.

    schema
        Content of ``glance/defaults.yaml``.

    host
        Facts: ``id`` (of the minion), ``cpus`` (how many), ``interfaces`` (a list of addresses for
        each name), ``timezone``.

    faulty
        Keys that pillar gives, but wrongly: they have their default, and still count as given
        where it matters whether this is a trial.
    """
    values = _Values(
        {key: value for key, value in given.items() if key not in faulty},
        schema["defaults"],
        host,
        faulty,
    )
    for key in schema["defaults"]:
        values.get(key)
    settings = {
        key: values.get(key) for key in (*schema["defaults"], "trial", "production_because")
    }
    settings["given"] = list(given)
    return {**settings, **_derived(settings, host)}


class _Values:
    """Works out each value when it is asked for."""

    def __init__(self, given, defaults, host, faulty):
        self.values, self.defaults, self.host = dict(given), defaults, {**host, "faulty": faulty}

    def get(self, key):
        if key not in self.values:
            default = self.defaults.get(key)
            self.values[key] = (
                _WORKED_OUT[key](self.get, self.host) if default is None else self._follow(default)
            )
        return self.values[key]

    def _follow(self, value):
        """Put the values of other keys in the place of {other_key}."""
        if isinstance(value, dict):
            return {name: self._follow(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._follow(item) for item in value]
        if not isinstance(value, str):
            return value
        whole = _PLACEHOLDER.fullmatch(value)
        if whole and not whole[2]:
            return copy.deepcopy(self.get(whole[1]))
        return _PLACEHOLDER.sub(self._piece, value)

    def _piece(self, match):
        value = self.get(match[1])
        return f"{value}{match[2]}" if value != "" else ""


# ------------------------------------------------------------------ worked out


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
    found = []
    for text in host.get("interfaces", {}).get(get("api_interface")) or ():
        try:
            address = ipaddress.ip_address(str(text).split("%")[0])
        except ValueError:
            continue
        if address.version == version and not address.is_link_local:
            found.append(str(address))
    # A VIP moves from host to host, and may be listed first; without a load balancer of its own
    # a single host may have nothing else.
    vips = [get(f"kolla_{side}_vip_address") for side in ("internal", "external")]
    return next(iter([one for one in found if one not in vips] or found), "")


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
        servers = [
            _with_port(server, get(f"om_{prefix}_port")) for server in get("rabbitmq_servers")
        ]
        vhost = get(f"om_{prefix}_vhost")
        all_servers = ",".join(f"{login}@{server}" for server in servers)
        return f"{get(f'om_{prefix}_transport')}://{all_servers}/{vhost}" if servers else ""

    return url


def _with_port(server, port):
    """HOST:PORT of HOST or HOST:PORT."""
    return server if re.search(r"(^[^:]+|\]):[0-9]+$", server) else f"{server}:{port}"


def _quote(text):
    return urllib.parse.quote(text, safe="")


def _ca_bundle(get, _host):
    debian = get("kolla_base_distro") in ("debian", "ubuntu")
    return "ca-certificates.crt" if debian else "ca-bundle.crt"


def _datastores(get, _host):
    names = get("vmware_vcenter_name"), get("vmware_datastore_name")
    return [":".join(names)] if all(names) else []


def _health(get, _host):
    scheme = "https" if get("glance_enable_tls_backend") else "http"
    listen = f"{_bracket(get('api_interface_address'))}:{get('glance_api_listen_port')}"
    return ["CMD-SHELL", f"healthcheck_curl {scheme}://{listen}/healthcheck"]


def _proxy(get, _host):
    keys = {"http_proxy": "container_http_proxy", "https_proxy": "container_https_proxy"}
    proxy = {name: get(key) for name, key in keys.items() if get(key)}
    if proxy:
        entries = (
            get("container_no_proxy"),
            get("api_interface_address"),
            get("kolla_internal_vip_address"),
        )
        proxy["no_proxy"] = ",".join(dict.fromkeys(entry for entry in entries if entry))
    return proxy


def _backends(get, _host):
    """Kolla's list, in its order."""
    switches = {
        "s3": "glance_backend_s3",
        "file": "glance_backend_file",
        "http": None,
        "vmware": "glance_backend_vmware",
        "cinder": "enable_cinder",
        "swift": "glance_backend_swift",
    }
    return [
        {"name": name, "type": name, "enabled": get(key) if key else True}
        for name, key in switches.items()
    ]


def _common_user(get, _host):
    common = get("use_preconfigured_databases") and get("use_common_mariadb_user")
    return get("database_user") if common else "glance"


def _protocol(side):
    return lambda get, _host: "https" if get(f"kolla_enable_tls_{side}") else "http"


_WORKED_OUT = {
    "trial": lambda get, host: not get("production_because"),
    "production_because": lambda get, host: (
        [key for key in _PRODUCTION if key in host["faulty"] or get(key)]
        + ["glance_api_group"] * (len(get("glance_api_group")) > 1)
    ),
    "glance_api_group": lambda get, host: [host.get("id", "localhost")],
    "kolla_base_distro_version": _distro_version,
    "container_proxy": _proxy,
    "glance_api_healthcheck_test": _health,
    "api_interface_address": _api_address,
    "kolla_external_fqdn": lambda get, host: get(
        "kolla_external_vip_address" if _two_vips(get) else "kolla_internal_fqdn"
    ),
    "internal_protocol": _protocol("internal"),
    "public_protocol": _protocol("external"),
    "glance_api_public_port": _single_frontend("glance_api_port"),
    "glance_internal_endpoint": lambda get, host: _url(
        get("internal_protocol"), get("glance_internal_fqdn"), get("glance_api_port")
    ),
    "glance_public_endpoint": lambda get, host: _url(
        get("public_protocol"), get("glance_external_fqdn"), get("glance_api_public_port")
    ),
    "openstack_service_workers": lambda get, host: max(1, min(host.get("cpus") or 1, 5)),
    "glance_backend_file": lambda get, host: (
        not any(get(f"glance_backend_{name}") for name in ("ceph", "s3", "swift", "vmware"))
    ),
    "glance_backends": _backends,
    "glance_default_backend": lambda get, host: "",
    "glance_vmware_datastores": _datastores,
    "glance_swift_auth_url": lambda get, host: get("keystone_internal_url"),
    "enable_cinder_backend_privileged": lambda get, host: any(
        get(key)
        for key in (
            "enable_cinder_backend_iscsi",
            "cinder_backend_ceph",
            "enable_cinder_backend_vast",
        )
    ),
    "glance_api_privileged": lambda get, host: (
        get("enable_cinder") and get("enable_cinder_backend_privileged")
    ),
    "database_enable_tls_internal": lambda get, host: (
        get("kolla_enable_tls_internal") and get("enable_proxysql")
    ),
    "glance_database_shard_root_user": lambda get, host: (
        f"root_shard_{get('glance_database_shard_id')}"
        if get("enable_proxysql")
        else get("database_user")
    ),
    "glance_database_user": _common_user,
    "glance_database_address": _database_server,
    "keystone_public_port": _single_frontend("keystone_public_listen_port"),
    "keystone_internal_url": lambda get, host: _url(
        get("internal_protocol"), get("keystone_internal_fqdn"), get("keystone_internal_port")
    ),
    "keystone_public_url": lambda get, host: (
        _url(
            get("public_protocol"),
            get("keystone_external_fqdn"),
            get("keystone_public_port"),
        )
        or get("keystone_internal_url")
    ),
    "rabbitmq_port": lambda get, host: 5671 if get("rabbitmq_enable_tls") else 5672,
    "rabbitmq_cacert": lambda get, host: "/etc/ssl/certs/" + _ca_bundle(get, host),
    "rpc_transport_url": _transport("rpc"),
    "notify_transport_url": _transport("notify"),
    "om_rabbitmq_qos_prefetch_count": lambda get, host: 50,
    "om_enable_rabbitmq_high_availability": lambda get, host: False,
    **dict.fromkeys(
        (
            "om_enable_rabbitmq_quorum_queues",
            "om_enable_queue_manager",
            "om_enable_rabbitmq_transient_quorum_queue",
            "om_enable_rabbitmq_stream_fanout",
        ),
        lambda get, host: True,
    ),
    "kolla_enable_tls_external": lambda get, host: (
        get("kolla_enable_tls_internal") and not _two_vips(get)
    ),
    "kolla_copy_ca_into_containers": lambda get, host: bool(get("glance_ca_certificates")),
    "enable_haproxy": lambda get, host: (
        not get("trial") and bool(get("kolla_internal_vip_address"))
    ),
    "haproxy_single_external_frontend_public_port": lambda get, host: (
        443 if get("kolla_enable_tls_external") else 80
    ),
    "haproxy_enable_external_vip": _two_vips,
    "haproxy_backend_cacert": _ca_bundle,
    "horizon_public_endpoint": lambda get, host: _url(
        get("public_protocol"),
        get("horizon_external_fqdn"),
        get("horizon_tls_port" if get("kolla_enable_tls_external") else "horizon_port"),
    ),
}


# ------------------------------------------------------------------ derived


def _derived(settings, host):
    """What follows from the settings and cannot be set."""
    address, port = settings["api_interface_address"], settings["glance_api_listen_port"]
    listen = f"{_bracket(address)}:{port}"
    scheme = "https" if settings["glance_enable_tls_backend"] else "http"
    config_dir = settings["node_config_directory"] + "/glance-api"
    bare = {
        key: settings[key].removesuffix("/v3")
        for key in ("keystone_internal_url", "keystone_public_url", "glance_swift_auth_url")
    }
    swift = bare["glance_swift_auth_url"]
    servers = {
        key: [_with_port(server, settings[port]) for server in settings[key]]
        for key, port in (
            ("memcached_servers", "memcached_port"),
            ("rabbitmq_servers", "rabbitmq_port"),
        )
    }
    database = settings["glance_database_address"]
    return {
        **bare,
        **servers,
        "glance_swift_auth_url": f"{swift}/v3" if swift else "",
        "glance_database_address": _with_port(database, settings["database_port"])
        if database
        else "",
        "glance_api_healthcheck_test": settings["glance_api_healthcheck_test"]
        if settings["glance_api_enable_healthchecks"]
        else ["NONE"],
        "keystone": not settings["trial"],
        "minion_id": host.get("id", "localhost"),
        "timezone": host.get("timezone") or "UTC",
        "api_address": address,
        "listen": listen,
        "api_scheme": scheme,
        "self_url": f"{scheme}://{listen}",
        "config_dir": config_dir,
        "snapshot_dir": config_dir + ".d",
        **_database(settings),
    }


def _database(settings):
    if settings["trial"]:
        return {
            "database_kind": "sqlite",
            "database_identity": f"sqlite://{settings['glance_file_datadir_volume']}/glance.sqlite",
            "database_connection": f"sqlite:///{SQLITE_FILE}?timeout={SQLITE_PATIENCE}",
        }
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
