"""Which lines of a log are told as the last words of a container."""

import pytest

import glance_engine

pytestmark = pytest.mark.one_host

REQUESTS = (
    "[pid: 25|app: 0|req: 104/207] 127.0.0.1 () {22 vars in 263 bytes} [..] GET /v2/images\n",
    "2026-11-22 00:22:22.322 7 INFO eventlet.wsgi.server [-] 127.0.0.1 - - [..] "
    '"GET /healthcheck HTTP/1.1" 200 137 0.001\n',
)


@pytest.mark.parametrize("request_line", REQUESTS)
def test_requests_of_others_do_not_hide_the_reason(tmp_path, request_line):
    log = tmp_path / "glance-api.log"
    log.write_text("Traceback\nImportError: no soup\n" + request_line * 200)
    assert glance_engine._tail(log, 12) == ["Traceback", "ImportError: no soup"]


def test_the_last_lines_of_a_long_log(tmp_path):
    log = tmp_path / "glance-api.log"
    log.write_text("".join(f"{n} {'x' * 1000}\n" for n in range(2000)))
    told = glance_engine._tail(log, 3)
    assert [line.split()[0] for line in told] == ["1997", "1998", "1999"]
    assert {len(line) for line in told} == {400}
