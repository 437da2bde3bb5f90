"""Broken set-ups of every store: told in time, in the words of its driver, and nothing else breaks.

What pillar breaks is refused by ``state.apply`` while the old container goes on; what breaks later
is told by ``glance_api.verify``.
"""

import contextlib
import time

import pytest

from support import session
from support.stores.images import CHUNK, Image
from support.stores.web import NOBODY

pytestmark = pytest.mark.backends

TOLD_WITHIN = 30  # seconds that the step which looks at the stores takes to name what is wrong
#: Where these steps begin and end in the log; a container that starts is no part of the second.
STEPS = {
    "proof": ("glance: proof begins", "glance: proof failed"),
    "check": ("checking it deeply", "glance: replacement failed"),
}
IMAGES, LOST = "/var/lib/glance/images", "/var/lib/glance/lost"
STRANGERS = "/etc/ssl/certs/ISRG_Root_X1.pem"  # an authority that has signed none of the servers


@pytest.fixture
def glance(deploy, stores):
    """The Glance with every store."""
    return stores.deployed(deploy)


# ------------------------------------------------------------------ by pillar


def keys(**edits):
    """Keys of the pillar."""
    return lambda stores: edits


def option(store, **options):
    """Options of a store in the operator's own glance-api.conf."""
    return lambda stores: {
        "glance_custom_config": {**stores.ceph_files(), "glance-api.conf": {store: options}}
    }


def both(*edits):
    """Several of these."""
    return lambda stores: {key: value for edit in edits for key, value in edit(stores).items()}


def nobody_at(key, url):
    """Nothing listens there."""
    return lambda stores: {key: url.format(session.address(NOBODY))}


def forged(stores):
    """The keyring of the user glance with somebody else's key."""
    files = stores.ceph_files()
    files["ceph.client.glance.keyring"] = files["cold.client.glance.keyring"]
    return {"glance_custom_config": files}


def reader(stores):
    """A user who may only read."""
    stores.ceph.execute(
        "ceph", "auth", "get-or-create", "client.reader", "mon", "allow r", "osd", "allow r"
    )
    files = {**stores.ceph_files(), **stores.ceph.files("reader")}
    (first, second) = stores.pillar()["glance_ceph_backends"]
    return {
        "glance_custom_config": files,
        "glance_ceph_backends": [{**first, "user": "reader"}, second],
    }


def lonely(stores):
    """A cluster whose monitors are gone."""
    files, nobody = stores.ceph_files(), session.address(NOBODY)
    files["ceph.conf"] = files["ceph.conf"].replace(stores.ceph.address, nobody)
    return {"glance_custom_config": files}


def more_files(place):
    """A further file store at another place in the container."""
    options = {"filesystem_store_datadir": place}
    return keys(glance_additional_stores=[{"name": "more", "type": "file", "options": options}])


#: What is wrong: pillar, store, words of its driver.
FAULTS = {
    "file-place": (more_files("/nowhere/images"), "more", "Unable to create datadir"),
    "rbd-key": (forged, "rbd", "RADOS permission denied"),
    "swift-password": (keys(glance_swift_password="wrong"), "swift", "HTTP 401"),
    "vmware-password": (keys(vmware_vcenter_host_password="wrong"), "vmware", "InvalidLogin"),
    "s3-down": (
        nobody_at("glance_backend_s3_url", "https://{}:5999"),
        "s3",
        "Could not connect to the endpoint URL",
    ),
    "file-permission": (more_files("/etc/ssl/certs"), "more", "Permission to write in"),
    "file-no-directory": (more_files("/etc/hostname/images"), "more", "Unable to create datadir"),
    "rbd-pool": (keys(ceph_glance_pool_name="nopool"), "rbd", "'nopool'"),
    "rbd-permission": (reader, "rbd", "RBD permission error"),
    "rbd-down": (lonely, "rbd", "RADOS timed out"),
    "swift-down": (
        nobody_at("glance_swift_auth_url", "http://{}:5999/v3"),
        "swift",
        "Unable to establish connection",
    ),
    "swift-region": (keys(glance_swift_region="Nowhere"), "swift", "endpoint"),
    "swift-container": (
        both(
            keys(glance_swift_container="nocontainer"),
            option("swift", swift_store_create_container_on_put=False),
        ),
        "swift",
        "nocontainer",
    ),
    "swift-ca": (
        option("swift", swift_store_cacert=STRANGERS),
        "swift",
        "CERTIFICATE_VERIFY_FAILED",
    ),
    "vmware-down": (nobody_at("vmware_vcenter_host_ip", "{}"), "vmware", "Connection refused"),
    "vmware-ca": (
        option("vmware", vmware_ca_file=STRANGERS),
        "vmware",
        "CERTIFICATE_VERIFY_FAILED",
    ),
    "vmware-datastore": (
        keys(glance_vmware_datastores=["DC0:Nope"]),
        "vmware",
        "Could not find datastore Nope",
    ),
    "vmware-datacenter": (keys(glance_vmware_datastores=["DC9:Nope"]), "vmware", "Datacenter"),
    "cinder-missing": (
        keys(enable_cinder="yes", enable_cinder_backend_privileged="yes"),
        "cinder",
        "endpoint",
    ),
    "s3-bucket": (keys(glance_backend_s3_bucket="nobucket"), "s3", "nobucket"),
    "s3-ca": (option("s3", s3_store_cacert=STRANGERS), "s3", "CERTIFICATE_VERIFY_FAILED"),
}


#: What is told in one run: by the proof of the configuration, or by the check of the newcomer,
#: which looks at every store.
TOGETHER = {
    "rbd": ["rbd-key"],
    "vmware": ["vmware-password"],
    "others": ["file-place", "swift-password", "s3-down"],
}


def refuse(glance, stores, *faults):
    """Apply a broken pillar; the run must say what is wrong in time and change nothing."""
    image = Image(glance, "file", size=CHUNK)
    before, good = glance.container.id, dict(glance.pillar)
    try:
        for edits, _, _ in faults:
            glance.change(**edits(stores))
        run = glance.start()
        refused = run.result()
        told, took = "\n".join(refused.failed.values()), seconds(run)
        assert refused.rc != 0
        for _, store, words in faults:
            assert words in told, told
            assert f"tore {store} " in told or f"({store})" in told, told
        assert "Traceback" not in told
        assert "wrong" not in told.replace("wrong password", "")
        assert took < TOLD_WITHIN, (took, told)
        assert glance.container.id == before
        image.check()
    finally:
        glance.pillar = good
        glance.salt.pillar({"glance": good})
    image.delete()


def seconds(run):
    """How long the step took that told what is wrong."""
    step = "proof" if STEPS["proof"][1] in run.log else "check"
    began, ended = map(run.wait_for, STEPS[step])
    print(f"told by the {step} in {ended - began:.1f} s")
    return ended - began


@pytest.mark.parametrize("step", TOGETHER)
def test_broken_stores_are_refused_and_the_old_service_keeps_running(glance, stores, step):
    refuse(glance, stores, *(FAULTS[fault] for fault in TOGETHER[step]))


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_store_is_refused_and_the_old_service_keeps_running(glance, stores, fault):
    refuse(glance, stores, FAULTS[fault])


@pytest.mark.soak
def test_a_vcenter_that_is_silent_is_told_before_the_service_is_touched(glance, stores):
    """Its driver connects when Glance loads, and would wait for ever."""
    with stores.vcenter.silent():
        refuse(glance, stores, (keys(glance_logging_debug="yes"), "vmware", "has not answered"))


@pytest.mark.soak
def test_a_wrong_secret_of_s3_is_refused(glance, stores):
    with stores.s3.guarded():
        Image(glance, "s3", size=CHUNK).delete()
        refuse(glance, stores, (keys(glance_backend_s3_secret_key="wrong"), "s3", "403"))


# ------------------------------------------------------------------ later


@contextlib.contextmanager
def spoiled(glance, command, undo):
    """The directory of the images is as a command of root's makes it."""
    glance.container.exec_run(command, user="root")
    try:
        yield
    finally:
        glance.container.exec_run(undo, user="root")


def told_by_verify(glance, store, words):
    """Verify must name the one store that fails, in time."""
    began = time.monotonic()
    told = glance.salt("glance_api.verify")
    took = time.monotonic() - began
    print(f"told in {took:.1f} s:", told.stderr[:600])
    assert told.rc != 0
    assert words in told.stderr
    assert f"({store})" in told.stderr
    assert told.stderr.count("fails at step") == 1, "the others work"
    assert took < TOLD_WITHIN, took


def test_a_data_directory_that_glance_may_not_write_is_told_by_verify(glance):
    with spoiled(glance, f"chown -R root:root {IMAGES}", f"chown -R glance:glance {IMAGES}"):
        told_by_verify(glance, "file", "Permission to write image storage media denied")


@pytest.mark.soak
def test_a_data_directory_that_is_gone_is_told_by_verify(glance):
    with spoiled(glance, f"mv {IMAGES} {LOST}", f"mv {LOST} {IMAGES}"):
        told_by_verify(glance, "file", "No such file or directory")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("server", "store", "words"),
    [
        ("cold", "archive", "RADOS timed out"),
        ("swift", "swift", "no answer within"),
        ("vcenter", "vmware", "no answer within"),
        ("s3", "s3", "no answer within"),
    ],
)
def test_a_server_that_is_silent_is_told_by_verify(glance, stores, server, store, words):
    if glance.pillar["glance_api_workers"] == 1:
        # A worker waits for the silent server for minutes; the others are asked about the rest.
        glance.edit(glance_api_workers=5)
    with getattr(stores, server).silent():
        told_by_verify(glance, store, words)
    assert glance.salt("glance_api.verify").rc == 0, "it heals by itself"
