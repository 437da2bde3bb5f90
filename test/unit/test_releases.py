"""Which release a version belongs to, and which steps are supported."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

import glance_options
import glance_releases

pytestmark = pytest.mark.one_host


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("26.1.0", "2023.1"),
        ("27.1.1", "2023.2"),
        ("28.2.0", "2024.1"),
        ("29.2.1", "2024.2"),
        ("30.2.0", "2025.1"),
        ("31.1.0", "2025.2"),
        ("32.0.0", "2026.1"),
        ("33.0.0", "2026.2"),
        ("33.0.0.0b2", "2026.2"),
        ("32.0.1.dev4", "2026.1"),
    ],
)
def test_release(version, release):
    assert glance_releases.release(version) == release


@pytest.mark.parametrize("version", ["25.1.0", "34.0.0", "", "master"])
def test_an_unknown_version_is_refused_in_one_sentence(version):
    with pytest.raises(CommandExecutionError) as caught:
        glance_releases.release(version)
    assert str(caught.value) == (
        f"The image holds Glance {version}, which this formula does not know (it knows 26 to 33, "
        "OpenStack 2023.1 to 2026.2): name another image in glance:openstack_release, "
        "glance:glance_tag or glance:glance_api_image_full."
    )


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("2026.1", "2026.1", "same"),
        ("2026.1", "2026.2", "adjacent"),
        ("2023.2", "2024.1", "adjacent"),
        ("2024.1", "2025.1", "slurp"),
        ("2025.1", "2026.1", "slurp"),
        ("2023.1", "2025.1", "too far"),
        ("2023.2", "2024.2", "too far"),
        ("2025.1", "2026.2", "too far"),
        ("2026.2", "2026.1", "down"),
    ],
)
def test_step(old, new, kind):
    assert glance_releases.step(old, new) == kind


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("2023.1", "2025.1", "2024.1"),
        ("2023.2", "2024.2", "2024.1"),
        ("2023.2", "2026.2", "2024.1"),
        ("2025.1", "2026.2", "2026.1"),
        ("2024.2", "2026.1", "2025.1"),
        ("2026.1", "2026.2", "2026.2"),
    ],
)
def test_the_first_of_several_steps(old, new, first):
    assert glance_releases.first_step(old, new) == first


def test_step_with_an_unknown_release():
    with pytest.raises(SaltInvocationError, match="The release '2027.1' is not known"):
        glance_releases.step("2026.1", "2027.1")


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("2023.1", "glance-api"),
        ("2023.2", "glance-api"),
        ("2024.1", "glance-api"),
        ("2024.2", "glance-api"),
        ("2025.1", "glance-api"),
        ("2025.2", "glance-api"),
        ("2026.1", "uwsgi /etc/glance/glance-api-uwsgi.ini"),
        ("2026.2", "uwsgi /etc/glance/glance-api-uwsgi.ini"),
    ],
)
def test_the_launch_command_follows_the_release(release, command):
    assert glance_options.command({}, release) == command
