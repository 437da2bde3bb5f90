"""A job on the operator's screen: quiet while it works, a sentence when it does not."""

import pytest

import glance_care

pytestmark = pytest.mark.cache


def memory(failures=0, idle=10, **last):
    report = {"comment": "All is well.", "time": "2026-11-22T02:19:08+00:00", **last}
    return {"failures": failures, "success": 10**6 - idle, "last": report}


def described(interval=1800, **more):
    return glance_care.describe("cache/clean", memory(**more), interval, 10**6)


def test_a_job_that_works_needs_no_words():
    assert described() == {"text": "2026-11-22T02:19:08+00:00: All is well.", "warnings": []}
    unused = {"failures": 0, "success": 0, "last": {}}
    never = {"text": "no run yet", "warnings": []}
    assert glance_care.describe("cache/clean", unused, 1800, 10**6) == never


def test_two_failures_in_a_row_show_with_their_reason():
    assert described(failures=1, comment="The database is gone.")["warnings"] == []
    assert described(failures=2, comment="The database is gone.")["warnings"] == [
        "The last 2 runs of cache/clean failed: The database is gone."
    ]


def test_runs_that_are_missed_show():
    assert described(idle=5000)["warnings"] == []
    assert described(idle=7200)["warnings"] == [
        "The last run of cache/clean was 2.0 h ago: it is not scheduled, or the minion did not run."
    ]
    assert described(idle=7200, skipped="two serve.")["warnings"] == [
        "The last run of cache/clean was 2.0 h ago: two serve."
    ]
    assert described(interval=0, idle=10**5)["warnings"] == [], "by cron: not known when"
