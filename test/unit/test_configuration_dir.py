"""Writing and comparing configuration directories."""

import os
import pathlib
import subprocess

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_config_dir as config_dir

pytestmark = pytest.mark.one_host

MARK = "# managed by Salt (glance formula); changes made here are lost\n"


def file(text, secret=False):
    return {"text": text, "secret": secret}


def some(**changes):
    return {
        "glance-api.conf": file(MARK + "[DEFAULT]\ndebug = false\n"),
        "glance-secrets.conf": file(MARK + "[database]\nconnection = c4n4ry\n", secret=True),
        "ceph/ceph.conf": file("[global]\n"),
        **changes,
    }


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "kolla" / "glance-api")


def content(place):
    return {
        str(path.relative_to(place)): path.read_text()
        for path in pathlib.Path(place).rglob("*")
        if path.is_file()
    }


def test_write_makes_the_directory_with_these_files_and_modes(place):
    changes = config_dir.write(place, some())
    assert content(place) == {path: entry["text"] for path, entry in some().items()}
    assert {
        path: f"{os.stat(os.path.join(place, path)).st_mode & 0o7777:o}"
        for path in (".", "ceph", "ceph/ceph.conf", "glance-secrets.conf")
    } == {".": "750", "ceph": "750", "ceph/ceph.conf": "640", "glance-secrets.conf": "640"}
    assert changes["glance-secrets.conf"] == "new (content hidden)"


def test_write_twice_changes_nothing(place):
    config_dir.write(place, some())
    before = {path: os.stat(os.path.join(place, path)) for path in some()}
    assert config_dir.write(place, some()) == {}
    assert {path: os.stat(os.path.join(place, path)) for path in some()} == before


def test_compare_touches_nothing(place):
    assert config_dir.compare(place, some())["."] == "new folder"
    assert not os.path.exists(place)


def test_write_removes_what_is_not_wanted(place):
    config_dir.write(place, some())
    (pathlib.Path(place) / "old").mkdir()
    (pathlib.Path(place) / "old" / "stray.conf").write_text("x")
    (pathlib.Path(place) / "glance-api.conf.salt-new").write_text("left by a killed run")
    wanted = some()
    del wanted["ceph/ceph.conf"]
    assert config_dir.write(place, wanted) == {
        "ceph/ceph.conf": "removed",
        "glance-api.conf.salt-new": "removed",
        "old/stray.conf": "removed",
    }
    assert set(content(place)) == set(wanted)
    assert sorted(os.listdir(place)) == sorted(wanted)
    assert config_dir.compare(place, wanted) == {}


def test_modes_and_kinds_are_put_right(place):
    config_dir.write(place, some())
    os.chmod(os.path.join(place, "glance-secrets.conf"), 0o660)
    os.chmod(place, 0o770)
    os.unlink(os.path.join(place, "glance-api.conf"))
    os.symlink("/etc/passwd", os.path.join(place, "glance-api.conf"))
    changes = config_dir.write(place, some())
    assert changes["glance-secrets.conf"] == "mode 0660 becomes 0640"
    assert changes["."] == "mode 0770 becomes 0750"
    assert not os.path.islink(os.path.join(place, "glance-api.conf"))
    assert config_dir.compare(place, some()) == {}
    assert "root:" in pathlib.Path("/etc/passwd").read_text()


def test_a_folder_where_a_file_belongs_and_the_other_way_round(place):
    os.makedirs(os.path.join(place, "glance-api.conf", "deep"))
    pathlib.Path(place, "ceph").write_text("not a folder")
    config_dir.write(place, some())
    assert content(place) == {path: entry["text"] for path, entry in some().items()}
    assert config_dir.compare(place, some()) == {}


def test_the_diff_of_a_file_without_secrets_is_shown(place):
    config_dir.write(place, some())
    new = some(**{"glance-api.conf": file(MARK + "[DEFAULT]\ndebug = true\n")})
    changes = config_dir.compare(place, new)
    assert list(changes) == ["glance-api.conf"]
    assert "-debug = false\n+debug = true" in changes["glance-api.conf"]


def test_secret_content_is_never_shown():
    old = {path: entry["text"] for path, entry in some().items()}
    changes = config_dir.diff(old, some(**{"glance-secrets.conf": file("new s3cret", True)}))
    assert changes == {"glance-secrets.conf": "changed (content hidden)"}


def test_the_diff_of_a_file_that_others_wrote_is_hidden():
    old = {"glance-api.conf": "[database]\nconnection = mysql://glance:c4n4ry@db/glance\n"}
    changes = config_dir.diff(old, {"glance-api.conf": some()["glance-api.conf"]})
    assert "c4n4ry" not in str(changes)
    assert "content hidden" in changes["glance-api.conf"]


def test_a_removed_file_is_named_without_its_content():
    assert config_dir.diff({"glance-key.pem": "c4n4ry"}, {}) == {"glance-key.pem": "removed"}


def test_digest_depends_on_names_and_texts_only():
    assert config_dir.digest(some()) == config_dir.digest(dict(reversed(some().items())))
    assert config_dir.digest({"a": file("bc")}) != config_dir.digest({"ab": file("c")})
    assert config_dir.digest({"a": file("b")}) != config_dir.digest({"a": file("c")})
    assert len(config_dir.digest({})) == 64


@pytest.mark.parametrize("path", some())
def test_a_change_of_any_file_makes_another_digest(path):
    """Of one with secrets, too: a new password is a new container."""
    changed = some(**{path: {**some()[path], "text": "changed"}})
    assert config_dir.digest(changed) != config_dir.digest(some())


def test_a_full_disk_leaves_the_old_files(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        place = str(small / "glance-api")
        config_dir.write(place, some())
        old = content(place)
        big = some(**{"policy.yaml": file("x" * 100_000), "glance-api.conf": file("changed")})
        with pytest.raises(CommandExecutionError) as caught:
            config_dir.write(place, big)
        assert "No space left on device; the old files are as they were" in str(caught.value)
        assert content(place) == old
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_a_path_outside_is_refused(place, path):
    with pytest.raises(SaltInvocationError):
        config_dir.write(place, {path: file("x")})
