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
        self.local, self.waiting = threading.local(), set()
        self.against = []  # what HAProxy says of all others, when it sends them nothing

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
        self.point()
        glance_drain.begin(settings_of(name, self.allowed), in_turn=True)
        self.holding.add(name)
        self.most = max(self.most, len(self.holding))
        self.events.append(name)
        for _ in range(5):
            self.point()  # it stops, starts, is checked
        self.holding.discard(name)
        self.out.discard(name)  # the new container's health check
        with self.baton:
            self.alive.discard(name)
            if self.alive:
                self.choose()

    def run(self):
        hosts = [name for name in GROUP if name not in self.dead]
        self.alive = set(hosts)
        threads = [threading.Thread(target=self.host, args=[name], daemon=True) for name in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(self.events) == hosts


def settings_of(name, allowed=1):
    return {
        "minion_id": name,
        "glance_api_hosts": GROUP,
        "glance_api_listen_port": 9292,
        "glance_drain_timeout": 30,
        "glance_healthy_deadline": 30,
        "glance_upgrade_max_unavailable": allowed,
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
            "glance_balancer.drain": lambda settings: False,
            "glance_balancer.alone": lambda settings: list(made.against),
        }
        monkeypatch.setattr(glance_drain, "__salt__", parts, raising=False)
        monkeypatch.setattr(glance_drain, "time", made)
        return made

    return make


@pytest.mark.parametrize("seed", range(12))
def test_never_two_hosts_are_out_at_once(world, seed):
    made = world(seed)
    made.run()
    assert made.most == 1


@pytest.mark.parametrize("allowed", [2, "67%", 3, "100%"])
def test_more_are_out_at_once_where_that_is_allowed_but_never_all(world, allowed):
    most = 0
    for seed in range(12):
        made = world(seed, allowed=allowed)
        made.run()
        most = max(most, made.most)
    assert most == 2


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

    def make(dead=(), allowed=1):
        made = world(1, dead, allowed, Calm)
        made.local.name = "ctl1"
        made.against = ["glance_api_back/ctl2 at HAProxy /a is in maint"]
        return made

    return make


@pytest.mark.parametrize("dead", [[], ["ctl3"]])
def test_the_only_host_that_gets_requests_stays_while_another_answers(calm, dead):
    made = calm(dead=dead, allowed=2)
    with pytest.raises(glance_drain.CommandExecutionError) as refused:
        glance_drain.begin(settings_of("ctl1", 2), in_turn=True)
    assert str(refused.value) == (
        "This host stays in rotation, because HAProxy sends requests to no other one"
        " (glance_api_back/ctl2 at HAProxy /a is in maint), although others answer: set one 'ready'"
        " there ('set server ... state ready'), or see why its checks fail, and apply again."
    )
    assert made.out == set(), "its health check is as before"
    assert (made.now > 60) is bool(dead), "a host in its replacement is waited for before"


def test_a_host_that_haproxy_sees_a_moment_later_is_waited_for(calm, monkeypatch):
    made = calm()
    sleep = made.sleep

    def seen(seconds):
        sleep(seconds)
        made.against = made.against if made.now < 15 else []

    monkeypatch.setattr(made, "sleep", seen)
    glance_drain.begin(settings_of("ctl1"), in_turn=True)
    assert made.out == {"ctl1"} and made.now >= 15


def test_a_sole_survivor_may_be_worked_on(calm):
    made = calm(dead=["ctl2", "ctl3"])
    glance_drain.begin(settings_of("ctl1"), in_turn=True)
    assert made.out == {"ctl1"} and made.now > 60


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
