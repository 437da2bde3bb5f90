"""
What must hold between the settings: what is missing, what contradicts, what is worth a warning.

Pure.  ``glance_backend`` has the rules about stores.
"""

import ipaddress
import re

__virtualname__ = "glance_rules"

#: Mounts that every container has.
_OWN_MOUNTS = (
    "/var/lib/glance",
    "/var/lib/glance/images",
    "/var/lib/glance-work",
    "/var/lib/glance-cache",
    "/var/log/kolla",
    "/var/lib/kolla/config_files",
)
#: Volumes that the formula uses for something else than images.
_OWN_VOLUMES = ("glance_work", "kolla_logs")
#: Where distributions keep the CAs that they trust.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
#: What production needs: key, what for.
_PRODUCTION = (
    ("glance_database_address", "the server of the database"),
    ("glance_database_password", "the password of Glance's database user"),
    (
        "database_password",
        "the password of the database's administrator, or use_preconfigured_databases",
    ),
    ("keystone_internal_url", "the URL of Keystone"),
    ("glance_keystone_password", "the password of Glance's user in Keystone"),
    (
        "keystone_admin_password",
        "the password of Keystone's administrator, or glance_keystone_register to no",
    ),
)
#: First release (Kolla's) whose queues are quorum queues by default.
RABBIT_QUORUM_SINCE = "2023.2"
#: What the values of keys are made of.
_INTERNAL = ("kolla_internal_fqdn", "kolla_internal_vip_address")
_EXTERNAL = ("kolla_external_fqdn", "kolla_external_vip_address", *_INTERNAL)
_FOLLOWS = {
    "glance_database_address": ("database_address", *_INTERNAL),
    "keystone_internal_url": ("keystone_internal_fqdn", *_INTERNAL),
    "glance_internal_endpoint": ("glance_internal_fqdn", *_INTERNAL),
    "glance_public_endpoint": ("glance_external_fqdn", *_EXTERNAL),
}
#: Keys that the operator may have named a database or Keystone by, the most telling first.
_CAUSES = (
    "glance_database_address",
    "database_address",
    "glance_database_password",
    "database_password",
    "keystone_internal_url",
    "keystone_public_url",
    "keystone_internal_fqdn",
    "keystone_external_fqdn",
    "glance_keystone_password",
    "keystone_admin_password",
    "kolla_internal_fqdn",
    "kolla_external_fqdn",
    "kolla_internal_vip_address",
    "kolla_external_vip_address",
    "glance_api_group",
)


def __virtual__():
    return __virtualname__


def check(settings):
    """
    Return what is wrong with the settings as a whole, and what is worth a warning.

    settings
        Settings with what ``glance_defaults`` and ``glance_backend`` add.

    Returns a mapping with ``faults`` and ``warnings``, a sentence each.
    """
    faults = [fault for rule in _RULES for fault in rule(settings)]
    return {"faults": faults, "warnings": _warnings(settings)}


def _environment(settings):
    """The environment of a container is no place for a login: whoever may inspect it sees it."""
    keys = ("container_http_proxy", "container_https_proxy")
    proxies = {key: settings[key] for key in keys if settings[key]}
    for name, value in settings["glance_api_container_proxy"].items():
        if value not in proxies.values():
            proxies[f"glance_api_container_proxy:{name}"] = value
    return [
        f"glance:{key} holds a login, which 'docker inspect' would show; name a proxy that asks "
        "this host for none."
        for key, value in proxies.items()
        if re.search(r"(^|//)[^/@]+@", str(value))
    ]


def _given(settings, key):
    return key in settings["given"] or key in settings["faulty"]


def _missing(settings, key):
    """Whether a key has no value, and no fault that says more, of its own or of what it follows."""
    return not settings[key] and not {key, *_FOLLOWS.get(key, ())} & {*settings["faulty"]}


def _production(settings):
    if settings["trial"]:
        return []
    causes = [key for key in _CAUSES if _given(settings, key)]
    cause = causes[0] if causes else settings["production_because"][0]
    needless = {
        "database_password": settings["use_preconfigured_databases"],
        "keystone_admin_password": not settings["glance_keystone_register"],
    }
    return [
        f"glance:{key} is missing; with glance:{cause} this is no trial, so set {what}."
        for key, what in _PRODUCTION
        if _missing(settings, key) and not needless.get(key)
    ]


def _endpoints(settings):
    """What is registered in Keystone needs an address."""
    registers = settings["keystone"] and settings["glance_keystone_register"]
    if not registers or _missing(settings, "keystone_internal_url"):
        return []
    return [
        f"glance:{key} is missing; it is registered in Keystone, so set it or"
        f" glance:{instead}, or glance:glance_keystone_register to no."
        for key, instead in (
            ("glance_internal_endpoint", "kolla_internal_vip_address"),
            ("glance_public_endpoint", "kolla_external_vip_address"),
        )
        if _missing(settings, key)
    ]


def _address(settings):
    if "api_interface_address" in settings["faulty"] or not _serves(settings):
        return []
    if not settings["api_address"]:
        interface, family = settings["api_interface"], settings["api_address_family"]
        return [
            f"glance:api_interface is {interface}, which has no {family} address on this "
            "minion; name another or set glance:api_interface_address."
        ]
    address = ipaddress.ip_address(settings["api_address"])
    if address.is_unspecified:
        return [
            f"glance:api_interface_address is {address}, but other hosts must be able to name "
            "this one by it; use an address of this minion."
        ]
    if settings["trial"] and not address.is_loopback:
        return [
            f"glance:api_interface_address is {address}, but without Keystone whoever reaches "
            "it may do anything; use a loopback address, or configure a database and Keystone."
        ]
    return []


def _group(settings):
    group, minion = settings["glance_api_group"], settings["minion_id"]
    if "glance_api_group" in settings["faulty"]:
        return []
    if not group:
        return [
            "glance:glance_api_group is empty; list the minion ids of the hosts, the first of "
            "which runs the schema work, or remove the key."
        ]
    faults = []
    twice = sorted({name for name in group if group.count(name) > 1})
    if twice:
        faults.append(
            f"glance:glance_api_group lists {', '.join(twice)} more than once; list each "
            "minion once."
        )
    if minion not in group and not _balances(settings):
        faults.append(
            f"glance:glance_api_group does not list this minion, {minion}; add it, or set "
            "glance:enable_glance to no here."
        )
    return faults


def _serves(settings):
    """Whether this host may run the API; one that only has the load balancer needs less."""
    return settings["minion_id"] in settings["glance_api_group"]


def _balances(settings):
    return (
        settings["enable_haproxy"]
        and settings["minion_id"] in settings["glance_loadbalancer_group"]
    )


def _load_balancer(settings):
    if not settings["enable_haproxy"]:
        return []
    faults = []
    if _missing(settings, "kolla_internal_vip_address"):
        faults.append(
            "glance:kolla_internal_vip_address is missing; glance:enable_haproxy needs the address"
            " that HAProxy listens on."
        )
    for side, key in (("internal", "glance_api_port"), ("external", "glance_api_public_port")):
        vip = f"kolla_{side}_vip_address"
        if (
            settings["runs_api"]
            and _balances(settings)
            and settings[vip] == settings["api_address"] != ""
            and settings[key] == settings["glance_api_listen_port"]
        ):
            faults.append(
                f"glance:{vip} is {settings[vip]}, where the API of this host itself listens on"
                f" port {settings[key]}, so HAProxy cannot: name another address there, or set"
                " glance:enable_haproxy to no where no load balancer is."
            )
            break
    if not settings["glance_haproxy_file"].endswith(".cfg"):
        faults.append(
            f"glance:glance_haproxy_file is {settings['glance_haproxy_file']}; HAProxy reads only "
            "files that end in .cfg from a folder."
        )
    return faults


def _tls(settings):
    faults = []
    if settings["glance_enable_tls_backend"] and _serves(settings):
        for part, begin in (("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")):
            key, text = f"kolla_tls_backend_{part}", settings[f"glance_backend_tls_{part}"]
            if key in settings["faulty"]:
                continue
            if not text:
                faults.append(
                    f"glance:{key} names no file that can be read; "
                    "glance:glance_enable_tls_backend needs it."
                )
            elif not re.search(rf"-----BEGIN [A-Z ]*{begin}-----", text):
                faults.append(f"glance:{key} is no {begin.lower()} in PEM form.")
    if settings["kolla_copy_ca_into_containers"] and _missing(settings, "glance_ca_certificates"):
        faults.append(
            "glance:kolla_copy_ca_into_containers is yes, but "
            "glance:glance_ca_certificates names none; add them there."
        )
    if settings["glance_ca_certificates"] and not settings["kolla_copy_ca_into_containers"]:
        faults.append(
            "glance:kolla_copy_ca_into_containers is no, but "
            "glance:glance_ca_certificates names some; remove one of the two keys."
        )
    if (
        settings["keystone"]
        and settings["glance_database_enable_tls_internal"]
        and (not settings["openstack_cacert"])
    ):
        faults.append(
            "glance:openstack_cacert is missing; "
            "glance:glance_database_enable_tls_internal needs the CA file's path in the "
            "container."
        )
    return faults


def _volumes(settings):
    faults = []
    volume = settings["glance_file_datadir_volume"]
    if volume in _OWN_VOLUMES:
        faults.append(
            f"glance:glance_file_datadir_volume is {volume}, which is used for something "
            "else; choose another name."
        )
    if settings["glance_file_datadir_shared"] and not volume.startswith("/"):
        faults.append(
            f"glance:glance_file_datadir_shared is yes, but glance:glance_file_datadir_volume is "
            f"the Docker volume {volume}, in which hosts cannot leave marks for each other; mount "
            "the share on every host and name its path."
        )
    for mount in settings["glance_api_extra_volumes"]:
        target = mount.split(":")[1].rstrip("/")
        if target in _OWN_MOUNTS:
            faults.append(
                f"glance:glance_api_extra_volumes mounts something at {target}, which the "
                "container has already; choose another place."
            )
    return faults


def _peers(settings):
    """Services that Glance talks to."""
    faults = []
    protected = settings["memcache_security_strategy"] != "None"
    if protected and settings["memcached_servers"] and _missing(settings, "memcache_secret_key"):
        faults.append(
            "glance:memcache_secret_key is missing; tokens in memcached_servers are "
            "protected by it."
        )
    topics = any(topic["enabled"] for topic in settings["glance_notification_topics"])
    if (
        topics
        and not settings["notify_transport_url"]
        and "rabbitmq_servers" not in (settings["faulty"])
    ):
        faults.append(
            "glance:rabbitmq_servers is missing; notifications are on, so list the "
            "servers or set glance:notify_transport_url."
        )
    transports = [
        name
        for name in ("rpc", "notify")
        if f"{name}_transport_url" not in settings["given"] and not settings[f"om_{name}_password"]
    ]
    password = settings["rabbitmq_password"] or "rabbitmq_password" in settings["faulty"]
    if settings["rabbitmq_servers"] and transports and not password:
        faults.append("glance:rabbitmq_password is missing; rabbitmq_servers ask for it.")
    for key in ("rpc_transport_url", "notify_transport_url"):
        if settings[key] and not re.match(r"^rabbit://[^/]+@[^/]+/", settings[key]):
            faults.append(
                f"glance:{key} is no transport; it must be such as "
                "rabbit://USER:PASSWORD@HOST:PORT/."
            )
    durable, quorum = (
        f"om_enable_rabbitmq_{kind}" for kind in ("high_availability", "quorum_queues")
    )
    quorum_queues = settings[quorum] and settings["openstack_release"] >= RABBIT_QUORUM_SINCE
    if settings[durable] and quorum_queues:
        faults.append(
            f"glance:{durable} is yes, and queues are quorum queues unless glance:{quorum} is no;"
            " RabbitMQ can have one of the two, so switch one off."
        )
    if settings["enable_osprofiler"]:
        faults += [
            f"glance:{key} is missing; glance:enable_osprofiler needs it."
            for key in ("osprofiler_secret", "osprofiler_backend_connection_string")
            if _missing(settings, key)
        ]
    if settings["enable_barbican"] and settings["trial"]:
        faults.append(
            "glance:enable_barbican is yes, but Barbican works with Keystone only; "
            "configure Keystone or switch it off."
        )
    return faults


def _features(settings):
    faults = []
    if settings["glance_enable_property_protection"] and _missing(
        settings, "glance_property_protections"
    ):
        faults.append(
            "glance:glance_property_protections is missing; "
            "glance:glance_enable_property_protection needs it, else every property is "
            "locked."
        )
    swift = [f"glance_swift_large_object_{part}size" for part in ("", "chunk_")]
    if settings[swift[1]] > settings[swift[0]]:
        faults.append(
            f"glance:{swift[1]} is {settings[swift[1]]}, more than "
            f"glance:{swift[0]}, {settings[swift[0]]}; it must not be more."
        )
    if settings["glance_min_healthy_time"] >= settings["glance_healthy_deadline"]:
        faults.append(
            f"glance:glance_min_healthy_time is {settings['glance_min_healthy_time']}, "
            "not less than glance:glance_healthy_deadline, "
            f"{settings['glance_healthy_deadline']}; no container could get there in time."
        )
    return faults


def _upgrade(settings):
    if (
        not settings["glance_enable_rolling_upgrade"]
        or not settings["file_unshared"]
        or (settings["glance_upgrade_handover_single_host"])
    ):
        return []
    return [
        "glance:glance_enable_rolling_upgrade is yes, but the images are on the volume "
        f"{settings['glance_file_datadir_volume']} of one host; set it to no for a legacy "
        "upgrade, put a shared filesystem into glance:glance_file_datadir_volume, or allow the "
        "hand-over on this one host by glance:glance_upgrade_handover_single_host."
    ]


def _warnings(settings):
    found = []
    if settings["trial"] and settings["enable_glance"]:
        found.append(
            f"Trial mode: SQLite, no Keystone, and whoever reaches {settings['listen']} on "
            "this host may do anything with the images; name a database and Keystone in "
            "pillar for production."
        )
    without_use = (
        ("glance_property_protections", "glance_enable_property_protection"),
        ("glance_image_import", "glance_enable_interoperable_image_import"),
    )
    found += [
        f"glance:{key} has no effect while glance:{switch} is no."
        for key, switch in without_use
        if settings[key] and not settings[switch]
    ]
    switch, file = "glance_enable_interoperable_image_import", "glance-image-import.conf"
    if file in settings["glance_custom_config"] and not settings[switch]:
        found.append(
            f"glance:glance_custom_config:{file} has no effect while glance:{switch} is no."
        )
    if (
        settings["enable_barbican"]
        and not settings["openstack_cacert"]
        and (settings["keystone_internal_url"].startswith("https:"))
    ):
        found.append(
            "glance:openstack_cacert is empty: Barbican's certificate is checked with the "
            "image's own CAs."
        )
    if settings["keystone"]:
        found += _encryption(settings) + _bundle(settings)
    if settings["enable_haproxy"] and not _given(settings, "glance_api_group"):
        found.append(
            f"glance:glance_api_group is not given, so {settings['minion_id']} is taken for the"
            " only host of this Glance; where there are more, list all of them there, or each"
            " serves by itself and leaves the others out of the load balancer."
        )
    sockets, balancers = settings["glance_haproxy_socket"], settings["glance_loadbalancer_group"]
    if sockets and len(sockets) < len(balancers):
        found.append(
            f"glance:glance_haproxy_socket names {len(sockets)} of {len(balancers)} load balancers:"
            " a drain still waits until the others have noticed by the health check."
        )
    if settings["keystone"] and not settings["memcached_servers"]:
        found.append(
            "glance:memcached_servers is empty: every process asks Keystone again for every token."
        )
    return found


def _encryption(settings):
    """What the OpenStack Security Guide asks (Check-Image-04), and what it takes."""
    url = settings["keystone_internal_url"]
    if url.startswith("http:"):
        return [
            f"Keystone is asked at {url} (glance:keystone_internal_url), so passwords and tokens go"
            " over the network unencrypted; https is what the OpenStack Security Guide asks"
            " (Check-Image-04)."
        ]
    bundle, distro = settings["distribution_bundle"], settings["kolla_base_distro"]
    if settings["glance_ca_certificates"] and not settings["openstack_cacert"]:
        return [
            "glance:openstack_cacert is empty: glance_ca_certificates go into the CA bundle of the"
            " container, which Python libraries use only if it is named there; in images of"
            f" {distro} (glance:kolla_base_distro) it is {bundle}."
        ]
    return []


def _bundle(settings):
    """The bundle of one family of distributions is not there in images of the other."""
    given, bundle = settings["openstack_cacert"], settings["distribution_bundle"]
    distro = settings["kolla_base_distro"]
    if (
        given == bundle
        or given not in _BUNDLES
        or f"-{distro}" not in settings["glance_api_image_full"]
    ):
        return []
    return [
        f"glance:openstack_cacert is {given}, but in images of {distro}"
        f" (glance:kolla_base_distro) the CA bundle is {bundle}."
    ]


_RULES = (
    _production,
    _endpoints,
    _address,
    _group,
    _tls,
    _volumes,
    _environment,
    _peers,
    _features,
    _upgrade,
    _load_balancer,
)
