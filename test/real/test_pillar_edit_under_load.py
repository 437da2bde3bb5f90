"""The central promise: a pillar edit on one host, under load, fails no request.

One host, file backend, no load balancer, MariaDB and Keystone beside it. Every replacement is
that of a real ``salt-call --local``; slow transfers and imports last until a test lets them end.
"""

import time

import pytest

from support.straddle import Straddle

pytestmark = pytest.mark.one_host

RELEASES = ["2023.2", "2024.1", "2025.2", "2026.1", "2026.2"]
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]
RATE = 50  # lists per second; small uploads and downloads come on top
REQUESTS, SOAK_REQUESTS, SOAK_EDITS = 1500, 5000, 10
SLOWEST = 2  # seconds that a request may take, the deliberately slow ones apart
SOAK_RATE = 44  # with slow transfers all the time; still more than 50 requests per second in all
WORKERS = 6  # the slow transfers hold three of them
# Each request of a worker beside its first takes a connection of its own to the database. With
# Kolla's pool of one it is made anew each time, and a busy machine never catches up again.
POOL = 10
AFTER_SWITCH = 2 * RATE  # requests that the newcomer answers while the incumbent ends its work
DURING_SWITCH = {"upload", "upload_chunked", "download", "import_direct", "import_web"}
CUT = 2  # seconds of glance_drain_timeout, where something is to be cut
WAITS = 1.5  # seconds in which a run that waits for something must not go on
MOMENT = 1  # seconds by which clocks and reports of a load may be late

# What a run logs: the newcomer answers for the first time, and so on.
CHECKING = "checking it deeply"
SWITCHED = "new connections go to"
NO_CONNECTION = "has no connection left"
STOPPING = "glance-api: stopping"
# What the state says.
HANDED_OVER = "The container was replaced by hand-over ("
DRAINED = "The container was replaced by draining it first, because "


@pytest.fixture(scope="module")
def release(request):
    """Of this scope, so that tests of one release follow each other and share a deployment."""
    return request.param


@pytest.fixture
def glance(release, deploy, gate):
    """Glance as the test before left it, if it serves."""
    keys = {
        "glance_api_workers": WORKERS,
        "glance_min_healthy_time": 2,
        "database_max_pool_size": POOL,
        **gate.pillar,
    }
    made = deploy(release, production=True, reuse="edited", **keys)
    made.change(glance_replace_strategy=None, glance_drain_timeout=None)
    return made


def on(*releases):
    return pytest.mark.parametrize("release", releases, indirect=True)


def capped(gigabytes):
    """A pillar edit that changes the configuration: the largest image that is taken."""
    cap = {"DEFAULT": {"image_size_cap": gigabytes * 1024**3}}
    return {"glance_custom_config": {"glance-api.conf": cap}}


def still(run, seconds, text):
    """The run goes on for so long and has not said that."""
    time.sleep(seconds)
    assert run.process.poll() is None, run.printed[-3000:]
    assert text not in run.log, run.log[-3000:]


class Edit:
    """A pillar edit during which slow transfers and imports span the switch."""

    def __init__(self, glance, load, gate, **change):
        self.glance, self.before = glance, glance.container.id
        self.straddle = Straddle(glance.url, glance.token, gate).prepare()
        self.straddle.begin()
        run = glance.start(**change)
        run.wait_for(CHECKING)
        self.weights = self._weights()
        self.switched = run.wait_for(SWITCHED)
        seen = load.status()
        self.at = seen["at"]
        load.wait(requests=seen["requests"] + AFTER_SWITCH)
        self.straddle.wait_past(self.switched)
        self.straddle.release()
        self.comment = glance.comment(run.result())
        self.errors = self.straddle.errors()

    def _weights(self):
        """How the containers share the CPU, the newest first; 0 is the usual weight."""
        return [one.attrs["HostConfig"]["CpuShares"] for one in self.glance.containers()]

    def check(self):
        """It was a hand-over, and cut nothing."""
        assert self.errors == {}, (self.comment, self.glance.logs())
        spanned = self.straddle.across(self.switched)
        assert spanned == DURING_SWITCH, (self.switched, self.straddle.found)
        assert self.comment.startswith(HANDED_OVER), self.comment
        assert "Cut" not in self.comment
        assert self.glance.container.id != self.before
        assert self.glance.container.name == "glance_api"
        if self.glance.container.client.info().get("CgroupVersion") == "2":
            assert self._weights() == [0], "nothing would bring the usual weight back"
            return
        # While it loads, a newcomer takes no CPU from the one that serves.
        assert self.weights[0] < (self.weights[1] or 1024) == 1024, self.weights
        assert self._weights() == [1024]


def check(report, requests):
    """The promise, said in numbers."""
    assert report["failures"] == []
    assert report["requests"] >= requests
    assert report["requests"] / report["seconds"] >= 50
    assert report["slowest"]["seconds"] < SLOWEST, (report["slow"], report["lag"])
    states = {entry["state"] for entry in report["ledger"]}
    assert states == {"deleted", "verified"}, states
    assert report["stuck"] == []


def told(report):
    """The figures of a report in one line; of each kind the number, p50 and p99."""
    figures = {key: report[key] for key in ("seconds", "requests", "failed", "slowest", "lag")}
    slow = [(one["kind"], one["at"], one["seconds"]) for one in report["slow"]]
    kinds = {kind: (row["ok"], row["p50"], row["p99"]) for kind, row in report["kinds"].items()}
    return {**figures, "kinds": kinds, "failures": report["failures"][:5], "slow": slow}


@on(OLDEST, NEWEST)
def test_a_pillar_edit_fails_no_request(glance, gate):
    with glance.load(rate=RATE, kinds="lists,transfers") as load:
        edit = Edit(glance, load, gate, **capped(100))
        load.wait(requests=REQUESTS)
        report = load.stop()
    print(glance.release, f"switch at {edit.at} s:", edit.comment, edit.errors, told(report))
    edit.check()
    check(report, REQUESTS)


@pytest.mark.soak
@on(*RELEASES)
def test_many_pillar_edits_fail_no_request(glance, gate):
    kinds = "lists,transfers,upload_slow,upload_chunked,download_slow"
    edits = []
    glance.edit(glance_api_workers=WORKERS + 3)
    with glance.load(rate=SOAK_RATE, kinds=kinds, slow_seconds=4) as load:
        for number in range(SOAK_EDITS):
            edits.append(Edit(glance, load, gate, **capped(200 + number)))
            print(glance.release, f"switch at {edits[-1].at} s:", edits[-1].comment)
            edits[-1].check()
        load.wait(requests=SOAK_REQUESTS)
        report = load.stop()
    glance.edit(glance_api_workers=WORKERS)
    print(glance.release, told(report))
    check(report, SOAK_REQUESTS)


@pytest.mark.soak
@on(OLDEST)
def test_drain_waits_for_transfers_and_imports(glance, gate):
    """Requests fail between stop and start alone; nothing that was in progress is cut."""
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    with glance.load(rate=10, kinds="lists") as load:
        straddle.begin()
        run = glance.start_to_replace(glance_replace_strategy="drain", **capped(11))
        while glance.get("/healthcheck")[0] != 503:
            still(run, 0.1, STOPPING)
        still(run, WAITS, NO_CONNECTION)
        straddle.release(imports=False)
        run.wait_for(NO_CONNECTION)
        still(run, WAITS, STOPPING)
        straddle.release()
        began, offset = run.wait_for(STOPPING), time.time() - load.status()["at"]
        ended = run.wait_for(CHECKING)
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


@pytest.mark.soak
@on(OLDEST)
def test_what_is_cut_is_told(glance, gate):
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    straddle.begin()
    run = glance.start_to_replace(glance_drain_timeout=CUT, **capped(12))
    comment = glance.comment(run.result())
    straddle.abandon()
    print(comment, straddle.results())
    assert comment.startswith(HANDED_OVER), comment
    assert "Cut at glance:glance_drain_timeout: 3 transfers; " in comment
    for kind in ("import_direct", "import_web"):
        assert f"the import of image {straddle.images[kind]}" in comment
    # What was told is true: all five failed.
    assert set(straddle.errors()) == set(straddle.kinds)


@pytest.mark.soak
@on(OLDEST)
def test_another_address_is_served_before_the_old_one_is_left(glance, gate):
    """To IPv6, under transfers on the old address; there, by hand-over again."""
    straddle = Straddle(glance.url, glance.token, gate).prepare()
    straddle.begin()
    run = glance.start_to_replace(api_interface_address="::1")
    run.wait_for(CHECKING)
    assert glance.get("/v2/images")[0] == 200
    still(run, WAITS, STOPPING)
    straddle.release()
    comment = glance.comment(run.result())
    straddle.move(glance.url)
    assert straddle.errors() == {}
    assert comment.startswith(HANDED_OVER) and "Cut" not in comment, comment
    assert glance.whole()
    with glance.load(rate=10, kinds="lists") as load:
        comment = glance.comment(glance.replace(**capped(13)))
        report = load.stop()
    print(comment, told(report))
    assert comment.startswith(HANDED_OVER)
    assert report["failures"] == []
    assert glance.whole()


@pytest.mark.soak
@on(NEWEST)
def test_drained_where_the_address_cannot_be_shared(glance):
    """A newcomer, then an incumbent, that does not let others listen on its address."""
    alone = {"glance-api-uwsgi.ini": {"uwsgi": {"reuse-port": False}}}
    result = glance.replace(glance_custom_config=alone, glance_api_workers=1)
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
