"""The deploy orchestration: every host checked before one is touched, then one after the other."""

import json
import time

import psutil
import pytest

from support import bad_images
from support.cluster import BUSY, RELEASE

pytestmark = pytest.mark.cluster

DEPLOY = "glance.orchestrate.deploy"
GO_ON = f"go on with 'salt-run state.orchestrate {DEPLOY}'"
RATE = 20  # lists per second; small uploads and downloads come on top
QUICK = 20  # seconds for a run that finds nothing to do


class Deploying:
    """The orchestration on a cluster; ``last`` is its last Answer."""

    def __init__(self, cluster):
        self.cluster, self.last = cluster, None

    def __call__(self, **keywords):
        """Run it to its end; return its exit code."""
        began = time.monotonic()
        self.last = self.cluster.run("state.orchestrate", DEPLOY, **keywords)
        print(f"\n{time.monotonic() - began:.1f} s: {self.report}")
        return self.last.rc

    @property
    def steps(self):
        """IDs of the steps that did something or failed, in their order."""
        return [
            one["__id__"]
            for one in self.last.result.states
            if one["__id__"].endswith("pillar says") and "requisite failed" not in one["comment"]
        ]

    @property
    def failed(self):
        """The comments of what failed."""
        states = self.last.result.states
        return "\n".join(one["comment"] for one in states if one["result"] is False)

    @property
    def report(self):
        """The last words."""
        return self.last.result.states[-1]["comment"]

    def containers(self):
        """{minion id: id of its container}"""
        return {host.id: host.container.id for host in self.cluster.hosts}


@pytest.fixture(scope="module")
def served(cluster):
    """Three hosts that serve; each test leaves pillar and hosts in agreement."""
    cluster.deploy(reuse="edited")
    cluster.pillar(glance_replace_strategy=None, glance_haproxy_socket=None)
    return cluster


@pytest.fixture
def deploying(served):
    """The orchestration, on three hosts that serve."""
    assert served.whole()
    return Deploying(served)


def capped(gigabytes):
    """A pillar edit that changes the configuration: the largest image that is taken."""
    cap = {"DEFAULT": {"image_size_cap": gigabytes * 1024**3}}
    return {"glance_custom_config": {"glance-api.conf": cap}}


def test_an_edit_is_rolled_out_host_after_host_and_no_request_fails(cluster, deploying):
    """First one host fails; when the reason has gone, the same command goes on, under load."""
    before = deploying.containers()
    bad = bad_images.derive(cluster.host("ctl2").engine, cluster.image(RELEASE), "exits")
    cluster.pillar(glance_min_healthy_time=1, **capped(150))
    cluster.pillar("ctl2", glance_api_image_full=bad)
    follower = cluster.start_run("state.event", "glance/*")
    try:
        assert deploying() == 1, cluster.told(deploying.last)
    finally:
        cluster.pillar("ctl2", glance_api_image_full=None)
    halfway = deploying.containers()
    assert halfway == {**before, "ctl1": halfway["ctl1"]} and halfway["ctl1"] != before["ctl1"]
    assert deploying.report.startswith(
        "The deploy stopped at the step 'ctl2 runs Glance as its pillar says': ctl2: The new"
        " glance-api container was taken away again, because it exited with code 3"
    ), deploying.report
    for line in ("  done: ctl1\n", "  failed: ctl2\n", "  untouched: ctl3\n", GO_ON):
        assert line in deploying.report

    with cluster.load(rate=RATE) as load:
        load.wait(requests=20)
        assert deploying() == 0, cluster.told(deploying.last)
        report = load.stop()
    assert (report["failed"], report["stuck"]) == (0, []), report["failures"]
    assert all(report["kinds"][kind]["ok"] for kind in ("upload", "download", "import_web"))
    assert deploying.steps[1:] == [
        "ctl2 runs Glance as its pillar says",
        "ctl3 runs Glance as its pillar says",
    ]
    for name in ("ctl2", "ctl3"):
        assert f"{name}: The container was replaced by hand-over (newcomer" in deploying.report
    assert "  done: ctl2, ctl3\n  unchanged: ctl1\n" in deploying.report
    followed(follower.interrupt())
    after = deploying.containers()
    assert after["ctl1"] == halfway["ctl1"] and not set(after.values()) & set(before.values())

    began = time.monotonic()
    assert deploying() == 0, cluster.told(deploying.last)
    assert time.monotonic() - began < QUICK
    assert deploying.steps == [] and deploying.containers() == after
    assert deploying.report == (
        "ctl1, ctl2 and ctl3 run Glance as the pillar says: nothing is to be done."
    )


def followed(printed):
    """What an operator has seen in another terminal: each phase of each host, and how it ended."""
    lines = [line.split("\t", 1) for line in printed.splitlines() if line.startswith("glance/ctl")]
    told = [(tag, json.loads(text)["data"]) for tag, text in lines]
    assert all(set(data) == {"phase", "state", "seconds", "text"} for _, data in told), printed
    states = [(tag, data["state"]) for tag, data in told]
    assert ("glance/ctl2/replacement", "failed") in states, printed
    for name in ("ctl1", "ctl2", "ctl3"):
        mine = [state for state in states if state[0].startswith(f"glance/{name}/")]
        for phase in ("precheck", "replacement", "newcomer-healthy", "transfers-ended"):
            assert (f"glance/{name}/{phase}", "ends") in mine, (phase, printed)
        replaced = (f"glance/{name}/replacement", "begins"), (f"glance/{name}/replacement", "ends")
        assert mine.index(replaced[0]) < mine.index(replaced[1])


def refused(deploying, before, sentence):
    """The run ends before any host is touched, and says why."""
    assert deploying() == 1
    assert sentence in deploying.failed
    assert deploying.containers() == before and deploying.cluster.whole()


@pytest.mark.soak
def test_a_wrong_database_password_touches_no_host(cluster, deploying):
    before, password = deploying.containers(), cluster.keys["glance_database_password"]
    cluster.pillar(glance_database_password="wrong")
    try:
        refused(deploying, before, "glance:glance_database_password")
        assert "  untouched: ctl1, ctl2, ctl3" in deploying.report
    finally:
        cluster.pillar(glance_database_password=password)


@pytest.mark.soak
def test_an_image_that_one_host_lacks_touches_no_host(cluster, deploying):
    before = deploying.containers()
    cluster.pillar("ctl2", glance_api_image_full="glance-api:nowhere")
    try:
        refused(deploying, before, "ctl2: The image glance-api:nowhere is not on this host")
    finally:
        cluster.pillar("ctl2", glance_api_image_full=None)


@pytest.mark.soak
def test_an_edit_by_drain_fails_no_request(cluster, deploying):
    cluster.deploy(**BUSY)
    before = deploying.containers()
    kinds = "lists,transfers,upload_slow,download_slow,import_direct,import_web"
    cluster.pillar(glance_replace_strategy="drain", **capped(200))
    with cluster.load(rate=RATE, kinds=kinds) as load:
        load.wait(in_flight=["upload_slow", "download_slow"], ok={"import_direct": 1})
        assert deploying() == 0, cluster.told(deploying.last)
        report = load.stop()
    cluster.pillar(glance_replace_strategy=None)
    print({kind: (row["ok"], row["p99"]) for kind, row in report["kinds"].items()})
    assert (report["failures"], report["stuck"]) == ([], [])
    assert deploying.report.count("was replaced by draining it first") == 3
    assert not set(deploying.containers().values()) & set(before.values())


@pytest.mark.soak
def test_a_wrong_keystone_password_touches_no_host(cluster, deploying):
    before, password = deploying.containers(), cluster.keys["glance_keystone_password"]
    cluster.pillar(glance_keystone_password="wrong")
    try:
        refused(deploying, before, "glance:glance_keystone_password")
    finally:
        cluster.pillar(glance_keystone_password=password)


@pytest.mark.soak
def test_keystone_or_the_database_down_touches_no_host(cluster, deploying):
    before, edited = deploying.containers(), cluster.keys.get("glance_custom_config")
    cluster.pillar(**capped(300))
    for service, sentence in (
        (cluster.production.keystone, "(glance:keystone_internal_url) does not answer: no answer"),
        # It takes connections and is silent.
        (cluster.production.mariadb, "/glance cannot be read: no answer within 45 seconds"),
    ):
        service.container.pause()
        try:
            assert deploying() == 1
            assert sentence in deploying.failed
        finally:
            service.container.unpause()
        assert deploying.containers() == before and cluster.whole()
    cluster.pillar(glance_custom_config=edited)


@pytest.mark.soak
def test_a_host_that_is_down_touches_no_host(cluster, deploying):
    before = deploying.containers()
    minion = psutil.Process(cluster.master.minions["ctl3"].pid)
    processes = [minion, *minion.children(recursive=True)]
    for one in processes:
        one.suspend()
    try:
        refused(deploying, before, "ctl3 does not answer: start its salt-minion")
    finally:
        for one in processes:
            one.resume()


@pytest.mark.soak
def test_three_fresh_hosts_get_one_service_and_the_dry_run_tells_so(cluster):
    cluster.fresh()
    deploying = Deploying(cluster)
    assert deploying(test=True) == 0, deploying.last.stdout
    assert not any(host.containers() for host in cluster.hosts)
    assert "The deploy would go like this: ctl1, ctl2 and ctl3 get" in deploying.report
    assert deploying() == 0, cluster.told(deploying.last)
    cluster.haproxy.wait()
    assert cluster.whole()
    assert deploying.report.count("The schema was made in") == 1
    assert cluster.apply().changed == {}


@pytest.mark.soak
def test_a_second_orchestration_is_refused_and_one_that_was_killed_is_not_in_the_way(
    cluster, deploying
):
    cluster.pillar(**capped(500))
    first = cluster.start_run("state.orchestrate", DEPLOY)
    cluster.master.event("glance/ctl1/replacement")
    assert deploying() == 1
    assert "Another orchestration is in progress (deploy by" in deploying.last.stdout
    first.process.kill()
    # What it left at work on ctl1 ends first; then the rest is done.
    assert deploying() == 0, cluster.told(deploying.last)
    assert deploying() == 0 and deploying.steps == []
    assert cluster.whole()
