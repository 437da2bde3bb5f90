"""
Glance in Keystone: service, endpoints, region, project, user, role.

Glance's own login tells whether all is well: its token comes with the roles and the catalog, and
the checks that follow need it anyway. Only when it does not, the administrator looks; what is
missing or differs becomes a list of steps (pure), which openstacksdk takes in a one-shot container
of the image: no library is needed on the minion, and no password leaves a mounted file. Names and
defaults are those of Kolla-Ansible's ``service-ks-register``.
"""

import json
import time
import urllib.parse

from salt.exceptions import CommandExecutionError

__virtualname__ = "glance_identity"

#: What Kolla-Ansible registers Glance as (glance_ks_services, glance_ks_users).
SERVICE = {"name": "glance", "type": "image", "enabled": True}
DESCRIPTION = "Openstack Image"
PROJECT, ROLE = "service", "admin"

REGISTER_TIMEOUT = 300  # seconds that the one-shot container may take
POLL = 5  # seconds between two attempts; each failed login counts where Keystone locks users


def __virtual__():
    return __virtualname__


def wanted(settings):
    """
    What Keystone has to hold. Pure.

    settings
        Result of ``glance_settings.get``.

    Returns a mapping without secrets.
    """
    return {
        "region": settings["openstack_region_name"],
        "service": SERVICE,
        "endpoints": {
            "internal": settings["glance_internal_endpoint"],
            "public": settings["glance_public_endpoint"],
        },
        "project": {"name": PROJECT, "domain_id": settings["default_project_domain_id"]},
        "user": {
            "name": settings["glance_keystone_user"],
            "domain_id": settings["default_user_domain_id"],
        },
        "role": ROLE,
        "set_password": settings["update_keystone_service_user_passwords"],
    }


def is_as_wanted(want, login):
    """
    Whether a login of Glance's user shows all that Keystone has to hold. Pure.

    want
        Result of :py:func:`wanted`.
    login
        Result of ``glance_http.login``; its catalog holds what is enabled.
    """
    service = want["service"]
    services = [one for one in login["catalog"] if one["type"] == service["type"]]
    if len(services) != 1 or services[0]["name"] != service["name"]:
        return False
    urls = {interface: [url] for interface, url in want["endpoints"].items()}
    found = {
        interface: [
            one["url"]
            for one in services[0]["endpoints"]
            if (one["interface"], one["region_id"]) == (interface, want["region"])
        ]
        for interface in urls
    }
    return found == urls and want["role"] in login["roles"]


def plan(want, found):
    """
    What is to be done in Keystone, in order. Pure.

    want
        Result of :py:func:`wanted`.
    found
        What Keystone holds: ``region`` and ``granted`` (whether), ``services``, ``endpoints``,
        ``projects``, ``users``, ``roles`` (as Keystone lists them), ``password`` (whether the
        user's works; None without a user).

    Returns ``{"steps", "changes", "ids", "refusal"}``. A step is a call of openstacksdk's identity
    proxy: ``call``, ``id`` of what it changes or None, ``with`` (its arguments) and ``gives`` (the
    name by which later steps say ``{name}``); ``ids`` are those of what is there. Each step makes
    one of the ``changes``, in the same order. ``refusal`` says why nothing may be done, or is None.
    """
    made = _Plan(found)
    service, region = want["service"], want["region"]
    if not found["region"]:
        made.step(f"region {region}", None, "created", "create_region", {"id": region})
    made.ensure(
        "service",
        f"service {service['name']}",
        found["services"],
        service,
        {"description": DESCRIPTION},
    )
    for interface, url in want["endpoints"].items():
        place = {"interface": interface, "region_id": region}
        same = [one for one in found["endpoints"] if place.items() <= one.items()]
        new = {"service_id": "{service}", **place, "url": url, "enabled": True}
        made.ensure("endpoint", f"{interface} endpoint in {region}", same, new, show="url")
    project, user = want["project"], want["user"]
    made.ensure("project", f"project {project['name']}", found["projects"], project)
    made.ensure(
        "user",
        f"user {user['name']}",
        found["users"],
        {**user, "enabled": True},
        {"password": "{password}", "default_project_id": "{project}"},
    )
    made.password(user["name"], found["password"], want["set_password"])
    made.ensure("role", f"role {want['role']}", found["roles"], {"name": want["role"]})
    if not found["granted"]:
        made.step(
            f"role {want['role']} of {user['name']} in project {project['name']}",
            None,
            "granted",
            "assign_project_role_to_user",
            {"project": "{project}", "user": "{user}", "role": "{role}"},
        )
    kinds = ("service", "project", "user", "role")
    return {
        "steps": made.steps,
        "changes": made.changes,
        "ids": {kind: found[f"{kind}s"][0]["id"] for kind in kinds if found[f"{kind}s"]},
        "refusal": _several(want, found) or made.refusal,
    }


def compare(settings):
    """
    Find out what is to be done in Keystone; changes nothing.

    settings
        Result of ``glance_settings.get``.

    Returns the result of :py:func:`plan`. Raises CommandExecutionError when Keystone does not
    answer, refuses its administrator, or may not be changed as it is.
    """
    want = wanted(settings)
    try:
        login = __salt__["glance_http.login"](settings)
    except CommandExecutionError:
        login = None  # The administrator finds out why.
    if login and is_as_wanted(want, login):
        return {"steps": [], "changes": {}, "ids": {}, "refusal": None}
    result = plan(want, _look(settings, want, password_works=login is not None))
    if result["refusal"]:
        raise CommandExecutionError(result["refusal"])
    return result


def register(settings, container, planned):
    """
    Take the steps of a plan.

    settings
        Result of ``glance_settings.get``.
    container
        Result of ``glance_container.wanted``.
    planned
        Result of :py:func:`compare`.

    Returns ``{"done": how many steps were taken, "error": the sentence that ended it or None}``.
    Raises CommandExecutionError when the one-shot container does not answer.
    """
    files = __salt__["glance_configuration.files"](settings, container["labels"]["glance.release"])
    script = __salt__["glance_oneshot.script"]("identity.py")
    files = __salt__["glance_oneshot.with_command"](files, "identity.py", script)
    order = _order(settings, planned)
    files = __salt__["glance_oneshot.with_order"](files, "identity.json", order)
    result = __salt__["glance_oneshot.run"](
        "identity", settings, container, files, REGISTER_TIMEOUT
    )
    return __salt__["glance_oneshot.answer"](result, "register Glance in Keystone")


def wait_until_registered(settings):
    """
    Wait until Glance's user can log in, as another host registers it. Changes nothing.

    settings
        Result of ``glance_settings.get``.

    Raises CommandExecutionError when it cannot within ``glance_group_timeout``.
    """
    seconds = settings["glance_group_timeout"]
    deadline = time.monotonic() + seconds
    while True:
        try:
            __salt__["glance_http.login"](settings)
            return
        except CommandExecutionError as err:
            if time.monotonic() > deadline:
                raise CommandExecutionError(
                    f"{settings['schema_host']} registers Glance in Keystone, and within"
                    f" {seconds} seconds (glance:glance_group_timeout) Glance's user could not log"
                    f" in: apply glance there and see what it says. {err}"
                ) from err
        time.sleep(POLL)


# What is to be done


class _Plan:
    """Collects steps and the changes that they make."""

    def __init__(self, found):
        self.steps, self.changes, self.refusal = [], {}, None
        self._found = found

    def step(self, what, old, new, call, arguments, of=None, gives=None):
        self.changes[what] = {"old": old, "new": new}
        self.steps.append({"call": call, "id": of, "with": arguments, "gives": gives})

    def ensure(self, kind, what, present, attributes, at_birth=None, show=None):
        """One object: made where there is none, changed where it differs."""
        if not present:
            new = attributes[show] if show else "created"
            arguments = {**attributes, **(at_birth or {})}
            gives = None if kind == "endpoint" else kind
            self.step(what, None, new, f"create_{kind}", arguments, gives=gives)
            return
        first = present[0]
        differs = {
            name: value
            for name, value in attributes.items()
            if name in first and not str(value).startswith("{") and first[name] != value
        }
        if differs:
            old = ", ".join(_worded(name, first[name]) for name in differs)
            new = ", ".join(_worded(name, value) for name, value in differs.items())
            self.step(what, old, new, f"update_{kind}", differs, of=first["id"])

    def password(self, user, works, may_be_set):
        """Never set anew while it works: that would revoke all tokens of the user."""
        if works is not False:
            return
        (present,) = self._found["users"][:1]
        if may_be_set:
            what = f"password of user {user}"
            arguments = {"password": "{password}"}
            self.step(what, "another one", "set", "update_user", arguments, of=present["id"])
        else:
            self.refusal = (
                f"The password of user {user} in Keystone is not glance:glance_keystone_password,"
                " and it was not changed, since the Glance that runs with it would fail: name a"
                " new user in glance:glance_keystone_user together with the new password, which"
                " is taken over without an outage; or set"
                " glance:update_keystone_service_user_passwords to yes for this run."
            )


def _worded(name, value):
    if name == "enabled":
        return "enabled" if value else "disabled"
    return str(value)


def _several(want, found):
    """A sentence when it cannot be told which of several is meant."""
    name, region = want["service"]["name"], want["region"]
    kind = want["service"]["type"]
    services = found["services"]
    if len(services) > 1:
        ids = ", ".join(f"{one['name']} ({one['id']})" for one in services)
        return (
            f"Keystone has {len(services)} services of type {kind}, {ids}, so that clients may"
            " find either: delete the wrong one with 'openstack service delete ID', and apply"
            " again."
        )
    if services and services[0]["name"] != name:
        return (
            f"Keystone has a service of type {kind} that is called {services[0]['name']}: rename"
            f" it with 'openstack service set --name {name} {services[0]['id']}', or set"
            " glance:glance_keystone_register to no if somebody else registers Glance."
        )
    for interface in want["endpoints"]:
        urls = [
            f"{one['url']} ({one['id']})"
            for one in found["endpoints"]
            if (one["interface"], one["region_id"]) == (interface, region)
        ]
        if len(urls) > 1:
            return (
                f"Keystone has {len(urls)} {interface} endpoints of {name} in {region},"
                f" {', '.join(urls)}: delete the wrong ones with 'openstack endpoint delete ID',"
                " and apply again."
            )
    return None


# Looking


def _through(settings):
    return f"keystone_{settings['openstack_interface']}_url"


def _look(settings, want, password_works):
    admin = _Admin(settings)
    found = {
        "region": admin.there(f"/regions/{_quoted(want['region'])}"),
        "services": admin.list("services", type=want["service"]["type"]),
        "endpoints": [],
        "projects": admin.list("projects", **want["project"]),
        "users": admin.list("users", **want["user"]),
        "roles": admin.list("roles", name=want["role"]),
        "granted": False,
        "password": None,
    }
    if found["services"]:
        found["endpoints"] = admin.list("endpoints", service_id=found["services"][0]["id"])
    kinds = ("projects", "users", "roles")
    if all(found[kind] for kind in kinds):
        ids = "/".join(f"{kind}/{found[kind][0]['id']}" for kind in kinds)
        found["granted"] = admin.there(f"/{ids}")
    if found["users"] and found["users"][0]["enabled"]:
        # Of a disabled user nobody can tell.
        found["password"] = password_works or _password_works(settings, found["users"][0])
    return found


def _password_works(settings, user):
    """Whether it is the user's password; a login of Glance fails without its role, too."""
    login = {"id": user["id"], "password": settings["glance_keystone_password"]}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": login}}}}
    answer = __salt__["glance_http.keystone"](
        settings, "POST", "/auth/tokens", body, through=_through(settings)
    )
    return answer["status"] == 201


def _quoted(text):
    return urllib.parse.quote(text, safe="")


class _Admin:
    """Keystone as its administrator sees it."""

    def __init__(self, settings):
        self._settings, self._token = settings, None
        user, project = settings["keystone_admin_user"], settings["keystone_admin_project"]
        login = {
            "name": user,
            "domain": {"id": settings["default_user_domain_id"]},
            "password": settings["keystone_admin_password"],
        }
        domain = {"id": settings["default_project_domain_id"]}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": login}},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer = self._ask("POST", "/auth/tokens", body)
        if answer["status"] == 401:
            raise CommandExecutionError(
                f"{self._where} refuses user {user} of project {project}: check"
                " glance:keystone_admin_password, glance:keystone_admin_user and"
                " glance:keystone_admin_project, or set glance:glance_keystone_register to no"
                " if somebody else registers Glance."
            )
        self._expect(answer, (201,), "gives no token")
        self._token = answer["headers"]["x-subject-token"]

    @property
    def _where(self):
        through = _through(self._settings)
        return f"Keystone at {self._settings[through]} (glance:{through})"

    def list(self, kind, **query):
        answer = self._ask("GET", f"/{kind}?{urllib.parse.urlencode(query)}")
        self._expect(answer, (200,), f"does not list {kind}")
        return json.loads(answer["body"])[kind]

    def there(self, path):
        answer = self._ask("GET" if "/regions/" in path else "HEAD", path)
        self._expect(answer, (200, 204, 404), f"does not tell about {path.split('/')[1]}")
        return answer["status"] != 404

    def _ask(self, method, path, body=None):
        return __salt__["glance_http.keystone"](
            self._settings, method, path, body, self._token, _through(self._settings)
        )

    def _expect(self, answer, statuses, failure):
        if answer["status"] == 403:
            user = self._settings["keystone_admin_user"]
            raise CommandExecutionError(
                f"{self._where} {failure} to user {user}: give it the role admin in project"
                f" {self._settings['keystone_admin_project']}."
            )
        if answer["status"] not in statuses:
            raise CommandExecutionError(
                f"{self._where} {failure} (HTTP {answer['status']}): check the URL and Keystone"
                " itself."
            )


# The order for the one-shot container


def _order(settings, planned):
    through = _through(settings)
    return {
        "keystone": settings[through],
        "setting": through,
        "admin": {
            "username": settings["keystone_admin_user"],
            "password": settings["keystone_admin_password"],
            "project_name": settings["keystone_admin_project"],
            "user_domain_id": settings["default_user_domain_id"],
            "project_domain_id": settings["default_project_domain_id"],
        },
        "cacert": settings["openstack_cacert"],
        "names": {**planned["ids"], "password": settings["glance_keystone_password"]},
        "steps": planned["steps"],
    }
