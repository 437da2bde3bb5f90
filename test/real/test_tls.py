"""TLS: the API serves it, Keystone is behind it, and a certificate is renewed in service."""

import hashlib
import json
import os

import pytest

from support import session
from support.authority import Authority
from support.deployed import HOST
from support.tls_front import Front, served

pytestmark = pytest.mark.cluster

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
KEYSTONE_PORT = 5443
RATE = 20  # lists per second
REQUESTS = 300


@pytest.fixture(scope="module")
def authority():
    """The cloud's own CA, which no system knows."""
    return Authority("internal")


@pytest.fixture(scope="module")
def keystone_url(keystone, authority):
    with Front(authority, keystone.address, KEYSTONE_PORT, keystone.port) as front:
        yield front.url


@pytest.fixture(scope="module")
def glance(deploy, keystone, keystone_url, authority):
    """A deployment with TLS wherever there can be some."""
    address = session.address(HOST)
    certificate, key = authority.issue(address)
    keystone.remove_glance()
    return deploy(
        "2026.2-tls",
        production=True,
        glance_keystone_register="yes",
        kolla_internal_vip_address=address,
        enable_haproxy="no",
        kolla_enable_tls_internal="yes",
        keystone_internal_url=keystone_url,
        keystone_public_url=keystone_url,
        openstack_cacert=BUNDLE,
        glance_ca_certificates={"internal.crt": authority.certificate},
        glance_enable_tls_backend="yes",
        kolla_tls_backend_cert=certificate,
        kolla_tls_backend_key=key,
    )


def test_an_image_goes_up_and_down_with_the_certificate_checked(glance):
    assert served(glance.address, glance.port) == glance.pillar["kolla_tls_backend_cert"]
    data = os.urandom(1024 * 1024)
    record = {"name": "tls", "disk_format": "raw", "container_format": "bare"}
    status, body = glance.ask(
        "POST", "/v2/images", json.dumps(record), {"Content-Type": "application/json"}
    )
    assert status == 201, body
    path = f"/v2/images/{json.loads(body)['id']}/file"
    kind = {"Content-Type": "application/octet-stream"}
    assert glance.ask("PUT", path, data, kind)[0] == 204
    status, back = glance.get(path)
    assert status == 200
    assert hashlib.sha512(back).digest() == hashlib.sha512(data).digest()
    again = glance.apply()
    assert (again.rc, again.changed) == (0, []), again.comments


def test_it_is_registered_through_tls_with_https_endpoints(glance, keystone):
    assert glance.url.startswith("https://")
    service = keystone.find("service", "glance")
    urls = {
        one["url"] for one in keystone.ask("GET", f"endpoints?service_id={service}")["endpoints"]
    }
    assert urls == {glance.url}


def test_keystone_is_asked_as_the_security_guide_asks(glance, keystone_url):
    """OpenStack Security Guide, Check-Image-03 and 04."""
    read = glance.container.exec_run(["cat", "/etc/glance/glance-api.conf"], user="root")
    lines = [line.replace(" ", "") for line in read.output.decode().splitlines()]
    assert "flavor=keystone" in lines
    assert f"www_authenticate_uri={keystone_url}" in lines
    assert f"auth_url={keystone_url}" in lines
    assert f"cafile={BUNDLE}" in lines
    assert not [line for line in lines if line.startswith("insecure")]


@pytest.mark.soak
def test_a_new_certificate_is_taken_without_an_outage(glance, authority):
    before = glance.container.id
    certificate, key = authority.issue(glance.address)
    with glance.load(rate=RATE, kinds="lists,transfers") as load:
        comment = glance.edit(kolla_tls_backend_cert=certificate, kolla_tls_backend_key=key)
        load.wait(requests=REQUESTS)
        report = load.stop()
    print(comment, {key: report[key] for key in ("seconds", "requests", "slowest", "slow")})
    assert report["failures"] == [], report["failures"][:5]
    assert report["requests"] >= REQUESTS
    assert {entry["state"] for entry in report["ledger"]} <= {"deleted", "verified"}
    assert report["stuck"] == []
    assert glance.container.id != before
    assert served(glance.address, glance.port) == certificate
