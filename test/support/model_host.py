"""A host in a few data structures: engine, kernel and API, for killing a run at every step.

Everything that a replacement does to the world goes through ``__salt__``. Here these functions
act on a model, count their effects, and stop the run for good at a given one. After
every effect the model tells whether a client would have been served.
"""

import os
import shutil
import types

from salt.exceptions import CommandExecutionError

import glance_container
import glance_drain
import glance_fallback
import glance_http
import glance_leftovers
import glance_newcomer
import glance_replace
import glance_retire
import glance_steering

# What a replacement consists of; none of it is modelled.
REPLACING = (
    glance_replace,
    glance_newcomer,
    glance_steering,
    glance_retire,
    glance_fallback,
    glance_leftovers,
)

NAME = "glance_api"
HERE = "10.0.0.5"
LOADING = 3.0  # seconds from the start of a container until its application is loaded
FAULTY = ("shallow", "poorer")  # behaviours that show only when images are moved
STOPPING = 4.0  # seconds that a container takes to stop


def functions_of(*modules):
    """{"module.function": function} of what these modules offer, as Salt's loader names it."""
    return {
        f"{module.__name__}.{name}": found
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, types.FunctionType)
        and found.__module__ == module.__name__
        and not name.startswith("_")
    }


REAL = functions_of(*REPLACING)


class Killed(BaseException):
    """The run was killed with SIGKILL: no handler of it may act any more."""


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self, host):
        self.now, self._host = 1000.0, host

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self._host.pass_time(seconds)
        self._host.look_on("a pause")


class Container:
    """A container: its name, its image's behaviour, and what became of it."""

    def __init__(self, number, name, spec, behaviour, policy):
        self.number, self.name, self.spec = number, name, spec
        self.behaviour, self.policy, self.address = behaviour, policy, HERE
        self.status, self.started, self.starts = "created", None, 0
        self.stops_at, self.by_hand, self.transfers_end = None, False, 0.0
        self.import_ends = 0.0
        self.drained = None

    @property
    def running(self):
        return self.status == "running"


class Host:
    """The model.

    behaviours
        {spec: "good", "exits", "refuses" (answers 500), "dies" (5 s after its start), "shallow"
        (the health check and a list are fine, images are not) or "poorer" (one of several stores
        does not work)}.
    policy
        Restart policy of the containers in charge.
    addresses
        {spec: address} of those that serve somewhere else than HERE.
    """

    def __init__(
        self, folder, behaviours, policy="unless-stopped", strategy="auto", addresses=None
    ):
        self.clock, self.behaviours = Clock(self), behaviours
        self.unshared = None  # why the listener's address cannot be shared
        self.unfit = None  # why the old container must not serve with the present schema
        self.database_back = 0.0  # the moment from which on the database is there
        self.keystone_away = False  # what serves goes on, but no check can log in
        self.addresses = addresses or {}
        self.settings = {
            "snapshot_dir": str(folder),
            "glance_api_listen_port": 9292,
            "glance_replace_strategy": strategy,
            "docker_restart_policy": policy,
            "glance_drain_timeout": 300,
            "keystone": True,
            "enable_haproxy": False,
            "glance_min_healthy_time": 2,
            "glance_healthy_deadline": 60,
            "docker_graceful_timeout": 60,
        }
        self.policy, self.containers, self._made = policy, [], 0
        self.order, self.probes = {}, {}  # by address
        self.balanced_out = False  # drained at the load balancer
        self.effects, self.kill_at, self.dead = 0, None, False
        self.refused, self.watch, self.events, self.on_effect = [], False, [], None

    # what a client sees

    def listening(self, address):
        return [one for one in self.containers if self._listens(one, address)]

    def _listens(self, one, address):
        return one.running and one.behaviour != "exits" and one.address == address

    def serves(self, one):
        loaded = self.clock.now >= max(one.started + LOADING, self.database_back)
        serves = one.behaviour in ("good", "dies", *FAULTY)
        return serves and one.stops_at is None and loaded

    def receivers(self, address, probe=False):
        """Who may get the next connection."""
        there = self.listening(address)
        if probe and self.probes.get(address) is not None:
            return [one for one in there if one.number == self.probes[address]]
        for number in self.order.get(address, []):
            chosen = [one for one in there if one.number == number]
            if chosen:
                return chosen
        return there

    def answers(self, address=None, probe=False):
        """Whether the next request is served; without an address, at any one."""
        if address is None:
            return any(map(self.answers, {HERE, *self.addresses.values()}))
        who = self.receivers(address, probe)
        return bool(who) and all(self.serves(one) for one in who)

    def keeps_images(self, address=None, probe=False, unless=FAULTY):
        """Whether an image that is sent with the next request is kept, in whatever store."""
        if address is None:
            return any(map(self.keeps_images, {HERE, *self.addresses.values()}))
        who = self.receivers(address, probe)
        return self.answers(address, probe) and all(one.behaviour not in unless for one in who)

    def pass_time(self, seconds):
        """Let the world go on."""
        self.clock.now += seconds
        self._settle()

    def _settle(self):
        for one in self.containers:
            if one.running and one.stops_at is not None and self.clock.now >= one.stops_at:
                self._end(one)
            age = self.clock.now - (one.started or 0)
            if one.running and one.behaviour == "exits" and age > 0.2:
                self._crash(one)
            if one.running and one.behaviour == "dies" and age > 5:
                self._crash(one)

    def _end(self, one):
        one.status, one.stops_at = "exited", None
        if not self.listening(one.address):
            self.order.pop(one.address, None)
            self.probes.pop(one.address, None)

    def _crash(self, one):
        self._end(one)
        if one.policy != "no" and not one.by_hand:
            self._run(one)

    def _run(self, one):
        one.status, one.started, one.by_hand, one.stops_at = "running", self.clock.now, False, None
        one.starts += 1
        one.number = self._next()  # a new socket, which no program names

    def _next(self):
        self._made += 1
        return self._made

    # what happens to it from outside

    def crash(self, one):
        """SIGKILL its first process: the engine restarts it when its policy says so."""
        self._crash(one)

    def kill(self, one):
        """docker kill: it stays dead."""
        one.by_hand = True
        self._end(one)

    def vanish(self, one):
        """Somebody removes it."""
        self._end(one)
        self.containers.remove(one)

    def reboot(self):
        """All processes and the engine die; the engine starts again."""
        for one in self.containers:
            if one.running:
                self._end(one)
        self.order, self.probes = {}, {}
        for one in self.containers:
            if one.policy == "always" or (one.policy == "unless-stopped" and not one.by_hand):
                self._run(one)

    # the functions that a replacement calls

    def _effect(self, what):
        """Count an effect; the run may be killed just before it."""
        self._look()
        self._settle()
        self.effects += 1
        if self.kill_at == self.effects:
            self.dead = True
            raise Killed(what)
        self.events.append(what)

    def _look(self):
        if self.dead:
            raise Killed

    def _done(self, what):
        self._settle()
        if self.on_effect:
            self.on_effect(self.effects)
        self.look_on(what)

    def look_on(self, what):
        """Note when a client is not served now."""
        if self.watch and not self.keeps_images():
            self.refused.append(f"{self.effects}: {what}")

    def _by_name(self, name):
        return next((one for one in self.containers if one.name == name), None)

    def _existing(self, name):
        if self._by_name(name) is None:
            raise CommandExecutionError(f"The Docker engine has no container {name}.")
        return self._by_name(name)

    def _of(self, pids):
        return [one for one in self.containers if one.running and one.number in (pids or [])]

    def _inspect(self, name):
        self._look()
        self._settle()
        one = self._by_name(name)
        return one and self._facts(one)

    def _facts(self, one):
        return {
            "name": one.name,
            "created": f"{self.containers.index(one):04}",
            "labels": {
                "glance.spec": one.spec,
                "glance.release": one.spec,
                "glance.url": f"http://{one.address}:9292",
            },
            "running": one.running,
            "status": one.status,
            "pid": one.number,
            "exit_code": 0 if one.running else 1,
            "started_at": f"start {one.started} {one.starts}",
            "restart_policy": one.policy,
        }

    def _containers(self, label="glance.service", *_):
        self._look()
        self._settle()
        if label != "glance.service":
            return []  # one-shot containers have ended before
        return [self._facts(one) for one in self.containers]

    def _in_charge(self):
        ours = self._containers()
        charge = glance_container.decide(ours, None, "")["incumbent"]
        running = any(one["running"] for one in ours if one["name"] == charge)
        return {"name": charge, "state": "running" if running else "stopped"}

    def _create(self, name, spec, labels, restart_policy):
        self._effect(f"create {name}")
        if self._by_name(name):
            raise CommandExecutionError(f"the name {name} is taken")
        behaviour = self.behaviours[labels["glance.spec"]]
        made = Container(self._next(), name, labels["glance.spec"], behaviour, restart_policy)
        made.address = self.addresses.get(made.spec, HERE)
        self.containers.append(made)
        self._done(f"create {name}")

    def _start(self, name):
        self._effect(f"start {name}")
        one = self._existing(name)
        if not one.running:
            self._run(one)
        self._done(f"start {name}")

    def _stop(self, name, timeout):
        self._effect(f"stop {name}")
        one = self._by_name(name)
        if one and one.running:
            # uWSGI whose processes still load does not end by itself.
            loads = self.clock.now < one.started + LOADING
            takes = timeout if loads else STOPPING
            one.by_hand, one.stops_at = True, self.clock.now + takes
            self._done(f"stopping {name}")
            self._effect(f"wait for the stop of {name}")
            if self.clock.now < one.transfers_end:
                self.refused.append(f"{name} was stopped with transfers in flight")
            if self.clock.now < one.import_ends:
                self.refused.append(f"{name} was stopped with an import in progress")
            self.pass_time(takes)
        elif one:
            one.by_hand = True
        self._done(f"stop {name}")

    def _remove(self, name):
        self._effect(f"remove {name}")
        one = self._by_name(name)
        if one:
            if one.running and self.clock.now < one.transfers_end:
                self.refused.append(f"{name} was removed with transfers in flight")
            self._end(one)
            self.containers.remove(one)
        self._done(f"remove {name}")

    def _rename(self, name, new):
        self._effect(f"rename {name} {new}")
        if self._by_name(new):
            raise CommandExecutionError(f"the name {new} is taken")
        self._existing(name).name = new
        self._done(f"rename {name}")

    def _restart_policy(self, name, policy, cpu_shares=None):
        self._effect(f"policy {policy} of {name}")
        self._existing(name).policy = policy
        self._done(f"policy {policy} of {name}")

    def _pids(self, name):
        self._look()
        self._settle()
        one = self._by_name(name)
        return [one.number] if one and one.running else []

    def _listeners(self, pids, address, port):
        self._look()
        self._settle()
        return [{"inode": one.number} for one in self._of(pids) if self._listens(one, address)]

    def _in_flight(self, pids, address, port):
        there = [one for one in self._of(pids) if one.address == address]
        return {"connections": sum(self.clock.now < one.transfers_end for one in there)}

    def _wait_until_idle(self, pids, address, port, timeout, handshakes=None, successor=None):
        self._effect("wait until idle")
        for one in self._of(pids):
            while self.clock.now < one.transfers_end and one.address == address:
                if successor is not None and not self._listeners(successor, address, port):
                    return {"idle": False, "connections": 1, "successor": False}
                self.pass_time(0.25)
        alive = None if successor is None else bool(self._listeners(successor, address, port))
        self._done("wait until idle")
        return {"idle": True, "connections": 0, "successor": alive}

    def _steer(self, to, address, port, fallback=None, probe=None):
        self._effect(f"steer {to} probe {probe}")
        if not self._listeners(to, address, port):
            raise CommandExecutionError("'to' does not listen")
        if probe is not None and not self._listeners(probe, address, port):
            raise CommandExecutionError("'probe' does not listen")
        there = self._of([*to, *(fallback or [])])
        order = [one.number for one in there if self._listens(one, address)]
        self.order[address] = sorted(order, key=lambda number: number not in to)
        self.probes[address] = probe[0] if probe else None
        self._done(f"steer {to} probe {probe}")
        return {"handshakes": []}

    def _release(self, pids, address, port):
        self._effect("release")
        self.order.pop(address, None)
        self.probes.pop(address, None)
        self._done("release")
        return True

    def _unsupported(self, pids, address, port):
        return self.unshared if self._listeners(pids, address, port) else "It does not listen."

    def _probe_once(self, settings, probe=True):
        self._look()
        self._settle()
        drained = any(one.drained for one in self.receivers(settings["api_address"], probe))
        ok = self.answers(settings["api_address"], probe) and not drained
        return {"ok": ok, "reason": "" if ok else "It does not answer."}

    def _deep_check(self, settings, probe=False):
        self._check("deep check", settings, probe, "shallow")

    def _no_worse(self, settings, probe=False, before=None):
        lost = self._lost(settings) if probe else before
        self._check("check of all stores", settings, probe, None if lost else "poorer")

    def _lost(self, settings):
        self._look()
        self._settle()
        there = [one.behaviour for one in self.receivers(settings["api_address"])]
        return {"archive": "It fails."} if "poorer" in there else {}

    def _check(self, what, settings, probe, fails):
        self._effect(what)
        if self.keystone_away:
            raise CommandExecutionError("Keystone gives no token.")
        if not self.keeps_images(settings["api_address"], probe, unless=(fails,)):
            raise CommandExecutionError("The check failed.")
        self._done(what)

    def _unfinished(self, settings, since=None, only=None):
        self._look()
        if not self.answers(settings["api_address"]):
            raise CommandExecutionError("The API does not answer.")
        tasks = {
            f"import of {one.spec}": {"id": one.spec}
            for one in self.containers
            if one.running and self.clock.now < one.import_ends
        }
        found = {task: image for task, image in tasks.items() if only is None or task in only}
        return {"tasks": list(found), "images": list(found.values())}

    def _drain(self, *_, by=""):
        self._effect("drain")
        for one in self.containers:
            if one.name == glance_container.decide(self._containers(), None, "")["incumbent"]:
                one.drained = by
        self._done("drain")

    def _resume(self):
        self._effect("resume")
        for one in self.containers:
            one.drained = None
        self._done("resume")

    def _begin_drain(self, settings, in_turn=False):
        self._drain(by="replacement")
        self._effect("drain at the load balancer")
        self.balanced_out = True
        self._done("drain at the load balancer")

    def _cancel_drain(self, settings):
        self._resume()
        self._ready(settings)

    def _ready(self, settings):
        self._effect("back into rotation")
        self.balanced_out = False
        self._done("back into rotation")

    def _schema_unfit(self, settings, container):
        self._effect("look at the schema")
        if self.clock.now < self.database_back:
            raise CommandExecutionError("The database cannot be reached.")
        if isinstance(self.unfit, Exception):
            raise self.unfit
        self._done("look at the schema")
        return self.unfit

    def _drained_by(self, pid):
        return next((one.drained for one in self._of([pid])), None)

    def _write(self, folder, files):
        self._effect("write the snapshot")
        os.makedirs(folder, exist_ok=True)

    def _remove_file(self, path):
        self._effect("remove a file")
        shutil.rmtree(path)

    def salt(self):
        """What ``__salt__`` is."""
        return {
            **REAL,
            "glance_progress.tell": lambda *told, **more: None,
            "glance_container.decide": glance_container.decide,
            "glance_container.facts": self._in_charge,
            "glance_container.is_ending": glance_container.is_ending,
            "glance_container.ending_name": glance_container.ending_name,
            "glance_container.snapshot": glance_container.snapshot,
            "glance_config_dir.write": self._write,
            "glance_http.at": glance_http.at,
            "glance_schema.unfit": self._schema_unfit,
            "glance_schema.checked": lambda: "seen",
            "file.remove": self._remove_file,
            "glance_process.another_lives": lambda text: False,
            "glance_engine.cgroup_version": lambda: 1,
            "glance_engine.containers": self._containers,
            "glance_engine.inspect": self._inspect,
            "glance_engine.create": self._create,
            "glance_engine.start": self._start,
            "glance_engine.stop": self._stop,
            "glance_engine.remove": self._remove,
            "glance_engine.rename": self._rename,
            "glance_engine.restart_policy": self._restart_policy,
            "glance_engine.pids": self._pids,
            "glance_engine.logs": lambda name: "",
            "glance_handover.steer": self._steer,
            "glance_handover.release": self._release,
            "glance_handover.unsupported": self._unsupported,
            "glance_sockets.listeners": self._listeners,
            "glance_sockets.in_flight": self._in_flight,
            "glance_sockets.wait_until_idle": self._wait_until_idle,
            "glance_api.probe_once": self._probe_once,
            "glance_api.deep_check": self._deep_check,
            "glance_check.no_worse": self._no_worse,
            "glance_check.lost": self._lost,
            "glance_api.unfinished": self._unfinished,
            "glance_api.drain": self._drain,
            "glance_api.drained": lambda: any(one.drained for one in self.containers),
            "glance_api.drained_by": self._drained_by,
            "glance_api.resume": self._resume,
            "glance_drain.begin": self._begin_drain,
            "glance_drain.cancel": self._cancel_drain,
            "glance_drain.is_ours": glance_drain.is_ours,
            "glance_drain.renew": lambda settings: False,
            "glance_drain.wait_for_last_request": lambda settings: None,
            "glance_balancer.ready": self._ready,
            "glance_balancer.drained": lambda settings: ["drained"] * self.balanced_out,
        }

    def want(self, spec):
        """What ``glance_container.wanted`` returns for a spec."""
        return {
            "hash": spec,
            "name": f"{NAME}_{spec}",
            "policy": self.policy,
            "spec": {},
            "labels": {"glance.spec": spec, "glance.release": spec},
        }

    def settings_for(self, spec):
        """The settings of a pillar that asks for a spec."""
        address = self.addresses.get(spec, HERE)
        return {**self.settings, "api_address": address, "self_url": f"http://{address}:9292"}
