"""Every store on its real server: images go up and come back, broken set-ups are told and refused.

One deployment has all stores at once; the servers are started by the fixture ``stores``.
"""

import functools
import json
import os

import pytest

from support import session
from support.stores import matrix
from support.stores.images import CHUNK, Image

pytestmark = pytest.mark.backends

RELEASE = "2026.2-stores"
NAMES = ("file", "rbd", "archive", "swift", "vmware", "s3")
TOLD_WITHIN = 30  # seconds until the state that names what is wrong has ended, on an idle machine
NOBODY = 221  # of session.address: nothing listens there


@pytest.fixture(scope="module")
def kept():
    """Images that every store got while it was the default; they must outlive all that follows."""
    return []


@pytest.fixture(scope="module")
def glance(deploy, stores, kept):
    """A Glance with the file store alone that got every store at once, Ceph as the default."""
    made = deploy(RELEASE, **stores.trust)
    kept.append(Image(made))
    made.edit(**stores.pillar(glance_default_backend="rbd"))
    return made


def held(glance, stores, name):
    """Names of what lies on the server of a store."""
    if name == "file":
        return glance.container.exec_run("ls /var/lib/glance/images").output.decode().split()
    if name == "swift":
        return stores.swift.objects()
    places = {
        "rbd": stores.ceph.images,
        "archive": stores.cold.images,
        "vmware": functools.partial(stores.vcenter.files, "LocalDS_1"),
        "s3": stores.s3.objects,
    }
    return places[name]()


# ------------------------------------------------------------------ all at once


def test_all_stores_are_offered(glance):
    found = json.loads(glance.get("/v2/info/stores")[1])["stores"]
    assert {one["id"] for one in found} == {*NAMES, "http"}
    assert [one["id"] for one in found if one.get("default")] == ["rbd"]
    assert [one["id"] for one in found if one.get("read-only") == "true"] == ["http"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_goes_up_and_comes_back(glance, stores, name):
    """With two datastores the one of more weight is taken."""
    image = Image(glance, name)
    assert image.record["stores"] == name
    assert image.id in held(glance, stores, name), "it lies where it was sent to"
    image.check()
    image.delete()
    assert image.id not in held(glance, stores, name)


def test_a_second_apply_changes_nothing(glance):
    again = glance.apply()
    assert again.rc == 0, again.failed
    assert again.changed == []


def test_verify_tells_each_store(glance):
    told = glance.salt("glance_api.verify")
    assert told.rc == 0, told.stderr
    assert told.json["stores"].pop("http") == "read-only, not checked"
    assert set(told.json["stores"]) == set(NAMES)
    assert all(text.startswith("works, ") for text in told.json["stores"].values())


def test_secrets_and_keyrings_belong_to_glance_alone(glance):
    looked = glance.container.exec_run(
        ["find", "-L", "/etc/ceph", "/etc/glance", "-printf", "%U:%g %m %p\\n"], user="root"
    )
    rows = [line.split(" ", 2) for line in looked.output.decode().splitlines()]
    names = {row[2].rpartition("/")[2] for row in rows}
    assert {"ceph.client.glance.keyring", "cold.client.glance.keyring"} <= names
    assert {"glance-swift.conf", "glance-secrets.conf", "entry_points.txt"} <= names
    for owner, mode, path in rows:
        assert owner == "0:glance", path
        assert int(mode, 8) & 0o027 == 0, (mode, path)


# ------------------------------------------------------------------ broken set-ups


def forged(stores):
    """The keyring of the user glance with somebody else's key."""
    files = {**stores.ceph.files(), **stores.cold.files()}
    files["ceph.client.glance.keyring"] = files["cold.client.glance.keyring"]
    return {"glance_custom_config": files}


def untrusted(_stores):
    """Only the authorities of the distribution."""
    return {"glance_ca_certificates": None}


def lonely(stores):
    """A cluster whose monitors are gone."""
    files = {**stores.ceph.files(), **stores.cold.files()}
    nobody = session.address(NOBODY)
    files["ceph.conf"] = files["ceph.conf"].replace(stores.ceph.address, nobody)
    return {"glance_custom_config": files}


def only(**edits):
    return lambda stores: edits


def nobody_at(key, url):
    """Nothing listens there."""
    return lambda stores: {key: url.format(session.address(NOBODY))}


#: What is wrong: pillar, store, words of its driver.
BROKEN = {
    "rbd-key": (forged, "rbd", "RADOS permission denied"),
    "swift-password": (only(glance_swift_password="wrong"), "swift", "HTTP 401"),
    "vmware-password": (only(vmware_vcenter_host_password="wrong"), "vmware", "InvalidLogin"),
    "s3-down": (
        nobody_at("glance_backend_s3_url", "https://{}:5999"),
        "s3",
        "Could not connect to the endpoint URL",
    ),
}
MORE_BROKEN = {
    "rbd-pool": (only(ceph_glance_pool_name="nopool"), "rbd", "'nopool'"),
    "rbd-down": (lonely, "rbd", "RADOS timed out"),
    "swift-down": (
        nobody_at("glance_swift_auth_url", "http://{}:5999/v3"),
        "swift",
        "Unable to establish connection",
    ),
    "swift-region": (only(glance_swift_region="Nowhere"), "swift", "endpoint"),
    "vmware-down": (
        nobody_at("vmware_vcenter_host_ip", "{}"),
        "vmware",
        "Connection refused",
    ),
    "vmware-ca": (untrusted, "vmware", "CERTIFICATE_VERIFY_FAILED"),
    "vmware-datastore": (
        only(glance_vmware_datastores=["DC0:Nope"]),
        "vmware",
        "Could not find datastore Nope",
    ),
    "s3-bucket": (only(glance_backend_s3_bucket="nobucket"), "s3", "nobucket"),
}


def refuse(glance, stores, edits, store, words):
    """Apply a broken pillar; the run must say what is wrong in time and change nothing."""
    image = Image(glance, "file", size=1024 * 1024)
    before, good = glance.container.id, dict(glance.pillar)
    try:
        glance.change(**edits(stores))
        refused = glance.apply()
        took = max(one.get("duration", 0) for one in refused.states if not one["result"]) / 1000
        told = "\n".join(refused.failed.values())
        assert refused.rc != 0
        assert words in told, told
        assert f"tore {store} " in told or f"({store})" in told, told
        assert "Traceback" not in told
        assert "wrong" not in told.replace("wrong password", "")
        assert took < TOLD_WITHIN * max(1, os.getloadavg()[0] / os.cpu_count()), took
        assert glance.container.id == before
        image.check()
    finally:
        glance.pillar = good
        glance.salt.pillar({"glance": good})
    image.delete()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_store_is_refused_and_the_old_service_keeps_running(glance, stores, fault):
    refuse(glance, stores, *BROKEN[fault])


@pytest.mark.soak
@pytest.mark.parametrize("fault", MORE_BROKEN)
def test_more_ways_to_break_a_store_are_refused(glance, stores, fault):
    refuse(glance, stores, *MORE_BROKEN[fault])


def test_a_data_directory_that_glance_may_not_write_is_told_by_verify(glance):
    glance.container.exec_run("chown -R root:root /var/lib/glance/images", user="root")
    try:
        told = glance.salt("glance_api.verify")
    finally:
        glance.container.exec_run("chown -R glance:glance /var/lib/glance/images", user="root")
    assert told.rc != 0
    assert "'upload (file)'" in told.stderr
    assert "Permission to write image storage media denied" in told.stderr
    assert "(s3)" not in told.stderr, "the others work"


# ------------------------------------------------------------------ another backend


@pytest.mark.parametrize("default", ["rbd", "swift", "file"])
def test_a_switch_of_the_backend_loses_no_image(glance, kept, default):
    """From the file store to Ceph (by the fixture), then to Swift, and back."""
    if glance.pillar["glance_default_backend"] != default:
        glance.edit(glance_default_backend=default)
    kept.append(Image(glance))
    assert kept[-1].record["stores"] == default
    for image in kept:
        image.check()


# ------------------------------------------------------------------ other releases


@pytest.mark.soak
@pytest.mark.parametrize("release", matrix.releases())
def test_every_store_in_every_release(deploy, stores, release):
    """What README's table calls run, with larger images; the default is Kolla's."""
    stores_of = {"two cephs": "archive", "ceph": "rbd"}
    names = [
        stores_of.get(store, store)
        for store, row in matrix.read().items()
        if row[release] == "run" and store != "shared file"
    ]
    glance = deploy(f"{release}-stores", **stores.pillar())
    found = json.loads(glance.get("/v2/info/stores")[1])["stores"]
    assert [one["id"] for one in found if one.get("default")] == ["vmware"]
    for name in names:
        image = Image(glance, name, size=64 * CHUNK)
        assert image.id in held(glance, stores, name)
        image.check()
        image.delete()
