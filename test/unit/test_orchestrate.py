"""The master's part: which hosts, what they say, who holds the lock."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_host
import glance_orchestrate

pytestmark = pytest.mark.cluster

GROUP = ["ctl1", "ctl2"]
FACTS = {"settings": {}, "faults": [], "change": False, "seconds": {}}


class Client:
    """Stands for Salt's LocalClient; `silent` minions do not answer."""

    def __init__(self, answers):
        self.answers, self.silent, self.asked = answers, set(), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def cmd(self, hosts, fun, **more):
        if fun == "glance_formula.within":
            self.saltenv, fun = more["arg"]
        self.asked.append((fun, list(hosts)))
        self.keywords = more.get("kwarg")
        assert more["tgt_type"] == "list" and more["full_return"]
        found = {}
        for host in hosts:
            if host in self.silent:
                found[host] = {"out": "no_return", "ret": "Minion did not return."}
            else:
                several = "refresh" if "glance_formula.digest" in fun else "sync"
                given = self.answers.get(fun if isinstance(fun, str) else several, {})
                found[host] = {"ret": given(host) if callable(given) else given, "retcode": 0}
        return found


class Master:
    """One master; what its parts answer may be changed by a test."""

    def __init__(self, monkeypatch):
        self.client = Client({"saltutil.running": [], "glance_host.facts": dict(FACTS)})
        self.accepted, self.pillars, self.known = ["ctl1", "ctl2", "web1"], {}, set(GROUP)
        self.other, self.facts, self.held, self.released = None, None, False, []
        self.made = {"refusals": [], "steps": [{"do": "state"}], "nothing": False}
        module = glance_orchestrate
        functions = {
            "glance_formula.digest": lambda: "same",
            "glance_lock.look": lambda: None,
            "glance_lock.held": lambda: self.held,
            "glance_lock.release": lambda: self.released.append(True),
            "glance_lock.take": lambda what, seconds, again: self.other,
            "glance_lock.sentence": lambda lock: f"{lock['owner']} is at work.",
            "glance_host.unknown": glance_host.unknown,
            "glance_deploy.plan": self._plan,
            "glance_upgrade.plan": self._plan,
            "glance_upgrade.contract_refusal": lambda facts: self.refusal,
        }
        self.refusal = None
        keys = type("Keys", (), {"list_keys": lambda _: {"minions": self.accepted}})
        for name, value in {
            "__salt__": functions,
            "__opts__": {},
            "_candidates": lambda accepted: accepted,
            "_with_pillar": lambda: self.known,
            "_pillar": lambda minion: self.pillars.get(minion, {}),
            "POLL": 0,
        }.items():
            monkeypatch.setattr(module, name, value, raising=False)
        monkeypatch.setattr(module.salt.key, "get_key", lambda opts: keys())
        monkeypatch.setattr(module.salt.client, "get_local_client", lambda mopts: self.client)

    def _plan(self, facts):
        self.facts = facts
        return self.made


@pytest.fixture
def master(monkeypatch):
    return Master(monkeypatch)


def refusal(**more):
    (sentence,) = glance_orchestrate.plan("deploy", **more)["plan"]["refusals"]
    return sentence


def test_the_masters_own_pillar_names_the_group(master):
    made = glance_orchestrate.plan("deploy", group=["ctl2", "ctl1"])
    assert made["hosts"] == ["ctl2", "ctl1"] and made["plan"] is master.made
    assert [host["id"] for host in master.facts["hosts"]] == ["ctl2", "ctl1"]


def test_else_the_pillar_of_the_minions_names_it(master):
    group = {"glance": {"glance_api_group": ["ctl2", "ctl1"]}}
    master.pillars = {"ctl1": group, "ctl2": group, "web1": {"web": {}}}
    assert glance_orchestrate.plan("deploy")["hosts"] == ["ctl2", "ctl1"]


def test_one_host_needs_no_group(master):
    master.pillars = {"web1": {"glance": {}}}
    assert glance_orchestrate.plan("deploy")["hosts"] == ["web1"]


def test_minions_that_disagree_are_told_in_one_sentence(master):
    master.pillars = {name: {"glance": {"glance_api_group": [name]}} for name in GROUP}
    assert refusal().startswith(
        "The pillars of the minions name different groups (ctl1: ctl1; ctl2: ctl2): make"
        " glance:glance_api_group the same for all"
    )
    assert master.client.asked == []


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        (None, "No accepted minion has a 'glance:' pillar"),
        (["ctl1", "ctl9"], "This master has not accepted ctl9, which glance:glance_api_group"),
        ({"ctl1": 1}, "glance:glance_api_group must be a list of minion ids."),
    ],
)
def test_a_group_that_cannot_be(master, group, sentence):
    assert refusal(group=group).startswith(sentence)
    assert master.client.asked == []


def test_a_group_may_be_a_text_with_commas_as_in_any_pillar(master):
    assert glance_orchestrate.plan("deploy", group="ctl1, ctl2")["hosts"] == GROUP
    master.pillars = {name: {"glance": {"glance_api_group": "ctl1,ctl2"}} for name in GROUP}
    assert glance_orchestrate.plan("deploy")["hosts"] == GROUP


def typed(*words):
    return {"fun": "state.orchestrate", "arg": ["glance.orchestrate.upgrade", *words]}


def test_a_key_that_the_command_line_names_in_vain_is_refused(master, monkeypatch):
    pillar = '{"glance": {"glance_upgrade_contract": "hold", "glance_api_group": ["ctl1"]}, "x": 1}'
    monkeypatch.setattr(glance_orchestrate, "__opts__", typed("test=True", f"pillar={pillar}"))
    assert refusal(group=GROUP) == (
        "glance:glance_upgrade_contract in the pillar of this command would reach no host, since"
        " each reads its own pillar: write it there. Only glance:glance_api_group may be named"
        " here."
    )
    assert master.client.asked == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("saltenv=dev", 'pillar={"glance": {"glance_api_group": ["ctl1", "ctl2"]}}'),
        ("pillar={other: 1}",),
        ("pillar={glance: null}",),
    ],
)
def test_the_command_line_may_name_the_group(master, monkeypatch, words):
    monkeypatch.setattr(glance_orchestrate, "__opts__", typed(*words))
    assert glance_orchestrate.plan("deploy", group=GROUP)["plan"] is master.made
    # The words of another function mean something else.
    other = {"fun": "salt.cmd", "arg": ["glance_orchestrate.plan", 'pillar={"glance": {"a": 1}}']}
    monkeypatch.setattr(glance_orchestrate, "__opts__", other)
    assert glance_orchestrate.plan("deploy", group=GROUP)["plan"] is master.made


def test_few_calls_and_the_modules_come_before_the_facts(master):
    glance_orchestrate.plan("deploy", group=GROUP)
    assert master.client.asked == [
        ("saltutil.running", GROUP),
        (list(glance_orchestrate.REFRESH), GROUP),
        (list(glance_orchestrate.SYNC), GROUP),
        ("glance_host.facts", GROUP),
    ]


def test_the_plan_tells_how_long_the_hosts_were_looked_at(master):
    master.client.answers["glance_host.facts"] = lambda host: {
        **FACTS, "seconds": {"proof": 2.5} if host == "ctl1" else {}
    }  # fmt: skip
    look = glance_orchestrate.plan("deploy", group=GROUP)["plan"]["look"]
    assert look["hosts"] == {"ctl1": {"proof": 2.5}} and look["seconds"] >= 0


def test_who_has_the_present_modules_does_not_take_them_again(master):
    """A minion that never synced does not even know the question."""
    unknown = "'glance_formula.digest' is not available."
    words = {"ctl1": "same", "ctl2": unknown}
    master.client.answers["refresh"] = lambda host: {"glance_formula.digest": words[host]}
    glance_orchestrate.plan("deploy", group=GROUP)
    assert (list(glance_orchestrate.SYNC), ["ctl2"]) in master.client.asked
    words["ctl2"] = "same"
    master.client.asked.clear()
    glance_orchestrate.plan("deploy", group=GROUP)
    assert list(glance_orchestrate.SYNC) not in [fun for fun, _ in master.client.asked]


def test_a_host_that_does_not_answer_is_left_to_the_planner(master):
    master.client.silent = {"ctl2"}
    glance_orchestrate.plan("deploy", group=GROUP)
    one, two = master.facts["hosts"]
    assert one["answers"] is True and two["answers"] is False and two["faults"] == []
    assert ("glance_host.facts", ["ctl1"]) in master.client.asked


def test_a_host_that_answers_with_an_error_has_a_fault(master):
    traceback = "The minion function caused an exception: Traceback:\n  x\nKeyError: 'y'\n"
    master.client.answers["glance_host.facts"] = traceback
    glance_orchestrate.plan("deploy", group=["ctl1"])
    assert master.facts["hosts"][0]["faults"] == ["It cannot be asked what it runs: KeyError: 'y'"]


def test_earlier_work_on_a_host_is_waited_for_but_not_by_a_dry_run(master):
    jobs = [[{"fun": "state.sls", "jid": "7"}], [{"fun": "state.sls", "jid": "7"}], []]
    master.client.answers["saltutil.running"] = lambda host: jobs.pop(0) if host == "ctl1" else []
    glance_orchestrate.plan("deploy", group=GROUP)
    assert jobs == []
    jobs += [[{"fun": "state.sls", "jid": "7"}]]
    assert refusal(group=GROUP, test=True).startswith(
        "Salt still works on ctl1 (state.sls, job 7): wait"
    )


def test_a_job_of_several_functions_is_work_as_well(master):
    several = {"fun": ["test.ping", "state.apply"], "jid": "7"}
    master.client.answers["saltutil.running"] = [several]
    assert "ctl1 (test.ping, state.apply, job 7)" in refusal(group=GROUP, test=True)
    several["fun"] = ["test.ping", "grains.items"]
    glance_orchestrate.plan("deploy", group=GROUP, test=True)


def test_another_orchestration_is_in_the_way_before_a_minion_is_asked(master):
    master.other = {"owner": "upgrade by root"}
    assert refusal(group=GROUP) == "upgrade by root is at work."
    assert master.client.asked == []
    assert glance_orchestrate.plan("deploy", group=GROUP, test=True)["plan"] is master.made


@pytest.mark.parametrize(
    ("steps", "held", "test", "released"),
    [
        ([{"do": "state"}], False, False, False),  # the report releases it
        ([], False, False, True),
        ([], True, False, False),  # the run around this one has it
        ([], False, True, False),
    ],
)
def test_the_lock_is_kept_while_there_is_work(master, steps, held, test, released):
    master.made, master.held = {**master.made, "steps": steps}, held
    glance_orchestrate.plan("deploy", group=GROUP, test=test, again=True)
    assert bool(master.released) is released
    assert master.facts["again"] is held


def test_the_schema_is_looked_at_by_the_first_host_of_an_upgrade_only(master):
    seen = {"position": "current"}
    master.client.answers["glance_host.facts"] = lambda host: {
        **FACTS,
        "schema": seen if host == master.client.keywords.get("schema") else None,
    }
    glance_orchestrate.plan("upgrade", group=GROUP)
    assert master.facts["schema"] == seen and master.facts["mode"] == "upgrade"
    assert [what for what, _ in master.client.asked].count("glance_host.facts") == 1
    glance_orchestrate.plan("deploy", group=GROUP)
    assert master.facts["schema"] is None


@pytest.mark.parametrize(
    ("pull", "held", "test", "new"),
    [
        ("always", False, False, True),
        ("always", True, False, False),  # the run around this one has pulled it
        ("always", False, True, False),
        ("missing", False, False, False),
    ],
)
def test_what_is_always_pulled_may_be_new(master, pull, held, test, new):
    settings = {"glance_image_pull": pull}
    master.client.answers["glance_host.facts"] = {**FACTS, "settings": settings}
    master.held = held
    glance_orchestrate.plan("upgrade", group=GROUP, test=test, again=True)
    assert master.facts["image_may_be_new"] is new


def test_a_step_on_the_master_looks_at_the_same_hosts(master):
    confirm = {"do": "runner", "fun": "salt.cmd", "arg": ["glance_orchestrate.confirm", "upgrade"]}
    nested = {"do": "runner", "fun": "state.orchestrate", "arg": ["glance.orchestrate.upgrade"]}
    master.made = {**master.made, "steps": [{"do": "state"}, confirm, nested]}
    state, confirm, nested = glance_orchestrate.plan("upgrade", group=GROUP)["plan"]["steps"]
    assert state["kwarg"] == {}
    assert confirm["kwarg"] == {"group": GROUP, "saltenv": "base"}
    assert nested["kwarg"] == {
        "pillar": {
            "glance": {"glance_api_group": GROUP},
            "glance_orchestration": {"again": True},
        },
        "saltenv": "base",
    }


def test_hosts_and_steps_read_the_files_of_the_same_environment(master):
    function = {"do": "function", "fun": "glance_host.precheck", "hosts": GROUP}
    master.made = {**master.made, "steps": [function]}
    (step,) = glance_orchestrate.plan("deploy", group=GROUP, saltenv="dev")["plan"]["steps"]
    assert step["fun"] == "glance_formula.within"
    assert step["arg"] == ["dev", "glance_host.precheck"] and step["kwarg"] == {}
    assert master.client.saltenv == "dev"
    assert master.client.keywords["saltenv"] == "dev", "the dry run as well"
    master.client.answers["saltutil.running"] = [{"fun": "glance_formula.within", "jid": "7"}]
    assert refusal(group=GROUP, test=True).startswith("Salt still works on ctl1")


def test_contraction_is_confirmed_or_refused_in_a_sentence(master):
    assert glance_orchestrate.confirm("upgrade", group=GROUP) == {"confirmed": True}
    asked = [what for what, _ in master.client.asked]
    assert asked == ["saltutil.running", "glance_host.facts"], "what runs, and nothing else"
    assert not {"schema", "prove"} & set(master.client.keywords)
    master.refusal = "Glance does not serve on ctl2."
    assert glance_orchestrate.confirm("upgrade", group=GROUP) == {"Error": master.refusal}
    with_error = glance_orchestrate.confirm("upgrade", group=["ctl9"])
    assert "has not accepted ctl9" in with_error["Error"]


def test_what_runs_outside_the_group_is_asked_of_minions_with_a_glance_pillar(master):
    others = [f"old{number}" for number in range(1, 6)]
    master.known = {*GROUP, *others}
    runs = {"state": "running", "release": "2026.1", "database": "mysql://db/glance"}
    trial = {**runs, "database": "sqlite://glance/glance.sqlite"}  # one of its own
    answers = {"old1": runs, "old2": {"state": "absent"}, "old4": "'glance_container.facts' is"}
    answers["old5"] = trial
    master.client.answers["glance_container.facts"] = answers.get
    master.client.silent = {"old3"}
    glance_orchestrate.plan("upgrade", group=GROUP)
    assert master.client.asked[-1] == ("glance_container.facts", others)
    assert master.facts["outsiders"] == [
        {"id": "old1", "release": "2026.1", "database": "mysql://db/glance"}
    ]


def test_whoever_works_on_a_host_right_before_contraction_is_waited_for(master, monkeypatch):
    """Such as a highstate that the minion's own schedule has begun."""
    jobs = [[{"fun": "state.highstate", "jid": "7"}], []]
    master.client.answers["saltutil.running"] = lambda host: jobs.pop(0) if host == "ctl1" else []
    assert glance_orchestrate.confirm("upgrade", group=GROUP) == {"confirmed": True}
    assert jobs == []
    monkeypatch.setattr(glance_orchestrate, "BUSY", 0)
    jobs += [[{"fun": "state.highstate", "jid": "7"}]]
    refused = glance_orchestrate.confirm("upgrade", group=GROUP)["Error"]
    assert refused.startswith("Salt still works on ctl1 (state.highstate, job 7): wait until")


def test_an_error_of_the_world_is_a_refusal(master):
    def broken(facts):
        raise CommandExecutionError("The world is not there.")

    glance_orchestrate.__salt__["glance_deploy.plan"] = broken
    assert refusal(group=GROUP) == "The world is not there."
    assert master.released
