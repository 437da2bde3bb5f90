"""Releases and images that are no good: one sentence, a failed run, and the service goes on."""

import re

import pytest
from salt.exceptions import CommandExecutionError

from support import bad_images
from support.deployed import RUNNING, wait_for
from support.killing import Client
from support.sturdy import assert_repaired, assert_whole, edit, standing

pytestmark = pytest.mark.one_host

IMAGE_STATE = "Glance image is present"
BACK = 60  # seconds within which the old container must serve again
GOOD = "glance-api:2026.2"
# kind -> (values, why it is not fit, what it printed)
BAD = {
    "exits": ({}, r"it exited with code 3", "no such flavour of soup"),
    "refuses": (
        {},
        r"it was not healthy within 4 seconds \(glance:glance_healthy_deadline\): .*500.*",
        "code 500, message No soup today",
    ),
    "dies": ({"seconds": 5}, r"it exited with code 9", "runs out of luck after 5 seconds"),
}


@pytest.fixture
def glance(deploy):
    """The deployment; the pillar is as it was afterwards."""
    made = standing(deploy)
    before = dict(made.pillar)
    yield made
    made.change(**{**dict.fromkeys(made.pillar), **before})


def fail(glance, state=RUNNING, **pillar):
    """Apply an edit; it must fail in one state, and change no container. Return its comment."""
    glance.change(**pillar)
    result = glance.apply()
    assert result.rc != 0
    first = next(iter(result.failed))
    assert first == state, result.failed
    others = [comment for name, comment in result.failed.items() if name != state]
    assert all("requisite failed" in comment for comment in others), result.failed
    assert RUNNING not in result.changed
    return result.failed[state]


@pytest.fixture
def engine_of(glance, image):
    """The engine, with the good image."""
    image("2026.2")
    return glance.engine


@pytest.mark.parametrize("kind", ["exits", "refuses", pytest.param("dies", marks=pytest.mark.soak)])
def test_hand_over_to_a_bad_release(glance, kind):
    """The old one serves all the time, and afterwards it can be restarted as it was."""
    values, why, words = BAD[kind]
    image = bad_images.derive(glance.engine, GOOD, kind, **values)
    before = glance.container.id
    with Client(glance) as client:
        said = fail(
            glance,
            glance_api_image_full=image,
            # Neither may be the reason for the one that dies.
            glance_healthy_deadline=4 if kind == "refuses" else 120,
            glance_min_healthy_time=1 if kind == "refuses" else 60,
            **edit(),
        )
    assert client.failures == []
    sentence, _, lines = said.partition(" Its last log lines:")
    assert re.fullmatch(
        rf"The new glance-api container was taken away again, because {why}; glance_api went on"
        r" serving all the time and no request failed\.",
        sentence,
    ), said
    assert words in lines
    assert all(line.startswith("    ") for line in lines.strip("\n").splitlines())
    assert glance.container.id == before
    assert_whole(glance)


@pytest.mark.soak
def test_the_incumbent_keeps_its_configuration(glance):
    """After a failed edit it can be restarted; taking the edit back touches no container."""
    before, was = glance.container.id, glance.pillar["glance_api_workers"]
    image = bad_images.derive(glance.engine, GOOD, "exits")
    fail(glance, glance_api_image_full=image, glance_api_workers=was + 2)
    rendered = glance.salt.minion.root / "etc/kolla/glance-api/glance-api-uwsgi.ini"
    assert f"processes = {was + 2}\n" in rendered.read_text()
    container = glance.container
    container.restart(timeout=2)
    wait_for(lambda: glance.get("/v2/images")[0] == 200, 60, "an answer after a restart")
    code, inside = container.exec_run("cat /etc/glance/glance-api-uwsgi.ini")
    assert code == 0
    assert f"processes = {was}\n" in inside.decode()
    assert_whole(glance)
    glance.change(glance_api_image_full=GOOD, glance_api_workers=was)
    result = glance.apply()
    assert (result.rc, result.changed) == (0, ["Glance configuration is rendered"])
    assert glance.container.id == before


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["exits", "refuses", "dies"])
def test_drained_for_a_bad_release(glance, kind):
    """The old container was stopped, is started again, and serves as before."""
    values, why, words = BAD[kind]
    image = bad_images.derive(glance.engine, GOOD, kind, **values)
    before = glance.container.id
    with Client(glance) as client:
        said = fail(
            glance,
            glance_replace_strategy="drain",
            glance_api_image_full=image,
            glance_healthy_deadline=4 if kind == "refuses" else 120,
            glance_min_healthy_time=1 if kind == "refuses" else 60,
            **edit(),
        )
        failed = len(client.failures)
        wait_for(lambda: client.requests > failed + 20, 30, "the client's next requests")
    assert client.outage < BACK
    assert re.match(
        rf"The new glance-api container was taken away again, because {why}; glance_api was started"
        r" again and serves\. Its last log lines:\n    ",
        said,
    ), said
    assert words in said
    assert glance.container.id == before
    assert_whole(glance)


def test_a_tag_that_does_not_exist(glance, registry):
    image = registry.reference("openstack.kolla/glance-api", "no-such-tag")
    before = glance.container.id
    with Client(glance) as client:
        said = fail(glance, IMAGE_STATE, glance_api_image_full=image, glance_image_pull="missing")
    assert re.fullmatch(
        rf"The image {image} cannot be pulled \(.*(not found|unknown).*\): check glance:glance_tag,"
        r" glance:docker_registry and the registry itself\.",
        said,
    ), said
    assert client.failures == []
    assert glance.container.id == before


def test_a_registry_that_never_answers(glance, registry):
    image = f"{registry.hanging}/openstack.kolla/glance-api:2026.2"
    before = glance.container.id
    said = fail(
        glance,
        IMAGE_STATE,
        glance_api_image_full=image,
        glance_image_pull="missing",
        docker_client_timeout=2,
    )
    assert said == (
        f"The image {image} cannot be pulled (nothing was heard for 2 seconds): check"
        " glance:glance_tag, glance:docker_registry and the registry itself."
    )
    assert glance.container.id == before


def test_another_release_is_refused(glance, image):
    before = glance.container.id
    said = fail(glance, IMAGE_STATE, glance_api_image_full=image("2026.1"))
    assert said == (
        "This host runs Glance 2026.2 and the pillar names an image of 2026.1"
        " (glance:openstack_release, glance:glance_tag): change the release with 'salt-run"
        " state.orchestrate glance.orchestrate.upgrade'."
    )
    assert glance.container.id == before
    assert_whole(glance)


def test_a_foreign_container_is_refused(glance):
    """Also beside our own one; when it is gone, ours gets its name back."""
    ours = glance.container
    ours.rename("glance_api_aside")
    foreign = glance.engine.client.containers.create(GOOD, name="glance_api", network_mode="host")
    try:
        said = fail(glance, IMAGE_STATE)
        foreign.reload()
        assert (foreign.status, foreign.name) == ("created", "glance_api")
        assert said == (
            "A container named glance_api exists that this formula did not make: stop it, with the"
            " systemd unit that Kolla-Ansible made for it, and rename it ('docker rename glance_api"
            " glance_api_before'), then apply again."
        )
    finally:
        foreign.remove()
    assert_repaired(glance)
    assert glance.container.id == ours.id


def test_a_one_shot_that_hangs_is_ended(engine_of, loaders):
    """At its deadline, with a sentence, and it is gone."""
    image = bad_images.derive(engine_of, GOOD, "hangs")
    run_once = loaders.modules["glance_engine.run_once"]
    with pytest.raises(CommandExecutionError) as caught:
        run_once("proof", {"image": image, "network_mode": "host"}, 2)
    assert str(caught.value) == (
        "The one-shot container for proof did not end within 2 seconds and was stopped; its last"
        " words: waiting for soup"
    )
    left = engine_of.client.containers.list(all=True, filters={"label": "glance.oneshot"})
    assert left == []
