"""The central promise: a pillar edit on one host, under load, fails no request.

One host, file backend, no load balancer, MariaDB and Keystone beside it; every replacement is
that of a real ``salt-call --local state.apply glance``.
"""

import pytest

from support.straddle import Straddle

pytestmark = pytest.mark.one_host

RELEASES = ["2023.2", "2024.1", "2025.2", "2026.1", "2026.2"]
RATE = 60  # lists per second; small uploads and downloads come on top
REQUESTS = 1500
SLOWEST = 2  # seconds that a request may take, the deliberately slow ones apart
WORKERS = 6  # the slow transfers hold three of them
DURING_SWITCH = {"upload", "upload_chunked", "download", "import_direct", "import_web"}
AFTER_SWITCH = 2 * RATE  # requests that the newcomer answers while the incumbent ends its work
CHECKING = "checking it deeply"  # what the run logs when the newcomer answers for the first time
SWITCHED = "new connections go to"


def pillar(gate):
    """Workers enough, and imports that last."""
    return {"glance_api_workers": WORKERS, "glance_min_healthy_time": 2, **gate.pillar}


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
        assert self.comment.startswith("The container was replaced by hand-over ("), self.comment
        assert "Cut" not in self.comment
        assert self.glance.container.id != self.before
        assert self.glance.container.name == "glance_api"
        # While it loads, a newcomer takes no CPU from the one that serves.
        assert self.weights[0] < (self.weights[1] or 1024) == 1024, self.weights
        assert self._weights() == [1024]


def capped(gigabytes):
    """A pillar edit that changes the configuration: the largest image that is taken."""
    cap = {"DEFAULT": {"image_size_cap": gigabytes * 1024**3}}
    return {"glance_custom_config": {"glance-api.conf": cap}}


def check(report, requests):
    """The promise, said in numbers."""
    assert report["failures"] == []
    assert report["requests"] >= requests
    assert report["requests"] / report["seconds"] >= 50
    assert report["slowest"]["seconds"] < SLOWEST, (report["slowest"], report["lag"])
    states = {entry["state"] for entry in report["ledger"]}
    assert states == {"deleted", "verified"}, states
    assert report["stuck"] == []


def told(report):
    """The figures of a report in one line."""
    figures = {key: report[key] for key in ("seconds", "requests", "failed", "slowest", "lag")}
    return {**figures, "kinds": report["kinds"], "failures": report["failures"][:5]}


@pytest.mark.parametrize("release", ["2023.2", "2026.2"])
def test_a_pillar_edit_fails_no_request(deploy, gate, release):
    glance = deploy(release, production=True, **pillar(gate))
    with glance.load(rate=RATE, kinds="lists,transfers") as load:
        edit = Edit(glance, load, gate, **capped(100))
        load.wait(requests=REQUESTS)
        report = load.stop()
    print(release, "switch at", edit.at, edit.comment, edit.errors, told(report))
    edit.check()
    check(report, REQUESTS)
