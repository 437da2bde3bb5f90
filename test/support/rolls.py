"""An upgrade of the three hosts as an operator starts it, and what is seen of it from outside."""

import itertools
import os
import re
import signal
import threading
import time

from glance_api import DRAIN_FILE
from glance_report import NOT_RUN
from support import bad_images
from support.deployed import LABEL

POLL = 0.25  # seconds between two looks at the load balancer
LOOKS = 1  # of them a second that must have seen something
HOSTS = 3
# Requests of those kinds of load that are not called as these; the others send one of their name.
SENT = {"lists": ["list_new", "list_kept", "health"], "transfers": ["upload", "download"]}
STATE_SECONDS = 1.0  # what a step of Salt's may take by itself
QUESTIONS = 3  # to all hosts before the plan: who is at work, whose pillar is old, what runs
# In the report, what the hosts did for the plan.
HOST, SECONDS = re.compile(r" {12}(\S+): "), re.compile(r"([\d.]+) s")
ADVISORIES = ["OSSA-2026-004"]
# The last step with real schema work, and the heads of the schema before, between and after.
OLD, NEW = "2023.2", "2024.1"
OLD_HEADS, NEW_HEADS = ["2023_1_contract01"], ["2024_1_contract01"]
BETWEEN = [*OLD_HEADS, "2024_1_expand01"]
# What states say of work that nobody can avoid: containers that start, are checked, stay healthy
# and stop, phases of the schema, the backup, a last check.
WORK = re.compile(
    r"(?:newcomer healthy in|transfers ended in|incumbent stopped in|It took) ([\d.]+) s"
)


class Rotation(threading.Thread):
    """A context that watches the load balancer; afterwards ask :py:meth:`check`.

    fewest
        How many hosts were in rotation at least.
    """

    def __init__(self, haproxy):
        super().__init__(daemon=True)
        self._haproxy, self._over = haproxy, threading.Event()
        self._began = self._seconds = None
        self._looks, self.fewest, self._seen = 0, HOSTS + 1, []

    def run(self):
        while not self._over.wait(POLL):
            try:
                servers = self._haproxy.servers()
            except OSError:
                continue
            self._looks += 1
            up = [name for name, status in servers.items() if status == "UP"]
            if len(up) < self.fewest:
                self.fewest = len(up)
                self._seen.append((time.time(), servers))

    def __enter__(self):
        self._began = time.monotonic()
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()
        self._seconds = time.monotonic() - self._began

    def check(self, fewest=HOSTS - 1):
        """It was watched all the time, and never were fewer hosts in rotation."""
        assert self._looks >= LOOKS * self._seconds, (self._looks, self._seconds)
        assert fewest <= self.fewest <= HOSTS, self._seen


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
        self._cluster, self._jobs = cluster, {}

    @property
    def steps(self):
        """{sentence of a step: its state} of all that were run."""
        return {one["__id__"]: one for one in self.states}

    @property
    def failed(self):
        """The comments of what failed, here and on the hosts; not of what only did not run."""
        return "\n".join(_comments(self.states, _has_failed))

    @property
    def comments(self):
        return "\n".join(_comments(self.states))

    @property
    def changed(self):
        return [one["__id__"] for one in self.states if one.get("changes")]

    @property
    def report(self):
        """What the last state tells."""
        return next(
            one["comment"] for name, one in self.steps.items() if name.endswith(" reported")
        )

    def step_seconds(self, words):
        """Seconds of the step with these words in its sentence."""
        (found,) = [one for name, one in self.steps.items() if words in name]
        return found["duration"] / 1000

    def states_of(self, words, host):
        """The states of a host in the step with these words in its sentence."""
        (found,) = [one for name, one in self.steps.items() if words in name]
        return self._hosts(found)[host]

    def unavoidable(self):
        """Seconds of what cannot be avoided: the work that hosts tell of, and Salt for each step.

        Of hosts that work at the same time the slowest counts. The look at all hosts is a step for
        each question; its work is the look at the schema, and the proof that the new image accepts
        the configuration.
        """
        look = QUESTIONS * STATE_SECONDS + max(self._look.values())
        return look + sum(STATE_SECONDS + self._work(one) for one in self.done)

    @property
    def _look(self):
        """{host: seconds of work} of the look at all hosts, as the report tells."""
        told = self.report.partition("All hosts were looked at\n")[2].splitlines()
        hosts = itertools.takewhile(lambda line: HOST.match(line), told)
        return {
            HOST.match(line)[1]: sum(float(one) for one in SECONDS.findall(line)) for line in hosts
        }

    def profile(self):
        """Where the time went: for each step its seconds, the unavoidable part, what was slow."""
        lines, inside = [], 0
        for one in self.done:
            seconds = one["duration"] / 1000
            inside += seconds
            work = self._work(one)
            slow = sorted(
                (state.get("duration") or 0, host, state.get("__id__"))
                for host, states in self._hosts(one).items()
                for state in states
            )[-4:]
            told = ", ".join(f"{host}: {name} {ms / 1000:.1f}" for ms, host, name in slow[::-1])
            lines.append(f"{seconds:7.1f} {work:6.1f}  {one['__id__']} ({told})")
        lines.append(f"{self.seconds - inside:7.1f}    0.0  before, between and after the steps")
        return "\n".join(lines)

    def _work(self, step):
        """Seconds of work that the states of a step tell of, on the host that took longest."""
        seconds = [
            sum(float(found) for one in states for found in WORK.findall(str(one.get("comment"))))
            for states in self._hosts(step).values()
        ]
        return max(seconds, default=0)

    def _hosts(self, step):
        """{host: its states} of a step; those of a step without changes are kept by its job."""
        told = (step.get("changes") or {}).get("ret")
        if not told and step.get("__jid__"):
            told = self._jobs.get(step["__jid__"])
            if told is None:
                told = self._cluster.run("jobs.lookup_jid", step["__jid__"]).json
                self._jobs[step["__jid__"]] = told
        return {
            host: [one for one in states.values() if isinstance(one, dict)]
            for host, states in (told or {}).items()
            if isinstance(states, dict)
        }

    @property
    def done(self):
        """The steps of the plan that were run, in their order."""
        every = self.answer.result.json or {}
        steps = [one for tag, one in every.items() if tag.startswith("salt_|-")]
        ran = [one for one in steps if one.get("__state_ran__", True)]
        return sorted(ran, key=lambda one: one["__run_num__"])


def start(cluster, mode="upgrade", **keywords):
    """Start an orchestration; returns a Job."""
    return cluster.start_run("state.orchestrate", f"glance.orchestrate.{mode}", **keywords)


def _comments(found, which=lambda state: True):
    """The comments of states, however deep: those of the hosts are in the changes."""
    if isinstance(found, dict):
        own = [found["comment"]] if isinstance(found.get("comment"), str) and which(found) else []
        return own + [text for value in found.values() for text in _comments(value, which)]
    if isinstance(found, list):
        return [text for value in found for text in _comments(value, which)]
    return []


def _has_failed(state):
    return state.get("result") is False and not state["comment"].startswith(NOT_RUN)


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


def bad_release(cluster, release, kind, **values):
    """The image of an eventlet release that is no good, on all hosts (bad_images.derive)."""
    base = cluster.image(release)
    (name,) = {
        bad_images.derive(host.engine, base, kind, bad_images.EVENTLET, **values)
        for host in cluster.hosts
    }
    return name


def everywhere(cluster, release):
    return running(cluster) == {name: [release] for name in cluster.ids}


def on_the_old_release(cluster, rolling="yes", fresh_schema=False, **keys):
    """All hosts on the old release, with a schema that it knows; the pillar names the new one.

    fresh_schema
        Whether the schema must not be expanded yet; the database loses what it holds then.
    """
    served = everywhere(cluster, OLD) and cluster.whole()
    if not served or heads(cluster) not in (OLD_HEADS, BETWEEN):
        cluster.image(NEW)
        cluster.deploy(OLD, glance_api_workers=3)
    if fresh_schema and heads(cluster) != OLD_HEADS:
        cluster.restore_database(OLD)
    cluster.pillar(
        glance_api_image_full=cluster.image(NEW),
        glance_enable_rolling_upgrade=rolling,
        glance_accepted_advisories=ADVISORIES,
        glance_upgrade_contract=None,
        **keys,
    )


def kill(cluster, job, *victims, host="ctl1"):
    """Kill -9 of the orchestration, and of the engine or the minion of a host, which come back.

    Without ``orchestration`` that must find out by itself.
    """
    if "orchestration" in victims:
        os.killpg(job.process.pid, signal.SIGKILL)
        code = job.process.wait()
        assert code == -signal.SIGKILL, f"it ended with {code} before it was killed"
    if "minion" in victims:
        minion = cluster.master.minions[host]
        minion.terminate()  # with the job that is at work
        minion.start()
    if "engine" in victims:
        engine = cluster.host(host).engine
        engine.kill_daemon()
        engine.start()
    if "orchestration" not in victims:
        assert Roll(cluster, job=job).rc != 0, "it tells that it has lost a host"


def finishes(cluster):
    """The same command goes on to the end, and nothing is left over. Returns its Roll."""
    roll = Roll(cluster)
    assert roll.rc == 0, (roll.failed, cluster.told(roll.answer))
    assert everywhere(cluster, NEW)
    assert left_over(cluster) == []
    return roll


def is_good(report):
    """A load of lists and transfers was what it should be, and everything went well.

    Each kind was answered, as often as asked for; no request failed; no image is altered or stuck.
    """
    print(f"\n{report['requests']} requests, {report['failed']} failed, {report['slowest']}")
    assert report["failures"] == [], report["failures"][:10]
    assert report["stuck"] == []
    asked, kinds = report["asked"], report["kinds"]
    assert {"lists", "transfers"} <= set(asked["kinds"])
    # What a loop has begun it ends, or fails: the slow kinds are there as well.
    sent = [kind for one in asked["kinds"] for kind in SENT.get(one, [one])]
    assert [kind for kind in sent if not kinds.get(kind, {}).get("ok")] == []
    assert report["requests"] / report["seconds"] >= asked["rate"]
    assert report["ledger"]
    assert {one["state"] for one in report["ledger"]} <= {"verified", "deleted"}
