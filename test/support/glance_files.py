"""A plain configuration for Glance containers that tests start by hand, without the formula."""

import configparser
import io
import json

EVENTLET = {"2023.2", "2024.1", "2025.2"}  # releases that Kolla runs by the glance-api script
DATABASE = "sqlite:////var/lib/glance/glance.sqlite"


def ini(sections):
    """Return the text of {section: {option: value}}."""
    parser = configparser.ConfigParser(interpolation=None, default_section="no default section")
    parser.optionxform = str
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def join(address, port):
    """Return ADDRESS:PORT, in brackets when the address is an IPv6 one."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def merged(sections, more):
    """Return sections with the options of `more` added or replaced; None removes one."""
    result = {name: dict(options) for name, options in sections.items()}
    for name, options in (more or {}).items():
        for option, value in options.items():
            if value is None:
                result.get(name, {}).pop(option, None)
            else:
                result.setdefault(name, {})[option] = value
    return result


def import_sources(address):
    """Return the hosts from which web-download may read: .9 beside an IPv4 address, itself."""
    if ":" in address:
        return f'["{address}"]'
    return f"[{address.rpartition('.')[0]}.9,{address}]"


def api_conf(release, address, port, workers, options=None):
    """Return glance-api.conf: no Keystone, SQLite, file store, imports from loopback allowed."""
    default = {
        "log_file": "/var/log/kolla/glance/glance-api.log",
        "worker_self_reference_url": f"http://{join(address, port)}",
        "enabled_backends": "file:file, http:http",
        "enabled_import_methods": "[glance-direct,web-download,copy-image]",
        "transport_url": "rabbit://openstack:x@127.0.0.1:5672//",
    }
    if release in EVENTLET:
        default |= {
            "bind_host": address,
            "bind_port": port,
            "workers": workers,
            # An idle kept connection would keep a container busy that is to be replaced.
            "http_keepalive": "False",
        }
    sections = {
        "DEFAULT": default,
        "database": {"connection": DATABASE},
        "glance_store": {"default_backend": "file"},
        "file": {"filesystem_store_datadir": "/var/lib/glance/images"},
        "os_glance_tasks_store": {
            "filesystem_store_datadir": "/var/lib/glance/tasks_work_dir",
        },
        "os_glance_staging_store": {"filesystem_store_datadir": "/var/lib/glance/staging"},
        "oslo_concurrency": {"lock_path": "/var/lib/glance/tmp"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_policy": {"policy_file": "policy.yaml"},
        "paste_deploy": {"flavor": ""},
        # Glance refuses loopback hosts and odd ports as a source unless they are listed.
        "import_filtering_opts": {
            "allowed_schemes": "[http]",
            "allowed_hosts": import_sources(address),
            "allowed_ports": "[80,443,18080]",
        },
    }
    return ini(merged(sections, options))


def uwsgi_ini(address, port, workers, options=None):
    """Return uwsgi.ini: no router in front of the workers, a port that can be shared."""
    settings = {
        "add-header": "Connection: close",
        "buffer-size": 65535,
        "die-on-term": "true",
        "enable-threads": "true",
        "exit-on-reload": "false",
        "hook-master-start": "unix_signal:15 gracefully_kill_them_all",
        "http-socket": join(address, port),
        "lazy-apps": "true",
        "master": "true",
        "module": "glance.wsgi.api:application",
        "need-app": "true",
        "procname-prefix-spaced": "glance-api",
        "processes": workers,
        "reuse-port": "true",
        "socket-timeout": 30,
        "thunder-lock": "true",
        "worker-reload-mercy": 80,
    }
    return ini(merged({"uwsgi": settings}, {"uwsgi": options or {}}))


def config_json(release, names):
    """Return the file that tells a Kolla image what to copy and to run."""
    command = "glance-api" if release in EVENTLET else "uwsgi /etc/glance/glance-api-uwsgi.ini"
    files = [
        {
            "source": f"/var/lib/kolla/config_files/{name}",
            "dest": f"/etc/glance/{name}",
            "owner": "glance",
            "perm": "0600",
        }
        for name in names
    ]
    permissions = [
        {"path": path, "owner": "glance:glance", "recurse": True}
        for path in ("/var/log/kolla/glance", "/var/lib/glance")
    ]
    config = {"command": command, "config_files": files, "permissions": permissions}
    return json.dumps(config, indent=1)


def files(release, address, port=9292, workers=2, options=None, uwsgi=None, more=None):
    """Return {name: text} of everything below /var/lib/kolla/config_files.

    options
        {section: {option: value}} for glance-api.conf; None as a value removes an option.
    uwsgi
        {option: value} for uWSGI.
    more
        {name: text}: files beside or instead of these; None leaves one out.
    """
    made = {
        "glance-api.conf": api_conf(release, address, port, workers, options),
        "policy.yaml": '"context_is_admin": "@"\n',
    }
    if release not in EVENTLET:
        made["glance-api-uwsgi.ini"] = uwsgi_ini(address, port, workers, uwsgi)
    made |= {name: text for name, text in (more or {}).items() if name != "config.json"}
    made = {name: text for name, text in made.items() if text is not None}
    whole = {"config.json": config_json(release, list(made)), **made}
    return whole | {name: text for name, text in (more or {}).items() if name == "config.json"}
