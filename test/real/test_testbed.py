"""The testbed itself: a Glance by hand serves under load, and the load sees what goes wrong."""

import subprocess
import sys

import docker.errors
import pytest

from support.docker_engine import archive
from support.engines import alive
from support.load_process import LoadProcess

pytestmark = pytest.mark.one_host


@pytest.mark.soak
def test_load_without_and_with_a_failure(engine, mariadb, glance_by_hand, address):
    """0 failures while Glance serves; failures, and only then, once it is killed."""
    database = mariadb.fresh()
    glance = glance_by_hand(
        "2026.2", address(11), "glance_api", workers=5, database=database, identity=True
    )
    load = LoadProcess(
        glance.url,
        rate=20,
        web=f"{address(9)}:18080",
        slow_seconds=3,
        import_seconds=3,
        identity=True,
        grace=20,
        import_deadline=10,
    )
    with load:
        load.wait(
            requests=300,
            ok={
                "upload_slow": 1,
                "upload_chunked": 1,
                "download_slow": 1,
                "import_direct": 1,
                "import_web": 1,
                "download": 3,
            },
        )
        before = load.status()
        assert before["failed"] == 0, (before, glance.logs())
        engine.kill(glance.container)
        load.wait(failed=20)
        report = load.stop()

    assert report["failed"] >= 20
    assert min(failure["at"] for failure in report["failures"]) >= before["at"]
    assert {"list_new", "list_kept"} <= {failure["kind"] for failure in report["failures"]}
    assert [entry for entry in report["ledger"] if entry["state"] == "lost"]


def test_registry_pull_missing_tag_and_hanging_host(engine, registry):
    """Pulls are real: one comes, one does not exist, one never answers."""
    images = engine.client.images
    tiny = archive({"/content": b"tiny"})
    engine.client.api.import_image_from_data(tiny, repository="tiny", tag="1")
    reference = registry.push("tiny:1", name="openstack.kolla/tiny", tag="1")
    assert registry.tags("openstack.kolla/tiny") == ["1"]
    with pytest.raises(docker.errors.ImageNotFound):
        images.get(reference)
    assert images.pull(reference).tags

    with pytest.raises(docker.errors.NotFound):
        images.pull(registry.reference("openstack.kolla/tiny", "2"))
    registry.delete("openstack.kolla/tiny", "1")
    with pytest.raises(docker.errors.NotFound):
        images.pull(reference)

    # No answer within two seconds, though the registry was asked: the pull hangs.
    program = "import docker, sys; docker.DockerClient(sys.argv[1]).images.pull(sys.argv[2], '1')"
    command = [
        sys.executable,
        "-c",
        program,
        engine.url,
        f"{registry.hanging}/openstack.kolla/tiny",
    ]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=2, check=False)
    assert registry.servers[0].asked


def test_reboot_kills_everything_and_brings_back_what_should_restart(engine, image):
    """A simulated reboot ends every container process; only restart policies bring them back."""
    sleep = {"entrypoint": ["sleep", "600"], "command": []}
    stays = engine.run(image("2026.2"), "stays", restart_policy={"Name": "unless-stopped"}, **sleep)
    gone = engine.run(image("2026.2"), "gone", **sleep)
    stays.reload()
    before = stays.attrs["State"]["Pid"]

    engine.reboot()

    stays.reload()
    gone.reload()
    assert gone.status == "exited"
    assert stays.status == "running"
    assert stays.attrs["State"]["Pid"] != before
    assert not alive(before)


def test_derived_image_is_broken_as_told(engine, image):
    """Files put into an image are what its containers run."""
    script = ("#!/bin/sh\necho broken on purpose\nexit 3\n", 0o755)
    bad = engine.derive(image("2026.2"), "glance-api:exits", {"/usr/local/bin/kolla_start": script})
    made = engine.run(bad)
    assert made.wait()["StatusCode"] == 3
    assert b"broken on purpose" in made.logs()
    assert made.image.labels["kolla_version"]


def test_salt_call_and_loaders_have_a_world_of_their_own(salt_call, loaders):
    """Both see the pillar that the test sets, and the session's engine."""
    salt_call.pillar({"glance": {"openstack_release": "2026.2"}})
    result = salt_call("config.get", "docker.url")
    assert (result.rc, result.json) == (0, salt_call.minion.options["docker.url"]), result
    result = salt_call("pillar.get", "glance:openstack_release", unmask=True)
    assert (result.rc, result.json) == (0, "2026.2"), result

    loaders.pillar({"glance": {"openstack_release": "2023.2"}})
    assert loaders.modules["pillar.get"]("glance:openstack_release", unmask=True) == "2023.2"
    assert "test.nop" in loaders.states


def test_keystone_gives_tokens(keystone):
    """A service user as Kolla makes it gets a token for its project."""
    keystone.user("glance", "gkpw")
    assert keystone.token("glance", "gkpw", "service")
    keystone.remove_glance()
    assert keystone.find("user", "glance") is None
