"""Three hosts, one service: what a plain state.apply on all of them at once gives."""

import time

import pytest

pytestmark = pytest.mark.cluster

ONCE = {
    "Glance database is present",
    "Glance schema is bootstrapped",
    "Glance is registered in Keystone",
}
SECOND_RUN = 15  # seconds; Kolla-Ansible's role alone took 18 on such a machine, changing nothing


def test_a_first_apply_on_all_at_once_makes_one_service(cluster):
    cluster.fresh()
    cluster.production.keystone.remove_glance()
    first = cluster.apply()
    done = {name: set(states) for name, states in first.changed.items()}
    shared = [name for name, states in done.items() if states & ONCE]
    assert shared == cluster.ids[:1] and done["ctl1"] >= ONCE, first.changed
    assert all("Glance API runs" in states for states in done.values())
    keystone = cluster.production.keystone
    assert len(keystone.ask("GET", "services?type=image")["services"]) == 1
    assert keystone.find("user", "glance")

    cluster.haproxy.wait()
    assert list(cluster.haproxy.servers()) == cluster.ids
    assert cluster.ask("GET", "/v2/images")[0] == 200

    began = time.monotonic()
    second = cluster.apply()
    seconds = time.monotonic() - began
    print(f"second run: {seconds:.1f} s")
    assert second.changed == {}
    assert seconds < SECOND_RUN


def test_the_load_balancer_gets_another_member_list_only_with_the_group(cluster):
    cluster.deploy(reuse=True)
    file = cluster.haproxy.services / "glance-api.cfg"
    text = file.read_text()
    would = cluster.salt("*", "state.apply", "glance.loadbalancer", test=True)
    assert would.changed == {} and file.read_text() == text
    cluster.pillar(haproxy_glance_api_client_timeout="1h")
    would = cluster.salt("*", "state.apply", "glance.loadbalancer", test=True)
    assert would.changed == {"ctl1": ["Glance is part of HAProxy"]}
    assert file.read_text() == text
