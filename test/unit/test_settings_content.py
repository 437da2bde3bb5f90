"""Small things inside the structured values."""

import pytest

import glance_content

pytestmark = pytest.mark.one_host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "x"),
        ("admin_password", "x"),
        ("memcache_secret_key", "x"),
        ("hmac_keys", "x"),
        ("root_token_id", "x"),
        ("root-token-id", "x"),
        ("approle_secret_id", "x"),
        ("secret_id", "x"),
        ("passcode", "x"),
        ("connection", "x"),
        ("slave_connection", "x"),
        ("osprofiler_connection_string", "x"),
        ("transport_url", "x"),
        ("swift_store_application_credential_secret", "x"),
        ("key", "x"),
        ("anything", "mysql://user:pw@host/db"),
        ("anything", ["a", "redis://:pw@host/"]),
    ],
)
def test_secret_options(name, value):
    assert glance_content.is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("username", "x"),
        ("auth_url", "http://host:5000/v3"),
        ("max_retries", "5"),
        ("keyring", "x"),
        ("token_cache", "x"),
        ("application_credential_id", "x"),
        ("user_id", "x"),
        ("connection_recycle_time", "10"),
        ("url", "http://user@host/"),
        ("log_file", ["/var/log/x", "b"]),
    ],
)
def test_other_options(name, value):
    assert not glance_content.is_secret(name, value)
