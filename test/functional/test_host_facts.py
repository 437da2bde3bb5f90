"""The facts of a host through Salt's own loaders: whatever is wrong is told, nothing is raised."""

import pytest

from support.salt_loaders import Loaders

pytestmark = pytest.mark.cluster


@pytest.fixture
def nobody(tmp_path):
    """Loaders of a minion whose engine does not answer."""
    with Loaders(docker_url=f"unix://{tmp_path}/nobody.sock") as made:
        yield made


@pytest.mark.parametrize("changes", [False, True])
def test_an_engine_that_is_away_is_one_fault(nobody, changes):
    found = nobody.modules["glance_host.facts"](changes=changes)
    (fault,) = found["faults"]
    assert fault.startswith("The Docker engine at unix://") and "docker.url" in fault
    assert found["change"] is True and found["running"] is None


def test_a_faulty_pillar_is_told_fault_by_fault(nobody):
    nobody.pillar({"glance": {"glance_api_prot": 1, "glance_api_workers": "many"}})
    found = nobody.modules["glance_host.facts"](changes=True)
    assert len(found["faults"]) == 2
    assert found["settings"] == {} and found["wanted"]["hash"] is None


def test_no_event_is_sent_without_a_master(nobody):
    assert nobody.modules["glance_progress.tell"]("pull", "begins") is None
