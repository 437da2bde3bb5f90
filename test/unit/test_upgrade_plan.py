"""The plan of an upgrade: its steps in order, and every refusal in its sentence."""

import functools

import pytest

import glance_host
import glance_upgrade
from support.model_upgrade import PARTS, Container, World

pytestmark = pytest.mark.upgrade


def world(count=3, old="2026.1", new="2026.2", **more):
    made = World(count, old, new, **more)
    for one in made.ids:
        made.images[one].add(new)
    return made


def plan(made):
    return glance_upgrade.plan(made.facts(), PARTS)


def phases(made):
    return [(step["phase"], *step["hosts"]) for step in plan(made)["steps"]]


def refusals(made, **facts):
    return glance_upgrade.plan({**made.facts(), **facts}, PARTS)["refusals"]


def test_rolling_in_its_order():
    made = world()
    made.images["ctl2"].remove("2026.2")
    assert phases(made) == [
        ("pull", "ctl2"),
        ("precheck", "ctl2"),
        ("backup", "ctl1"),
        ("expand", "ctl1"),
        ("migrate", "ctl1"),
        ("host", "ctl1"),
        ("host", "ctl2"),
        ("host", "ctl3"),
        ("confirm",),
        ("contract", "ctl1"),
        ("metadefs", "ctl1"),
        ("verify", "ctl1"),
    ]
    assert plan(made)["method"] == "rolling"
    assert plan(made)["summary"] == "Glance is upgraded to 2026.2 (rolling) on ctl1, ctl2, ctl3."


def test_what_each_host_would_change_is_told():
    made = world(4)
    made.hosts["ctl1"] = [Container("glance_api", "2026.2", "2026.2")]
    made.images["ctl2"].remove("2026.2")
    made.hosts["ctl3"] = []
    facts = made.facts()
    facts["hosts"][3]["runs_api"] = False
    assert glance_upgrade.plan(facts, PARTS)["hosts"] == [
        "ctl1: runs Glance 2026.2 (glance-api:new) as wanted",
        "ctl2: Glance 2026.1 is replaced by Glance 2026.2 (glance-api:new)",
        "ctl3: Glance 2026.2 (glance-api:new) is started",
        "ctl4: its container is removed",
    ]


def test_another_configuration_and_what_a_killed_run_left_are_told_as_such():
    made = world(2, old="2026.2", schema=False)
    facts = made.facts()
    facts["hosts"][0]["running"]["hash"] = "other"
    for one in facts["hosts"]:
        one["change"] = True
    assert glance_upgrade.foreseen(facts) == [
        "ctl1: Glance 2026.2 (glance-api:new) is replaced by one with another configuration",
        "ctl2: what an earlier run left is finished with Glance 2026.2 (glance-api:new)",
    ]


def test_every_step_has_a_sentence_of_its_own():
    ids = [step["id"] for step in plan(world())["steps"]]
    assert len(set(ids)) == len(ids)
    assert "Glance 2026.2 is in charge on ctl2" in ids


def test_legacy_stops_all_and_says_when_the_outage_begins_and_ends():
    made = world(glance_enable_rolling_upgrade=False)
    everywhere = ("ctl1", "ctl2", "ctl3")
    assert phases(made) == [
        ("backup", "ctl1"),
        ("stop", *everywhere),
        ("sync", "ctl1"),
        ("start_old", *everywhere),
        ("host", *everywhere),
        ("metadefs", "ctl1"),
        ("verify", "ctl1"),
    ]
    by_phase = {step["phase"]: step for step in plan(made)["steps"]}
    outage = {phase: step["outage"] for phase, step in by_phase.items() if step["outage"]}
    assert outage == {"stop": "begins", "start_old": "ends", "host": "ends"}
    assert by_phase["start_old"]["onfail"] == [by_phase["stop"]["id"], by_phase["sync"]["id"]]


def test_another_image_of_the_same_release_stops_nobody():
    made = world(glance_enable_rolling_upgrade=False, schema=False, old="2026.2")
    made.hosts = {one: [Container("glance_api", "2026.2", "before")] for one in made.ids}
    made.missing_metadefs = set()
    assert phases(made) == [
        ("host", "ctl1"),
        ("host", "ctl2"),
        ("host", "ctl3"),
        ("verify", "ctl1"),
    ]


def test_a_finished_upgrade_plans_nothing():
    made = world()
    while not plan(made)["nothing"]:
        made.run()
    assert plan(made)["steps"] == [] and plan(made)["summary"] == "Every host runs Glance 2026.2."


def test_waves_by_percentage_after_the_canary():
    made = world(8, glance_upgrade_max_unavailable="40%")
    hosts = [one[1:] for one in phases(made) if one[0] == "host"]
    assert hosts == [("ctl1",), ("ctl2", "ctl3", "ctl4"), ("ctl5", "ctl6", "ctl7"), ("ctl8",)]


def test_the_pause_after_the_canary_ends_with_the_next_run():
    made = world(glance_upgrade_pause_after_canary=True)
    assert phases(made)[-1] == ("host", "ctl1")
    assert plan(made)["pause"] == (
        "This is a pause after the first host, ctl1 (glance:glance_upgrade_pause_after_canary): the"
        " same command goes on with ctl2, ctl3."
    )
    made.run()
    assert [one for one in phases(made) if one[0] == "host"] == [("host", "ctl2"), ("host", "ctl3")]
    assert plan(made)["pause"] is None


def test_a_held_contract_is_told_and_done_by_a_later_run():
    made = world(glance_upgrade_contract="hold")
    assert ("confirm",) not in phases(made)
    made.run()
    assert plan(made)["nothing"]
    assert plan(made)["pause"] in plan(made)["summary"]
    assert "glance:glance_upgrade_contract" in plan(made)["pause"]
    made.settings["glance_upgrade_contract"] = "auto"
    assert phases(made) == [("backup", "ctl1"), ("confirm",), ("contract", "ctl1"),
                            ("verify", "ctl1")]  # fmt: skip


def test_a_host_that_left_the_api_is_cleared_before_contract():
    facts = world().facts()
    facts["hosts"][2]["runs_api"] = False
    steps = glance_upgrade.plan(facts, PARTS)["steps"]
    ids = [step["id"] for step in steps]
    assert ids.index("Glance is gone from ctl3") < [s["phase"] for s in steps].index("confirm")
    for one in facts["hosts"]:
        one["running"]["release"] = "2026.2"
    assert "glance_api on ctl3" in glance_upgrade.contract_refusal(facts, PARTS)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"answers": False}, "ctl2 does not answer, so nobody knows what runs there."),
        ({"faults": ["It cannot be asked."], "runs_api": None}, "ctl2: It cannot be asked."),
    ],
)
def test_nothing_is_contracted_while_a_host_tells_nothing(told, sentence):
    made = world(new="2026.1")
    facts = made.facts()
    assert glance_upgrade.contract_refusal(facts, PARTS) is None
    facts["hosts"][1] = {**glance_host.unknown(), "id": "ctl2", "answers": True, **told}
    assert glance_upgrade.contract_refusal(facts, PARTS) == sentence


def test_legacy_leaves_the_held_phase_and_the_next_run_ends_it_as_rolling_does():
    made = world(2, glance_enable_rolling_upgrade=False, glance_upgrade_contract="hold")
    assert [one[0] for one in phases(made)] == [
        "backup", "stop", "expand", "migrate", "start_old", "host", "metadefs", "verify",
    ]  # fmt: skip
    assert "until then rollback works" in plan(made)["pause"]
    made.run()
    found = plan(made)
    assert found["nothing"] and "is held" in found["summary"] and made.stage == "migrated"
    made.settings["glance_upgrade_contract"] = "auto"
    assert [one[0] for one in phases(made)] == ["backup", "confirm", "contract", "verify"]


def test_rollback_looks_at_the_schema_though_the_first_host_lacks_the_image():
    made = world()
    made.run()
    made.mode = "rollback"
    made.images["ctl1"].remove(made.old)
    assert phases(made) == [("pull", "ctl1"), ("again",)]
    made.images["ctl1"].add(made.old)
    assert "no way back" in refusals(made)[0]


def test_an_image_that_nobody_has_is_pulled_before_the_rest_is_planned():
    made = World(2, "2026.1", "2026.2")
    found = plan(made)
    assert phases(made) == [("pull", "ctl1", "ctl2"), ("again",)]
    assert found["steps"][1]["arg"] == ["glance.orchestrate.upgrade"]
    assert "is pulled first" in found["summary"]


def test_what_is_always_pulled_is_pulled_once_before_the_rest_is_planned():
    """What lies here under that name by now may be of another release, and refuses nothing."""
    made = world(2, old="2026.2", new="2026.1", glance_image_pull="always")
    assert phases(made) == [("pull", "ctl1", "ctl2"), ("again",)]
    made = world(2, glance_image_pull="always")
    made.run()
    assert [one.release for one in sum(made.hosts.values(), [])] == ["2026.2"] * 2
    made.again = True
    assert plan(made)["nothing"]


def test_a_dry_run_tells_the_rest_though_the_image_would_be_pulled_first():
    facts = {**world(2, glance_image_pull="always").facts(), "image_may_be_new": False}
    steps = [one["phase"] for one in glance_upgrade.plan(facts, PARTS)["steps"]]
    assert steps[:3] == ["pull", "backup", "expand"]


def test_rollback_goes_host_by_host_and_touches_no_schema():
    made = world()
    made.run()
    made.stage, made.contracted_by, made.mode = "migrated", None, "rollback"
    assert phases(made) == [
        ("host", "ctl1"),
        ("host", "ctl2"),
        ("host", "ctl3"),
        ("verify", "ctl1"),
    ]


def test_rollback_after_a_contract_that_matters_is_refused_and_names_the_backup():
    made = world()
    made.run()
    made.mode, made.backups = "rollback", ["/var/backups/glance/one.sql"]
    assert refusals(made) == [
        "Glance 2026.1 does not know the schema in mysql://db/glance (new), so there is no way back"
        " but the backup of the database, with the loss of all that was stored since"
        " (/var/backups/glance/one.sql)."
    ]


def test_one_host_with_a_shared_store_may_roll():
    assert plan(world(1))["method"] == "rolling"
    assert not plan(world(1))["refusals"]


def test_several_hosts_with_files_of_their_own_cannot_roll():
    made = world()
    made.shared = False
    assert refusals(made) == [
        "A rolling upgrade needs images that all hosts share, but they are on one host: set"
        " glance:glance_enable_rolling_upgrade to no for a legacy upgrade, with a stop."
    ]
    made.settings["glance_upgrade_handover_single_host"] = True
    assert len(refusals(made)) == 1, "that is for one host only"
    made.settings["glance_enable_rolling_upgrade"] = False
    assert refusals(made) == [] and plan(made)["method"] == "legacy"


def test_hosts_that_have_not_proved_yet_that_they_share_the_images():
    made = world()
    store = {"shared": False, "why": "it is not proved yet that ctl3 can see them"}
    (only,) = refusals(made, store={**store, "unproved": True})
    assert "'salt -L ctl1,ctl2,ctl3 glance_sharing.write' and then" in only
    (only,) = refusals(made, store={**store, "unproved": False})
    assert "glance_sharing" not in only


def test_one_host_that_cannot_be_handed_over_is_refused():
    made = world(1, glance_upgrade_handover_single_host=True)
    made.shared = False
    facts = made.facts()
    assert glance_upgrade.plan(facts, PARTS)["refusals"] == []
    facts["hosts"][0]["drains"] = "The kernel is too old."
    assert glance_upgrade.plan(facts, PARTS)["refusals"] == [
        "ctl1 cannot be handed over, so glance:glance_upgrade_handover_single_host would mean a"
        " stop: The kernel is too old. Mend that, or set it and"
        " glance:glance_enable_rolling_upgrade to no for a legacy upgrade, with a stop."
    ]


def test_one_host_with_files_of_its_own():
    made = world(1)
    made.shared = False
    assert refusals(made) == [
        "A rolling upgrade needs images that all hosts share, but they are on one host: set"
        " glance:glance_enable_rolling_upgrade to no for a legacy upgrade, with a stop, or"
        " glance:glance_upgrade_handover_single_host to yes."
    ]
    made.settings["glance_upgrade_handover_single_host"] = True
    for rolling in (True, False):
        made.settings["glance_enable_rolling_upgrade"] = rolling
        assert plan(made)["method"] == "rolling" and not refusals(made)


def test_a_lower_release_names_the_rollback():
    (only,) = refusals(world(old="2026.2", new="2026.1"))
    assert only.startswith("ctl1, ctl2, ctl3 run Glance 2026.2 and the pillar names an image of")
    assert "glance.orchestrate.rollback" in only


def test_a_step_that_is_too_far_says_which_comes_first():
    (only,) = refusals(world(old="2023.2", new="2025.1"))
    assert "go to 2024.1 first" in only


def test_a_rollback_goes_down():
    made = world(old="2026.2", new="2026.1", schema=False)
    made.mode = "rollback"
    made.old, made.new = "2026.2", "2026.1"
    made.hosts = {one: [Container("glance_api", "2026.1", "x")] for one in made.ids}
    made.images = {one: {"2026.1", "2026.2"} for one in made.ids}
    (only,) = refusals(made)
    assert "a rollback goes down" in only


def test_an_upgrade_in_the_middle_has_no_third_target():
    made = world(old="2024.1", new="2025.1", glance_accepted_advisories=["OSSA-2026-004"])
    made.hosts["ctl2"] = [Container("glance_api", "2024.2", "2024.2")]
    (only,) = refusals(made)
    assert "an earlier upgrade has not ended" in only and "name 2024.2" in only


def test_a_known_hole_is_refused_unless_accepted():
    made = world(old="2023.2", new="2024.1")
    (only,) = refusals(made)
    assert "Glance 28.9.0" in only and "OSSA-2026-004" in only
    made.settings["glance_accepted_advisories"] = ["OSSA-2026-004"]
    assert refusals(made) == []


def test_a_host_that_runs_the_image_already_is_not_asked_for_its_holes():
    made = world(old="2023.2", new="2024.1", glance_accepted_advisories=["OSSA-2026-004"])
    while not plan(made)["nothing"]:
        made.run()
    made.settings["glance_accepted_advisories"] = []
    assert plan(made)["nothing"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"error": "The database cannot be read."}, "cannot be read"),
        ({"position": "ahead", "heads": ["2027_1_contract01"]}, "is newer (2027_1_contract01)"),
        ({"position": "unknown", "heads": []}, "is not a schema of Glance"),
        (
            {"half_done": {"objects": [], "repairable": False, "remedy": "Drop it by hand."}},
            "Drop it by hand.",
        ),
    ],
)
def test_a_schema_that_cannot_be_worked_on(change, words):
    made = world()
    (only,) = refusals(made, schema={**made.facts()["schema"], **change})
    assert words in only


def test_another_run_is_named():
    lock = {"owner": "upgrade by root, pid 7 on master", "since": "10:00", "expires": "14:00",
            "dead": False}  # fmt: skip
    (only,) = refusals(world(), lock=lock)
    assert "upgrade by root, pid 7 on master" in only
    assert refusals(world(), lock={**lock, "dead": True}) == []


def test_all_faults_of_all_hosts_are_told_at_once():
    made = world(glance_image_pull="never")
    facts = made.facts()
    facts["hosts"][0]["faults"] = ["glance:a is wrong.", "glance:b is wrong."]
    facts["hosts"][2]["answers"] = False
    assert glance_upgrade.plan(facts, PARTS)["refusals"] == [
        "ctl1: glance:a is wrong.",
        "ctl1: glance:b is wrong.",
        "ctl3 does not answer: start its salt-minion, or take it out of glance:glance_api_group"
        " when it is gone for good.",
    ]


def test_a_group_that_is_not_that_of_the_pillars():
    """Else the schema would be contracted under hosts that nobody has asked."""
    facts = world(2).facts()
    facts["hosts"][1]["settings"] = {"glance_api_group": ["ctl1", "ctl2", "ctl3"]}
    (only,) = glance_upgrade.plan(facts, PARTS)["refusals"]
    assert only.startswith("ctl2: its pillar has glance:glance_api_group ctl1, ctl2, ctl3, and")


def outsider(release="2026.1", database="mysql://db/glance"):
    return [{"id": "old1", "release": release, "database": database}]


def test_an_old_api_outside_the_group_is_refused():
    made, sentence = world(), "old1 is not in glance:glance_api_group, but Glance 2026.1 on it uses"
    (only,) = refusals(made, outsiders=outsider())
    assert only.startswith(sentence)
    assert refusals(made, outsiders=outsider(release="2026.2")) == []
    assert refusals(made, outsiders=outsider(database="mysql://db/other")) == []
    made.mode = "rollback"
    assert refusals(made, outsiders=outsider()) == []


def test_nothing_is_contracted_under_an_old_api_outside_the_group():
    facts = world(old="2026.2").facts()
    refusal = functools.partial(glance_upgrade.contract_refusal, parts=PARTS)
    assert refusal(facts) is None
    assert refusal({**facts, "outsiders": outsider(database="mysql://db/other")}) is None
    assert refusal({**facts, "outsiders": outsider("2026.2")}) is None
    assert refusal({**facts, "outsiders": outsider()}) == (
        "Glance 2026.1 on old1, outside the group, uses the database."
    )


def test_the_first_host_must_run_the_api():
    """It works on the database for all, and images are verified through it."""
    facts = world().facts()
    facts["hosts"][0]["runs_api"] = False
    (only,) = glance_upgrade.plan(facts, PARTS)["refusals"]
    assert only.startswith("ctl1, the first host of glance:glance_api_group, runs no API")


def test_what_a_legacy_upgrade_has_stopped_can_be_started_while_a_host_is_down():
    made = world(glance_enable_rolling_upgrade=False)
    facts = made.facts()
    facts["hosts"][2] = {**glance_host.unknown(), "id": "ctl3", "answers": False}
    assert len(glance_upgrade.plan(facts, PARTS)["refusals"]) == 1
    for host in facts["hosts"][:2]:
        host["running"].update(runs=False, serves=False)
    told = glance_upgrade.plan(facts, PARTS)["refusals"]
    assert told[0].startswith("ctl3 does not answer")
    assert told[1:] == [
        "Glance is stopped on ctl1, ctl2: if it is to serve before that is mended, start it as it"
        " was with 'salt -L ctl1,ctl2 state.apply glance.upgrade.start_old'."
    ]


def test_a_new_host_comes_first_so_that_nobody_waits_for_it():
    made = world(strategy="drain", schema=False)
    made.hosts["ctl3"] = []
    hosts = [one[1:] for one in phases(made) if one[0] == "host"]
    assert hosts == [("ctl3",), ("ctl1",), ("ctl2",)]
    assert ("backup", "ctl1") in phases(made)
    facts = world(strategy="drain", schema=False).facts()
    facts["hosts"][2]["drained_at"] = ["glance_api_back/ctl3 at HAProxy /a is drained"]
    steps = glance_upgrade.plan(facts, PARTS)["steps"]
    assert [one["hosts"] for one in steps if one["phase"] == "host"][0] == ["ctl3"]


@pytest.mark.parametrize("mode", ["upgrade", "rollback"])
def test_a_pillar_with_faults_has_no_settings(mode):
    facts = {**world().facts(), "settings": {}, "schema": None, "mode": mode}
    for host in facts["hosts"]:
        host.update(glance_host.unknown(), faults=["glance:a is wrong."])
    assert glance_upgrade.plan(facts, PARTS)["refusals"] == [
        f"ctl{number}: glance:a is wrong." for number in (1, 2, 3)
    ]


def test_an_image_that_may_not_be_pulled():
    made = world(glance_image_pull="never")
    made.images["ctl3"].remove("2026.2")
    (only,) = refusals(made)
    assert only.startswith("The image glance-api:new is not on ctl3 and")


def test_a_host_that_does_not_serve_comes_first():
    """As an engine leaves it that was killed: nobody else is out while it is replaced."""
    made = world()
    made.hosts["ctl2"][0].serves = False
    waves = [step["hosts"] for step in plan(made)["steps"] if step["phase"] == "host"]
    assert waves == [["ctl2"], ["ctl1"], ["ctl3"]]


def test_a_group_without_glance_is_deployed_first():
    made = world(schema=False)
    made.hosts = {one: [] for one in made.ids}
    (only,) = refusals(made)
    assert only.startswith("Glance does not run on any host yet: deploy it with")
    schema = made.facts()["schema"]
    (only,) = refusals(made, schema={**schema, "position": "behind"})
    assert "is of an older release than 2026.2: name that one in" in only
    (only,) = refusals(made, schema={**schema, "position": "behind", "used": False})
    assert only.startswith("Glance does not run on any host yet: deploy it with")


@pytest.mark.parametrize("where", ["beside", "in charge", "silent"])
def test_contract_is_refused_while_anything_old_is_left(where):
    made = world()
    for one in made.ids:
        made.hosts[one] = [Container("glance_api", "2026.2", "2026.2")]
    assert glance_upgrade.contract_refusal(made.facts(), PARTS) is None
    facts = made.facts()
    if where == "silent":
        facts["hosts"][1]["answers"] = False
    elif where == "beside":
        facts["hosts"][1]["others"] = [{"name": "glance_api_old", "release": "2026.1"}]
    else:
        facts["hosts"][1]["running"]["release"] = "2026.1"
    assert "ctl2" in glance_upgrade.contract_refusal(facts, PARTS)
