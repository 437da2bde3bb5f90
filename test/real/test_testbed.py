"""The testbed itself: a Glance by hand serves under load, and the load sees what goes wrong."""

import pytest

from support.load_process import LoadProcess

pytestmark = pytest.mark.one_host


def test_load_without_and_with_a_failure(engine, mariadb, glance_by_hand, address):
    """0 failures while Glance serves; failures, and only then, once it is killed."""
    database = mariadb.fresh()
    glance = glance_by_hand(
        "2026.2", address(11), "glance_api", workers=5, database=database, identity=True
    )
    load = LoadProcess(
        glance.url,
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
