"""Every store on its real server: images go up and come back, whatever the default is.

One deployment has all stores at once; the servers are started by the fixture ``stores``. Broken
set-ups are in test_stores_broken.py, other releases in test_stores_releases.py.
"""

import json
import time

import pytest

from support.stores.images import CHUNK, Image, Imported, Located

pytestmark = pytest.mark.backends

NAMES = ("file", "rbd", "archive", "swift", "vmware", "s3")
SECONDS = 20  # until an upload to a cluster that is silent has failed


@pytest.fixture(scope="module")
def kept():
    """Images that every store got while it was the default; they must outlive all that follows."""
    return []


@pytest.fixture(scope="module")
def glance(deploy, stores, kept):
    """A Glance with the file store alone that got every store at once, Ceph as the default."""
    return stores.deployed(deploy, lambda made: kept.append(Image(made)))


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
    assert image.id in stores.held(glance, name), "it lies where it was sent to"
    image.check()
    image.delete()
    assert image.id not in stores.held(glance, name)


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


def test_cinder_is_rendered_and_accepted_by_the_image(glance):
    """There is no Cinder here; test_stores_broken.py tells what is said about that."""
    good = dict(glance.pillar)
    try:
        glance.change(enable_cinder="yes", enable_cinder_backend_privileged="yes")
        proved = glance.apply("glance.config")
        assert proved.rc == 0, proved.failed
        assert "The image accepts the configuration" in proved.comments
    finally:
        glance.pillar = good
        glance.salt.pillar({"glance": good})


# ------------------------------------------------------------------ images elsewhere


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("told", [False, True])
def test_an_image_of_a_web_server_is_served(glance, stores, scheme, told):
    """It stays where it is; Glance finds out its digest, or checks the one that it is told."""
    name, digest = stores.web.publish(16 * CHUNK)
    url = f"{scheme}://{stores.web.address}/{name}"
    image = Located(glance, url, 16 * CHUNK, digest, told)
    assert image.wait()["status"] == "success"
    assert image.record["stores"] == "http"
    image.check()
    image.delete()


def test_an_image_of_a_web_server_is_imported(glance, stores):
    name, digest = stores.web.publish(16 * CHUNK)
    url = f"http://{stores.web.address}/{name}"
    image = Imported(glance, url, 16 * CHUNK, digest, "archive")
    assert image.wait()["status"] == "success"
    assert image.record["stores"] == "archive"
    image.check()
    image.delete()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://{0.nobody}/{1}", "The HTTP URL is invalid"),
        ("http://{0.address}/nothing", "Invalid location"),
        ("https://{0.stranger}/{1}", "CERTIFICATE_VERIFY_FAILED"),
        ("http://{0.address}/{1}", "not matched with actual"),
    ],
    ids=["down", "missing", "ca", "other-content"],
)
def test_what_a_web_server_does_not_have_is_no_image(glance, stores, url, words):
    """Nobody is there, no such file, a certificate of a stranger, another content."""
    name, _ = stores.web.publish(CHUNK)
    image = Located(glance, url.format(stores.web, name), CHUNK, "0" * 128, told=True)
    assert image.wait()["status"] == "failure", image.task
    assert image.record["status"] == "queued"
    assert words in glance.logs(lines=500), "Glance tells the reason to its log only"
    image.delete()


def test_a_web_server_that_goes_away_is_told_and_nothing_else_fails(glance, stores):
    name, digest = stores.web.publish(CHUNK)
    image = Located(glance, f"http://{stores.web.address}/{name}", CHUNK, digest)
    assert image.wait()["status"] == "success"
    stores.web.container.stop(timeout=1)
    try:
        status, told = glance.ask("GET", f"/v2/images/{image.id}/file")
        assert status == 503, (status, told)
        assert b"unavailable" in told
        Image(glance, "file", size=CHUNK).delete()
    finally:
        stores.web.container.start()
        stores.web.wait()
    image.check()
    image.delete()


# ------------------------------------------------------------------ a server that is silent


def test_a_ceph_that_is_silent_fails_an_upload_in_seconds(glance, stores):
    """Without its timeouts Ceph's library would wait for five minutes."""
    with stores.cold.silent():
        began = time.monotonic()
        image = Image(glance, "archive", size=CHUNK, expect=(410, 500, 503))
        took = time.monotonic() - began
        assert took < SECONDS, took
        Image(glance, "rbd", size=CHUNK).delete()
    image.delete()
    healed = Image(glance, "archive", size=CHUNK)
    healed.check()
    healed.delete()


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
