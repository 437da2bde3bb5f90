"""Prove a configuration of Glance, inside a throw-away container of the image that will run it.

Started by kolla_start when the files are in place.  The last line that it prints is JSON:
``{"ok": bool, "findings": ["sentence", ...]}``; it ends with 0 or 1 and never prints a secret.

The database and every path that Glance writes to must lie in PROOF: loading Glance makes
directories, moves cache records and deletes staged data that its database does not know.
"""

import contextlib
import copy
import glob
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import traceback

ETC = "/etc/glance"
PROOF = "/tmp/glance-proof"
GENERATORS = (
    "/glance/etc/oslo-config-generator",
    "/var/lib/kolla/venv/etc/oslo-config-generator",
)
#: Where options are declared, if the image lacks Glance's own list for its sample files.
NAMESPACES = [
    "castellan.config",
    "glance.api",
    "glance.store",
    "glance.multi_store",
    "os_brick",
    "oslo.concurrency",
    "oslo.messaging",
    "oslo.db",
    "oslo.policy",
    "keystonemiddleware.auth_token",
    "oslo.limit",
    "oslo.log",
    "oslo.middleware.cors",
    "oslo.middleware.healthcheck",
    "oslo.middleware.http_proxy_to_wsgi",
    "oslo.reports",
]
#: Read by the same processes, but declared for other sample files.
MORE_NAMESPACES = ["glance", "glance.cache", "osprofiler"]
#: Sections whose names no sample file can know.  What stands in them is checked all the same:
#: against the options of the store's driver.
RESERVED_STORES = ("os_glance_tasks_store", "os_glance_staging_store")
#: Options that oslo's validator does not know although Glance reads them, with the reason.
EXPLAINED = {
    ("backend_defaults", None): "defaults for the options of any store, checked by loading them",
}
WRITABLE = (
    "filesystem_store_datadir",
    "filesystem_store_datadirs",
    "image_cache_dir",
    "lock_path",
    "work_dir",
    "log_file",
    "log_dir",
    "node_staging_uri",
)
SECRETS = "glance-secrets.conf"  # every option in it is secret
SILENT = 15  # seconds in which a store that connects when Glance loads must have done so
POLL = 0.5  # seconds between two looks at what is being loaded
STORE_TROUBLE = re.compile(r"Failed to configure store correctly|Failed to load driver")


class Proof:
    """What is known of the configuration, and what was found wrong with it."""

    def __init__(self, etc=ETC):
        conf_d = sorted(glob.glob(os.path.join(etc, "glance.conf.d", "*.conf")))
        self.files = [os.path.join(etc, "glance-api.conf"), *conf_d]
        self.cache_file = os.path.join(etc, "glance-cache.conf")
        self.findings = []
        self.store = None  # the one that Glance sets up just now
        self.secrets = set()
        self.hidden = set()  # (section, option) of those that hold one
        self.sections = {}  # section -> option -> values of the last file that has it

    def add(self, sentence):
        """Note a finding once, on one line and without any secret."""
        text = " ".join(str(sentence).split())
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = re.sub(r"://[^/@\s]*:[^/\s]*@", "://***@", text)
        if text not in self.findings:
            self.findings.append(text)

    def read(self):
        """Parse every file and learn which values are secret."""
        from oslo_config import cfg

        for path in [*self.files, self.cache_file]:
            found = {}
            try:
                if path != self.cache_file or os.path.exists(path):
                    cfg.ConfigParser(path, found).parse()
            except (cfg.ParseError, OSError) as error:
                self.add(f"{os.path.basename(path)} cannot be read: {error}.")
            for section, options in found.items():
                for given, values in options.items():
                    name = given.replace("-", "_")
                    self.sections.setdefault(section, {})[name] = values
                    for value in values:
                        self.secrets.update(re.findall(r"://[^/@\s:]*:([^@\s]{3,})@", value))
                    if os.path.basename(path) == SECRETS:
                        self.hidden.add((section, name))
                        self.secrets.update(value for value in values if len(value) > 3)
        return not self.findings

    def is_harmless(self):
        """Make sure that loading can touch nothing outside PROOF."""
        places = [
            (section, name, values)
            for section, options in self.sections.items()
            for name, values in options.items()
            if name in WRITABLE
            or (section == "database" and name in ("connection", "slave_connection"))
        ]
        if "connection" not in self.sections.get("database", {}):
            places.append(("database", "connection", [""]))
        for section, name, values in places:
            if not all(f"{PROOF}/" in value for value in values):
                self.add(f"[{section}] {name} is not a throw-away one, so nothing was loaded.")
        return not self.findings

    def backends(self):
        """Return the stores, name -> type, as enabled_backends names them."""
        text = self.sections.get("DEFAULT", {}).get("enabled_backends", [""])[-1]
        pairs = [pair.partition(":") for pair in text.split(",") if pair.strip()]
        return {name.strip(): kind.strip() for name, _colon, kind in pairs}


def namespaces():
    """Return the namespaces that this image has, from Glance's own lists where it ships them."""
    from importlib import metadata

    found = metadata.entry_points()
    group = "oslo.config.opts"
    points = found.select(group=group) if hasattr(found, "select") else found.get(group, [])
    here = {point.name for point in points}
    wanted = list(NAMESPACES)
    for folder in GENERATORS:
        for path in glob.glob(os.path.join(folder, "glance-*.conf")):
            with open(path, encoding="utf-8") as handle:
                wanted += re.findall(r"^namespace\s*=\s*(\S+)", handle.read(), re.MULTILINE)
    return [name for name in dict.fromkeys(wanted + MORE_NAMESPACES) if name in here]


class Listener(logging.Handler):
    """Collects the messages of a logger that match a pattern, and which store each is about."""

    def __init__(self, pattern, proof):
        super().__init__()
        self.pattern, self.proof = re.compile(pattern), proof
        self.messages, self.stores = [], []

    def emit(self, record):
        if self.pattern.search(record.getMessage()):
            self.messages.append(record.getMessage())
            self.stores.append(self.proof.store)


class Watch(threading.Thread):
    """Tells of a store that keeps Glance waiting, as one does whose server is silent.

    give_up
        Called with a sentence; the driver itself may wait for ever.
    """

    def __init__(self, proof, give_up, limit=SILENT):
        super().__init__(daemon=True)
        self.proof, self.give_up, self.limit = proof, give_up, limit

    def run(self):
        inside, since = None, 0
        while True:
            store = self.proof.store
            if store != inside:
                inside, since = store, time.monotonic()
            elif store and time.monotonic() - since > self.limit:
                self.give_up(
                    "Glance does not load with this configuration, because the store"
                    f" {store} has not answered for {self.limit} seconds."
                )
                return
            time.sleep(POLL)


def validate(proof, spaces):
    """Let oslo-config-validator look for options that nothing reads."""
    from oslo_config import validator

    stores = {**dict.fromkeys(RESERVED_STORES), **proof.backends()}
    names = os.path.join(PROOF, "names.conf")
    with open(names, "w", encoding="utf-8") as handle:
        for section, options in proof.sections.items():
            handle.write(f"[{section}]\n" + "".join(f"{name} = x\n" for name in options))
    listener = Listener(r"^\S+/\S+ is not part of the sample config$", proof)
    logging.getLogger().addHandler(listener)
    sys.argv = ["oslo-config-validator", "--input-file", names]
    sys.argv += [f"--namespace={one}" for one in spaces]
    sys.argv += [f"--exclude-group={one}" for one in stores]
    try:
        validator.main()
    finally:
        logging.getLogger().removeHandler(listener)
    for message in listener.messages:
        section, _slash, option = message.split(" ")[0].partition("/")
        if (section, None) not in EXPLAINED and (section, option) not in EXPLAINED:
            proof.add(
                f"[{section}] {option} is not an option of this release of Glance: remove it or "
                "correct its name or section."
            )


def declared(proof, spaces):
    """Return (configuration, known): all options registered, and the names known by section."""
    from glance_store import multi_backend
    from keystoneauth1 import loading
    from oslo_config import cfg, generator

    conf = cfg.ConfigOpts()
    known = {}

    def register(options, section):
        for option in options:
            known.setdefault(section, set()).add(option.dest)
            known[section].update(
                old.name.replace("-", "_") for old in option.deprecated_opts if old.name
            )
            option = copy.copy(option)
            # Whether an option may be missing depends on what is in use: loading tells.
            option.required = False
            with contextlib.suppress(cfg.DuplicateOptError):  # in two namespaces
                conf.register_opt(option, group=None if section == "DEFAULT" else section)

    for _space, listing in generator._list_opts(spaces):
        for group, options in listing:
            register(options, getattr(group, "name", group) or "DEFAULT")
    drivers = multi_backend._list_driver_opts()
    every = [option for options in drivers.values() for option in options]
    for name, kind in proof.backends().items():
        register(drivers.get(kind, every), name)
    for name in RESERVED_STORES:
        register(drivers["file"], name)
    kind = proof.sections.get("keystone_authtoken", {}).get("auth_type", ["password"])[-1]
    try:
        register(loading.get_auth_plugin_conf_options(kind), "keystone_authtoken")
    except Exception as error:
        proof.add(f"[keystone_authtoken] auth_type {kind} does not work: {error}.")
    return conf, known


def check_values(proof, spaces):
    """Read every option as its type; also the names that the validator leaves alone."""
    from oslo_config import cfg

    conf, known = declared(proof, spaces)
    files = [*proof.files]
    if os.path.exists(proof.cache_file):
        files.append(proof.cache_file)
    conf(
        [], project="glance", prog="glance-api", default_config_files=files, default_config_dirs=[]
    )
    sound = True
    for section, options in proof.sections.items():
        unseen = section in RESERVED_STORES or section in proof.backends()
        for name in options:
            if name not in known.get(section, ()):
                if unseen or section == "keystone_authtoken":
                    proof.add(
                        f"[{section}] {name} is not an option there: remove it or correct its name."
                    )
                continue
            try:
                getattr(conf if section == "DEFAULT" else conf[section], name)
            except cfg.NoSuchOptError:
                pass  # an old name of an option, read under its new one
            except (ValueError, cfg.Error) as error:
                sound = False
                shown = ", ".join(options[name])
                reason = str(error).rpartition(" is not valid: ")[2] or type(error).__name__
                if (section, name) in proof.hidden:
                    shown = reason = "(hidden)"
                proof.add(f"[{section}] {name} = {shown} is not valid: {reason}.")
    return sound


def load(proof):
    """Load the application as the server does, against the throw-away database."""
    import sqlalchemy
    from glance.db.sqlalchemy import models

    for options in proof.sections.values():
        for name in WRITABLE:
            for value in options.get(name, []):
                path = value[len("file://") :] if value.startswith("file://") else value
                path = path.partition(":")[0] if name.endswith("datadirs") else path
                os.makedirs(os.path.dirname(path) if name == "log_file" else path, exist_ok=True)
    engine = sqlalchemy.create_engine(proof.sections["database"]["connection"][-1])
    models.BASE.metadata.create_all(engine)

    listener = Listener(STORE_TROUBLE, proof)
    logging.getLogger("glance_store").addHandler(listener)
    logging.getLogger("glance_store").setLevel(logging.WARNING)
    follow_stores(proof)
    try:
        from glance.common import wsgi_app

        wsgi_app.init_app()
    except (Exception, SystemExit) as error:
        where = f", because the store {proof.store} cannot be used" if proof.store else ""
        proof.add(f"Glance does not load with this configuration{where}: {reason_of(error)}.")
        return False
    finally:
        for message, store in zip(listener.messages, listener.stores):  # noqa: B905 - Python 3.8
            what = f"The store {store}" if store else "A store"
            proof.add(f"{what} cannot be used: {message.rstrip('.')}.")
    return True


def follow_stores(proof):
    """Keep in the proof which store glance_store sets up; each is made, then configured.

    The call stack does not tell: the driver of VMware connects in a green thread of its own.
    """
    from glance_store import multi_backend

    make, every = multi_backend._load_multi_store, multi_backend._load_multi_stores

    def make_one(conf, store_entry, invoke_load=True, backend=None):
        proof.store = backend
        return make(conf, store_entry, invoke_load, backend)

    def make_every(*args, **kwargs):
        yield from every(*args, **kwargs)
        proof.store = None

    multi_backend._load_multi_store, multi_backend._load_multi_stores = make_one, make_every


def reason_of(error):
    """Return what an exception says; when it says nothing, what it came from says it."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    for one in seen:
        if str(one).strip() and str(one).strip() != "None":
            return f"{type(one).__name__}: {str(one).strip().rstrip('.')}"
    return " from ".join(type(one).__name__ for one in seen)


def check_loaded(proof):
    """Look at what Glance reads only when it is first needed."""
    from glance.api import policy
    from glance.common import property_utils
    from glance_store import multi_backend
    from oslo_config import cfg
    from stevedore import extension

    conf = cfg.CONF
    for name in proof.backends():
        proof.store = name
        try:
            multi_backend.get_store_from_store_identifier(name)
        except Exception as error:
            proof.add(f"The store {name} is enabled but cannot be used: {reason_of(error)}.")
    proof.store = None
    try:
        enforcer = policy.Enforcer()
        enforcer.load_rules(True)
        rules = set(enforcer.file_rules)
        used = " ".join(str(rule) for rule in enforcer.rules.values())
        for name in sorted(rules - set(enforcer.registered_rules)):
            if f"rule:{name}" not in used:
                proof.add(f"policy.yaml: no rule of Glance is called {name}.")
        if not enforcer.check_rules():
            proof.add("policy.yaml: a rule refers to one that is not there, or to itself.")
        if conf.property_protection_file:
            property_utils.PropertyRules(enforcer)
    except Exception as error:
        proof.add(f"The policy or the property protections do not work: {reason_of(error)}.")
    plugins = set(extension.ExtensionManager("glance.image_import.plugins").names())
    for name in conf.image_import_opts.image_import_plugins:
        if name not in plugins:
            proof.add(
                f"[image_import_opts] image_import_plugins names {name}, which is not one of "
                f"{', '.join(sorted(plugins))}."
            )


def check_tls(etc=ETC):
    """Return what keeps the server from serving TLS; it would start, and listen nowhere."""
    path = os.path.join(etc, "glance-api-uwsgi.ini")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as handle:
        listen = re.search(r"^https-socket = [^,]+,([^,]+),(\S+)$", handle.read(), re.MULTILINE)
    if not listen:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listen[1], listen[2])
    except (OSError, ValueError) as error:
        yield f"The certificate and key for backend TLS do not work: {reason_of(error)}."
    options = subprocess.run(["uwsgi", "--help"], capture_output=True, check=False)
    if b"--https-socket" not in options.stdout + options.stderr:
        yield (
            "The uWSGI of this image was built without TLS: use another image or switch "
            "glance:glance_enable_tls_backend off."
        )


def prove(proof):
    """Do all of it in order; what needs the former to be right is left out when it is not."""
    os.makedirs(PROOF, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = PROOF  # the home of glance is the data volume
    if not proof.read() or not proof.is_harmless():
        return
    for finding in check_tls():
        proof.add(finding)
    spaces = namespaces()
    validate(proof, spaces)
    if check_values(proof, spaces) and load(proof):
        check_loaded(proof)


def main():
    # What libraries print must not come between the caller and the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING)
    proof = Proof()

    def end(finding=""):
        if finding:
            proof.add(finding)
        answer.write(json.dumps({"ok": not proof.findings, "findings": proof.findings}) + "\n")
        answer.flush()
        # Glance's threads and exit hooks have nothing left to do here.
        os._exit(1 if proof.findings else 0)

    Watch(proof, end).start()
    try:
        prove(proof)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        proof.add(
            f"The proof itself failed in {where.name} ({os.path.basename(where.filename)} "
            f"line {where.lineno}): {reason_of(error)}."
        )
    end()


if __name__ == "__main__":
    main()
