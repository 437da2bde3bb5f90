"""An upgrade of the three hosts as an operator starts it, and what is seen of it from outside."""

import re
import threading
import time

from glance_api import DRAIN_FILE
from support.bad_images import EXITS
from support.deployed import LABEL

POLL = 0.25  # seconds between two looks at the load balancer
STATE_SECONDS = 1.0  # what a step of Salt's may take by itself
ADVISORIES = ["OSSA-2026-004"]
# The last step with real schema work, and the heads of the schema before, between and after.
OLD, NEW = "2023.2", "2024.1"
OLD_HEADS, NEW_HEADS = ["2023_1_contract01"], ["2024_1_contract01"]
BETWEEN = [*OLD_HEADS, "2024_1_expand01"]
EVENTLET = "/var/lib/kolla/venv/bin/glance-api"


class Rotation(threading.Thread):
    """A context that watches the load balancer; `fewest` is the least number of hosts in it."""

    def __init__(self, haproxy):
        super().__init__(daemon=True)
        self._haproxy, self._over = haproxy, threading.Event()
        self.fewest, self.seen = 99, []

    def run(self):
        while not self._over.wait(POLL):
            try:
                servers = self._haproxy.servers()
            except OSError:
                continue
            up = [name for name, status in servers.items() if status == "UP"]
            if len(up) < self.fewest:
                self.fewest = len(up)
                self.seen.append((time.time(), servers))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()


class Roll:
    """One run of an orchestration that has ended.

    answer
        Its Answer (support/salt_master.py).
    seconds
        From its start to its end.
    """

    def __init__(self, cluster, mode="upgrade", job=None, **keywords):
        began = time.monotonic()
        job = job or start(cluster, mode, **keywords)
        self.answer = job.answer()
        self.seconds = time.monotonic() - began
        self.rc, self.states = self.answer.rc, self.answer.result.states

    @property
    def steps(self):
        """{sentence of a step: its state} of all that were run."""
        return {one["__id__"]: one for one in self.states}

    @property
    def failed(self):
        """The comments of what failed, with those of the states on the hosts."""
        return "\n".join(_comments([one for one in self.states if one["result"] is False]))

    @property
    def comments(self):
        return "\n".join(_comments(self.states))

    @property
    def changed(self):
        return [one["__id__"] for one in self.states if one.get("changes")]

    def step_seconds(self, words):
        """Seconds of the step with these words in its sentence."""
        (found,) = [one for name, one in self.steps.items() if words in name]
        return found["duration"] / 1000

    def unavoidable(self):
        """Seconds of what cannot be avoided: all that the hosts' work took, and Salt's steps.

        Containers starting, staying healthy, checked and stopped, the phases of the schema.
        """
        work = [
            float(seconds)
            for text in _comments(self.states)
            for seconds in re.findall(r"(?: in |It took )([\d.]+) s", text)
        ]
        return sum(work) + STATE_SECONDS * len(self.states)


def start(cluster, mode="upgrade", **keywords):
    """Start an orchestration; returns a Job."""
    return cluster.start_run("state.orchestrate", f"glance.orchestrate.{mode}", **keywords)


def _comments(found):
    """Every comment in states, however deep: those of the hosts are in the changes."""
    if isinstance(found, dict):
        own = [found["comment"]] if isinstance(found.get("comment"), str) else []
        return own + [text for value in found.values() for text in _comments(value)]
    if isinstance(found, list):
        return [text for value in found for text in _comments(value)]
    return []


def running(cluster):
    """{host: releases of its containers}, by their labels."""
    return {
        host.id: [one.labels["glance.release"] for one in host.containers()]
        for host in cluster.hosts
    }


def heads(cluster):
    """The heads of the schema."""
    query = "SELECT version_num FROM alembic_version ORDER BY 1"
    return [row[0] for row in cluster.production.mariadb.sql(query, "glance")]


def left_over(cluster):
    """What no finished run leaves: one-shot containers, others of ours, drained hosts."""
    found = []
    for host in cluster.hosts:
        every = host.engine.client.containers.list(all=True)
        found += [(host.id, one.name) for one in every if one.name != "glance_api"]
        for one in host.engine.client.containers.list(filters={"label": LABEL}):
            code = one.exec_run(["test", "-e", DRAIN_FILE]).exit_code
            found += [(host.id, "drained")] if code == 0 else []
    return found


def bad_release(cluster, release):
    """The image of an eventlet release that ends at once; its name, on every host."""
    tag = f"glance-api:{release}-bad-exits"
    base = cluster.image(release)
    for host in cluster.hosts:
        host.engine.derive(base, tag, {EVENTLET: (EXITS, 0o755)})
    return tag


def everywhere(cluster, release):
    return running(cluster) == {name: [release] for name in cluster.ids}


def on_the_old_release(cluster, rolling="yes", **keys):
    """All hosts on the old release, with a schema that it knows; the pillar names the new one."""
    if not everywhere(cluster, OLD) or heads(cluster) not in (OLD_HEADS, BETWEEN):
        cluster.image(NEW)
        cluster.deploy(OLD, glance_api_workers=3)
    cluster.pillar(
        glance_api_image_full=cluster.image(NEW),
        glance_enable_rolling_upgrade=rolling,
        glance_accepted_advisories=ADVISORIES,
        glance_upgrade_contract=None,
        **keys,
    )


def is_good(report):
    """No request failed, no image is altered, none is stuck."""
    print(f"\n{report['requests']} requests, {report['failed']} failed, {report['slowest']}")
    assert report["failed"] == 0, report["failures"]
    assert report["stuck"] == []
    assert {one["state"] for one in report["ledger"]} <= {"verified", "deleted"}
