"""
The operator's screen: short texts made of what is known about a node. Pure.
"""

import datetime

__virtualname__ = "glance_screen"

# Label of the container that tells which schema its image was started on.
SCHEMA_LABEL = "glance.schema"


def __virtual__():
    return __virtualname__


def make(facts, settings, seen, warnings, now):
    """
    What ``glance_api.status`` shows.

    facts
        Result of ``glance_container.facts``.
    settings
        Result of ``glance_settings.get``; None when the pillar is not valid.
    seen
        ``{"answers": text, "drained": bool, "cache": {"text", "warnings"}}``.
    warnings
        Sentences that are known already.
    now
        Seconds since the epoch.

    Returns a dictionary of short texts without secrets.
    """
    screen = {
        "answers": seen["answers"],
        "container": _container_text(facts, now),
        "drained": "yes, glance_api.resume ends it" if seen["drained"] else "no",
        "leftovers": ", ".join(facts["leftovers"]) or "none",
    }
    if facts["state"] in ("running", "stopped"):
        screen["database"] = facts.get("database") or "unknown"
        screen["health"] = facts["health"] or "no health check"
        screen["image"] = facts["image"]
        screen["release"] = facts["release"] or "unknown"
        screen["schema"] = facts["labels"].get(SCHEMA_LABEL) or "not checked"
        screen["spec"] = facts["spec"] or "unknown"
    if settings:
        screen["address"] = f"{settings['api_scheme']}://{settings['listen']}"
        screen["cache"] = seen["cache"]["text"]
        screen["stores"] = _stores_text(settings)
    screen["warnings"] = warnings + _warnings(facts, settings) + seen["cache"]["warnings"]
    if not screen["warnings"]:
        screen["warnings"] = "none"
    return screen


def _container_text(facts, now):
    if facts["state"] == "absent":
        return "none: state.apply glance deploys one"
    if facts["state"] == "foreign":
        return f"{facts['name']} was not made by this formula"
    text = f"{facts['name']} ({facts['id'][:12]}), {facts['state']}"
    if facts["state"] == "running" and facts["started_at"]:
        text += f" for {_duration(now - _started(facts['started_at']))}"
    return text


def _started(moment):
    return datetime.datetime.fromisoformat(f"{moment[:19]}+00:00").timestamp()


def _duration(seconds):
    minutes, seconds = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


def _stores_text(settings):
    names = [f"{one['name']} ({one['type']})" for one in settings["stores"]]
    return f"{', '.join(names)}; default {settings['default_store']}"


def _warnings(facts, settings):
    found = []
    if facts["leftovers"]:
        found.append("An interrupted replacement left containers: state.apply glance repairs it.")
    if facts.get("health") == "unhealthy":
        found.append(f"The engine's health check of {facts['name']} fails.")
    if facts.get("restarts"):
        found.append(f"{facts['name']} was restarted {facts['restarts']} times by the engine.")
    if facts["state"] == "stopped":
        found.append("The container is stopped: state.apply glance starts it.")
    if settings and settings["trial"]:
        found.append("Trial mode: this host alone, SQLite, no Keystone, loopback only.")
    return found
