"""Three hosts, one service: a plain state.apply on all of them at once, at first and under load."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from support.cluster import BUSY
from support.deployed import RUNNING
from support.production import LOAD_PASSWORD

pytestmark = pytest.mark.cluster

ONCE = {
    "Glance database is present",
    "Glance schema is bootstrapped",
    "Glance is registered in Keystone",
}
# Kolla-Ansible's role alone took 18 s and 16 CPU s on a machine with two cores, changing nothing.
SECOND_RUN, SECOND_RUN_CPU = 15, 12  # seconds
KINDS = "lists,transfers,upload_slow,download_slow,import_direct,import_web"
RATE = 25  # lists per second; the rest comes on top
DRAINED = 300  # seconds until a host has begun to drain; a busy machine is slow to get there
AFTER = 200  # requests to come when the run has ended


@pytest.fixture
def group(cluster):
    """The cluster, deployed for slow transfers."""
    cluster.deploy(reuse="edited", **BUSY)
    cluster.pillar(glance_replace_strategy=None, glance_haproxy_socket=None)
    return cluster


def capped(gigabytes):
    """A pillar edit that changes the configuration: the largest image that is taken."""
    cap = {"DEFAULT": {"image_size_cap": gigabytes * 1024**3}}
    return {"glance_custom_config": {"glance-api.conf": cap}}


def edit_under_load(cluster, **change):
    """Edit the pillar and apply it on all hosts at once, under load; how each was replaced."""
    before = {host.id: host.container.id for host in cluster.hosts}
    already = len(cluster.haproxy.redispatched())
    with cluster.load(rate=RATE, kinds=KINDS, slow_seconds=8, slow_size=1) as load:
        load.wait(in_flight=["upload_slow", "download_slow"], ok={"import_direct": 1, "upload": 1})
        cluster.pillar(**change)
        began = load.status()["at"]
        answer = cluster.apply()
        seen = load.status()
        load.wait(requests=seen["requests"] + AFTER)
        report = load.stop()
    kinds = {kind: (row["ok"], row["p99"]) for kind, row in report["kinds"].items()}
    print(f"applied from {began:.0f} to {seen['at']:.0f} s", kinds, report["slowest"])
    print("answered by another host:", cluster.haproxy.redispatched()[already:])
    assert report["failures"] == [], cluster.told(answer)
    assert report["requests"] / report["seconds"] >= 20
    assert {entry["state"] for entry in report["ledger"]} == {"deleted", "verified"}
    assert report["stuck"] == []
    assert all(host.container.id != before[host.id] for host in cluster.hosts)
    return {name: comment(result) for name, result in answer.hosts.items()}


def comment(result):
    """What the state that replaces the container said."""
    return next(state["comment"] for state in result.states if state["__id__"] == RUNNING)


def test_a_first_apply_on_all_at_once_makes_one_service(cluster):
    first = cluster.deploy(bootstrap=True)
    done = {name: set(states) for name, states in first.changed.items()}
    shared = [name for name, states in done.items() if states & ONCE]
    assert shared == cluster.ids[:1] and done["ctl1"] >= ONCE, first.changed
    assert all(RUNNING in states for states in done.values())
    keystone = cluster.production.keystone
    assert len(keystone.ask("GET", "services?type=image")["services"]) == 1
    assert list(cluster.haproxy.servers()) == cluster.ids

    began, used = time.monotonic(), cluster.cpu()
    second = cluster.apply()
    seconds, used = time.monotonic() - began, cluster.cpu() - used
    print(f"second run on three hosts: {seconds:.1f} s, {used:.1f} CPU s")
    assert second.changed == {}
    assert seconds < SECOND_RUN and used < SECOND_RUN_CPU


def test_the_openstack_client_works_with_a_plain_clouds_yaml(cluster, tmp_path):
    cluster.deploy(reuse="edited")
    login = {
        "auth_url": f"{cluster.production.keystone.url}/v3",
        "username": "load",
        "password": LOAD_PASSWORD,
        "project_name": "load",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    clouds = {"clouds": {"here": {"auth": login, "region_name": "RegionOne"}}}
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump(clouds))
    (tmp_path / "up").write_bytes(b"what goes up" * 10000)

    def openstack(*arguments):
        program = str(Path(sys.executable).with_name("openstack"))
        line = [program, "--os-cloud=here", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.strip()

    made = openstack("image", "create", "--file=up", "-f", "value", "-c", "id", "mine")
    openstack("image", "save", "--file=down", made)
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    assert made in openstack("image", "list", "-f", "value", "-c", "ID")
    openstack("image", "delete", made)


@pytest.mark.soak
def test_an_edit_on_all_at_once_fails_no_request_by_hand_over(group):
    comments = edit_under_load(group, **capped(100))
    print(comments)
    assert all("was replaced by hand-over" in comment for comment in comments.values())


@pytest.mark.soak
def test_an_edit_on_all_at_once_fails_no_request_by_drain(group):
    """They take turns, though nobody tells them to; HAProxy is told by its admin socket."""
    comments = edit_under_load(
        group,
        glance_replace_strategy="drain",
        glance_haproxy_socket=[group.haproxy.admin],
        **capped(101),
    )
    print(comments)
    assert all("was replaced by draining it first" in comment for comment in comments.values())
    assert group.haproxy.servers() == dict.fromkeys(group.ids, "UP")


@pytest.mark.soak
def test_an_edit_on_all_at_once_fails_no_request_by_drain_that_haproxy_notices(group):
    """Without an admin socket, by the health check alone."""
    comments = edit_under_load(group, glance_replace_strategy="drain", **capped(102))
    print(comments)
    assert all("was replaced by draining it first" in comment for comment in comments.values())


@pytest.mark.soak
@pytest.mark.parametrize("told", [True, False])
def test_haproxy_is_reloaded_in_mid_drain(group, told):
    """A reload forgets what the admin socket was told; the health check remembers."""
    sockets = [group.haproxy.admin] if told else None
    group.pillar(
        glance_replace_strategy="drain", glance_haproxy_socket=sockets, **capped(103 + told)
    )
    first = group.hosts[0]
    # One upload keeps the drain going until HAProxy has been reloaded.
    upload = {"url": first.url, "kinds": "upload_slow", "slow_seconds": 60}
    with group.load(rate=RATE, kinds="lists,transfers") as load, group.load(**upload) as slow:
        slow.wait(in_flight=["upload_slow"])
        slow.begin_nothing_new()
        job = group.start(first.id, "state.apply", "glance")
        deadline = time.monotonic() + DRAINED
        while group.ask("GET", "/healthcheck", first)[0] == 200:
            assert time.monotonic() < deadline and not job.ended, job.answer().stdout[-3000:]
            time.sleep(0.1)
        assert slow.status()["in_flight"] == {"upload_slow": 1}
        group.haproxy.reload()
        answer = job.answer()
        load.wait(requests=load.status()["requests"] + AFTER)
        reports = slow.stop(), load.stop()
    group.must_work(answer, [first.id])
    assert [report["failures"] for report in reports] == [[], []]
    group.haproxy.wait()


@pytest.mark.soak
def test_a_drain_that_a_killed_run_left_is_lifted(group):
    first, before = group.hosts[0], group.keys.get("glance_custom_config")
    # The killed run has rendered its configuration already.
    lifted = {first.id: ["Glance configuration is rendered", RUNNING]}
    sockets = [group.haproxy.admin]
    group.pillar(glance_replace_strategy="drain", glance_haproxy_socket=sockets, **capped(120))
    uploads = {"url": first.url, "rate": 1, "kinds": "upload_slow", "slow_seconds": 30}
    with group.load(**uploads) as load:
        load.wait(in_flight=["upload_slow"])
        job = group.start(first.id, "state.apply", "glance")
        group.haproxy.wait(**{first.id: "DRAIN"})
        group.salt(first.id, "saltutil.kill_all_jobs")
        job.process.kill()
        assert group.ask("GET", "/healthcheck", first)[0] == 503
        group.pillar(glance_custom_config=before)
        would = group.salt(first.id, "state.apply", "glance", test=True)
        assert would.changed == lifted
        assert group.apply(first.id).changed == lifted
        group.haproxy.wait()
        assert group.ask("GET", "/healthcheck", first)[0] == 200
        assert load.stop()["failures"] == []
    assert group.apply(first.id).changed == {}


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["handover", "drain"])
def test_an_upload_of_90_seconds_survives_the_replacement_of_its_host(group, strategy):
    upload = {"kinds": "upload_slow", "slow_seconds": 90, "grace": 150}
    with group.load(rate=5, kinds="lists") as lists, group.load(**upload) as slow:
        slow.wait(in_flight=["upload_slow"])
        slow.begin_nothing_new()
        began = time.monotonic()
        group.pillar(glance_replace_strategy=strategy, **capped(110 + len(strategy)))
        answer = group.apply()
        seconds = time.monotonic() - began
        reports = slow.stop(), lists.stop()
    print(f"{seconds:.0f} s", {name: comment(result) for name, result in answer.hosts.items()})
    assert [report["failures"] for report in reports] == [[], []]
    assert [entry["state"] for entry in reports[0]["ledger"]] == ["deleted"]
    assert seconds > 80, "the host that has the upload was not waited for"
    assert not any("Cut" in result.comments for result in answer.hosts.values())


@pytest.mark.soak
def test_a_host_leaves_the_group_and_comes_back(group):
    """Its images are told before, its API goes cleanly, and HAProxy has those that stay."""
    record = {"name": "stays", "disk_format": "raw", "container_format": "bare"}
    kind = {"Content-Type": "application/json"}
    status, body = group.ask("POST", "/v2/images", body=json.dumps(record), headers=kind)
    assert status == 201, body
    path = f"/v2/images/{json.loads(body)['id']}/file"
    kind = {"Content-Type": "application/octet-stream"}
    assert group.ask("PUT", path, body=b"content", headers=kind)[0] == 204
    stay, last = group.ids[:2], group.hosts[-1]
    group.pillar(glance_api_group=stay)
    forgotten = group.salt(last.id, "state.apply", "glance", test=True).hosts[last.id]
    assert "set glance:enable_glance to no here" in forgotten.comments
    group.pillar(last.id, enable_glance="no")
    with group.load(rate=RATE, kinds="lists,transfers,upload_slow") as load:
        load.wait(in_flight=["upload_slow"])
        would = group.salt(last.id, "state.apply", "glance", test=True)
        assert "can be downloaded without it only if" in would.hosts[last.id].comments
        assert last.container.status == "running"
        answer = group.apply()
        report = load.stop()
    assert report["failures"] == [], group.told(answer)
    assert last.containers() == []
    assert list(group.haproxy.servers()) == stay
    assert group.ask("GET", path)[1] == b"content"
    assert group.apply().changed == {}

    group.pillar(glance_api_group=group.ids)
    group.pillar(last.id, enable_glance=None)
    group.apply()
    group.haproxy.wait(**dict.fromkeys(group.ids, "UP"))
    assert group.ask("GET", path, last)[1] == b"content"
