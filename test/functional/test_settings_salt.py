"""The settings through Salt's loaders: masked pillar, files, environments, what is shown."""

import json

import pytest
import yaml
from salt._logging import shutdown_temp_handler
from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.minion import load_args_and_kwargs
from salt.utils.secret import hide

from support.settings import ROOT, SCHEMA

pytestmark = pytest.mark.one_host

DEFAULTS = ROOT / "glance/defaults.yaml"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\ncanary-tls\n-----END PRIVATE KEY-----\n"
PRODUCTION = {
    "kolla_internal_vip_address": "10.0.0.9",
    "api_interface_address": "127.0.0.1",
    "glance_database_password": "canary-database",
    "database_password": "canary-root",
    "glance_keystone_password": "canary-keystone",
    "keystone_admin_password": "canary-admin",
}


@pytest.fixture(autouse=True, scope="module")
def _no_log_at_exit():
    """Salt keeps early messages for a log that never comes, and prints them at exit."""
    shutdown_temp_handler()


@pytest.fixture
def settings(loaders):
    """A function: pillar below glance: and minion options -> Salt's modules."""

    def load(pillar=None, **options):
        data = {} if pillar is None else {"glance": pillar}
        # As a minion has it: masked wherever it is printed.
        return loaders.pillar(data, pillar=hide(data), **options).modules

    return load


@pytest.fixture
def roots(tmp_path, loaders):
    """Another environment with files of its own, as minion options."""
    (tmp_path / "glance").mkdir()
    (tmp_path / "glance/defaults.yaml").write_text(DEFAULTS.read_text(encoding="utf8"))
    return tmp_path, {"file_roots": {"base": [str(ROOT)], "dev": [str(tmp_path)]}}


def test_empty_pillar(settings):
    modules = settings()
    result = modules["glance_settings.get"]()
    assert result["trial"] is True
    assert result["minion_id"] == "one"
    assert result["glance_api_group"] == ["one"]
    assert result["listen"] == "127.0.0.1:9292"
    assert result["timezone"]
    assert modules["glance_settings.faults"]() == []
    assert [text[:11] for text in modules["glance_settings.warnings"]()] == ["Trial mode:"]
    json.dumps(result)


def test_values_come_out_of_a_masked_pillar(settings):
    overrides = {"glance-api.conf": {"DEFAULT": {"a": ["b", 1]}}}
    result = settings({**PRODUCTION, "glance_custom_config": overrides})["glance_settings.get"]()
    assert result["glance_database_password"] == "canary-database"
    assert result["database_connection"] == (
        "mysql+pymysql://glance:canary-database@10.0.0.9:3306/glance"
    )
    assert result["glance_custom_config"] == {"glance-api.conf": {"DEFAULT": {"a": ["b", "1"]}}}
    assert type(result["glance_custom_config"]) is dict
    assert "*****" not in json.dumps(result)
    assert "*****" not in str(result)


def test_get_raises_every_fault_at_once(settings):
    modules = settings({"glance_api_port": "x", "glance_image_pul": "y", "enable_swift": "yes"})
    sentences = [
        "glance:glance_image_pul is not known; did you mean glance_image_pull?",
        "glance:glance_api_port is 'x'; it must be a port from 1 to 65535.",
        "glance:glance_swift_auth_url is missing; the store swift needs it.",
        "glance:glance_swift_password is missing; the store swift needs it.",
    ]
    assert sorted(modules["glance_settings.faults"]()) == sorted(sentences)
    with pytest.raises(SaltInvocationError) as raised:
        modules["glance_settings.get"]()
    assert sorted(str(raised.value).splitlines()) == sorted(sentences)
    assert modules["glance_settings.show"]()["glance_api_port"] == 9292


def test_show_hides_every_secret(settings, tmp_path):
    (tmp_path / "key.pem").write_text(KEY, encoding="utf8")
    pillar = {
        **PRODUCTION,
        "memcached_servers": ["10.0.0.1"],
        "memcache_secret_key": "canary-memcache",
        "rabbitmq_servers": ["10.0.0.1"],
        "rabbitmq_password": "canary-rabbit",
        "enable_osprofiler": "yes",
        "osprofiler_secret": "canary-hmac",
        "osprofiler_backend_connection_string": "redis://:canary-redis@10.0.0.1",
        "container_http_proxy": "http://10.0.0.1:3128",
        "docker_registry_password": "canary-registry",
        "glance_enable_tls_backend": "yes",
        "kolla_tls_backend_cert": CERTIFICATE,
        "kolla_tls_backend_key": str(tmp_path / "key.pem"),
        "enable_ceph": "yes",
        "enable_cinder": "yes",
        "enable_swift": "yes",
        "glance_backend_s3": "yes",
        "s3_url": "http://10.0.0.1",
        "s3_bucket": "b",
        "s3_access_key": "a",
        "s3_secret_key": "canary-s3",
        "glance_backend_vmware": "yes",
        "vmware_vcenter_host_ip": "10.0.0.1",
        "vmware_vcenter_host_username": "u",
        "vmware_vcenter_host_password": "canary-vcenter",
        "glance_vmware_datastores": ["a:b"],
        "glance_additional_stores": [
            {"name": "s3x", "type": "s3", "options": {"s3_store_secret_key": "canary-more"}}
        ],
        "glance_custom_config": {
            "ceph.conf": "[global]\nfsid = x\n",
            "ceph.client.glance.keyring": "[client.glance]\nkey = canary-ceph\n",
            "glance-api.conf": {
                "DEFAULT": {"image_size_cap": 5, "transport_url": "rabbit://canary-transport"},
                "oslo_limit": {"password": "canary-limit"},
                "other": {"url": "mysql://u:canary-url@h/d"},
            },
        },
    }
    modules = settings(pillar)
    assert modules["glance_settings.faults"]() == []
    assert "canary-tls" in modules["glance_settings.get"]()["glance_backend_tls_key"]
    shown = modules["glance_settings.show"]()
    assert [key for key, value in shown.items() if "canary" in json.dumps(value)] == []
    assert shown["glance_database_password"] == "(hidden)"
    assert shown["database_connection"] == "(hidden)"
    assert shown["database_identity"] == "mysql://10.0.0.9:3306/glance"
    assert shown["glance_custom_config"]["glance-api.conf"]["DEFAULT"] == {
        "image_size_cap": "5",
        "transport_url": "(hidden)",
    }
    assert shown["keystone_internal_url"] == "http://10.0.0.9:5000"
    names = [store["name"] for store in shown["stores"]]
    assert names == ["s3", "http", "vmware", "cinder", "swift", "s3x", "rbd"]


def test_what_others_wrote_is_told_without_secrets(settings):
    stores = [{"name": "web", "type": "http", "options": {"passcode": "canary-more"}}]
    overrides = {"glance-api.conf": {"vault": {"root_token_id": "canary-vault"}}}
    more = {"glance_additional_stores": stores, "glance_custom_config": overrides}
    modules = settings({**PRODUCTION, **more, "osprofiler_secret": "abc"})
    text = "at mysql://glance:p@ss@db/glance abc None of canary-database canary-more canary-vault."
    logins = text.replace("glance:p@ss", "***")
    assert modules["glance_settings.masked"](text) == logins, "as long as nobody has read them"
    modules["glance_settings.get"]()
    told = "at mysql://***@db/glance abc None of *** *** ***."
    assert modules["glance_settings.masked"](text) == told
    assert modules["glance_oneshot.last_lines"]({"output": text}, 1) == told


def test_cephs_files_are_read_from_paths_on_the_host(settings, tmp_path):
    (tmp_path / "ceph.conf").write_text("[global]\nfsid = x\n")
    (tmp_path / "keyring").write_text("[client.glance]\nkey = AQ==\n")
    files = {"ceph.conf": "ceph.conf", "ceph.client.glance.keyring": "keyring"}
    named = {name: str(tmp_path / file) for name, file in files.items()}
    modules = settings({"enable_ceph": "yes", "glance_custom_config": named})
    assert modules["glance_settings.faults"]() == []
    content = modules["glance_settings.get"]()["glance_custom_config"]
    assert content["ceph.client.glance.keyring"] == "[client.glance]\nkey = AQ==\n"


@pytest.mark.parametrize("job", ["glance_settings.get", ["test.ping", "glance_settings.get"]])
def test_get_as_a_job_hides_secrets_too(settings, job):
    get = settings(PRODUCTION)["glance_settings.get"]
    assert get()["database_password"] == "canary-root"
    arguments, more = load_args_and_kwargs(get, [], {"fun": job, "jid": "1"})
    assert get(*arguments, **more)["database_password"] == "(hidden)"


def test_the_same_pillar_is_worked_out_once(settings, roots):
    folder, options = roots
    modules = settings({}, **options)
    first = modules["glance_settings.get"](saltenv="dev")
    (folder / "glance/defaults.yaml").unlink()
    assert modules["glance_settings.get"](saltenv="dev") == first
    first["listen"] = "changed by a caller"
    first["stores"][0]["options"].clear()
    again = modules["glance_settings.get"](saltenv="dev")
    assert again["listen"] == "127.0.0.1:9292"
    assert again["stores"][0]["options"] != {}
    modules = settings({"glance_api_port": 9999}, **options)
    with pytest.raises(CommandExecutionError):
        modules["glance_settings.get"](saltenv="dev")
    assert modules["glance_settings.get"]()["listen"] == "127.0.0.1:9999"


@pytest.mark.parametrize("how", ["argument", "option"])
def test_defaults_of_another_environment(settings, roots, how):
    folder, options = roots
    path = folder / "glance/defaults.yaml"
    path.write_text(
        path.read_text(encoding="utf8").replace('"2026.2"', '"2025.1"'), encoding="utf8"
    )
    if how == "option":
        result = settings({}, saltenv="dev", **options)["glance_settings.get"]()
    else:
        result = settings({}, **options)["glance_settings.get"](saltenv="dev")
    assert result["glance_tag"] == "2025.1-rocky-9"


def test_defaults_that_are_nowhere(settings, tmp_path):
    modules = settings({}, file_roots={"base": [str(tmp_path)]})
    with pytest.raises(CommandExecutionError) as raised:
        modules["glance_settings.get"]()
    assert str(raised.value) == (
        "salt://glance/defaults.yaml is not in the file roots of environment base: put the "
        "directory of the formula there."
    )


def test_files_from_the_master_and_from_the_host(settings, roots, tmp_path):
    folder, options = roots
    (folder / "ceph.conf").write_text("[global]\nfsid = from the master\n", encoding="utf8")
    (folder / "ca.pem").write_text(CERTIFICATE, encoding="utf8")
    certificates = folder / "certificates"
    certificates.mkdir()
    (certificates / "backend-cert.pem").write_text(CERTIFICATE, encoding="utf8")
    (certificates / "backend-key.pem").write_text(KEY, encoding="utf8")
    pillar = {
        "enable_ceph": "yes",
        "external_ceph_cephx_enabled": "no",
        "glance_custom_config": {"ceph.conf": "salt://ceph.conf"},
        "glance_ca_certificates": {"own.crt": "salt://ca.pem", "copy.crt": f"{folder}/ca.pem"},
        "kolla_certificates_dir": str(certificates),
        "kolla_enable_tls_backend": "yes",
    }
    modules = settings(pillar, **options)
    result = modules["glance_settings.get"](saltenv="dev")
    assert result["glance_custom_config"]["ceph.conf"] == "[global]\nfsid = from the master\n"
    assert result["glance_ca_certificates"] == {"own.crt": CERTIFICATE, "copy.crt": CERTIFICATE}
    assert result["glance_backend_tls_cert"] == CERTIFICATE
    assert result["glance_backend_tls_key"] == KEY
    assert modules["glance_settings.faults"]() == [
        "glance:glance_custom_config:ceph.conf is salt://ceph.conf, which cannot be read.",
        "glance:glance_ca_certificates:own.crt is salt://ca.pem, which cannot be read.",
    ]


def test_in_a_template(settings):
    modules = settings({"glance_tag": "own"})
    rendered = modules["slsutil.renderer"](
        string="image: {{ salt['glance_settings.get']()['glance_api_image_full'] }}\n"
    )
    assert rendered == {"image": "quay.io/openstack.kolla/glance-api:own"}


def test_pillar_example_is_valid_and_holds_every_default(settings):
    modules = settings({})
    empty = modules["glance_settings.get"]()
    example = modules["slsutil.renderer"](path=str(ROOT / "pillar.example"))["glance"]
    assert list(example) == list(SCHEMA["defaults"])
    assert example == SCHEMA["defaults"]
    assert settings(yaml.safe_load(json.dumps(example)))["glance_settings.get"]() == empty


def test_pillar_example_explains_every_key():
    comment = False
    for line in (ROOT / "pillar.example").read_text(encoding="utf8").splitlines():
        if not line.strip() or line == "glance:":
            comment = False
        elif line.lstrip().startswith("#"):
            comment = True
        else:
            assert comment, f"no comment above: {line}"
