"""Of hosts that drain at once no more are out than allowed, in whatever order they get on."""

import random
import threading

import pytest

import glance_drain

pytestmark = pytest.mark.cluster

GROUP = ["ctl1", "ctl2", "ctl3"]
STEPS = 20000  # more than any run takes


class World:
    """Hosts as threads of which one at a time goes on, chosen by chance.

    Every call of the world and every pause is a point where another host may go on; a pause lets
    time pass.
    """

    def __init__(self, seed, dead=(), allowed=1):
        self.allowed = allowed
        self.random, self.baton = random.Random(seed), threading.Condition()
        self.now, self.turn, self.steps = 0.0, None, 0
        self.out, self.dead, self.holding, self.most, self.events = set(), set(dead), set(), 0, []
        self.failures = []
        self.local, self.waiting = threading.local(), set()
        self.socket, self.haproxy = False, {}  # what HAProxy has against hosts, if it can be asked

    def point(self):
        """Let another host go on, if chance wants it."""
        with self.baton:
            self.waiting.add(self.local.name)
            self.choose()
            self.baton.wait_for(lambda: self.turn == self.local.name)
            self.waiting.discard(self.local.name)

    def choose(self):
        self.steps += 1
        assert self.steps < STEPS, "they wait for each other"
        if len(self.waiting) == len(self.alive):
            self.turn = self.random.choice(sorted(self.waiting))
            self.baton.notify_all()

    # what glance_drain calls

    def request(self, settings, *_, **__):
        self.point()
        peer = settings["listen"].split(":")[0]
        if peer in self.out | self.dead:
            raise glance_drain.CommandExecutionError("503")

    def drain(self, settings, by):
        self.point()
        assert by == "replacement"
        self.out.add(self.local.name)

    def resume(self):
        self.point()
        self.out.discard(self.local.name)

    def balancer_drain(self, settings):
        self.point()
        if self.socket:
            self.haproxy[self.local.name] = "drained"
        return self.socket

    def out_of_rotation(self, settings):
        self.point()
        found = [
            {"name": name, "address": name, "status": status, "text": f"{name} is {status}"}
            for name, status in self.haproxy.items()
            if name != self.local.name
        ]
        return {"asked": [], "servers": found}

    def probe_once(self, settings, **_):
        self.point()

    def sleep(self, seconds):
        self.now += seconds / len(GROUP)
        self.point()

    def monotonic(self):
        return self.now

    # the hosts

    def host(self, name):
        self.local.name = name
        try:
            self.work(name)
        except Exception as error:
            self.failures.append(error)
            raise

    def work(self, name):
        self.point()
        glance_drain.begin(settings_of(name, self.allowed), in_turn=True)
        self.holding.add(name)
        self.most = max(self.most, len(self.holding))
        self.events.append(name)
        left = set(GROUP) - self.dead - self.holding - {*self.haproxy}
        assert left or {*self.dead, name} == set(GROUP), "nobody serves"
        for _ in range(5):
            self.point()  # it stops and starts
        self.out.discard(name)  # the new container's health check
        for _ in range(5 if self.socket else 0):
            self.point()  # it is checked, before HAProxy sends it anything
        self.holding.discard(name)
        self.haproxy.pop(name, None)
        with self.baton:
            self.alive.discard(name)
            if self.alive:
                self.choose()

    def run(self):
        hosts = [name for name in GROUP if name not in self.dead | {*self.haproxy}]
        self.alive = set(hosts)
        threads = [threading.Thread(target=self.host, args=[name], daemon=True) for name in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert self.failures == []
        assert sorted(self.events) == hosts


def settings_of(name, allowed=1):
    return {
        "minion_id": name,
        "glance_api_hosts": GROUP,
        "glance_api_listen_port": 9292,
        "glance_drain_timeout": 30,
        "glance_healthy_deadline": 30,
        "glance_upgrade_max_unavailable": allowed,
        "glance_haproxy_socket": [],
        "enable_haproxy": False,
    }


@pytest.fixture
def world(monkeypatch):
    """A function: seed, dead hosts, allowance -> a World in which glance_drain runs."""

    def make(seed, dead=(), allowed=1, kind=World):
        made = kind(seed, dead, allowed)
        members = [{"name": name, "address": name} for name in GROUP]
        parts = {
            "glance_haproxy.members": lambda settings: members,
            "glance_haproxy.notice": lambda settings: 11,
            "glance_http.request": made.request,
            "glance_api.drain": made.drain,
            "glance_api.resume": made.resume,
            "glance_api.probe_once": made.probe_once,
            "glance_balancer.drain": made.balancer_drain,
            "glance_balancer.out_of_rotation": made.out_of_rotation,
        }
        monkeypatch.setattr(glance_drain, "__salt__", parts, raising=False)
        monkeypatch.setattr(glance_drain, "time", made)
        return made

    return make


@pytest.mark.parametrize("socket", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_never_two_hosts_are_out_at_once(world, seed, socket):
    """Nor does one go whose turn it is while HAProxy still keeps out the one before."""
    made = world(seed)
    made.socket = socket
    made.run()
    assert made.most == 1


@pytest.mark.parametrize("socket", [False, True])
@pytest.mark.parametrize("allowed", [2, "67%", 3, "100%"])
def test_more_are_out_at_once_where_that_is_allowed_but_never_all(world, allowed, socket):
    most = 0
    for seed in range(12):
        made = world(seed, allowed=allowed)
        made.socket = socket
        made.run()
        most = max(most, made.most)
    assert most == 2


@pytest.mark.parametrize("seed", range(12))
def test_one_that_haproxy_keeps_out_is_none_that_is_left(world, seed):
    made = world(seed, allowed=2)
    made.socket, made.haproxy = True, {"ctl3": "in maint"}
    made.run()
    assert made.most == 1


@pytest.mark.parametrize(
    ("allowance", "count", "hosts"), [(1, 9, 1), ("2", 9, 2), ("25%", 9, 2), ("10%", 9, 1)]
)
def test_a_percentage_is_rounded_down_but_one_may_always_go(allowance, count, hosts):
    assert glance_drain.at_once(allowance, count) == hosts


def test_a_host_that_stays_away_is_not_waited_for_for_ever(world):
    made = world(1, dead=["ctl3"])
    made.run()
    assert made.most == 1
    assert made.now > 60, "but as long as its replacement could take"


@pytest.mark.parametrize("seed", range(12))
def test_of_those_that_are_left_one_stays_whatever_is_allowed(world, seed):
    made = world(seed, dead=["ctl3"], allowed=2)
    made.run()
    assert made.most == 1


class Calm(World):
    """One host alone goes on; the others are what they are."""

    def point(self):
        pass


@pytest.fixture
def calm(world):
    """A World in which ctl1 begins a drain while HAProxy sends requests to it only."""

    def make(dead=(), allowed=1, status="in maint"):
        made = world(1, dead, allowed, Calm)
        made.local.name = "ctl1"
        made.haproxy = {"ctl2": status, "ctl3": status}
        return made

    return make


@pytest.mark.parametrize(
    ("dead", "status", "after"),
    [
        ([], "in maint", 21),
        ([], "down", 42),
        ([], "drained", 81),  # as long as a replacement may take
        (["ctl3"], "in maint", 81),
    ],
)
def test_the_only_host_that_gets_requests_stays_while_another_answers(calm, dead, status, after):
    made = calm(dead, 2, status)
    with pytest.raises(glance_drain.CommandExecutionError) as refused:
        glance_drain.begin(settings_of("ctl1", 2), in_turn=True)
    other = "ctl3 does not answer its health check" if dead else f"ctl3 is {status}"
    assert str(refused.value) == (
        f"This host stays in rotation, because no other one serves (ctl2 is {status}, {other}):"
        " apply there, set it 'ready' at HAProxy ('set server ... state ready') or see why its"
        " checks fail, and apply again."
    )
    assert made.out == set(), "its health check is as before"
    assert after <= made.now < after + 2


def test_a_host_that_haproxy_sees_a_moment_later_is_waited_for(calm, monkeypatch):
    made = calm(status="down")
    sleep = made.sleep

    def seen(seconds):
        sleep(seconds)
        made.haproxy = made.haproxy if made.now < 15 else {}

    monkeypatch.setattr(made, "sleep", seen)
    glance_drain.begin(settings_of("ctl1"), in_turn=True)
    assert made.out == {"ctl1"} and made.now >= 15


def test_one_in_maint_by_the_will_of_an_operator_is_not_waited_for(calm):
    made = calm()
    del made.haproxy["ctl3"]
    glance_drain.begin(settings_of("ctl1"), in_turn=True)
    assert made.out == {"ctl1"} and made.now < 5, "but for HAProxy's own checks"


def test_a_sole_survivor_may_be_worked_on(calm):
    made = calm(dead=["ctl2", "ctl3"])
    glance_drain.begin(settings_of("ctl1"), in_turn=True)
    assert made.out == {"ctl1"} and made.now >= 60


def test_whoever_is_to_stop_with_all_others_does_not_ask(calm):
    made = calm()
    glance_drain.begin(settings_of("ctl1"))
    assert made.out == {"ctl1"}


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    done = []
    parts = {
        "glance_haproxy.members": lambda settings: [{"name": "ctl1", "address": "x"}],
        "glance_api.drain": lambda settings, by: done.append(by),
        "glance_balancer.drain": lambda settings: False,
    }
    monkeypatch.setattr(glance_drain, "__salt__", parts, raising=False)
    glance_drain.begin({**settings_of("ctl1"), "glance_api_hosts": ["ctl1"]}, in_turn=True)
    assert done == ["replacement"]
    assert glance_drain.is_ours(done[0]) and not glance_drain.is_ours("")


@pytest.mark.parametrize(("told", "waited"), [(True, []), (False, [11, "check"])])
def test_only_a_load_balancer_that_was_not_told_is_waited_for(monkeypatch, told, waited):
    """Until its checks have failed often enough, and as long as the last of them takes."""
    slept = []
    parts = {
        "glance_haproxy.notice": lambda settings: 11,
        "glance_api.drain": lambda settings, by: None,
        "glance_balancer.drain": lambda settings: told,
        "glance_api.probe_once": lambda settings, probe, timeout: slept.append("check"),
    }
    monkeypatch.setattr(glance_drain, "__salt__", parts, raising=False)
    monkeypatch.setattr(glance_drain.time, "sleep", slept.append)
    glance_drain.begin(settings_of("ctl1"))
    assert slept == waited
