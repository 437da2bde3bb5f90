"""
What must hold between the storage backends: names, credentials, files, contradictions.

Pure; ``glance_backend`` says which stores there are.
"""

import difflib

__virtualname__ = "glance_backend_rules"

_READ_ONLY = ("http",)
#: glance_store announces a last part that is shorter than the others with the size of the others.
SWIFT_PARTS_FAIL_SINCE = "2025.2"
#: Releases whose location API reads any address that a user gives; newer ones ask the filter of
#: web-download before (import_filtering_opts).
LOCATIONS_UNFILTERED = ("2024.2", "2026.1")
SWIFT_UNIT = 1000 * 1024  # bytes in what glance_store calls a megabyte there
#: Sections of glance-api.conf that are not stores.
_SECTIONS = (
    "DEFAULT",
    "barbican",
    "barbican_service_user",
    "cors",
    "database",
    "glance.store.http.store",
    "glance_store",
    "healthcheck",
    "image_format",
    "key_manager",
    "keystone_authtoken",
    "oslo_concurrency",
    "oslo_limit",
    "oslo_messaging_kafka",
    "oslo_messaging_notifications",
    "oslo_messaging_rabbit",
    "oslo_middleware",
    "oslo_policy",
    "oslo_reports",
    "paste_deploy",
    "profiler",
    "store_type_location_strategy",
    "task",
    "taskflow_executor",
    "vault",
    "wsgi",
    "backend_defaults",
    "image_import_opts",
    "import_filtering_opts",
)
#: What each type cannot do without: (option, key of the pillar).
_NEEDED = {
    "s3": (
        ("s3_store_host", "glance_backend_s3_url"),
        ("s3_store_bucket", "glance_backend_s3_bucket"),
        ("s3_store_access_key", "glance_backend_s3_access_key"),
        ("s3_store_secret_key", "glance_backend_s3_secret_key"),
    ),
    "vsphere": (
        ("vmware_server_host", "vmware_vcenter_host_ip"),
        ("vmware_server_username", "vmware_vcenter_host_username"),
        ("vmware_server_password", "vmware_vcenter_host_password"),
        ("vmware_datastores", "vmware_vcenter_name"),
        ("vmware_datastores", "vmware_datastore_name"),
    ),
    "cinder": (
        ("cinder_store_auth_address", "keystone_internal_url"),
        ("cinder_store_password", "glance_keystone_password"),
    ),
    "swift": ((None, "glance_swift_auth_url"), (None, "glance_swift_password")),
}
#: Keys that production needs anyway, and those that follow them: not to be named twice.
_FROM_KEYSTONE = {
    "keystone_internal_url": "keystone_internal_url",
    "glance_keystone_password": "glance_keystone_password",
    "glance_swift_auth_url": "keystone_internal_url",
    "glance_swift_password": "glance_keystone_password",
}
_SWITCHES = {
    "file": "glance_backend_file",
    "rbd": "glance_backend_ceph",
    "vsphere": "glance_backend_vmware",
    "swift": "glance_backend_swift",
    "s3": "glance_backend_s3",
    "cinder": "enable_cinder",
}
#: Other files that glance_custom_config may name.
_OVERRIDES = (
    "global.conf",
    "glance.conf",
    "glance-api.conf",
    "glance-cache.conf",
    "glance-image-import.conf",
    "glance-swift.conf",
)


def __virtual__():
    return __virtualname__


def check(settings):
    """
    Return what is wrong with the backends, and what is worth a warning.

    settings
        Settings with what ``glance_backend.describe`` adds.

    Returns a mapping with ``faults`` and ``warnings``, a sentence each.
    """
    rules = (_names, _switches, _default, _credentials, _ceph_files)
    faults = [fault for rule in rules for fault in rule(settings)]
    return {"faults": faults, "warnings": _warnings(settings)}


def _names(settings):
    """Names and types of all stores that pillar lists."""
    faults, seen = [], {}
    lists = ("glance_backends", "glance_additional_stores", "glance_ceph_backends")
    listed = [(key, index, entry) for key in lists for index, entry in enumerate(settings[key])]
    for key, index, entry in listed:
        name, kind = entry["name"], entry["type"]
        where = f"glance:{key}:{index}"
        if name.startswith("os_glance_"):
            faults.append(
                f"{where}:name is {name}; names that begin with os_glance_ belong to "
                "Glance, so choose another."
            )
        elif name in _SECTIONS:
            faults.append(
                f"{where}:name is {name}, which is another section of glance-api.conf; "
                "choose another."
            )
        elif name in seen:
            faults.append(
                f"{where}:name is {name}, the name of the store at glance:{seen[name]} "
                "too; choose another."
            )
        seen.setdefault(name, f"{key}:{index}")
        if key == "glance_ceph_backends" and kind != "rbd":
            faults.append(
                f"{where}:type is {kind}; it must be rbd, other stores belong into "
                "glance:glance_additional_stores."
            )
    return faults


def _switches(settings):
    """Switches that pillar sets and lists that say otherwise."""
    faults = []
    kinds = {store["type"] for store in settings["stores"]}
    for kind, key in _SWITCHES.items():
        lists = "glance_ceph_backends" if kind == "rbd" else "glance_backends"
        if lists not in settings["given"]:
            continue
        if settings[key] and key in settings["given"] and kind not in kinds:
            faults.append(
                f"glance:{key} is yes, but glance:{lists} enables no store of that type; "
                "add it there or remove one of the two keys."
            )
        if (
            kind == "rbd"
            and not settings[key]
            and any(entry.get("enabled") for entry in settings[lists])
        ):
            faults.append(f"glance:{lists} enables a store, but glance:{key} is no; switch it on.")
    return faults


def _default(settings):
    names = [store["name"] for store in settings["stores"] if store["type"] not in _READ_ONLY]
    wanted = settings["glance_default_backend"]
    one_of = "one of " if len(names) > 1 else ""
    hint = f"it must be {one_of}{', '.join(names)}" if names else "enable a store first"
    if not wanted:
        return (
            []
            if names
            else [
                "glance has no store that images can be uploaded to; switch one "
                "on, such as glance:glance_backend_file."
            ]
        )
    if wanted in names:
        return []
    if wanted in [store["name"] for store in settings["stores"]]:
        return [f"glance:glance_default_backend is {wanted}, which is read-only; {hint}."]
    return [f"glance:glance_default_backend is {wanted}, which is not enabled; {hint}."]


def _credentials(settings):
    """Everything that a store lacks, named at once."""
    faults = []
    for store in settings["stores"]:
        for option, key in _NEEDED.get(store["type"], ()):
            there = store["options"].get(option) if option else settings[key]
            named = settings["keystone"] and not settings.get(_FROM_KEYSTONE.get(key), "-")
            there = there or key.startswith("vmware_") and settings[key]
            if not there and not named and key not in settings["faulty"]:
                faults.append(f"glance:{key} is missing; the store {store['name']} needs it.")
    return list(dict.fromkeys(faults))


def _ceph_files(settings):
    """Every cluster's configuration and keyring."""
    files, faults = settings["glance_custom_config"], []
    if "glance_custom_config" in settings["faulty"]:
        return faults
    for store in settings["stores"]:
        if store["type"] != "rbd":
            continue
        wanted = [f"{store['cluster']}.conf"]
        if settings["external_ceph_cephx_enabled"]:
            wanted.append(f"{store['cluster']}.client.{store['user']}.keyring")
        faults += [
            f"glance:glance_custom_config:{name} is missing; the store {store['name']} needs it."
            for name in wanted
            if name not in files
        ]
    clusters = {
        name.split(".client.")[0].removesuffix(".conf")
        for name in files
        if isinstance(files[name], str)
    }
    for cluster in sorted(clusters - {store.get("cluster") for store in settings["stores"]}):
        near = difflib.get_close_matches(f"{cluster}.conf", _OVERRIDES, 1, 0.8)
        names = ", ".join(name for name in files if name.startswith(f"{cluster}."))
        faults.append(
            f"glance:glance_custom_config:{names} belongs to no enabled Ceph store; "
            + (f"did you mean {near[0]}?" if near else "enable one or remove it.")
        )
    return list(dict.fromkeys(faults))


def _warnings(settings):
    found = []
    kinds = {store["type"] for store in settings["stores"]}
    group = settings["glance_api_group"]
    if settings["enable_glance_image_cache"] and "rbd" in kinds:
        found.append(
            "glance:enable_glance_image_cache is on together with ceph: Nova copies images "
            "from ceph and has a cache of its own, so this one only takes space."
        )
    if settings["file_unshared"] and len(group) > 1:
        found.append(
            f"Only {group[0]} runs the API, because the images are on its volume "
            f"{settings['glance_file_datadir_volume']}; put a shared filesystem into "
            "glance:glance_file_datadir_volume to use the others."
        )
    if settings["vmware_vcenter_insecure"] and "vsphere" in kinds:
        found.append(
            "glance:vmware_vcenter_insecure is on: anyone on the way can pose as the vCenter."
        )
    if settings["glance_swift_auth_insecure"] and "swift" in kinds:
        found.append(
            "glance:glance_swift_auth_insecure is on: anyone on the way can pose as Keystone."
        )
    if "swift" in kinds and settings["openstack_release"] >= SWIFT_PARTS_FAIL_SINCE:
        keys = [f"glance_swift_large_object_{name}size" for name in ("", "chunk_")]
        size, part = (settings[key] * SWIFT_UNIT for key in keys)
        found.append(
            f"Swift: Glance since {SWIFT_PARTS_FAIL_SINCE} cannot upload an image of {size} bytes"
            f" or more whose size is told beforehand and is no multiple of {part}"
            f" (glance:{keys[0]}, glance:{keys[1]});"
            " send such an image without its size, or raise the first with Swift's max_file_size."
        )
    first, last = LOCATIONS_UNFILTERED
    if (
        "http" in kinds
        and settings["keystone"]
        and first <= settings["openstack_release"] <= last
        and "add_image_location" not in settings["glance_policy"]
    ):
        found.append(
            f"Glance {first} to {last} lets users register any address that this host reaches, such"
            " as the metadata service of the cloud, as an image and read it: keep that to services"
            " with glance:glance_policy:add_image_location: rule:service_api, or leave the store"
            " http out of glance:glance_backends."
        )
    if settings["glance_show_image_direct_url"] and kinds - {"rbd", "http", "cinder"}:
        others = ", ".join(
            store["name"]
            for store in settings["stores"]
            if store["type"] not in ("rbd", "http", "cinder")
        )
        found.append(
            "glance:glance_show_image_direct_url is on: users see where images are stored, "
            f"which helps with ceph only and not with {others}."
        )
    return found
