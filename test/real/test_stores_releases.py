"""Every store in every release that README's table calls run, with larger images."""

import json

import pytest

import glance_backend_rules
from support.stores import matrix
from support.stores.images import CHUNK, Image, Imported, Located

pytestmark = [pytest.mark.backends, pytest.mark.soak]

SIZE = 64 * CHUNK
NAMES = {"two cephs": "archive", "ceph": "rbd"}
ELSEWHERE = ("shared file", "http", "cinder")


@pytest.mark.parametrize("release", matrix.releases())
def test_every_store_in_every_release(deploy, stores, release):
    """All at once; the default is Kolla's."""
    rows = matrix.read()
    names = [
        NAMES.get(store, store)
        for store, row in rows.items()
        if row[release] == "run" and store not in ELSEWHERE
    ]
    glance = deploy(f"{release}-stores", production=True, **stores.pillar())
    found = json.loads(glance.get("/v2/info/stores")[1])["stores"]
    assert [one["id"] for one in found if one.get("default")] == ["vmware"]
    for name in names:
        image = Image(glance, name, size=SIZE)
        assert image.id in stores.held(glance, name)
        image.check()
        image.delete()
    web_server(glance, stores, release, rows["http"][release])


def web_server(glance, stores, release, way):
    """Images of a web server are imported; where Glance has a way for it, served from there."""
    name, digest = stores.web.publish(SIZE)
    url = f"http://{stores.web.address}/{name}"
    imported = Imported(glance, url, SIZE, digest, "file")
    assert imported.wait()["status"] == "success"
    imported.check()
    status, _ = glance.ask("POST", f"/v2/images/{imported.id}/locations", "{}")
    imported.delete()
    if way != "run":
        assert status == 404, "there is no such API"
        return
    located = Located(glance, f"https://{stores.web.address}/{name}", SIZE, digest)
    assert located.wait()["status"] == "success"
    assert located.record["stores"] == "http"
    located.check()
    located.delete()

    # What is inside the cloud; the warning of the settings says which releases give it away.
    unfiltered = release <= glance_backend_rules.LOCATIONS_UNFILTERED[1]
    image = Located(
        glance, f"{stores.swift.keystone.url}/v3", 0, "", expect=202 if unfiltered else 400
    )
    if unfiltered:
        assert image.wait()["status"] == "success"
        assert b"identity" in glance.get(f"/v2/images/{image.id}/file")[1]
    image.delete()
