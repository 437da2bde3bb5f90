"""Everyday use on one host: first apply, converged apply, stop, clean, removal asked for twice."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import session
from support.salt_call import SaltCall

pytestmark = pytest.mark.one_host

OWN_STATES_LIMIT = 800  # milliseconds that all states of a converged run may take together


@pytest.fixture(scope="module")
def trial(deploy):
    """A trial that was never applied before the first test."""
    return deploy(apply=False)


def upload(glance, size=1024 * 1024):
    """Upload an image; its id and the digest of its bytes."""
    data = os.urandom(size)
    record = json.dumps({"name": "kept", "disk_format": "raw", "container_format": "bare"})
    status, body = glance.ask("POST", "/v2/images", record, {"Content-Type": "application/json"})
    assert status == 201, body
    image_id = json.loads(body)["id"]
    kind = {"Content-Type": "application/octet-stream"}
    assert glance.ask("PUT", f"/v2/images/{image_id}/file", data, kind)[0] == 204
    return image_id, hashlib.sha512(data).hexdigest()


def digest(glance, image_id):
    status, body = glance.get(f"/v2/images/{image_id}/file")
    assert status == 200, body
    return hashlib.sha512(body).hexdigest()


def results(result):
    return {state["__id__"]: state["result"] for state in result.states}


def test_a_first_dry_run_on_a_bare_minion_tells_the_truth(trial):
    """No module was ever synced; nothing is touched, not even in the engine."""
    dry = trial.apply(test=True)
    assert dry.rc == 0, dry.stderr
    assert results(dry)["Glance API runs"] is None
    assert "Traceback" not in dry.stdout + dry.stderr
    assert trial.engine.client.containers.list(all=True) == []
    assert trial.engine.client.volumes.list() == []
    assert not (trial.salt.minion.root / "etc" / "kolla").exists()


def test_the_first_apply_brings_a_serving_glance(trial):
    first = trial.apply()
    assert first.rc == 0, (first.failed, first.stderr)
    assert "Trial mode" in first.comments, "the state says that this is no production"
    assert trial.get("/v2/images")[0] == 200
    image_id, sent = upload(trial)
    assert digest(trial, image_id) == sent


def test_a_converged_apply_changes_nothing_and_is_quick(trial):
    for test in (True, False):
        again = trial.apply(test=test)
        assert again.rc == 0, again.failed
        assert again.changed == []
        assert set(results(again).values()) == {True}
    spent = sum(state["duration"] for state in again.states)
    assert spent < OWN_STATES_LIMIT, {s["__id__"]: s["duration"] for s in again.states}


def test_the_container_is_as_kolla_makes_it(trial):
    trial.container.reload()
    host = trial.container.attrs["HostConfig"]
    assert host["NetworkMode"] == "host"
    assert host["Privileged"] is False
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert trial.container.attrs["Config"]["Healthcheck"]["Test"] == [
        "CMD-SHELL",
        f"healthcheck_curl {trial.url}/healthcheck",
    ]
    targets = {one["Destination"] for one in trial.container.attrs["Mounts"]}
    assert {"/var/lib/glance", "/var/lib/glance-work", "/var/log/kolla"} <= targets


def test_status_is_one_screen(trial):
    screen = trial.salt("glance_api.status", out="nested")
    assert screen.rc == 0, screen.stderr
    assert "2026.2" in screen.stdout
    assert len(screen.stdout.splitlines()) < 60


def test_verify_moves_a_real_image(trial):
    verified = trial.salt("glance_api.verify")
    assert verified.rc == 0, verified.stderr
    assert "file" in verified.json["stores"]


@pytest.mark.soak
def test_a_store_that_fails_is_told_until_it_works(trial):
    def apply():
        """Apply; what it said of the stores."""
        found = trial.apply()
        assert found.changed == []
        (told,) = [one for one in found.states if one["__id__"] == "Glance stores work"]
        return told["result"], told["comment"]

    assert apply() == (True, "An image went through every store since the container was started.")
    trial.container.restart()
    deadline = time.monotonic() + 60
    while not trial.whole():
        assert time.monotonic() < deadline, trial.logs()
        time.sleep(0.2)
    trial.container.exec_run("chown root:root /var/lib/glance/images", user="root")
    for _ in range(2):
        result, comment = apply()
        assert result is False
        assert "Permission to write image storage media denied" in comment
    trial.container.exec_run("chown glance:glance /var/lib/glance/images", user="root")
    assert apply() == (True, "An image went through file and came back.")
    assert apply()[1].endswith("since the container was started.")


@pytest.mark.soak
def test_stop_and_apply_again(trial):
    image_id, sent = upload(trial)
    dry = trial.apply("glance.stop", test=True)
    assert dry.changed == ["Glance API is stopped"]
    assert trial.get("/v2/images")[0] == 200, "a dry run stops nothing"
    assert trial.apply("glance.stop").changed == ["Glance API is stopped"]
    assert trial.get("/v2/images")[0] == 0
    assert trial.apply("glance.stop").changed == []
    back = trial.apply()
    assert back.rc == 0, back.failed
    assert digest(trial, image_id) == sent
    assert trial.apply().changed == []


def test_disabled_means_gone_with_the_data_kept(trial):
    image_id, _ = upload(trial)
    trial.change(enable_glance="no")
    gone = trial.apply()
    assert gone.rc == 0, gone.failed
    assert trial.containers() == []
    assert not (trial.salt.minion.root / "etc" / "kolla" / "glance-api").exists()
    assert trial.apply().changed == []
    data = Path(trial.engine.client.volumes.get("glance").attrs["Mountpoint"])
    assert (data / "images" / image_id).stat().st_size == 1024 * 1024


def test_data_is_removed_only_when_asked_for_twice(trial):
    def volumes():
        return {one.name for one in trial.engine.client.volumes.list()}

    assert "glance" in volumes()
    trial.change(glance_remove_data="yes")
    refused = trial.apply("glance.clean")
    assert refused.rc != 0
    assert 'pillar=\'{"glance": {"confirm": "glance"}}\'' in refused.comments
    wrong = trial.apply("glance.clean", pillar={"glance": {"confirm": "other"}})
    assert wrong.rc != 0
    assert "glance" in volumes()
    asked = trial.apply("glance.clean", pillar={"glance": {"confirm": "glance"}})
    assert asked.rc == 0, asked.failed
    assert not {"glance", "glance_work"} & volumes()


def test_an_edited_formula_never_runs_stale(_engine, tmp_path):
    """The module of the file server is what runs, in the very run after it changed."""
    copy = tmp_path / "formula"
    for part in ("glance", "_modules", "_states"):
        shutil.copytree(session.ROOT / part, copy / part)
    with SaltCall(_engine.url) as call:
        call.minion.options["file_roots"] = {"base": [str(copy)]}
        assert "The pillar is valid." in call("state.apply", "glance.settings").comments
        state = copy / "_states" / "glance_settings.py"
        state.write_text(state.read_text().replace("The pillar is valid.", "It is new."))
        assert "It is new." in call("state.apply", "glance.settings").comments


def test_a_package_of_it_installs(tmp_path):
    """The classic Salt package: spm build, spm local install."""
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=session.ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in names:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (session.ROOT / name).is_file():
            shutil.copy(session.ROOT / name, target)
    config = tmp_path / "etc"
    config.mkdir()
    text = {
        "root_dir": str(tmp_path / "root"),
        "formula_path": str(tmp_path / "formulas"),
        "pillar_path": str(tmp_path / "pillar"),
        "spm_build_dir": str(tmp_path / "build"),
        "spm_db": str(tmp_path / "packages.db"),
        "spm_cache_dir": str(tmp_path / "cache"),
        "spm_share_dir": str(tmp_path / "share"),
        "spm_logfile": str(tmp_path / "spm.log"),
    }
    (config / "spm").write_text(json.dumps(text))
    (config / "master").write_text(json.dumps(text))
    (config / "minion").write_text(json.dumps(text))

    def spm(*arguments):
        done = subprocess.run(
            [Path(sys.executable).with_name("spm"), "-c", config, *arguments],
            capture_output=True,
            text=True,
            cwd=source,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    spm("build", source)
    (package,) = (tmp_path / "build").glob("glance-*.spm")
    spm("-y", "local", "install", package)
    assert (tmp_path / "formulas" / "glance" / "init.sls").exists()
    assert (tmp_path / "formulas" / "_modules" / "glance_settings.py").exists()
    assert (tmp_path / "formulas" / "_states" / "glance_container.py").exists()
