"""
HAProxy's part of the service: frontends and backends as Kolla-Ansible renders them, and one thing
more (:data:`ANOTHER_HOST`).

Pure but for :func:`reload`, and for names that are looked up.  Kolla:
ansible/roles/haproxy-config/templates/haproxy_single_service_split.cfg.j2,
ansible/roles/glance/defaults/main.yml (haproxy_members).
"""

import ipaddress
import os
import re
import socket

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_haproxy"

MARK = "# managed by Salt (glance formula)"
SERVICE, EXTERNAL = "glance_api", "glance_api_external"
#: Lines around our entry in the map of the single external frontend, as Kolla writes them.
MAP_BEGIN, MAP_END = "# BEGIN glance-api", "# END glance-api"
#: Not in Kolla's. A host that drains answers its health check with 503 before HAProxy knows of it;
#: a client that asks for the health of the service gets the answer of another host instead.
ANOTHER_HOST = [
    "    option redispatch",
    "    retry-on conn-failure 503",
    "    http-request disable-l7-retry unless { path /healthcheck }",
]
RELOAD_LIMIT = 60  # seconds
#: Seconds that a check may take beyond its time until its verdict shows.
MARGIN = 1
_UNITS = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}


def __virtual__():
    return __virtualname__


def text(settings, hosts):
    """
    The drop-in: a file for HAProxy's configuration folder.

    settings
        Result of ``glance_settings.get``.
    hosts
        Result of :py:func:`members`.
    """
    two_addresses = settings["haproxy_enable_external_vip"]
    single = settings["haproxy_single_external_frontend"]
    blocks = []
    # With one address the single frontend may hold the port already.
    taken = (
        single
        and not two_addresses
        and settings["glance_api_port"] == settings["haproxy_single_external_frontend_public_port"]
    )
    if not taken:
        blocks.append(_frontend(settings, SERVICE, "internal", settings["glance_api_port"]))
    blocks.append(_backend(settings, SERVICE, hosts))
    if two_addresses and not single:
        port = settings["glance_api_public_port"]
        blocks.append(_frontend(settings, EXTERNAL, "external", port))
    if two_addresses or single:
        blocks.append(_backend(settings, EXTERNAL, hosts))
    return "\n".join([MARK, *("\n".join(block) + "\n" for block in blocks)])


def paths(settings):
    """
    The two files on a host with HAProxy: the drop-in, and the map of Kolla's single external
    frontend beside the drop-in's folder.

    settings
        Result of ``glance_settings.get``.
    """
    file = settings["glance_haproxy_file"]
    return [file, os.path.join(os.path.dirname(os.path.dirname(file)), "external-frontend-map")]


def unread(settings):
    """
    The file that is there from before HAProxy's files are changed until HAProxy has read them, so
    that a run which is killed in between is made up for. Pure.

    settings
        Result of ``glance_settings.get``.
    """
    return settings["config_dir"] + ".haproxy-unread"


def wanted(settings, present, here):
    """
    What the two files should hold.

    settings
        Result of ``glance_settings.get``.
    present
        Text by path of what they hold now, None for a file that is not there.
    here
        Whether HAProxy of this host serves Glance; if not, only what is ours goes away.

    Returns text by path, None for a file that should not be.
    """
    file, mapping = paths(settings)
    if here:
        drop_in = text(settings, members(settings))
    else:
        ours = (present[file] or "").startswith(MARK)
        drop_in = None if ours else present[file]
    entry = here and settings["haproxy_single_external_frontend"]
    return {file: drop_in, mapping: _map_text(settings, present[mapping], entry)}


def notice(settings):
    """
    Seconds until HAProxy has noticed that a host fails its checks: inter times fall, and a second.

    settings
        Result of ``glance_settings.get``.
    """
    options = settings["haproxy_health_check"]
    number, unit = re.search(r"\binter ([0-9]+)([a-z]*)", options).groups()
    falls = int(re.search(r"\bfall ([0-9]+)", options)[1])
    return int(number) * _UNITS[unit] * falls + MARGIN


def members(settings):
    """
    The hosts that run the API, with the addresses at which HAProxy finds them.

    settings
        Result of ``glance_settings.get``.

    Returns ``[{"name": minion id, "address"}]`` in the order of the group. Raises
    CommandExecutionError when an address is neither in pillar nor known by the minion id.
    """
    return [
        {"name": host, "address": _address_of(settings, host)}
        for host in settings["glance_api_hosts"]
    ]


def reload(settings):
    """
    Run the command that makes HAProxy read its files, if pillar has one.

    settings
        Result of ``glance_settings.get``.

    Returns the command, empty when its operator does that. Raises CommandExecutionError with the
    command's last words when it fails.
    """
    command = settings["glance_haproxy_reload"]
    if not command:
        return ""
    done = __salt__["cmd.run_all"](
        command, python_shell=False, timeout=RELOAD_LIMIT, ignore_retcode=True, redirect_stderr=True
    )
    if done["retcode"]:
        words = " ".join(done["stdout"].split())[-300:] or "no output"
        raise CommandExecutionError(
            f"HAProxy was not reloaded: '{command}' (glance:glance_haproxy_reload) ended with"
            f" {done['retcode']} and said '{words}': put that right and apply again."
        )
    return command


# ------------------------------------------------------------------ the files


def _map_text(settings, present, wanted_here):
    """The map with our entry or without it; all other lines as they are."""
    entry = f"{MAP_BEGIN}\n{settings['glance_external_fqdn']} {EXTERNAL}_back\n{MAP_END}\n"
    pattern = re.compile(rf"^{MAP_BEGIN}\n.*?^{MAP_END}\n?", re.MULTILINE | re.DOTALL)
    lines, found = pattern.subn(entry if wanted_here else "", present or "", count=1)
    if not found and wanted_here:
        lines += ("" if not lines or lines.endswith("\n") else "\n") + entry
    return lines or (None if found else present)


def _frontend(settings, name, side, port):
    external = side == "external"
    address = settings[f"kolla_{side}_vip_address"]
    denied = ["    http-request deny if { path -i -m beg /server-status }"] if external else []
    return [
        f"frontend {name}_front",
        "    mode http",
        *denied,
        "    http-request del-header X-Forwarded-Proto",
        f"    timeout client {settings['haproxy_glance_api_client_timeout']}",
        "    option httplog",
        "    option forwardfor",
        "    http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        f"    bind {_server(address, port)}{_tls(settings, side)}",
        f"    default_backend {name}_back",
    ]


def _tls(settings, side):
    if not settings[f"kolla_enable_tls_{side}"]:
        return ""
    file = {"internal": "haproxy-internal.pem", "external": "haproxy.pem"}[side]
    words = ["", "ssl", "crt", f"{settings['glance_haproxy_certificates']}/{file}"]
    if settings["haproxy_enable_http2"]:
        words.append(settings["haproxy_http2_protocol"])
    return " ".join(words)


def _backend(settings, name, hosts):
    checks = settings["haproxy_health_check"] + _backend_tls(settings)
    port = settings["glance_api_listen_port"]
    return [
        f"backend {name}_back",
        "    mode http",
        f"    timeout server {settings['haproxy_glance_api_server_timeout']}",
        "    option httpchk GET /healthcheck",
        "    http-check expect status 200",
        *ANOTHER_HOST,
        *(f"    server {one['name']} {_server(one['address'], port)} {checks}" for one in hosts),
    ]


def _backend_tls(settings):
    if not settings["glance_enable_tls_backend"]:
        return ""
    if not settings["kolla_verify_tls_backend"]:
        return " ssl verify none"
    # Whole, since Kolla sets ca-base only where a frontend has TLS too.
    folder, file = settings["haproxy_backend_cacert_dir"], settings["haproxy_backend_cacert"]
    return f" ssl verify required ca-file {folder}/{file}"


def _server(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# ------------------------------------------------------------------ addresses


def _address_of(settings, host):
    given = settings["glance_api_addresses"].get(host)
    if given:
        return given
    own = settings["minion_id"]
    if host == own:
        return settings["api_address"]
    if own in settings["glance_api_group"]:
        at = _looked_up(settings, own)
        if at and settings["api_address"] not in at:
            raise CommandExecutionError(
                f"The name {own} leads to {at[0]} and not to {settings['api_address']}, where the"
                f" API of this host listens, so the name {host} may be on another network too:"
                " write the addresses into glance:glance_api_addresses, as {MINION ID: ADDRESS}."
            )
    found = _looked_up(settings, host)
    if not found:
        raise CommandExecutionError(
            f"The address of {host} is not known on this host: write it into"
            " glance:glance_api_addresses, as {MINION ID: ADDRESS}."
        )
    return found[0]


def _looked_up(settings, name):
    """The addresses that a name leads to from here, in the family of the API's."""
    family = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}[settings["api_address_family"]]
    try:
        found = [row[4][0] for row in socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        found = []
    # A distribution's own entry for a host name is a loopback address, which is another host here.
    return [one for one in found if not ipaddress.ip_address(one.split("%")[0]).is_loopback]
