"""The text of the configuration files: golden files and the rules behind them.

GLANCE_UPDATE_GOLDEN=1 writes the golden files anew; read the difference before it is committed.
"""

import configparser
import json
import os
import pathlib
import re

import pytest
import yaml
from salt.exceptions import SaltInvocationError

import glance_configuration
import glance_content
import glance_options
from support.settings import settings_for

pytestmark = pytest.mark.one_host

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
#: Releases whose files are also run in a real image, and those known by table only: not run.
RUN = ("2023.2", "2024.1", "2025.2", "2026.1", "2026.2")
NOT_RUN = {"2023.1": "2023.2", "2024.2": "2025.2", "2025.1": "2025.2"}
SAMPLES = ("trial", "ipv6", "production", "tls")
OLD, NEW = "2023.2", "2026.2"
PROVE = "print('the proof')\n"


@pytest.fixture(autouse=True)
def dunders(monkeypatch):
    """Let the module find the other one, as Salt's loader does."""
    salt = {
        "glance_options.sections": glance_options.sections,
        "glance_options.command": glance_options.command,
        "glance_options.health_paste": glance_options.health_paste,
        "glance_content.secrets": glance_content.secrets,
    }
    monkeypatch.setattr(glance_configuration, "__salt__", salt, raising=False)


def settings_of(sample, **keys):
    """Return the settings of a golden pillar with more keys in it."""
    pillar = yaml.safe_load((GOLDEN / "pillar" / f"{sample}.yaml").read_text())
    settings, faults = settings_for({**pillar, **keys})
    assert not faults
    return settings


def files(sample="trial", release=NEW, **keys):
    return glance_configuration.files(settings_of(sample, **keys), release)


def read(entry):
    """Return section -> option -> list of values, as oslo.config and uWSGI read a file."""
    sections, current = {}, None
    for line in entry["text"].splitlines():
        if line.startswith("["):
            current = sections.setdefault(line[1:-1], {})
        elif line and line[0] not in "#;":
            name, value = line.split(" =", 1)
            current.setdefault(name, []).append(value.strip())
    return sections


def option(found, file, section, name):
    return read(found[file]).get(section, {}).get(name)


# ------------------------------------------------------------------ golden files


@pytest.mark.parametrize(
    ("sample", "release"),
    # Backend TLS is refused for older releases, see below.
    [(s, r) for s in SAMPLES for r in RUN if s != "tls" or r >= "2025.1"],
)
def test_golden(sample, release):
    folder = GOLDEN / "files" / sample / release
    found = {path: entry["text"] for path, entry in files(sample, release).items()}
    if os.environ.get("GLANCE_UPDATE_GOLDEN"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        for path, body in found.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(body)
    wanted = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == wanted


@pytest.mark.parametrize("release", NOT_RUN)
@pytest.mark.parametrize("sample", SAMPLES[:3])
def test_a_release_that_was_not_run_gets_the_files_of_its_neighbour(sample, release):
    def found(of):
        entries = files(sample, of)
        # Each release has its own kind of queues, see below.
        sections = {
            name: options
            for name, options in read(entries["glance-api.conf"]).items()
            if name != "oslo_messaging_rabbit"
        }
        return {**entries, "glance-api.conf": sections}

    assert found(release) == found(NOT_RUN[release])


@pytest.mark.parametrize("release", RUN)
@pytest.mark.parametrize("sample", SAMPLES[:3])
def test_config_json_copies_every_file_and_nothing_else(sample, release):
    found = files(sample, release)
    body = json.loads(found["config.json"]["text"])
    sources = {entry["source"] for entry in body["config_files"]}
    copied = {f"/var/lib/kolla/config_files/{name}" for name in found}
    beside = {name for name in copied if "/ca-certificates/" in name or "config.json" in name}
    assert sources == copied - beside
    assert {(e["owner"], e["perm"]) for e in body["config_files"]} == {("root:glance", "0640")}
    assert ("directories" in body) == (release >= "2026.1")


def test_config_json_never_walks_the_images():
    body = json.loads(files("production")["config.json"]["text"])
    recursive = {entry["path"] for entry in body["permissions"] if entry.get("recurse")}
    assert recursive == {"/etc/glance"}


# ------------------------------------------------------------------ releases


@pytest.mark.parametrize("release", [*RUN, *NOT_RUN])
def test_server_options_stand_only_where_glance_serves_itself(release):
    found = files(release=release)
    default = read(found["glance-api.conf"])["DEFAULT"]
    eventlet = release < "2026.1"
    assert ("bind_host" in default) == ("workers" in default) == eventlet
    assert default.get("http_keepalive") == (["false"] if eventlet else None)
    assert ("glance-api-uwsgi.ini" in found) == (not eventlet)
    assert default["worker_self_reference_url"] == ["http://127.0.0.1:9292"]


def test_uwsgi_shares_its_port_and_has_no_router():
    uwsgi = read(files()["glance-api-uwsgi.ini"])["uwsgi"]
    assert uwsgi["http-socket"] == ["127.0.0.1:9292"]
    for name in ("reuse-port", "need-app", "wsgi-manage-chunked-input", "die-on-term"):
        assert uwsgi[name] == ["true"], name
    assert not {"http", "https", "http-auto-chunked", "http-raw-body"} & set(uwsgi)


@pytest.mark.parametrize("release", ["2025.1", "2025.2", "2026.1", "2026.2"])
def test_backend_tls_is_served_by_uwsgi(release):
    found = files("tls", release)
    assert option(found, "glance-api-uwsgi.ini", "uwsgi", "https-socket") == [
        "10.0.0.5:9292,/etc/glance/certs/glance-cert.pem,/etc/glance/certs/glance-key.pem"
    ]
    assert found["glance-key.pem"]["secret"]
    assert json.loads(found["config.json"]["text"])["command"].startswith("uwsgi ")
    url = option(found, "glance-api.conf", "DEFAULT", "worker_self_reference_url")
    assert url == ["https://10.0.0.5:9292"]


@pytest.mark.parametrize("release", ["2023.1", "2023.2", "2024.1", "2024.2"])
def test_backend_tls_is_refused_where_it_cannot_be_served(release):
    with pytest.raises(SaltInvocationError) as caught:
        files("tls", release)
    assert str(caught.value) == (
        "glance:glance_enable_tls_backend needs an image of 2025.1 or newer, this one is "
        f"{release}: switch it off or terminate TLS at the load balancer."
    )


def test_the_cache_file_is_complete_where_the_cache_tools_read_nothing_else():
    old, new = files("production", OLD), files("production", "2024.1")
    assert set(read(new["glance-cache.conf"])) == {"DEFAULT"}
    complete = read(old["glance-cache.conf"])
    api = read(old["glance-api.conf"])
    for section in ("glance_store", "file", "rbd", "os_glance_staging_store", "oslo_concurrency"):
        assert complete[section] == api[section]
    assert complete["DEFAULT"]["enabled_backends"] == api["DEFAULT"]["enabled_backends"]
    assert "glance-cache.conf" not in files("trial", OLD)


# ------------------------------------------------------------------ RabbitMQ

RABBIT = {"rabbitmq_servers": ["10.0.0.5"], "rabbitmq_password": "q"}
QUORUM, MANAGER = "rabbit_quorum_queue", "use_queue_manager"
TRANSIENT, STREAM = "rabbit_transient_quorum_queue", "rabbit_stream_fanout"
PREFETCH, DURABLE = "rabbit_qos_prefetch_count", "amqp_durable_queues"
OM = "om_enable_rabbitmq_"


def queues(release, **keys):
    found = files("trial", release, **RABBIT, **keys)["glance-api.conf"]
    return {name: value[0] for name, value in read(found)["oslo_messaging_rabbit"].items()}


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("2023.1", {}),
        ("2023.2", {QUORUM: "true"}),
        ("2024.1", {QUORUM: "true"}),
        ("2024.2", {QUORUM: "true"}),
        *(
            (
                release,
                {
                    **dict.fromkeys((MANAGER, QUORUM, TRANSIENT, STREAM), "true"),
                    PREFETCH: "50" if release >= "2026.1" else "1",
                },
            )
            for release in ("2025.1", "2025.2", "2026.1", "2026.2")
        ),
    ],
)
def test_queues_are_those_of_kolla_ansible_for_the_release(release, expected):
    assert queues(release) == expected


@pytest.mark.parametrize(
    ("release", "keys", "expected"),
    [
        ("2023.1", {f"{OM}quorum_queues": "yes"}, {QUORUM: "true"}),
        ("2023.1", {"om_enable_queue_manager": "yes"}, {}),
        ("2023.2", {f"{OM}quorum_queues": "no"}, {}),
        (
            "2024.1",
            {f"{OM}quorum_queues": "no", f"{OM}high_availability": "yes"},
            {DURABLE: "true"},
        ),
        (
            "2024.1",
            {"om_enable_queue_manager": "yes"},
            {**dict.fromkeys((MANAGER, QUORUM, TRANSIENT, STREAM), "true"), PREFETCH: "1"},
        ),
        (
            "2024.1",
            {"om_enable_queue_manager": "yes", f"{OM}transient_quorum_queue": "no"},
            {MANAGER: "true", QUORUM: "true"},
        ),
        (
            "2024.2",
            {"om_enable_queue_manager": "yes", f"{OM}quorum_queues": "no"},
            {MANAGER: "true"},
        ),
        ("2026.1", {f"{OM}quorum_queues": "no"}, {MANAGER: "true"}),
        (
            "2026.1",
            {f"{OM}stream_fanout": "no"},
            dict.fromkeys((MANAGER, QUORUM, TRANSIENT), "true"),
        ),
        (
            "2025.2",
            {"om_rabbitmq_qos_prefetch_count": 7},
            {**dict.fromkeys((MANAGER, QUORUM, TRANSIENT, STREAM), "true"), PREFETCH: "7"},
        ),
    ],
)
def test_queues_as_pillar_wants_them(release, keys, expected):
    assert queues(release, **keys) == expected


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize("release", [OLD, NEW])
def test_ipv6(release):
    found = files("ipv6", release)
    default = read(found["glance-api.conf"])["DEFAULT"]
    assert default["worker_self_reference_url"] == ["http://[::1]:19292"]
    if release == OLD:
        assert (default["bind_host"], default["bind_port"]) == (["::1"], ["19292"])
    else:
        assert option(found, "glance-api-uwsgi.ini", "uwsgi", "http-socket") == ["[::1]:19292"]


# ------------------------------------------------------------------ overrides


def custom(**layers):
    names = {"global_": "global.conf", "glance": "glance.conf", "api": "glance-api.conf"}
    return {names[key]: {"DEFAULT": options} for key, options in layers.items()}


def test_the_last_of_kollas_files_wins_an_option_as_a_whole():
    found = files(
        glance_custom_config=custom(
            api={"a": 3}, glance={"a": 2, "b": 2}, global_={"a": 1, "b": 1, "c": 1, "debug": True}
        )
    )
    default = read(found["glance-api.conf"])["DEFAULT"]
    values = [default[name] for name in ("a", "b", "c", "debug")]
    assert values == [["3"], ["2"], ["1"], ["true"]]


def test_lists_are_written_as_oslo_reads_each_option():
    found = files(
        glance_custom_config={
            "glance-api.conf": {
                "DEFAULT": {"enabled_import_methods": ["glance-direct", "copy-image"]},
                "image_format": {"disk_formats": ["raw", "qcow2"]},
                "oslo_policy": {"policy_dirs": ["/a", "/b"]},
            }
        }
    )
    api = read(found["glance-api.conf"])
    assert api["DEFAULT"]["enabled_import_methods"] == ["[glance-direct,copy-image]"]
    assert api["image_format"]["disk_formats"] == ["raw,qcow2"]
    assert api["oslo_policy"]["policy_dirs"] == ["/a", "/b"]


def test_import_filters_are_safe_by_default_and_the_operators_when_given():
    hosts = option(
        files(), "glance-image-import.conf", "import_filtering_opts", "disallowed_hosts"
    )[0]
    assert {"127.0.0.1", "::1", "169.254.169.254", "localhost"} <= set(hosts[1:-1].split(","))
    given = {"import_filtering_opts": {"allowed_hosts": ["a.example"], "allowed_ports": [8080]}}
    for file in ("glance-image-import.conf", "glance-api.conf"):
        found = files(
            glance_custom_config={file: given}, glance_enable_interoperable_image_import=True
        )
        # glance.conf.d is read last: what stands there wins over glance-api.conf.
        merged = {
            **read(found["glance-api.conf"]).get("import_filtering_opts", {}),
            **read(found["glance-image-import.conf"])["import_filtering_opts"],
        }
        assert merged["allowed_hosts"] == ["[a.example]"], file
        assert merged["allowed_ports"] == ["[8080]"], file


def test_the_operators_file_for_imports_counts_only_with_kollas_switch():
    plugins = {"image_import_opts": {"image_import_plugins": ["image_conversion"]}}
    given = {"glance_custom_config": {"glance-image-import.conf": plugins}}
    assert files(**given) == files()
    warning = (
        "glance:glance_custom_config:glance-image-import.conf has no effect while"
        " glance:glance_enable_interoperable_image_import is no."
    )
    assert warning in settings_of("trial", **given)["warnings"]
    given["glance_enable_interoperable_image_import"] = "yes"
    found = read(files(**given)["glance-image-import.conf"])
    assert found["image_import_opts"] == {"image_import_plugins": ["image_conversion"]}
    assert warning not in settings_of("trial", **given)["warnings"]


def test_a_store_has_one_form_of_its_directory():
    given = {"glance-api.conf": {"file": {"filesystem_store_datadirs": ["/a:200", "/b"]}}}
    section = read(files(glance_custom_config=given)["glance-api.conf"])["file"]
    assert section == {"filesystem_store_datadirs": ["/a:200", "/b"]}


def test_uwsgi_options_can_be_set():
    given = {"glance-api-uwsgi.ini": {"uwsgi": {"threads": 4, "env": ["A=1", "B=2"]}}}
    found = files(glance_custom_config=given)
    assert option(found, "glance-api-uwsgi.ini", "uwsgi", "threads") == ["4"]
    assert option(found, "glance-api-uwsgi.ini", "uwsgi", "env") == ["A=1", "B=2"]


def test_config_json_can_be_extended():
    extra = {"source": "/x", "dest": "/y", "owner": "root", "perm": "0644"}
    given = {"config.json": {"config_files": [extra], "command": "sleep 1"}}
    body = json.loads(files(glance_custom_config=given)["config.json"]["text"])
    assert body["command"] == "sleep 1"
    assert body["config_files"][-1] == extra
    assert len(body["config_files"]) > 1
    given["config.json"] = json.dumps(given["config.json"])
    assert json.loads(files(glance_custom_config=given)["config.json"]["text"]) == body


# ------------------------------------------------------------------ secrets

CANARIES = {
    "database_password": "c4n4ry0",
    "glance_database_password": "c4n4ry1",
    "glance_keystone_password": "c4n4ry2",
    "memcache_secret_key": "c4n4ry3",
    "rabbitmq_password": "c4n4ry4",
    "osprofiler_secret": "c4n4ry5",
    "s3_access_key": "c4n4ry6",
    "s3_secret_key": "c4n4ry7",
    "vmware_vcenter_host_password": "c4n4ry8",
    "osprofiler_backend_connection_string": "redis://:c4n4ry9@10.0.0.5:6379",
}


@pytest.mark.parametrize("release", RUN)
def test_secrets_stand_in_secret_files_only(release):
    found = files("production", release, **CANARIES)
    for name, entry in found.items():
        assert entry["secret"] or "c4n4ry" not in entry["text"], name
    secret = "".join(entry["text"] for entry in found.values() if entry["secret"])
    assert {f"c4n4ry{n}" for n in range(1, 10)} <= set(re.findall(r"c4n4ry\d", secret))
    assert "c4n4ry0" not in secret  # the database's administrator is no business of Glance


def test_secrets_in_overrides_move_to_the_secret_file():
    given = {
        "glance-api.conf": {
            "DEFAULT": {"metadata_encryption_key": "c4n4rya"},
            "oslo_messaging_notifications": {"transport_url": "rabbit://u:c4n4ryb@h:1//"},
            "somewhere": {"proxy": "http://user:c4n4ryc@proxy:3128"},
            "vault": {"root_token_id": "c4n4ryf", "approle_secret_id": "c4n4ryg"},
            "keystone_authtoken": {"passcode": "c4n4ryh"},
        },
        "glance-image-import.conf": {"some_plugin": {"token": "c4n4ryd"}},
        "glance-cache.conf": {"DEFAULT": {"admin_password": "c4n4rye"}},
    }
    found = files(
        glance_custom_config=given,
        enable_glance_image_cache=True,
        glance_enable_interoperable_image_import=True,
    )
    for name, entry in found.items():
        assert entry["secret"] or "c4n4ry" not in entry["text"], name
    assert found["glance-cache.conf"]["secret"]
    assert "c4n4rye" not in found["glance-secrets.conf"]["text"]


# ------------------------------------------------------------------ values that bite

AWKWARD = ["pa$$word", "$HOME", "100%", '"quoted"', "'single'", "a=b", "a # b", "ä€", "x;y", "[z]"]


@pytest.mark.parametrize("password", AWKWARD)
def test_a_password_is_read_back_as_it_was_given(password):
    found = files("production", glance_keystone_password=password)
    text = option(found, "glance-secrets.conf", "keystone_authtoken", "password")[0]
    # What oslo.config does with it: outer quotes go, $$ becomes $, a single $ is a reference.
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    assert "$" not in text.replace("$$", "")
    assert text.replace("$$", "$") == password
    swift = configparser.ConfigParser()
    swift.read_string(found["glance-swift.conf"]["text"])
    assert swift["swift"]["key"] == password


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_a_line_break_in_a_value_is_refused(value):
    settings = settings_of("trial")
    settings["glance_custom_config"] = {"glance-api.conf": {"DEFAULT": {"x": value}}}
    with pytest.raises(SaltInvocationError, match="option x of section \\[DEFAULT\\]"):
        glance_configuration.files(settings, NEW)


# ------------------------------------------------------------------ policy, protections


def test_a_trial_lets_everybody_in_and_production_does_not():
    assert '"context_is_admin": "@"' in files("trial")["policy.yaml"]["text"]
    assert files("production")["policy.yaml"]["text"].splitlines()[1:] == [
        '"publicize_image": "role:admin"'
    ]
    assert "policy.yaml" not in files("tls")


def test_the_operators_rules_are_kept_in_a_trial():
    rules = yaml.safe_load(files(glance_policy={"get_images": "!"})["policy.yaml"]["text"])
    assert rules == {"context_is_admin": "@", "get_images": "!"}


@pytest.mark.parametrize(
    ("sample", "cache", "flavor"),
    [
        ("trial", False, ""),
        ("trial", True, "cachemanagement"),
        ("tls", False, "keystone"),
        ("tls", True, "keystone+cachemanagement"),
    ],
)
def test_paste_flavor(sample, cache, flavor):
    found = files(sample, enable_glance_image_cache=cache)
    assert option(found, "glance-api.conf", "paste_deploy", "flavor") == [flavor]


# ------------------------------------------------------------------ the proof


@pytest.mark.parametrize("release", RUN)
@pytest.mark.parametrize("sample", SAMPLES[:3])
def test_the_proof_changes_only_places_and_the_command(sample, release):
    settings = settings_of(sample)
    real = glance_configuration.files(settings, release)
    proof = glance_configuration.proof_files(settings, release, PROVE)
    assert set(proof) == {*real, "prove.py"}
    for name in set(real) - {"config.json"}:
        old, new = real[name]["text"].splitlines(), proof[name]["text"].splitlines()
        assert len(old) == len(new)
        for before, after in zip(old, new, strict=True):
            if before != after:
                assert before.split(" = ")[0] == after.split(" = ")[0]
                assert "/tmp/glance-proof/" in after
    body = json.loads(proof["config.json"]["text"])
    assert body["command"] == "/var/lib/kolla/venv/bin/python3 /var/lib/kolla/proof/prove.py"
    assert proof["prove.py"]["text"] == PROVE


@pytest.mark.parametrize("sample", ["trial", "ipv6", "tls"])
def test_the_proof_names_no_real_database_or_directory(sample):
    given = {
        "glance-api.conf": {
            "database": {"slave_connection": "mysql+pymysql://a:b@10.0.0.9/glance"},
            "file": {"filesystem_store_datadirs": ["/srv/a:200", "/srv/b"]},
            "task": {"work_dir": "/srv/work"},
            "DEFAULT": {"node_staging_uri": "file:///srv/staging", "log_dir": "/srv/log"},
        }
    }
    settings = settings_of(sample, glance_custom_config=given)
    proof = glance_configuration.proof_files(settings, NEW, PROVE)
    text = proof["glance-api.conf"]["text"] + proof["glance-secrets.conf"]["text"]
    assert "/srv/" not in text
    assert "mysql" not in text
    assert "/var/lib/glance" not in text.replace("/etc/glance", "")
    assert "filesystem_store_datadirs = /tmp/glance-proof/file/0:200" in text


@pytest.mark.parametrize(("given", "waits"), [({}, "10"), ({"rados_connect_timeout": 3}, "3")])
def test_the_proof_waits_for_no_ceph_that_is_the_operators_own(given, waits):
    """A store that stands in his file alone has no timeout of ours."""
    own = {"own": {"rbd_store_ceph_conf": "/etc/ceph/own.conf", **given}}
    settings = settings_of("trial", glance_custom_config={"glance-api.conf": own})
    proof = glance_configuration.proof_files(settings, NEW, PROVE)
    assert f"rados_connect_timeout = {waits}\n" in proof["glance-api.conf"]["text"]
    served = glance_configuration.files(settings, NEW)["glance-api.conf"]["text"]
    assert ("rados_connect_timeout" in served) is bool(given)
