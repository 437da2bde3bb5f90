"""
Storage backends: which stores an API has, which is the default, which hosts may run it.

Pure: settings in, plain data out.  A store is a mapping with ``name``, ``type`` (as it stands in
``enabled_backends``) and ``options`` (of its section in glance-api.conf); a Ceph store also has
``cluster`` and ``user``.  ``glance_settings`` adds ``secrets``, the names of the options that are.
"""

__virtualname__ = "glance_backend"

DATADIR = "/var/lib/glance/images"
MARKS = ".glance-hosts"  # see glance_sharing
CEPH_DIR = "/etc/ceph"
SWIFT_FILE = "/etc/glance/glance-swift.conf"

#: Types that Glance knows by another name: the driver of VMware registers itself as vsphere only.
_TYPES = {"vmware": "vsphere"}
#: Kolla's precedence for the default store, then what is left.
_PRECEDENCE = ("vsphere", "rbd", "swift", "s3", "file", "cinder")
#: Where the images of a distribution keep the CAs that they trust, glance_ca_certificates included.
_BUNDLES = {
    "debian": "/etc/ssl/certs/ca-certificates.crt",
    "ubuntu": "/etc/ssl/certs/ca-certificates.crt",
    "centos": "/etc/pki/tls/certs/ca-bundle.crt",
    "rocky": "/etc/pki/tls/certs/ca-bundle.crt",
}


def __virtual__():
    return __virtualname__


def describe(settings):
    """
    Return everything that follows from the choice of backends.

    settings
        Settings as ``glance_defaults`` completes them.

    Returns what is to be added to the settings: ``stores``, ``default_store``,
    ``needs_privileged``, ``file_unshared``, ``glance_api_hosts``, ``runs_api``, ``schema_host``,
    the one host that works on the database and its schema, ``datadir_marker``, this host's mark in
    the directory of the images, as the container sees it (see ``glance_sharing``), and
    ``distribution_bundle``, the file of CAs in images of the distribution.
    """
    unshared = file_unshared(settings)
    group = settings["glance_api_group"]
    hosts = group[:1] if unshared else group
    return {
        "stores": stores(settings),
        "default_store": default_store(settings),
        "needs_privileged": _needs_privileged(settings),
        "file_unshared": unshared,
        "glance_api_hosts": hosts,
        "runs_api": settings["enable_glance"] and settings["minion_id"] in hosts,
        "schema_host": hosts[0] if hosts else settings["minion_id"],
        "datadir_marker": _marker(settings),
        "distribution_bundle": _BUNDLES[settings["kolla_base_distro"]],
    }


def elsewhere(settings):
    """
    Why this host runs no API, in one sentence; empty if it does.

    settings
        Result of ``glance_settings.get``.
    """
    if settings["runs_api"]:
        return ""
    if not settings["enable_glance"]:
        return "Glance is switched off (glance:enable_glance)."
    if settings["minion_id"] not in settings["glance_api_group"]:
        return (
            f"The API runs on {', '.join(settings['glance_api_hosts'])} only;"
            f" {settings['minion_id']} is not in glance:glance_api_group."
        )
    return (
        f"The API runs on {', '.join(settings['glance_api_hosts'])} only, because the images in"
        f" {settings['glance_file_datadir_volume']} are not shared between hosts"
        " (glance:glance_file_datadir_volume)."
    )


def stores(settings):
    """
    Return the enabled stores, in Kolla's order.

    settings
        Settings as ``glance_defaults`` completes them.
    """
    return [_store(settings, entry) for entry in _entries(settings) if entry["enabled"]]


def default_store(settings):
    """
    Return the name of the store that takes images for which no store is named.

    Kolla's precedence: vmware, the first ceph, swift, s3, file; then cinder.  Empty if none can.

    settings
        Settings as ``glance_defaults`` completes them.
    """
    if settings["glance_default_backend"]:
        return settings["glance_default_backend"]
    for kind in _PRECEDENCE:
        for store in stores(settings):
            if store["type"] == kind:
                return store["name"]
    return ""


def _needs_privileged(settings):
    """
    Tell whether the container must be privileged: only for Cinder volumes that it attaches.

    settings
        Settings as ``glance_defaults`` completes them.
    """
    if "glance_api_privileged" in settings["given"] or settings["glance_api_privileged"]:
        return settings["glance_api_privileged"]
    # Stores that are listed need no enable_cinder.
    cinder = any(store["type"] == "cinder" for store in stores(settings))
    return cinder and settings["enable_cinder_backend_privileged"]


def file_unshared(settings):
    """
    Tell whether images lie on a volume that only one host can reach, as far as pillar says.

    settings
        Settings as ``glance_defaults`` completes them.
    """
    return _has_files(settings) and not settings["glance_file_datadir_volume"].startswith("/")


def _has_files(settings):
    return any(store["type"] == "file" for store in stores(settings))


def _marker(settings):
    """A directory may be a mount, which may be missing; a Docker volume is always there."""
    if not _has_files(settings) or not settings["glance_file_datadir_volume"].startswith("/"):
        return ""
    return f"{DATADIR}/{MARKS}/{settings['minion_id']}"


# ------------------------------------------------------------------ stores


def _entries(settings):
    """Each store, enabled or not, with every field."""
    entries = []
    for key in ("glance_backends", "glance_additional_stores", "glance_ceph_backends"):
        ceph = key == "glance_ceph_backends"
        for given in settings[key]:
            entry = {
                "options": {},
                "enabled": settings["glance_backend_ceph"] if ceph else True,
                **given,
            }
            if entry["type"] == "rbd":
                entry = {
                    "cluster": settings["ceph_cluster"],
                    "user": settings["ceph_glance_user"],
                    "pool": settings["ceph_glance_pool_name"],
                    **entry,
                }
            entries.append(entry)
    return entries


def _store(settings, entry):
    kind = _TYPES.get(entry["type"], entry["type"])
    options = {**_OPTIONS[kind](settings, entry), **entry["options"]}
    options = {name: value for name, value in options.items() if value not in ("", [])}
    store = {"name": entry["name"], "type": kind, "options": options}
    if kind == "rbd":
        store.update(cluster=entry["cluster"], user=entry["user"])
    return store


def _authorities(settings):
    """The CA file that certificates are checked with; nothing means the libraries' own."""
    if settings["openstack_cacert"] or not settings["glance_ca_certificates"]:
        return settings["openstack_cacert"]
    return _BUNDLES[settings["kolla_base_distro"]]


def _word(flag):
    return "true" if flag else "false"


def _file(_settings, _entry):
    return {"filesystem_store_datadir": DATADIR}


def _http(settings, _entry):
    # Unless told otherwise this driver believes every certificate.
    return {"https_ca_certificates_file": _authorities(settings), "https_insecure": "false"}


def _rbd(settings, entry):
    return {
        "rbd_store_user": entry["user"],
        "rbd_store_pool": entry["pool"],
        "rbd_store_ceph_conf": f"{CEPH_DIR}/{entry['cluster']}.conf",
        "rados_connect_timeout": str(settings["glance_ceph_connect_timeout"]),
    }


def _vmware(settings, _entry):
    insecure = settings["vmware_vcenter_insecure"]
    return {
        "vmware_server_host": settings["vmware_vcenter_host_ip"],
        "vmware_server_username": settings["vmware_vcenter_host_username"],
        "vmware_server_password": settings["vmware_vcenter_host_password"],
        "vmware_datastores": settings["glance_vmware_datastores"],
        "vmware_insecure": _word(insecure),
        "vmware_ca_file": "" if insecure else _authorities(settings),
    }


def _swift(settings, entry):
    insecure = settings["glance_swift_auth_insecure"]
    return {
        "swift_store_container": settings["glance_swift_container"],
        "swift_store_multiple_containers_seed": "0",
        "swift_store_multi_tenant": "false",
        "swift_store_create_container_on_put": "true",
        "swift_store_region": settings["glance_swift_region"],
        "swift_store_endpoint_type": settings["glance_swift_endpoint_type"],
        "swift_store_large_object_size": str(settings["glance_swift_large_object_size"]),
        "swift_store_large_object_chunk_size": str(
            settings["glance_swift_large_object_chunk_size"]
        ),
        "default_swift_reference": entry["name"],
        "swift_store_config_file": SWIFT_FILE,
        "swift_store_auth_insecure": _word(insecure),
        "swift_store_cacert": "" if insecure else _authorities(settings),
    }


def _s3(settings, _entry):
    return {
        "s3_store_host": settings["glance_backend_s3_url"],
        "s3_store_access_key": settings["glance_backend_s3_access_key"],
        "s3_store_secret_key": settings["glance_backend_s3_secret_key"],
        "s3_store_bucket": settings["glance_backend_s3_bucket"],
        "s3_store_cacert": _authorities(settings),
    }


def _cinder(settings, _entry):
    url = settings["keystone_internal_url"]
    return {
        "cinder_ca_certificates_file": _authorities(settings),
        "cinder_catalog_info": "block-storage::internalURL",
        "cinder_store_auth_address": f"{url}/v3" if url else "",
        "cinder_store_user_name": settings["glance_keystone_user"],
        "cinder_store_password": settings["glance_keystone_password"],
        "cinder_store_project_domain_name": settings["default_project_domain_name"],
        "cinder_store_project_name": "service",
    }


_OPTIONS = {
    "file": _file,
    "http": _http,
    "rbd": _rbd,
    "vsphere": _vmware,
    "swift": _swift,
    "s3": _s3,
    "cinder": _cinder,
}
