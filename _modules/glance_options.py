"""
The options that Glance gets from the settings, before the operator's own are laid over them.

Everything here is pure.  :func:`sections` knows what Kolla-Ansible renders and which release
knows which option; ``glance_configuration`` makes files of it.
"""

from salt.exceptions import SaltInvocationError

__virtualname__ = "glance_options"

PYTHON = "/var/lib/kolla/venv/bin/python3"
ETC = "/etc/glance"

#: Directories of the container that are not on the data volume.
WORK = "/var/lib/glance-work"
CACHE = "/var/lib/glance-cache"

#: First release (Kolla's) in which something changed.
UWSGI_SINCE = "2026.1"
UWSGI_POSSIBLE_SINCE = "2025.1"
CACHE_READS_API_CONF_SINCE = "2024.1"
RABBIT_QUORUM_SINCE = "2023.2"
RABBIT_QUEUE_MANAGER_KNOWN_SINCE = "2024.1"
RABBIT_QUEUE_MANAGER_SINCE = "2025.1"
RABBIT_PREFETCHES_SINCE = "2026.1"
S3_CA_FILE_SINCE = "2024.1"
HEALTH_BY_FILES_SINCE = "2024.2"  # enable_by_files of oslo.middleware 6.2

#: Configuration of paste that lays another health check over the image's own.
HEALTH_PASTE = f"{ETC}/glance-health-paste.ini"


def __virtual__():
    return __virtualname__


def sections(settings, release):
    """
    Return the sections of every file in ini form, by file name.

    settings
        The resolved settings, as ``glance_settings.get`` returns them.

    release
        OpenStack release of the image, such as ``2026.1``.

    Returns a mapping: file -> section -> option -> value.  A value is a string, a number, a
    boolean, None (not rendered) or a list (one line per entry).

    Raises SaltInvocationError when the release cannot do what the settings ask for.
    """
    result = {
        "glance-api.conf": _api(settings, release),
        "glance-image-import.conf": _image_import(settings),
    }
    if _uses_uwsgi(settings, release):
        result["glance-api-uwsgi.ini"] = {"uwsgi": _uwsgi(settings)}
    if settings.get("enable_glance_image_cache"):
        result["glance-cache.conf"] = _cache(settings, release, result["glance-api.conf"])
    swift = [store["name"] for store in settings["stores"] if store["type"] == "swift"]
    if swift:
        result["glance-swift.conf"] = {name: _swift(settings) for name in swift}
    return result


def s3_reads_authorities(release):
    """
    Whether Glance's driver of S3 reads a file of certificate authorities (``s3_store_cacert``);
    before that, its library is told by the environment of the container. Pure.

    release
        OpenStack release of the image.
    """
    return release >= S3_CA_FILE_SINCE


def _uses_uwsgi(settings, release):
    """
    Tell whether glance-api is served by uWSGI (else by its own eventlet server).

    settings, release
        As for :func:`sections`.

    Raises SaltInvocationError when backend TLS is asked of a release that cannot do it.
    """
    if release >= UWSGI_SINCE:
        return True
    if not settings.get("glance_enable_tls_backend"):
        return False
    if release >= UWSGI_POSSIBLE_SINCE:
        return True
    raise SaltInvocationError(
        f"glance:glance_enable_tls_backend needs an image of {UWSGI_POSSIBLE_SINCE} or newer, "
        f"this one is {release}: switch it off or terminate TLS at the load balancer."
    )


def command(settings, release):
    """
    Return the command that serves Glance in an image of a release.

    settings, release
        As for :func:`sections`.

    Raises SaltInvocationError when the release cannot do what the settings ask for.
    """
    if _uses_uwsgi(settings, release):
        return f"uwsgi {ETC}/glance-api-uwsgi.ini"
    return "glance-api"


def health_paste(settings, flavor):
    """
    Return the text of the paste configuration whose health check needs this host's mark too.

    It takes all else from the image's own file. The drain file works as it does there; it is
    asked for by the port only because the two plug-ins that this takes may not be used together
    in their plain form.

    settings
        As for :func:`sections`.

    flavor
        Flavor of the deployment, such as ``keystone``; may be empty.
    """
    name = f"glance-api-{flavor}" if flavor else "glance-api"
    return (
        f"[composite:{name}]\n"
        "paste.composite_factory = glance.api:root_app_factory\n"
        f"/: config:{ETC}/glance-api-paste.ini#api\n"
        "/healthcheck: healthcheck\n"
        "\n"
        "[app:healthcheck]\n"
        "paste.app_factory = oslo_middleware:Healthcheck.app_factory\n"
        "backends = disable_by_files_ports, enable_by_files\n"
        f"disable_by_file_paths = {settings['glance_api_listen_port']}:{ETC}/healthcheck_disable\n"
        f"enable_by_file_paths = {settings['datadir_marker']}\n"
    )


def _api(settings, release):
    """Return the sections of glance-api.conf in Kolla's order, before any override."""
    get = settings.get
    cache = get("enable_glance_image_cache")
    default = {
        "debug": get("glance_logging_debug", False),
        "log_file": "/var/log/kolla/glance/glance-api.log",
        # Also without import proxying: the node's identity in the cache and in staging.
        "worker_self_reference_url": settings["self_url"],
        "enabled_backends": ", ".join(f"{s['name']}:{s['type']}" for s in settings["stores"]),
    }
    if not _uses_uwsgi(settings, release):
        # An idle connection that is kept open would keep a retiring container busy.
        default.update(
            bind_host=settings["api_address"],
            bind_port=settings["glance_api_listen_port"],
            workers=get("glance_api_workers"),
            http_keepalive=False,
        )
    if get("glance_enable_property_protection"):
        default["property_protection_file"] = f"{ETC}/property-protections-rules.conf"
    if get("glance_show_image_direct_url"):
        default["show_image_direct_url"] = True
    if get("rpc_transport_url"):
        default["transport_url"] = _value(get("rpc_transport_url"))
    if cache:
        default.update(_cache_options(settings))

    sections = {"DEFAULT": default, "database": _database(settings)}
    flavor = []
    if get("keystone"):
        sections["keystone_authtoken"] = _authtoken(settings)
        flavor.append("keystone")
    if cache:
        flavor.append("cachemanagement")
    sections["paste_deploy"] = {"flavor": "+".join(flavor)}
    if settings.get("datadir_marker") and release >= HEALTH_BY_FILES_SINCE:
        sections["paste_deploy"]["config_file"] = HEALTH_PASTE
    sections["glance_store"] = {"default_backend": settings["default_store"]}
    for store in settings["stores"]:
        sections[store["name"]] = {
            name: _value(value)
            for name, value in store.get("options", {}).items()
            # Before that, glance_container tells the library of S3 by the environment.
            if name != "s3_store_cacert" or s3_reads_authorities(release)
        }
    for name, directory in (("tasks", "tasks_work_dir"), ("staging", "staging")):
        sections[f"os_glance_{name}_store"] = {"filesystem_store_datadir": f"{WORK}/{directory}"}
    sections["oslo_middleware"] = {"enable_proxy_headers_parsing": True}
    sections["oslo_concurrency"] = {"lock_path": f"{WORK}/tmp"}
    sections.update(_messaging(settings, release))
    if _uses_uwsgi(settings, release):
        # Under uWSGI sys.executable is uWSGI, which cannot run the helpers of image conversion.
        sections["wsgi"] = {"python_interpreter": PYTHON}
    if get("enable_osprofiler"):
        sections["profiler"] = {
            "enabled": True,
            "trace_sqlalchemy": True,
            "hmac_keys": _value(get("osprofiler_secret")),
            "connection_string": _value(get("osprofiler_backend_connection_string")),
        }
    if get("enable_barbican"):
        sections["barbican"] = {
            "auth_endpoint": get("keystone_internal_url"),
            "barbican_endpoint_type": "internal",
            "verify_ssl_path": get("openstack_cacert") or None,
        }
    if get("horizon_public_endpoint"):
        sections["cors"] = {"allowed_origin": get("horizon_public_endpoint")}
    return sections


def _database(settings):
    section = {"connection": _value(settings["database_connection"])}
    if settings["database_kind"] == "mysql":
        section["connection_recycle_time"] = settings.get("database_connection_recycle_time", 10)
        section["max_pool_size"] = settings.get("database_max_pool_size", 1)
    section["max_retries"] = -1
    return section


def _authtoken(settings):
    get = settings.get
    section = {
        "service_type": "image",
        "www_authenticate_uri": get("keystone_public_url"),
        "auth_url": get("keystone_internal_url"),
        "auth_type": "password",
        "project_domain_id": get("default_project_domain_id", "default"),
        "user_domain_id": get("default_user_domain_id", "default"),
        "project_name": "service",
        "username": _value(get("glance_keystone_user", "glance")),
        "password": _value(get("glance_keystone_password")),
        "cafile": get("openstack_cacert") or None,
        "region_name": get("openstack_region_name", "RegionOne"),
    }
    servers = get("memcached_servers")
    if servers:
        section["memcache_security_strategy"] = get("memcache_security_strategy", "ENCRYPT")
        section["memcache_secret_key"] = _value(get("memcache_secret_key"))
        # Its client tells the address from the port only when the family stands before it.
        section["memcached_servers"] = ",".join(
            f"inet6:{server}" if server.startswith("[") else server for server in servers
        )
    return section


def _messaging(settings, release):
    get = settings.get
    topics = [t["name"] for t in get("glance_notification_topics") or [] if t.get("enabled")]
    notify = {"driver": "messagingv2" if topics else "noop"}
    if topics:
        notify["topics"] = ",".join(topics)
    if get("notify_transport_url"):
        notify["transport_url"] = _value(get("notify_transport_url"))
    sections = {"oslo_messaging_notifications": notify}
    if not get("rpc_transport_url") and not get("notify_transport_url"):
        return sections
    sections["oslo_messaging_rabbit"] = _rabbit(settings, release)
    return sections


def _rabbit(settings, release):
    """Return how RabbitMQ is used; all services of a cloud must declare the same kind of queue."""

    def chosen(key, default):
        return settings[key] if key in settings["given"] else default

    options = {}
    quorum = chosen("om_enable_rabbitmq_quorum_queues", release >= RABBIT_QUORUM_SINCE)
    manager = chosen("om_enable_queue_manager", release >= RABBIT_QUEUE_MANAGER_SINCE)
    if quorum:
        options["rabbit_quorum_queue"] = True
    if chosen("om_enable_rabbitmq_high_availability", False):
        options["amqp_durable_queues"] = True
    if settings["om_enable_rabbitmq_tls"]:
        options.update(ssl=True, ssl_ca_file=settings["om_rabbitmq_cacert"])
    if release < RABBIT_QUEUE_MANAGER_KNOWN_SINCE:
        return options
    if manager:
        options["use_queue_manager"] = True
    transient = quorum and chosen("om_enable_rabbitmq_transient_quorum_queue", manager)
    if transient:
        options["rabbit_transient_quorum_queue"] = True
    if quorum and chosen("om_enable_rabbitmq_stream_fanout", transient):
        options["rabbit_stream_fanout"] = True
        options["rabbit_qos_prefetch_count"] = chosen(
            "om_rabbitmq_qos_prefetch_count", 50 if release >= RABBIT_PREFETCHES_SINCE else 1
        )
    return options


def _image_import(settings):
    """Return the sections of glance-image-import.conf.

    Glance's import methods stay as they are by default, web-download too: users of image
    import expect it.  What makes it dangerous is that a user chooses an address which the
    host of the API can reach and he cannot.  So addresses that only the host itself or its
    cloud's metadata service answer on are refused, and ports as Glance does by default.
    """
    own = "localhost,127.0.0.1,0.0.0.0,::1,::,169.254.169.254,fe80::a9fe:a9fe"
    filters = {
        "allowed_schemes": "[http,https]",
        "allowed_ports": "[80,443]",
        "disallowed_hosts": f"[{own}]",
    }
    sections = {"import_filtering_opts": filters}
    operators = settings.get("glance_image_import", {})
    if not settings.get("glance_enable_interoperable_image_import"):
        operators = {}
    for name, options in operators.items():
        sections[name] = {**sections.get(name, {}), **options}
    return sections


def _cache(settings, release, api):
    """Return the sections of glance-cache.conf.

    Up to 2023.2 the cache tools read this file alone, so it repeats what they need of
    glance-api.conf (whose sections ``api`` are); newer ones read glance-api.conf before it.
    """
    default = {
        "debug": settings.get("glance_logging_debug", False),
        "log_file": "/var/log/kolla/glance/glance-cache.log",
        **_cache_options(settings),
    }
    if release >= CACHE_READS_API_CONF_SINCE:
        return {"DEFAULT": default}
    names = [store["name"] for store in settings["stores"]]
    names += ["glance_store", "os_glance_tasks_store", "os_glance_staging_store"]
    names += ["oslo_concurrency"]
    for option in ("worker_self_reference_url", "enabled_backends"):
        default[option] = api["DEFAULT"][option]
    copied = {name: dict(api[name]) for name in api if name in names}
    return {"DEFAULT": default, **copied}


def _cache_options(settings):
    return {
        "image_cache_max_size": settings["glance_cache_max_size"],
        "image_cache_stall_time": settings["glance_cache_stall_time"],
        "image_cache_dir": CACHE,
    }


def _uwsgi(settings):
    """Return what stands in glance-api-uwsgi.ini.

    Two things differ from Kolla's: the workers accept connections themselves (no router
    process that cuts them when it stops), and the port can be shared with a second container,
    which is how one container takes over from another.
    """
    listen = settings["listen"]
    section = {
        "add-header": "Connection: close",
        "buffer-size": 65535,
        "chunked-input-limit": 64 * 1024 * 1024,
        "die-on-term": True,
        "enable-threads": True,
        "exit-on-reload": False,
        "hook-master-start": "unix_signal:15 gracefully_kill_them_all",
    }
    if settings.get("glance_enable_tls_backend"):
        section["https-socket"] = f"{listen},{ETC}/certs/glance-cert.pem,{ETC}/certs/glance-key.pem"
    else:
        section["http-socket"] = listen
    section.update(
        {
            "lazy-apps": True,
            "logto2": "/var/log/kolla/glance/glance-api-uwsgi.log",
            "logfile-chmod": 644,
            "master": True,
            "module": "glance.wsgi.api:application",
            "need-app": True,
            # Where Debian's and where Rocky's packages have it; uWSGI takes the one that is there.
            "plugins-dir": ["/usr/lib/uwsgi/plugins", "/usr/lib64/uwsgi"],
            "plugins": "python3",
            "processes": settings.get("glance_api_workers"),
            "reuse-port": True,
            "socket-timeout": 30,
            "thunder-lock": True,
            "uid": "glance",
            # As Glance's own server does: images and logs are not for everybody.
            "umask": "027",
            "worker-reload-mercy": 80,
            "wsgi-manage-chunked-input": True,
        }
    )
    encrypted = settings.get("kolla_enable_tls_internal") or settings["api_scheme"] == "https"
    if encrypted and settings.get("openstack_cacert"):
        # Hosts ask each other for staged data by worker_self_reference_url, too.
        cafile = settings["openstack_cacert"]
        section["env"] = [f"REQUESTS_CA_BUNDLE={cafile}", f"SSL_CERT_FILE={cafile}"]
    return section


def _swift(settings):
    """Return the reference that the Swift store reads, as Kolla-Ansible rendered it."""
    get = settings.get
    reference = {
        "auth_version": 3,
        "auth_address": get("glance_swift_auth_url"),
        "user": get("glance_swift_user"),
        "key": get("glance_swift_password"),
        "project_domain_id": get("default_project_domain_id", "default"),
        "user_domain_id": get("default_user_domain_id", "default"),
        "cafile": get("openstack_cacert") or None,
    }
    # Glance reads this file with interpolation: a single % would stop the API.
    return {
        name: str(value).replace("%", "%%")
        for name, value in reference.items()
        if value is not None
    }


def _value(value):
    """Return a setting as oslo.config must find it, so that it reads the same text again."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [_value(entry) for entry in value]
    text = str(value).replace("$", "$$")
    if text != text.strip() or (len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"):
        return f'"{text}"'
    return text
