"""The same deployment driven by a Salt master: modules, pillar and files come over the wire."""

import json

import pytest
import yaml

from support import session

pytestmark = [pytest.mark.one_host, pytest.mark.soak]


@pytest.fixture(scope="module")
def world(deploy, salt_factories, tmp_path_factory):
    """A master and one minion that has never seen the formula, on a host that runs Glance."""
    glance = deploy(reuse=True)
    pillar = tmp_path_factory.mktemp("pillar")
    (pillar / "top.sls").write_text(yaml.safe_dump({"base": {"*": ["glance"]}}))
    (pillar / "glance.sls").write_text(yaml.safe_dump({"glance": glance.pillar}))
    master = salt_factories.salt_master_daemon(
        "gm",
        overrides={
            "interface": "127.0.0.1",
            "open_mode": True,
            "worker_threads": 3,
            "timeout": 60,
            "file_roots": {"base": [session.file_root()]},
            "pillar_roots": {"base": [str(pillar)]},
        },
    )
    with master.started(start_timeout=90):
        minion = master.salt_minion_daemon(
            glance.salt.minion.id,
            overrides={
                "enable_fqdns_grains": False,
                "mine_enabled": False,
                "docker.url": glance.engine.url,
            },
        )
        with minion.started(start_timeout=90):
            yield World(glance, master, minion, pillar)


class World:
    """One minion under a master; ``run`` is ``salt MINION ...``."""

    def __init__(self, glance, master, minion, pillar):
        self.glance, self.minion, self.pillar = glance, minion, pillar
        self._salt = master.salt_cli(timeout=180)

    def run(self, *arguments, **keywords):
        return self._salt.run(*arguments, minion_tgt=self.minion.id, **keywords)

    def edit(self, **more):
        text = yaml.safe_dump({"glance": {**self.glance.pillar, **more}})
        (self.pillar / "glance.sls").write_text(text)
        assert self.run("saltutil.refresh_pillar", wait=True).data is True


def states(answer):
    assert isinstance(answer.data, dict), answer
    return sorted(answer.data.values(), key=lambda one: one["__run_num__"])


def test_a_first_apply_finds_the_modules_and_what_runs(world):
    """Pillar is masked in modules here; a wrong reading would make another container."""
    before, seen = world.glance.container.id, False
    for test in (True, False, True):
        applied = states(world.run("state.apply", "glance", test=test))
        assert not [one["__id__"] for one in applied if one["changes"]]
        others = [one["__id__"] for one in applied if one["result"] is not True]
        # This minion has not seen yet that the stores of what runs here work.
        assert others == (["Glance stores work"] if test and not seen else []), applied
        seen = True
    assert world.glance.container.id == before


def test_a_dry_run_of_an_edit_tells_what_would_change(world):
    before = world.glance.container.id
    world.edit(glance_logging_debug="yes")
    applied = {one["__id__"]: one for one in states(world.run("state.apply", "glance", test=True))}
    assert "+debug = true" in json.dumps(applied["Glance configuration is rendered"]["changes"])
    assert applied["Glance API runs"]["result"] is None
    assert world.glance.container.id == before
    world.edit()


def test_the_operator_sees_status_and_settings_without_secrets(world):
    screen = world.run("glance_api.status")
    assert screen.returncode == 0
    assert "2026.2" in json.dumps(screen.data)
    shown = world.run("glance_settings.show").data
    assert shown["glance_api_image_full"] == world.glance.pillar["glance_api_image_full"]
