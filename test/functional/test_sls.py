"""The SLS files: each stands alone, requires what it needs, and computes nothing."""

import pytest

from support import session
from support.docker_engine import TestEngine
from support.salt_loaders import Loaders

pytestmark = pytest.mark.one_host

SLS = sorted(
    ".".join(["glance", *path.relative_to(session.ROOT / "glance").with_suffix("").parts])
    .removesuffix(".init")
    for path in (session.ROOT / "glance").rglob("*.sls")
    if path.parent.name != "orchestrate"  # these are the master's: test_orchestrate_sls.py
)  # fmt: skip
IN_ORDER = [
    "Glance pillar is valid",
    "Glance is part of HAProxy",
    "Glance data directory is marked",
    "Docker engine answers",
    "Glance image is present",
    "Glance image cache is on a disk of this host",
    "Glance configuration is rendered",
    "Glance configuration is accepted by the image",
    "Glance database is present",
    "Glance schema is bootstrapped",
    "Glance is registered in Keystone",
    "Glance data directory is shared where it must be",
    "Glance images stay in reach",
    "Glance API runs",
    "Glance API answers",
    "Glance stores work",
    "Glance jobs are scheduled",
    "Copies of images are gone where the cache is off",
]
FIRST = IN_ORDER[: IN_ORDER.index("Glance image is present")]  # need nothing but a valid pillar
BESIDE = "Glance is part of HAProxy"  # a load balancer in trouble keeps no API from serving


@pytest.fixture(scope="module")
def world():
    """Synced once; a minion that never synced is the business of test/real/test_everyday.py."""
    with Loaders(docker_url=TestEngine(session.ENGINE_NUMBER).url) as made:
        yield made


@pytest.fixture
def loaders(world):
    return world.pillar({})


def shown(loaders, sls):
    """IDs of the states of an SLS in their order."""
    low = loaders.modules["state.show_low_sls"](sls)
    assert all(isinstance(one, dict) for one in low), low
    return [one["__id__"] for one in low]


@pytest.mark.parametrize("sls", SLS)
def test_every_sls_stands_alone(loaders, sls):
    ids = shown(loaders, sls)
    if sls != "glance.modules":
        assert ids[0] == "Glance pillar is valid", "validation comes first, whatever is applied"


def test_the_states_come_in_order_of_work(loaders):
    assert shown(loaders, "glance") == IN_ORDER


def test_every_state_waits_for_all_before_it(loaders):
    """A failure ends the run: there is no state that would go on without the ones before it."""
    low = {one["__id__"]: one for one in loaders.modules["state.show_low_sls"]("glance")}
    waits_for = {}
    for one in IN_ORDER:
        required = low[one].get("require", [])
        named = {name for name in required if isinstance(name, str)}
        named |= {name for entry in required if isinstance(entry, dict) for name in entry.values()}
        # A requirement names a state, or an SLS with all of its states.
        direct = {name for name in waits_for if name in named or low[name]["__sls__"] in named}
        waits_for[one] = direct.union(*(waits_for[name] for name in direct))
    for place, one in enumerate(IN_ORDER):
        before = IN_ORDER[:1] if one in FIRST else IN_ORDER[:place]
        assert waits_for[one] >= {*before} - {one, BESIDE}, one


@pytest.mark.parametrize("off", ["no", "No", False, "false"])
def test_enable_glance_no_removes_the_service_and_keeps_the_data(loaders, off):
    loaders.pillar({"glance": {"enable_glance": off}})
    assert shown(loaders, "glance") == [
        "Glance pillar is valid",
        "Docker engine answers",
        "Glance is no part of HAProxy",
        "Glance jobs are absent",
        "Glance API container is absent",
        "Glance configuration is absent",
        "Glance data is removed where asked for twice",
        "Copies of images are removed where asked for",
    ]


@pytest.mark.parametrize("given", [{}, {"enable_glance": None},
                                   {"enable_glance": "{enable_openstack_core}"}])  # fmt: skip
@pytest.mark.parametrize(("core", "on"), [("no", False), ("yes", True)])
def test_glance_follows_the_core_of_openstack_unless_pillar_says_otherwise(
    loaders, given, core, on
):
    loaders.pillar({"glance": {"enable_openstack_core": core, **given}})
    assert ("Glance API runs" in shown(loaders, "glance")) is on


@pytest.mark.parametrize("on", ["yes", "on", " Yes ", True, None, "maybe"])
def test_nothing_but_a_plain_no_removes_the_service(loaders, on):
    loaders.pillar({"glance": {"enable_glance": on}})
    assert shown(loaders, "glance") == IN_ORDER


def test_the_docker_library_is_installed_only_when_pillar_allows_it(loaders):
    wanted = "Docker SDK for Python is installed"
    assert wanted not in shown(loaders, "glance.prerequisites")
    loaders.pillar({"glance": {"glance_prerequisites_install": "yes"}})
    ids = shown(loaders, "glance.prerequisites")
    assert ids.index(wanted) < ids.index("Docker engine answers")


def test_a_minion_without_the_docker_library_gets_one_sentence(loaders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "docker.errors", None)
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    answer = loaders.states["glance_container.engine_answers"]("Docker engine answers")
    assert answer["result"] is False
    assert answer["comment"] == (
        "The Python library 'docker' is missing on this minion: install it with salt-call --local"
        " pip.install '[\"docker>=7.1,<8\"]', or set glance:glance_prerequisites_install to yes and"
        " apply glance.prerequisites."
    )


def test_a_dry_run_tells_that_the_docker_library_would_be_installed(loaders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "docker.errors", None)
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    loaders.pillar({"glance": {"glance_prerequisites_install": "yes"}})
    loaders.test_mode()
    told = {}
    for one in loaders.modules["state.show_low_sls"]("glance"):
        if one["state"].startswith("glance_"):
            told[one["__id__"]] = loaders.states[f"{one['state']}.{one['fun']}"](one["name"])
    assert list(told) == IN_ORDER
    engine = told["Docker engine answers"]
    assert engine["result"] is None
    assert engine["comment"].startswith("The Python library 'docker' would have been installed.")
    assert told["Glance image is present"]["comment"].endswith("would have been pulled.")
    assert told["Glance API runs"]["result"] is None
    assert {name: one["comment"] for name, one in told.items() if one["result"] is False} == {}


def test_an_orchestration_says_what_to_apply_before_it(loaders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "docker.errors", None)
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    loaders.pillar({"glance": {"glance_prerequisites_install": "yes"}})
    assert loaders.modules["glance_host.facts"]()["faults"] == [
        "The Python library 'docker' is missing on this minion: apply glance.prerequisites, which"
        " installs it (glance:glance_prerequisites_install)."
    ]


def test_a_minion_without_an_engine_gets_one_sentence(tmp_path):
    with Loaders(docker_url=f"unix://{tmp_path}/nobody.sock") as loaders:
        answer = loaders.states["glance_container.engine_answers"]("Docker engine answers")
    assert answer["result"] is False
    assert answer["comment"].startswith(f"The Docker engine at unix://{tmp_path}/nobody.sock does")
    assert "docker.url" in answer["comment"]


def test_a_faulty_pillar_touches_nothing_and_tells_all_faults(loaders):
    loaders.pillar({"glance": {"glance_api_prot": 1, "glance_api_workers": "many"}})
    result = loaders.modules["state.sls"]("glance")
    states = {one["__id__"]: one for one in result.values()}
    first = states["Glance pillar is valid"]
    assert first["result"] is False
    assert first["comment"].startswith("The pillar has 2 faults, so nothing was touched:\n")
    assert "glance:glance_api_prot" in first["comment"]
    assert "glance_api_port" in first["comment"], "the near name is suggested"
    assert "glance:glance_api_workers" in first["comment"]
    for one in IN_ORDER[1:]:
        assert "requisite failed" in states[one]["comment"]
        assert not states[one]["changes"]
