"""The driver's reason in Glance's log."""

import pytest
from salt.exceptions import CommandExecutionError

import glance_log

pytestmark = pytest.mark.backends

REQUEST = "req-11111111-0000-4000-8000-000000000000"
CONTEXT = f"[None {REQUEST} - - - - - -]"
OTHER = "[None req-22222222-0000-4000-8000-000000000000 - - - - - -]"


def log(*lines, pid=12):
    return "".join(f"2026-11-22 02:00:00.123 {pid} {line}\n" for line in lines)


SWIFT = log(
    f"INFO glance.api.v2.image_data {CONTEXT} Unable to create trust",
    f"ERROR glance.api.v2.image_data {CONTEXT} Failed to upload image data due to internal error:"
    " glance_store.exceptions.BackendException: x",
    "ERROR glance.api.v2.image_data Traceback (most recent call last):",
    'ERROR glance.api.v2.image_data   File "/x.py", line 1, in f',
    "ERROR glance.api.v2.image_data     raise Unauthorized(password)",
    "ERROR glance.api.v2.image_data keystoneauth1.exceptions.http.Unauthorized: The request you"
    " have made requires authentication. (HTTP 401)",
    "ERROR glance.api.v2.image_data ",
    "ERROR glance.api.v2.image_data During handling of the above exception, another exception"
    " occurred:",
    "ERROR glance.api.v2.image_data glance_store.exceptions.BackendException: Cannot find swift"
    " service endpoint : The request you have made requires authentication. (HTTP 401)",
)


def test_what_the_driver_raised_last_counts():
    assert glance_log.pick(SWIFT, REQUEST) == (
        "BackendException: Cannot find swift service endpoint : The request you have made requires"
        " authentication. (HTTP 401)"
    )


def test_other_requests_do_not_count():
    other = log(f"ERROR x {OTHER} other", "ERROR x ValueError: not ours", pid=13)
    assert "HTTP 401" in glance_log.pick(SWIFT + other, REQUEST)
    assert "HTTP 401" in glance_log.pick(other + SWIFT, REQUEST)


def test_without_a_name_of_the_request_everything_counts():
    assert "HTTP 401" in glance_log.pick(SWIFT, None)
    assert "HTTP 401" in glance_log.pick(SWIFT, "req-unknown")


def test_a_complaint_without_an_exception():
    text = log(f"WARNING urllib3 {CONTEXT} Retrying", f"ERROR swiftclient {CONTEXT} refused")
    assert glance_log.pick(text, REQUEST) == "refused"


def test_an_exception_without_a_text_says_nothing():
    text = log(f"ERROR x {CONTEXT} no such pool", "ERROR x glance_store.BackendException")
    assert glance_log.pick(text, REQUEST) == "no such pool"


def test_a_disabled_store_said_why_when_the_api_started():
    start = log(
        "WARNING glance_store.driver [-] Failed to configure store correctly: Store rbd could not"
        " be configured correctly. Reason: [errno 2] RADOS object not found (error connecting to"
        " the cluster) Disabling add method."
    )
    text = log(
        f"ERROR x {CONTEXT} Error in store configuration. Adding images to store is disabled.:"
        " glance_store.exceptions.StoreAddDisabled: Configuration for store failed.",
        "ERROR x glance_store.exceptions.StoreAddDisabled: Configuration for store failed.",
    )
    assert glance_log.pick(text, REQUEST, start + text) == (
        "Store rbd could not be configured correctly. Reason: [errno 2] RADOS object not found"
        " (error connecting to the cluster)"
    )


def test_no_log_no_reason():
    assert glance_log.pick("", REQUEST) == ""


@pytest.fixture
def volume(tmp_path, monkeypatch):
    (tmp_path / "glance").mkdir()
    mounts = [{"target": "/var/log/kolla", "path": str(tmp_path)}]
    table = {
        "glance_container.facts": lambda: {"name": "glance_api"},
        "glance_engine.inspect": lambda name: {"mounts": mounts},
        "glance_settings.masked": lambda text: text.replace("hush", "***"),
    }
    monkeypatch.setattr(glance_log, "__salt__", table, raising=False)
    return tmp_path / "glance" / "glance-api.log"


def test_only_what_was_logged_since_counts(volume):
    assert glance_log.position() == 0
    assert glance_log.reason(0) == ""
    volume.write_text(log(f"ERROR x {OTHER} before"))
    since = glance_log.position()
    assert glance_log.reason(since) == ""
    with volume.open("a") as file:
        file.write(SWIFT)
    assert "HTTP 401" in glance_log.reason(since)


def test_nothing_is_told_of_secrets(volume):
    volume.write_text(log(f"ERROR x {CONTEXT} cannot log in with hush"))
    assert glance_log.reason(0) == "cannot log in with ***"


def test_a_long_reason_is_cut_and_not_a_secret_in_it(volume):
    volume.write_text(log(f"ERROR x {CONTEXT} {'y' * (glance_log.LENGTH - 2)}hush{'y' * 1000}"))
    told = glance_log.reason(0)
    assert len(told) == glance_log.LENGTH + 1
    assert "yhu" not in told


def test_an_engine_that_does_not_answer_is_no_reason(volume, monkeypatch):
    def silent():
        raise CommandExecutionError("The engine does not answer.")

    monkeypatch.setitem(glance_log.__salt__, "glance_container.facts", silent)
    assert glance_log.position() == 0
    assert glance_log.reason(0) == ""


def test_a_log_that_was_rotated_is_read_from_its_beginning(volume):
    volume.write_text(SWIFT)
    assert "HTTP 401" in glance_log.reason(10**6)
