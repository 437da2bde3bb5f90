"""
HTTP to the Glance API of this node: address, TLS, probe ports, Keystone token, and the sentence
that tells what a failure means.

One connection per request. A probe comes from a privileged source port: during a hand-over the
kernel steers only these connections to the newcomer.
"""

import errno
import http.client
import itertools
import json
import os
import random
import re
import socket
import ssl
import urllib.parse
import uuid

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_http"

# The hand-over steers connections from these source ports to the newcomer.
PROBE_PORTS = range(1000, 1024)
# Seconds that the health check gets when it is asked only to tell what another failure means.
HEALTH_TIMEOUT = 3
REASON_LENGTH = 160

_LOG = "see glance-api.log in the log volume"

_next_port = itertools.cycle(random.sample(PROBE_PORTS, len(PROBE_PORTS)))
_tokens = {}


def __virtual__():
    return __virtualname__


def request(
    settings,
    step,
    method,
    path,
    body=None,
    headers=None,
    expect=(200,),
    probe=False,
    login=True,
    timeout=30,
):
    """
    Send one request to the Glance API of this node and read the whole answer.

    settings
        Settings of ``glance_settings.get``.
    step
        What the request is for, as the sentence of a failure names it: ``list``, ``upload``, …
    method, path
        Of the request, the path with its query.
    body
        Text, or a structure that is sent as JSON.
    headers
        More headers.
    expect
        HTTP statuses that are no failure.
    probe
        Come from a privileged source port (needs root).
    login
        In Keystone mode send a token of Glance's service user.
    timeout
        Seconds for each wait on the network.

    Returns ``{"status", "body", "headers"}``, the names of the headers in small letters;
    ``surrogateescape`` turns the text of the body back into the same bytes. Raises
    CommandExecutionError: the step, the HTTP status, the server's own reason and what it means. Its
    ``happened`` is the sentence without reason and meaning, its ``request_id`` what Glance's log
    calls the request, if that is known.
    """
    mark = f"req-{uuid.uuid4()}"
    headers = {"Accept": "*/*", "X-OpenStack-Request-ID": mark, **(headers or {})}
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
        headers["Content-Type"] = "application/json"
    call = (settings, step, method, path, body)
    if not (login and settings["keystone"]):
        answer = _send(*call, headers, probe, timeout)
        # Without Keystone Glance takes no name from a client; it tells its own.
        mark = answer["headers"].get("x-openstack-request-id")
    else:
        token = _token(settings, timeout)
        answer = _send(*call, {**headers, "X-Auth-Token": token["id"]}, probe, timeout)
        if answer["status"] == 401 and not token["fresh"]:
            token = _token(settings, timeout, renew=True)
            answer = _send(*call, {**headers, "X-Auth-Token": token["id"]}, probe, timeout)
    if answer["status"] not in expect:
        meaning = _meaning(settings, step, answer, probe)
        happened = f"The Glance API at {_where(settings)} fails at step '{step}' with HTTP"
        happened += f" {answer['status']}"
        raise _failure(happened, f" ({_reason(answer['body'])}): {meaning}", mark)
    return answer


def at(settings, url):
    """
    The settings by which an API at another address is asked. Pure.

    settings
        Settings of ``glance_settings.get``.
    url
        Of that API, such as that of the load balancer.
    """
    where = urllib.parse.urlsplit(url)
    return {
        **settings,
        "self_url": url,
        "listen": where.netloc,
        "api_scheme": where.scheme,
        "api_address": where.hostname,
        "glance_api_listen_port": where.port or (443 if where.scheme == "https" else 80),
    }


def project(settings, timeout=30):
    """
    The id of the service user's project; None without Keystone. Fetches the token if needed.

    settings
        Settings of ``glance_settings.get``.
    timeout
        Seconds for each wait on the network.

    Raises CommandExecutionError with one sentence when Keystone gives no token.
    """
    return _token(settings, timeout)["project"] if settings["keystone"] else None


def login(settings, timeout=30):
    """
    Log in to Keystone as Glance's service user does, and tell what it gets. The requests that
    follow use the same token.

    settings
        Settings of ``glance_settings.get``.
    timeout
        Seconds for each wait on the network.

    Returns ``{"roles": names, "catalog": services with their endpoints, as Keystone lists them}``.
    Raises CommandExecutionError with one sentence when Keystone gives no token.
    """
    told = _token(settings, timeout, renew=True)["told"]
    return {
        "roles": [role["name"] for role in told.get("roles", [])],
        "catalog": told.get("catalog", []),
    }


def keystone(
    settings,
    method,
    path,
    body=None,
    token=None,
    through="keystone_internal_url",
    timeout=30,
    failure="does not answer",
):
    """
    Send one request to Keystone's v3 API.

    settings
        Settings of ``glance_settings.get``.
    method, path
        Of the request, the path from ``/v3`` on with its query.
    body
        A structure that is sent as JSON.
    token
        Id of the token to send.
    through
        The setting that holds the URL.
    timeout
        Seconds for each wait on the network.
    failure
        How the sentence goes on when there is no answer.

    Returns ``{"status", "body", "headers"}`` as :py:func:`request` does. Raises
    CommandExecutionError when there is no answer.
    """
    parts = urllib.parse.urlsplit(settings[through])
    path = re.sub(r"(/v3)?/*$", "/v3", parts.path, count=1) + path
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    try:
        tls = _tls(settings, load_balanced=False) if parts.scheme == "https" else None
        conn = _Connection(parts.hostname, parts.port or (443 if tls else 80), timeout, tls)
        text = None if body is None else json.dumps(body)
        return _exchange(conn, method, path, text, headers)
    except (OSError, http.client.HTTPException) as err:
        raise CommandExecutionError(
            f"{_keystone(settings, through)} {failure}: {_network_fault(err, timeout)}."
        ) from None


# The connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, host, port, timeout, tls=None, probe=False):
        super().__init__(host, port, timeout=timeout)
        self._tls = tls
        self._probe = probe

    def connect(self):
        connect = _connect_privileged if self._probe else socket.create_connection
        self.sock = connect((self.host, self.port), self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def _connect_privileged(where, timeout):
    family, kind, proto, _, address = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0]
    for source in itertools.islice(_next_port, len(PROBE_PORTS)):
        sock = socket.socket(family, kind, proto)
        try:
            sock.settimeout(timeout)
            # A port whose last connection lingers in TIME_WAIT is as good as a free one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source))
            sock.connect(address)
            return sock
        except OSError as err:
            sock.close()
            if err.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
    raise OSError(errno.EADDRINUSE, "every source port for a probe is in use")


def _tls(settings, load_balanced):
    """
    Trust what the containers trust: the file of openstack_cacert where this host has it, else the
    CAs of the system, and glance_ca_certificates. A node behind a load balancer is asked as that
    asks it: by address, so its CA is checked (unless kolla_verify_tls_backend is off), not a name.
    """
    cafile = settings.get("openstack_cacert") or ""
    context = ssl.create_default_context(cafile=cafile if os.path.isfile(cafile) else None)
    more = settings.get("glance_ca_certificates") or {}
    if more:
        context.load_verify_locations(cadata="\n".join(more.values()))
    if load_balanced:
        context.check_hostname = False
        if not settings.get("kolla_verify_tls_backend", True):
            context.verify_mode = ssl.CERT_NONE
    return context


def _send(settings, step, method, path, body, headers, probe, timeout):
    try:
        tls = _tls(settings, load_balanced=True) if settings["api_scheme"] == "https" else None
        where = (settings["api_address"], settings["glance_api_listen_port"])
        headers = {"Host": settings["listen"], **headers}
        return _exchange(_Connection(*where, timeout, tls, probe), method, path, body, headers)
    except (OSError, http.client.HTTPException) as err:
        if probe and isinstance(err, PermissionError):
            meaning = "a probe comes from a privileged port, so run it as root"
        else:
            meaning = _network_fault(err, timeout)
            if isinstance(err, TimeoutError) and _healthy(settings, step, probe):
                meaning += f" although the health check answers, so {_behind(step)}"
        mark = headers.get("X-OpenStack-Request-ID") if settings["keystone"] else None
        raise _failure(
            f"The Glance API at {_where(settings)} fails at step '{step}'", f": {meaning}", mark
        ) from None


def _exchange(conn, method, path, body, headers):
    try:
        data = None if body is None else body.encode("utf-8", "surrogateescape")
        conn.request(method, path, data, {"Connection": "close", **headers})
        reply = conn.getresponse()
        text = reply.read().decode("utf-8", "surrogateescape")
        # Proxies write the names as they like.
        told = {name.lower(): value for name, value in reply.headers.items()}
        return {"status": reply.status, "body": text, "headers": told}
    finally:
        conn.close()


# Keystone


def _token(settings, timeout, renew=False):
    """The service user's token, kept in memory only; ``fresh`` when Keystone just gave it."""
    key = tuple(settings[name] for name in ("keystone_internal_url", "glance_keystone_user"))
    key += (settings["glance_keystone_password"],)
    if key in _tokens and not renew:
        return {**_tokens[key], "fresh": False}
    answer = _ask_keystone(settings, timeout)
    told = json.loads(answer["body"])["token"]
    _tokens.clear()
    _tokens[key] = {
        "id": answer["headers"]["x-subject-token"],
        "project": told["project"]["id"],
        "told": told,
    }
    return {**_tokens[key], "fresh": True}


def _ask_keystone(settings, timeout):
    user, body = settings["glance_keystone_user"], _credentials(settings)
    answer = keystone(
        settings, "POST", "/auth/tokens", body, timeout=timeout, failure="gives no token"
    )
    what = _keystone(settings, "keystone_internal_url")
    if answer["status"] == 401:
        raise CommandExecutionError(
            f"{what} refuses user {user} of project service (HTTP 401): its password there is not"
            " glance:glance_keystone_password, or the user, the project or its role is missing."
        )
    if answer["status"] != 201:
        raise CommandExecutionError(
            f"{what} gives no token (HTTP {answer['status']}: {_reason(answer['body'])}): check the"
            " URL and Keystone itself."
        )
    return answer


def _keystone(settings, setting):
    return f"Keystone at {settings[setting]} (glance:{setting})"


def _credentials(settings):
    user = {
        "name": settings["glance_keystone_user"],
        "password": settings["glance_keystone_password"],
        "domain": {"id": settings["default_user_domain_id"]},
    }
    project_of_services = {
        "name": "service",
        "domain": {"id": settings["default_project_domain_id"]},
    }
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project_of_services},
        }
    }


# What a failure means


def _failure(happened, meaning, request_id):
    error = CommandExecutionError(f"{happened}{meaning}.")
    error.happened, error.request_id = happened, request_id
    return error


def _where(settings):
    return f"{settings['api_scheme']}://{settings['listen']}"


def _healthy(settings, step, probe):
    if step == "health check":
        return False
    try:
        return _send(
            settings, "health check", "GET", "/healthcheck", None, {}, probe, HEALTH_TIMEOUT
        )["status"] in (200, 503)
    except CommandExecutionError:
        return False


def _behind(step):
    """What stands behind a step that fails while the application itself is well."""
    if step.startswith(("upload", "download")):
        return f"the store hangs or fails; {_LOG}"
    return (
        "the database hangs, is down, refuses the password or has no schema; check"
        f" glance:database_address and glance:glance_database_password, and {_LOG}"
    )


def _meaning(settings, step, answer, probe):
    status = answer["status"]
    if status == 503 and "DISABLED BY FILE" in answer["body"]:
        return "the node is drained; glance_api.resume ends that"
    if status == 503 and step.startswith("upload"):
        return f"user glance may not write to the store; {_LOG}"
    if status == 503:
        return "Keystone or another service does not answer to the API"
    if status >= 500:
        if _healthy(settings, step, probe):
            return _behind(step)
        return f"the application did not load; {_LOG}, and the container's own log"
    if status == 401 and settings["keystone"]:
        return (
            "it refuses a token that Keystone has just given to its service user, so the container"
            " runs with another Keystone password or URL than the pillar has; apply the state, and"
            f" {_LOG}"
        )
    known = {
        400: "the API does not accept this, such as a store or disk format that it does not know",
        401: "the container wants Keystone tokens and the pillar has no Keystone; apply the state",
        403: "the policy forbids it; check policy.yaml, and in Keystone mode that user glance has"
        " role admin in project service",
        404: "something else than Glance answers at this address"
        if step in ("health check", "list")
        else "the image or task is gone",
        409: "the API does not know this store, or another request changed the image",
        410: f"the store takes no new images; it was not usable when the API started, {_LOG}",
        413: "the store is full or a quota is reached",
    }
    return known.get(status, f"this is not expected; {_LOG}")


def _network_fault(err, timeout):
    if isinstance(err, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({err.verify_message}); put its CA into"
            " glance:glance_ca_certificates, or name a file of this host in glance:openstack_cacert"
        )
    if isinstance(err, ssl.SSLError):
        plain = err.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
        return "it does not speak TLS there" if plain else f"TLS fails ({err.reason or err})"
    if isinstance(err, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(err, TimeoutError):
        return f"no answer within {timeout:.0f} seconds"
    if isinstance(err, socket.gaierror):
        return "the name is not known on this host"
    if isinstance(err, (ConnectionError, http.client.HTTPException)):
        return "the connection was closed in the middle of the answer"
    return os.strerror(err.errno) if err.errno else str(err)


def _reason(body):
    """The server's own reason in few words, from JSON or from an HTML page."""
    try:
        told = json.loads(body)
        fault = told.get("error", told)
        text = fault.get("message", "") if isinstance(fault, dict) else fault
    except (ValueError, AttributeError):
        text = re.sub(r"(?is)<title>.*?</title>|<h1>.*?</h1>|<[^>]*>", " ", body)
    words = " ".join(str(text).encode("utf-8", "replace").decode().split()).rstrip(".")
    return (words if len(words) <= REASON_LENGTH else words[:REASON_LENGTH] + "…") or "no reason"
