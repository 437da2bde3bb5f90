"""Upgrades of random groups, killed and failing at random points: the same command finishes."""

import contextlib
import random

import pytest

import glance_upgrade
from support.model_upgrade import PARTS, Cut, Failed, World

pytestmark = pytest.mark.upgrade

CASES = 3000
RUNS = 40  # more than any upgrade needs


def strike(generator, chance, world):
    """Sometimes a kill, sometimes a failed step."""

    def cut():
        world._note()
        if generator.random() < chance:
            raise generator.choice([Cut, Failed])

    return cut


def finish(world, generator=None, chance=0.0):
    """Run until nothing is left to be done; kills stop after half of the runs."""
    for attempt in range(RUNS):
        wild = generator and attempt < RUNS // 2
        world.cut = strike(generator, chance, world) if wild else lambda: world._note()
        world.broken = bool(wild and generator.random() < 0.2)
        try:
            made = world.run()
        except Cut:
            continue
        assert not made["refusals"], made["refusals"]
        if made["nothing"]:
            if world.settings["glance_upgrade_contract"] == "hold" and made["pause"]:
                assert world.stage != "new"
                world.settings["glance_upgrade_contract"] = "auto"
                continue
            return
    raise AssertionError(f"not finished: {world.facts()}")


def random_world(generator):
    count = generator.randint(1, 7)
    limit = generator.choice([1, 1, 2, 3, "25%", "50%", "100%"])
    world = World(
        count,
        *generator.choice([("2023.2", "2024.1"), ("2026.1", "2026.2"), ("2024.1", "2025.1")]),
        strategy=generator.choice(["handover", "drain"]),
        schema=generator.random() < 0.6,
        glance_enable_rolling_upgrade=generator.random() < 0.7,
        glance_upgrade_max_unavailable=limit,
        glance_upgrade_pause_after_canary=generator.random() < 0.3,
        glance_upgrade_contract=generator.choice(["auto", "auto", "hold"]),
        glance_accepted_advisories=["OSSA-2026-004", "OSSA-2024-001"],
    )
    odds = generator.random()
    if odds < 0.2:
        # An earlier run was killed there.
        world._drain(generator.choice(world.ids))
    elif odds < 0.4:
        # Its engine was killed, and does not start again what it finds.
        world.hosts[generator.choice(world.ids)][0].serves = False
    elif odds < 0.6 and count > 1:
        # New in the group.
        world.hosts[generator.choice(world.ids)] = []
    elif odds < 0.7 and count > 1:
        world.leaving = {generator.choice(world.ids[1:])}
    allowed = int(limit[:-1]) * count // 100 if isinstance(limit, str) else limit
    return world, max(1, allowed)


def is_whole(world, release):
    for host, containers in world.hosts.items():
        if host in world.leaving:
            assert containers == []
            continue
        (only,) = containers
        assert (only.name, only.release, only.serves) == ("glance_api", release, True)


def test_whatever_is_killed_the_same_command_finishes():
    for seed in range(CASES):
        generator = random.Random(seed)
        world, allowed = random_world(generator)
        try:
            finish(world, generator, generator.choice([0, 0.02, 0.1, 0.3]))
            is_whole(world, world.new)
            assert world.stage == "new" and not world.half_done and not world.missing_metadefs
            if world.settings["glance_enable_rolling_upgrade"]:
                assert world.most_out <= allowed, "more hosts out than allowed"
                assert not world.legacy_stop
        except AssertionError as err:
            raise AssertionError(f"seed {seed}: {err}") from err


def test_rollback_at_any_point_before_contract_brings_all_back():
    done = 0
    for seed in range(CASES // 3):
        generator = random.Random(seed)
        world, allowed = random_world(generator)
        world.settings["glance_enable_rolling_upgrade"] = True
        world.cut = strike(generator, 0.15, world)
        with contextlib.suppress(Cut):
            world.run()
        world.settings["glance_upgrade_pause_after_canary"] = False
        world.mode = "rollback"
        world.cut = lambda world=world: world._note()
        made = world.run()
        if world.contracted_by:
            assert "no way back" in made["refusals"][0], seed
            continue
        assert not made["refusals"], (seed, made["refusals"])
        is_whole(world, world.old)
        assert world.most_out <= allowed, seed
        assert world.run()["nothing"], seed
        done += 1
    assert done > CASES // 10


def test_the_canary_is_alone_and_waves_are_no_larger_than_allowed():
    for seed in range(300):
        world, allowed = random_world(random.Random(seed))
        found = glance_upgrade.waves(
            world.facts()["hosts"], world.settings["glance_upgrade_max_unavailable"], PARTS
        )
        assert [len(wave) for wave in found][:1] == [1]
        assert all(len(wave) <= allowed for wave in found)
        assert sorted(one for wave in found for one in wave) == world.ids
