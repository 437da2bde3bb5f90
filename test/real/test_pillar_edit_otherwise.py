"""Pillar edits that are no plain hand-over: drained first, cut short, to another address."""

import time

import pytest

from support.straddle import Straddle

pytestmark = pytest.mark.one_host

STOPPING = "glance-api: stopping"
NO_CONNECTION = "has no connection left"
ANSWERS = "checking it deeply"
MOMENT = 1  # seconds by which clocks and reports of a load may be late
WAITS = 2.5  # seconds in which a run that waits for something must not go on
CUT = 2  # seconds of glance_drain_timeout
HANDED_OVER = "The container was replaced by hand-over ("
DRAINED = "The container was replaced by draining it first, because "
NOT_SHARED = {"glance-api-uwsgi.ini": {"uwsgi": {"reuse-port": False}}}


@pytest.fixture
def glance(request, deploy, gate):
    """Glance with MariaDB and Keystone, as the tests before left it if it serves."""
    workers = {"glance_api_workers": 4}  # three are held by slow transfers
    made = deploy(request.param, production=True, reuse="edited", **workers, **gate.pillar)
    made.change(glance_replace_strategy=None, glance_drain_timeout=None)
    return made


def still(run, seconds, text):
    """The run goes on for so long and has not said that."""
    time.sleep(seconds)
    assert run.process.poll() is None, run.printed[-3000:]
    assert text not in run.log, run.log[-3000:]


def capped(gigabytes):
    return {"glance-api.conf": {"DEFAULT": {"image_size_cap": gigabytes * 1024**3}}}


@pytest.mark.parametrize("glance", ["2023.2"], indirect=True)
def test_drain_waits_for_transfers_and_imports(glance, gate):
    """Requests fail between stop and start alone; nothing that was in progress is cut."""
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    with glance.load(rate=10, kinds="lists") as load:
        straddle.begin()
        run = glance.start_to_replace(
            glance_replace_strategy="drain", glance_custom_config=capped(11)
        )
        while glance.get("/healthcheck")[0] != 503:
            still(run, 0.1, STOPPING)
        still(run, WAITS, NO_CONNECTION)
        straddle.release(imports=False)
        run.wait_for(NO_CONNECTION)
        still(run, WAITS, STOPPING)
        straddle.release()
        began, offset = run.wait_for(STOPPING), time.time() - load.status()["at"]
        ended = run.wait_for(ANSWERS)
        comment = glance.comment(run.result())
        report = load.stop()
    health = [one for one in report["failures"] if one["kind"] == "health"]
    others = [one for one in report["failures"] if one["kind"] != "health"]
    print(comment, f"gap {ended - began:.1f} s", len(others), "of", report["requests"], "failed")
    assert straddle.errors() == {}
    assert comment.startswith(f"{DRAINED}glance:glance_replace_strategy says drain ("), comment
    assert "Cut" not in comment
    # A load balancer sees it by the health check, clients in the gap.
    assert {one["reason"][:10] for one in health if one["at"] + offset < began} == {"status 503"}
    moments = [one["at"] + offset for one in others]
    assert moments, "a stop without a gap"
    assert began - MOMENT < min(moments) and max(moments) < ended + MOMENT
    assert glance.get("/healthcheck")[0] == 200


@pytest.mark.parametrize("glance", ["2023.2"], indirect=True)
def test_what_is_cut_is_told(glance, gate):
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    straddle.begin()
    run = glance.start_to_replace(glance_drain_timeout=CUT, glance_custom_config=capped(12))
    comment = glance.comment(run.result())
    straddle.abandon()
    print(comment, straddle.results())
    assert comment.startswith(HANDED_OVER), comment
    assert "Cut at glance:glance_drain_timeout: 3 transfers; " in comment
    for kind in ("import_direct", "import_web"):
        assert f"the import of image {straddle.images[kind]}" in comment
    # What was told is true: all five failed.
    assert set(straddle.errors()) == set(straddle.kinds)


@pytest.mark.parametrize("glance", ["2026.2"], indirect=True)
def test_drained_where_the_address_cannot_be_shared(glance, gate):
    """A newcomer, then an incumbent, that does not let others listen on its address."""
    result = glance.replace(glance_custom_config=NOT_SHARED)
    assert glance.comment(result).startswith(
        f"{DRAINED}with glance-api-uwsgi.ini: {{uwsgi: {{reuse-port: false}}}} in"
        " glance:glance_custom_config the new container cannot listen beside the old one ("
    )
    before = glance.container.id
    result = glance.replace(glance_custom_config=None, glance_replace_strategy="handover")
    assert result.rc != 0
    reason = (
        f"The listener on {glance.address}:9292 was opened without SO_REUSEPORT, so no second"
        " process can listen beside it."
    )
    assert result.comments == (
        "The hand-over that glance:glance_replace_strategy asks for cannot work: "
        f"{reason} Set it to auto or drain."
    )
    assert glance.container.id == before and glance.whole()
    result = glance.replace(glance_replace_strategy="auto")
    assert glance.comment(result).startswith(f"{DRAINED}t{reason[1:].rstrip('.')} (")
    assert glance.whole()


@pytest.mark.parametrize("glance", ["2023.2"], indirect=True)
def test_another_address_is_served_before_the_old_one_is_left(glance, gate):
    """To IPv6, under transfers on the old address; there, by hand-over again."""
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    straddle.begin()
    old = glance.address
    run = glance.start_to_replace(api_interface_address="::1")
    run.wait_for(ANSWERS)
    assert glance.get("/v2/images")[0] == 200
    still(run, WAITS, STOPPING)
    straddle.release()
    comment = glance.comment(run.result())
    straddle.move(glance.url)
    assert straddle.errors() == {}
    assert comment.startswith(HANDED_OVER) and "Cut" not in comment, comment
    assert glance.whole()
    result = glance.replace(glance_custom_config=capped(13))
    assert glance.comment(result).startswith(HANDED_OVER)
    assert glance.whole()
    glance.replace(api_interface_address=old)
