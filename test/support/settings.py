"""The settings of a pillar, resolved without Salt."""

from pathlib import Path

import yaml

import glance_backend
import glance_backend_rules
import glance_content
import glance_defaults
import glance_job_rules
import glance_pillar
import glance_rules
import glance_settings

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((ROOT / "glance/defaults.yaml").read_text(encoding="utf-8"))
HOST = {
    "id": "ctl1",
    "cpus": 8,
    "interfaces": {"lo": ["127.0.0.1", "::1"], "eth0": ["fe80::1", "10.0.0.5", "fd00::5"]},
    "timezone": "UTC",
}
PARTS = {
    "glance_pillar.read": glance_pillar.read,
    "glance_content.read": glance_content.read,
    "glance_content.secrets": glance_content.secrets,
    "glance_defaults.complete": glance_defaults.complete,
    "glance_backend.describe": glance_backend.describe,
    "glance_backend_rules.check": glance_backend_rules.check,
    "glance_rules.check": glance_rules.check,
    "glance_job_rules.check": glance_job_rules.check,
}


def settings_for(pillar, **host):
    """Return (settings, faults) of the mapping ``glance:`` on a host like HOST."""
    return glance_settings.resolve(pillar, SCHEMA, {**HOST, **host}, PARTS)
