"""What an orchestration learns from one host, over functions that the test chooses."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_host
import glance_image

pytestmark = pytest.mark.cluster

SETTINGS = {
    **dict.fromkeys(glance_host.SETTINGS, ""),
    "enable_glance": True,
    "runs_api": True,
    "glance_api_image_full": "glance-api:2026.2",
    "glance_image_pull": "missing",
    "self_url": "http://10.0.0.1:9292",
    "glance_database_password": "secret",
    "database_kind": "mysql",
    "database_identity": "mysql://10.0.0.9:3306/glance",
    "glance_database_address": "[fd00::9]:3306",
    "glance_database_move": False,
    "use_preconfigured_databases": False,
    "keystone": True,
    "glance_keystone_register": True,
    "minion_id": "ctl1",
    "schema_host": "ctl1",
}
LABELS = {"glance.url": SETTINGS["self_url"], "glance.release": "2026.2"}
RUNNING = {
    "state": "running",
    "name": "glance_api",
    "release": "2026.2",
    "version": "33.0.0",
    "image_id": "sha256:1",
    "spec": "aaaa",
    "health": "healthy",
    "database": SETTINGS["database_identity"],
    "leftovers": [],
    "labels": LABELS,
}
CONTAINER = {"name": "glance_api", "pid": 7, "labels": LABELS}
WANT = {"hash": "aaaa", "policy": "always", "labels": LABELS}


class Host:
    """One host: `functions` is what ``__salt__`` is, `called` names what was asked to work."""

    def __init__(self):
        self.sharing = {"runs": True, "why": "They share it."}
        self.now, self.ours, self.states, self.called = dict(RUNNING), [CONTAINER], {}, []
        self.functions = {
            "glance_settings.get": lambda: dict(SETTINGS),
            "glance_progress.tell": lambda *told, **more: None,
            "glance_container.facts": lambda: self.now,
            "glance_container.desired": lambda settings, look=True: (WANT, {}),
            "glance_image.release_of": lambda *_: {
                "id": "sha256:1",
                "release": "2026.2",
                "version": "33.0.0",
            },
            "glance_container.decide": lambda *_: {"do": "nothing"},
            "glance_container.is_foreign": lambda: False,
            "glance_container.refusal": lambda *_: None,
            "glance_container.serves": lambda spec: self.now.get("spec") == spec,
            "glance_image.here": glance_image.here,
            "glance_image.pull": lambda settings: self.called.append("pull"),
            "glance_engine.containers": lambda: self.ours,
            "glance_engine.image": lambda reference: {"id": "sha256:1"},
            "glance_api.drained_by": lambda pid: None,
            "glance_api.probe_once": lambda settings, probe: {"ok": True},
            "glance_leftovers.find": lambda settings: {"folders": [], "balancers": []},
            "glance_sharing.verified": lambda: self.sharing,
            "glance_proof.run": lambda *_: self.called.append("proof"),
            "glance_schema.look": lambda *_: self.called.append("look"),
            "glance_schema.refusal": lambda *_: None,
            "glance_http.login": lambda *_, **__: self.called.append("login"),
            "glance_identity.compare": lambda *_, **__: self.called.append("compare"),
            "glance_http.keystone": lambda *_, **__: self.called.append("keystone"),
            "state.apply": lambda *_, **__: self.states,
        }


@pytest.fixture
def host(monkeypatch):
    made = Host()
    for module in (glance_host, glance_image):
        monkeypatch.setattr(module, "__salt__", made.functions, raising=False)
    monkeypatch.setattr(glance_host, "__context__", {}, raising=False)
    reached = lambda *where: made.called.append(("reach", *where[:2]))  # noqa: E731
    monkeypatch.setattr(glance_host, "_reach", reached)
    return made


def state(number, result, comment="", changes=None):
    return {"__run_num__": number, "__id__": f"State {number}", "result": result,
            "comment": comment, "changes": changes or {}}  # fmt: skip


@pytest.mark.parametrize(("spec", "proved"), [("bbbb", ["proof"]), ("aaaa", [])])
def test_a_new_configuration_is_proved_for_the_plan(host, spec, proved):
    """What runs already needs no proof; a host on which nothing changes has none."""
    host.now["spec"] = spec
    host.functions["glance_container.decide"] = lambda *_: {"do": "replace"}
    assert glance_host.facts(prove=True)["proved"] is True
    assert host.called == proved
    assert glance_host.facts()["proved"] is False and host.called == proved


def test_a_host_without_changes_proves_nothing(host):
    assert glance_host.facts(prove=True)["proved"] is False
    assert host.called == []


def test_a_configuration_that_the_image_refuses_is_a_fault(host):
    def refuse(*_):
        raise CommandExecutionError("The image does not accept it.")

    host.now["spec"] = "bbbb"
    host.functions["glance_container.decide"] = lambda *_: {"do": "replace"}
    host.functions["glance_proof.run"] = refuse
    assert glance_host.facts(prove=True)["faults"] == ["The image does not accept it."]


def test_a_host_as_it_should_be(host):
    found = glance_host.facts()
    assert found["change"] is False and found["faults"] == []
    assert found["running"]["serves"] is True and found["running"]["hash"] == "aaaa"
    assert found["wanted"] == {
        "image_id": "sha256:1",
        "release": "2026.2",
        "version": "33.0.0",
        "hash": "aaaa",
    }
    assert "secret" not in str(found)


def test_one_host_that_is_to_be_handed_over_tells_why_it_would_be_drained(host):
    host.functions["glance_replace.why_drain"] = lambda *_: "The kernel is too old."
    host.functions["glance_container.decide"] = lambda *_: {"do": "replace"}
    assert glance_host.facts(look=True)["drains"] is None
    single = {**SETTINGS, "glance_upgrade_handover_single_host": True}
    host.functions["glance_settings.get"] = lambda: single
    assert glance_host.facts(look=True)["drains"] == "The kernel is too old."
    host.now["state"] = "stopped"
    assert glance_host.facts(look=True)["drains"] is None


def test_a_host_that_does_not_answer_or_has_left_overs_is_to_be_worked_on(host):
    host.functions["glance_api.probe_once"] = lambda settings, probe: {"ok": False}
    assert glance_host.facts()["change"] is True
    host.functions["glance_api.probe_once"] = lambda settings, probe: {"ok": True}
    for left in ({"folders": ["/etc/kolla/old"], "balancers": []}, {"balancers": ["It is."]}):
        host.functions["glance_leftovers.find"] = lambda settings, left=left: left
        assert glance_host.facts()["change"] is True
    assert glance_host.facts()["drained_at"] == ["It is."]


def test_what_state_apply_would_change_decides_a_deploy(host):
    host.states = {"a_|-": state(1, True), "b_|-": state(2, True)}
    assert glance_host.facts(changes=True)["change"] is False
    host.states["b_|-"] = state(2, None, "It would.", {"haproxy.cfg": "new"})
    found = glance_host.facts(changes=True)
    assert found["change"] is True and found["would"] == ["State 2"]


def test_an_image_that_is_always_pulled_may_always_be_a_new_one(host):
    host.functions["glance_settings.get"] = lambda: {**SETTINGS, "glance_image_pull": "always"}
    assert glance_host.facts(changes=True)["change"] is True


def test_what_state_apply_would_refuse_is_a_fault_once(host):
    host.states = {
        "a_|-": state(1, False, "The image is of another release."),
        "b_|-": state(2, False, "One or more requisite failed: glance.image"),
        "c_|-": state(3, False, "The image is of another release."),
    }
    assert glance_host.facts(changes=True)["faults"] == ["The image is of another release."]
    assert glance_host.__context__["retcode"] == 0, "a dry run that fails is an answer"


def test_an_api_that_does_not_answer_is_work_and_no_fault(host):
    host.states = {"glance_api_|-Glance API answers_|-": state(1, False, "It does not answer.")}
    found = glance_host.facts(changes=True)
    assert found["faults"] == [] and found["change"] is True


def test_a_faulty_pillar_and_an_engine_that_is_away_are_faults(host):
    def faulty():
        raise SaltInvocationError("One.\nTwo.")

    host.functions["glance_container.facts"] = lambda: (_ for _ in ()).throw(
        CommandExecutionError("The engine is away.")
    )
    assert glance_host.facts()["faults"] == ["The engine is away."]
    host.functions["glance_settings.get"] = faulty
    assert glance_host.facts()["faults"] == ["One.", "Two."]


def test_the_precheck_of_a_change_asks_with_glances_own_credentials(host):
    host.now["spec"] = "bbbb"
    assert set(glance_host.precheck()) == {"image", "configuration", "database", "Keystone"}
    assert host.called == ["proof", "look", "compare"]


def test_the_precheck_of_a_fresh_host_only_reaches_what_is_not_made_yet(host):
    host.now = {"state": "absent", "leftovers": []}
    glance_host.precheck()
    assert host.called == ["proof", ("reach", "fd00::9", 3306), "compare"]


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, "compare"),
        ({"schema_host": "ctl0"}, "keystone"),
        ({"glance_keystone_register": False}, "login"),
    ],
)
def test_keystone_is_asked_as_far_as_it_can_know_glance(host, more, asked):
    """A new user, or its new password, is registered by the first host before it is needed."""
    host.now["spec"] = "bbbb"
    host.functions["glance_settings.get"] = lambda: {**SETTINGS, **more}
    glance_host.precheck()
    assert host.called[-1] == asked


@pytest.mark.parametrize("key", ["enable_glance", "runs_api"])
def test_a_host_without_the_api_needs_no_precheck(host, key):
    host.functions["glance_settings.get"] = lambda: {**SETTINGS, key: False}
    assert glance_host.precheck() == {} and host.called == []


def test_images_that_are_not_proved_to_be_shared_are_told(host):
    assert glance_host.shares_images() == "They share it."
    host.sharing = {"runs": False, "why": "ctl1 has not read it."}
    with pytest.raises(CommandExecutionError, match="ctl1 has not read it"):
        glance_host.shares_images()
    host.functions["glance_settings.get"] = lambda: {**SETTINGS, "runs_api": False}
    assert glance_host.shares_images() == "ctl1 has not read it.", "it needs no images"


def test_an_image_that_may_not_be_pulled_is_told(host):
    host.functions["glance_engine.image"] = lambda reference: None
    host.functions["glance_settings.get"] = lambda: {**SETTINGS, "glance_image_pull": "never"}
    with pytest.raises(CommandExecutionError, match="glance_image_pull is never"):
        glance_host.precheck()
