"""Three hosts, one service: what a plain state.apply on all at once gives."""

import pytest

pytestmark = pytest.mark.cluster


def test_three_hosts_serve_behind_one_load_balancer(cluster):
    cluster.deploy()
    assert cluster.apply().changed == {}
    assert cluster.haproxy.servers() == dict.fromkeys(cluster.ids, "UP")
    assert cluster.ask("GET", "/v2/images")[0] == 200
