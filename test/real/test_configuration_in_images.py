"""The rendered configuration in real images: it serves, it is proved, it is owned as it should."""

import hashlib
import http.client
import json
import re

import pytest
import yaml

import glance_config_dir
import glance_configuration
import glance_content
import glance_oneshot
import glance_options
from support import session
from support.glance_by_hand import GlanceByHand
from support.settings import settings_for

pytestmark = pytest.mark.one_host

FIRST, LAST = "2023.2", "2026.2"
SOAK = [pytest.param(r, marks=pytest.mark.soak) for r in ("2024.1", "2025.2", "2026.1")]
RELEASES = [FIRST, LAST, *SOAK]
#: For what hardly depends on the release.
LAST_ONLY = [LAST, pytest.param(FIRST, marks=pytest.mark.soak), *SOAK]
VERSIONS = {"2023.2": 27, "2024.1": 28, "2025.2": 31, "2026.1": 32, "2026.2": 33}
FILES = session.ROOT / "glance" / "files"
MOUNT = "/var/lib/kolla/config_files/"
LIMIT = 90  # seconds that a one-shot container may take
CANARIES = {
    "glance_database_password": "c4n4ry1",
    "glance_keystone_password": "c4n4ry2",
    "memcache_secret_key": "c4n4ry3",
    "rabbitmq_password": "c4n4ry4",
    "s3_secret_key": "c4n4ry5",
    "vmware_vcenter_host_password": "c4n4ry6",
}
#: Why the stores of the production sample do not load in a test image: it lacks their libraries.
LACKING = re.compile(r"Missing dependency|boto3 or botocore is not available|Failed to load driver")


@pytest.fixture(autouse=True)
def dunders(monkeypatch):
    """Let the modules find each other, as Salt's loader does."""
    salt = {
        "glance_options.sections": glance_options.sections,
        "glance_options.command": glance_options.command,
        "glance_options.health_paste": glance_options.health_paste,
        "glance_content.secrets": glance_content.secrets,
    }
    monkeypatch.setattr(glance_configuration, "__salt__", salt, raising=False)


def settings_of(sample, **keys):
    """Return the settings of a golden pillar with more keys in it."""
    text = (session.ROOT / "test" / "golden" / "pillar" / f"{sample}.yaml").read_text()
    settings, faults = settings_for({**yaml.safe_load(text), **keys})
    assert not faults
    return settings


@pytest.fixture
def one_shot(engine, image, tmp_path):
    """A function: run files in a throw-away container; return (exit code, all it printed)."""

    def run(release, files, volumes=None):
        folder = tmp_path / hashlib.sha256(repr(files).encode()).hexdigest()[:12]
        glance_config_dir.write(str(folder), files)
        made = engine.run(
            image(release),
            volumes={str(folder): {"bind": MOUNT, "mode": "ro"}, **(volumes or {})},
            environment={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
        )
        try:
            code = made.wait(timeout=LIMIT)["StatusCode"]
            return code, made.logs().decode("utf8", "replace"), made.logs(stderr=False).decode()
        finally:
            made.remove(force=True)

    return run


@pytest.fixture
def prove(one_shot):
    """A function: settings -> (findings, all that the container printed)."""

    def run(release, settings, volumes=None):
        script = (FILES / "prove.py").read_text()
        files = glance_configuration.proof_files(settings, release, script)
        code, everything, output = one_shot(release, files, volumes)
        verdict = json.loads(output.strip().splitlines()[-1])
        assert verdict["ok"] == (code == 0) == (not verdict["findings"]), everything
        return verdict["findings"], everything

    return run


def start(engine, image, release, settings, folder, name):
    """Start the service as the formula does; wait until it lists images."""
    glance_config_dir.write(str(folder), glance_configuration.files(settings, release))
    volumes = {str(folder): {"bind": MOUNT, "mode": "ro"}}
    places = {
        "data": "/var/lib/glance/",
        "work": "/var/lib/glance-work/",
        "logs": "/var/log/kolla/",
    }
    for volume, place in places.items():
        volumes[f"{name}_{volume}"] = {"bind": place, "mode": "rw"}
    made = engine.run(
        image(release), name, volumes=volumes, environment={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    )
    port = settings["glance_api_listen_port"]
    return GlanceByHand(made, release, settings["api_address"], port, f"{name}_data").wait()


def request(glance, method, path, body=None, kind="application/json"):
    connection = http.client.HTTPConnection(glance.address, glance.port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# ------------------------------------------------------------------ the service


@pytest.mark.parametrize("release", RELEASES)
def test_a_trial_serves_and_passes_the_security_guide(
    release, engine, image, address, tmp_path, glance_by_hand
):
    settings = settings_of("trial", api_interface_address=address(41), glance_api_workers=1)
    glance_by_hand.sqlite(image(release), "trial_data")
    glance = start(engine, image, release, settings, tmp_path / "conf", "trial")

    data = bytes(range(256)) * 4096
    new = json.dumps({"name": "one", "disk_format": "raw", "container_format": "bare"})
    status, body = request(glance, "POST", "/v2/images", new)
    assert status == 201, glance.logs()
    place = f"/v2/images/{json.loads(body)['id']}/file"
    assert request(glance, "PUT", place, data, "application/octet-stream")[0] == 204
    assert request(glance, "GET", place) == (200, data)

    def run(command, user="root"):
        code, output = glance.container.exec_run(["sh", "-c", command], user=user)
        return code, output.decode().split("\n")[:-1]

    # Check-Image-01 and 02 of the OpenStack Security Guide.
    stats = run('find /etc/glance -type f | xargs stat -L -c "%U %G %a %n"')[1]
    assert [one for one in stats if not one.startswith("root glance 640 ")] == []
    assert set(run('find /etc/glance -type d | xargs stat -L -c "%U %G %a"')[1]) == {
        "root glance 750"
    }
    unreadable = "find /etc/glance ! -readable; find /etc/glance -writable"
    assert run(unreadable, "glance") == (0, [])
    # What Kolla itself thinks of it (it compares contents, owners and modes).
    code, output = run("KOLLA_CONFIG_STRATEGY=COPY_ALWAYS kolla_set_configs --check")
    assert code == 0, output
    assert run("stat -c %a /var/lib/glance/images/*")[1] == ["640"]
    # Nothing is wrong in its log, and the proof's directory is no business of the service.
    wrong = run("grep -E ' (ERROR|CRITICAL) ' /var/log/kolla/glance/glance-api.log")[1]
    assert [line for line in wrong if "os_brick" not in line] == []
    assert run("test -e /tmp/glance-proof")[0] == 1


@pytest.mark.parametrize("release", LAST_ONLY)
def test_an_ipv6_address_serves(release, engine, image, tmp_path, glance_by_hand):
    port = 19000 + session.ENGINE_NUMBER
    settings = settings_of("ipv6", glance_api_listen_port=port, enable_glance_image_cache=False)
    glance_by_hand.sqlite(image(release), "six_data")
    start(engine, image, release, settings, tmp_path / "conf", "six")


# ------------------------------------------------------------------ the proof


@pytest.mark.parametrize("release", LAST_ONLY)
def test_every_option_of_everything_at_once_is_known(release, prove):
    """Also Keystone, messaging, cache, all stores; only libraries of stores are missing here."""
    findings, everything = prove(release, settings_of("production", **CANARIES))
    assert [finding for finding in findings if not LACKING.search(finding)] == []
    assert len(findings) < 5
    assert "c4n4ry" not in everything


@pytest.mark.parametrize("release", RELEASES)
def test_production_loads(release, prove):
    """Keystone, MariaDB, RabbitMQ, cache and import plugins, with the stores of a test image."""
    settings = settings_of("production", **CANARIES)
    settings["stores"] = [s for s in settings["stores"] if s["type"] in ("file", "http")]
    settings["default_store"] = "file"
    findings, everything = prove(release, settings)
    assert findings == []
    assert "c4n4ry" not in everything


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_proof_finds_wrong_options(release, prove):
    given = {
        "glance-api.conf": {
            "DEFAULT": {"workerz": 3, "image_size_cap": "abc", "metadata_encryption_key": "c4n4ry"},
            "databse": {"x": 1},
            "file": {"filesystem_store_datadr": "/x", "filesystem_store_chunk_size": "many"},
            "keystone_authtoken": {"usernam": "x"},
            "import_filtering_opts": {"allowed_ports": 80},
            "os_glance_staging_store": {"foo": 1},
        }
    }
    findings, everything = prove(release, settings_of("trial", glance_custom_config=given))
    unknown = (
        "is not an option of this release of Glance: remove it or correct its name or section."
    )
    there = "is not an option there: remove it or correct its name."
    number = "invalid literal for int() with base 10:"
    assert sorted(findings) == sorted(
        [
            f"[DEFAULT] workerz {unknown}",
            f"[databse] x {unknown}",
            f"[DEFAULT] image_size_cap = abc is not valid: {number} 'abc'.",
            f"[file] filesystem_store_datadr {there}",
            f"[file] filesystem_store_chunk_size = many is not valid: {number} 'many'.",
            f"[os_glance_staging_store] foo {there}",
            f"[keystone_authtoken] usernam {there}",
            '[import_filtering_opts] allowed_ports = 80 is not valid: Value should start with "[".',
        ]
    )
    assert "c4n4ry" not in everything


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_proof_finds_a_store_that_does_not_exist(release, prove):
    settings = settings_of("trial")
    settings["stores"][0]["type"] = "nosuch"
    findings, _ = prove(release, settings)
    assert findings[0] == (
        "Glance does not load with this configuration: RuntimeError: Store for identifier file not "
        "found."
    )
    assert "looking for 'nosuch'" in findings[1]


@pytest.mark.parametrize("release", [LAST, pytest.param("2025.2", marks=pytest.mark.soak)])
def test_the_proof_finds_that_tls_cannot_be_served(release, prove):
    """The golden certificate is none, and the uWSGI of a test image has no TLS."""
    settings = settings_of("tls", **CANARIES)
    findings, everything = prove(release, settings)
    assert findings[0].startswith("The certificate and key for backend TLS do not work: SSLError:")
    assert findings[1:] == [
        "The uWSGI of this image was built without TLS: use another image or switch "
        "glance:glance_enable_tls_backend off."
    ]
    assert "c4n4ry" not in everything


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_proof_finds_what_glance_reads_late(release, prove):
    settings = settings_of(
        "trial",
        glance_policy={"get_imag": "", "add_image": "rule:missing"},
        glance_enable_interoperable_image_import=True,
        glance_image_import={"image_import_opts": {"image_import_plugins": "[no_opp]"}},
    )
    assert prove(release, settings)[0] == [
        "policy.yaml: no rule of Glance is called get_imag.",
        "policy.yaml: a rule refers to one that is not there, or to itself.",
        "[image_import_opts] image_import_plugins names no_opp, which is not one of "
        "image_conversion, image_decompression, inject_image_metadata, no_op.",
    ]


@pytest.mark.parametrize("release", LAST_ONLY)
def test_a_sound_trial_is_proved_and_nothing_staged_or_cached_touched(release, prove, tmp_path):
    """Even with the volumes of the service in reach, which the formula never mounts for it."""
    places = {
        "/var/lib/glance/": ("images/11111111-2222-3333-4444-555555555555", b"image"),
        "/var/lib/glance-work/": ("staging/22222222-2222-3333-4444-555555555555", b"staged"),
        "/var/lib/glance-cache/": ("cache.db", b"SQLite format 3\0 or not"),
    }
    volumes, before = {}, {}
    for place, (name, content) in places.items():
        folder = tmp_path / place.strip("/").replace("/", "-")
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        volumes[str(folder)] = {"bind": place, "mode": "rw"}
        before[file] = (content, file.stat().st_mtime_ns)
    found = {path for folder in volumes for path in tmp_path.joinpath(folder).rglob("*")}

    settings = settings_of("trial", enable_glance_image_cache=True)
    assert prove(release, settings, volumes)[0] == []

    assert {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in before} == before
    assert {p for folder in volumes for p in tmp_path.joinpath(folder).rglob("*")} == found


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_proof_refuses_a_configuration_that_is_not_thrown_away(release, one_shot):
    """Without the redirection it must load nothing, or it would delete staged images."""
    files = glance_configuration.files(settings_of("trial"), release)
    script = (FILES / "prove.py").read_text()
    files = glance_oneshot.with_command(files, "prove.py", script)
    code, _, output = one_shot(release, files)
    findings = json.loads(output.strip().splitlines()[-1])["findings"]
    assert code == 1
    assert "[database] connection is not a throw-away one, so nothing was loaded." in findings
    assert all(finding.endswith("so nothing was loaded.") for finding in findings)


# ------------------------------------------------------------------ the other scripts


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_found_in_the_image(release, engine, image):
    made = engine.run(
        image(release),
        entrypoint=["python3", "-c", (FILES / "release.py").read_text()],
        command=[],
    )
    try:
        assert made.wait(timeout=LIMIT)["StatusCode"] == 0
        found = json.loads(made.logs(stderr=False))
    finally:
        made.remove(force=True)
    assert found["glance"].startswith(f"{VERSIONS[release]}.")


@pytest.fixture
def schema(one_shot):
    """A function: what schema.py says of a volume's database, or of another one."""

    def look(release, data, **keys):
        settings = settings_of("trial")
        settings.update(keys)
        files = glance_configuration.files(settings, release)
        for name in ("schema_pending.py", "schema.py"):
            files = glance_oneshot.with_command(files, name, (FILES / name).read_text())
        volumes = {data: {"bind": "/var/lib/glance/", "mode": "rw"}}
        code, everything, output = one_shot(release, files, volumes)
        assert code == 0, everything
        assert "c4n4ry" not in everything
        return json.loads(output.strip().splitlines()[-1])

    return look


@pytest.mark.parametrize("release", LAST_ONLY)
def test_an_empty_database(release, schema):
    found = schema(release, "nothing")
    assert found["position"] == "empty"
    assert (found["heads_in_database"], found["metadef_namespaces"]) == ([], 0)


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_schema_of_the_image(release, schema, image, glance_by_hand):
    glance_by_hand.sqlite(image(release), "own")
    found = schema(release, "own")
    assert (found["position"], found["images"]) == ("current", 0)
    head = "2023_1_contract01" if release == FIRST else "2024_1_contract01"
    assert found["heads_in_database"] == [head]
    assert found["metadef_namespaces"] > 25


@pytest.mark.parametrize("release", LAST_ONLY)
def test_the_schema_of_another_release(release, schema, image, glance_by_hand):
    glance_by_hand.sqlite(image(LAST if release == FIRST else FIRST), "other")
    found = schema(release, "other")
    wanted = "ahead" if release == FIRST else "behind"
    assert found["position"] == wanted


@pytest.mark.parametrize("release", LAST_ONLY)
def test_a_database_that_cannot_be_reached_is_named_in_a_sentence(release, schema):
    url = "mysql+pymysql://glance:c4n4ry%40x@127.0.0.1:1/glance"
    found = schema(release, "nothing", database_connection=url)
    found.pop("waited")
    assert found == {
        "error": "The database mysql+pymysql://127.0.0.1:1/glance cannot be read: Can't connect to "
        "MySQL server on '127.0.0.1' ([Errno 111] Connection refused) (error 2003)."
    }
