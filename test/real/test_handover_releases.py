"""The hand-over between real Glance containers, of every release, under load."""

import http.client
import itertools
import time

import pytest

import glance_handover
import glance_sockets
from support.glance_by_hand import IDENTITY
from support.glance_files import join
from support.listener import connect
from support.load_process import LoadProcess
from support.straddle import Straddle

pytestmark = pytest.mark.one_host

PORT = 9292
RELEASES = ["2023.2", "2024.1", "2025.2", "2026.1", "2026.2"]
DURING_SWITCH = {"upload", "upload_chunked", "download", "import_direct", "import_web"}
SERVE_LIMIT = 180  # seconds until a newcomer answers its probes; it gets what the load leaves
DRAIN_LIMIT = 60  # seconds until transfers and imports have ended that may
WORKERS = 6  # twice as many as slow transfers: each holds one process of uWSGI
PROBES = 4 * WORKERS  # that a newcomer answers in a row; the first one of a process is slow
RATE = 50  # lists per second; small uploads and downloads come on top
AFTER_SWITCH = 2 * RATE  # requests that the newcomer answers while the incumbent ends its work
SLOWEST = 2  # seconds that a request may take, the deliberately slow ones apart
ASIDE, NORMAL = 64, 1024  # CPU shares of one that loads or ends, and of the one in charge
POLL = 0.1
STOP_LIMIT = 90  # seconds; longer than uWSGI's mercy
# As the formula has it, for chunks of any size.
UWSGI = {"chunked-input-limit": 64 * 1024 * 1024, "wsgi-manage-chunked-input": "true"}


@pytest.fixture(autouse=True)
def _dunders(monkeypatch):
    names = ("listeners", "in_flight", "wait_until_idle")
    loaded = {f"glance_sockets.{name}": getattr(glance_sockets, name) for name in names}
    monkeypatch.setattr(glance_handover, "__salt__", loaded, raising=False)


def pids(glance):
    glance.container.reload()
    return [glance.container.attrs["State"]["Pid"]]


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(POLL)


class Probe:
    """Asks whom the probe ports lead to; `reason` tells why it did not serve."""

    def __init__(self, address):
        self.address, self.reason = address, None
        self._ports = itertools.cycle(range(*glance_handover.PROBE_PORTS))

    def serves(self):
        source = next(self._ports)
        connection = http.client.HTTPConnection(self.address, PORT)
        try:
            connection.sock = connect(self.address, PORT, source)
            connection.request("GET", "/v2/images?limit=1", headers=IDENTITY)
            answer = connection.getresponse()
            body = answer.read()
            self.reason = None if answer.status == 200 else f"{answer.status} {body}"
        except (OSError, http.client.HTTPException) as exc:
            self.reason = f"{exc!r} from port {source}"
        finally:
            connection.close()
        return self.reason is None


def let_go(straddle, glance):
    """Whether Glance's tasks have taken their locks off the images that they imported."""
    images = [straddle.images[kind] for kind in ("import_direct", "import_web")]
    answers = [glance.get(f"/v2/images/{image}") for image in images]
    return all(status == 200 and b"os_glance_import_task" not in body for status, body in answers)


def hand_over(old, new, listen, load, straddle, errors):
    """Replaces one container by the other, just started.

    Its connections stay, and so do its imports, which hold none.
    """
    where, probe = (listen, PORT), Probe(new.address)
    until(lambda: glance_sockets.listeners(pids(new), *where), SERVE_LIMIT, new.logs)
    glance_handover.steer(pids(old), *where, probe=pids(new))
    until(probe.serves, SERVE_LIMIT, new.logs)
    for _ in range(PROBES):
        assert probe.serves(), (probe.reason, new.logs())
    new.container.update(cpu_shares=NORMAL)
    straddle.begin()
    assert glance_sockets.in_flight(pids(new), *where)["connections"] == 0
    assert glance_sockets.in_flight(pids(old), *where)["connections"] > 0
    switched = glance_handover.steer(pids(new), *where, fallback=pids(old))
    at = time.time()
    straddle.wait_past(at)
    load.wait(requests=load.status()["requests"] + AFTER_SWITCH)
    straddle.release()
    assert straddle.errors() == {}, (old.logs(200), new.logs())
    assert straddle.across(at) == DURING_SWITCH, (at, straddle.found)
    until(lambda: let_go(straddle, new), DRAIN_LIMIT, old.logs)
    idle = glance_sockets.wait_until_idle(
        pids(old), *where, DRAIN_LIMIT, switched["handshakes"], successor=pids(new)
    )
    assert (idle["idle"], idle["successor"]) == (True, True), idle
    drained = round(time.time() - at, 1)
    errors += [line for line in old.logs(2000).splitlines() if " ERROR " in line][-30:]
    old.container.update(cpu_shares=ASIDE)
    old.container.stop(timeout=STOP_LIMIT)
    old.container.remove()
    assert glance_handover.release(pids(new), *where) is True
    return drained


@pytest.fixture
def run(glance_by_hand, mariadb, address, gate):
    """Hands over from each of these releases to the next one, under load."""

    def start(releases, requests, listen=None):
        database = mariadb.fresh()
        return _run(glance_by_hand, database, address(21), gate, releases, requests, listen)

    return start


def _run(glance_by_hand, database, address, gate, releases, requests, listen):
    listen = listen or address
    address = "::1" if ":" in listen else address
    # The newest schema from the start: that of two neighbours serves both.
    glance_by_hand.migrate(glance_by_hand.engine.image(max(releases)), database)
    how = {
        "wait": False,
        "workers": WORKERS,
        "database": False,
        "identity": True,
        "options": {"database": {"connection": database}, **gate.options},
        "uwsgi": UWSGI,
        "volumes": gate.volumes,
    }

    def start(number, **more):
        made = glance_by_hand(releases[number], listen, f"glance_{number}", **how, **more)
        made.address = address  # where clients connect to
        return made

    serving = start(0).wait()
    url = f"http://{join(address, PORT)}"
    # The first requests of a process are slow, which has nothing to do with a hand-over.
    with LoadProcess(url, kinds="transfers", pause=0, loops=WORKERS, identity=True) as warm:
        warm.wait(ok={"download": 3 * WORKERS})
        assert warm.stop()["failures"] == []
    drained, errors = [], []
    with LoadProcess(url, kinds="lists,transfers", rate=RATE, identity=True) as load:
        for number in range(1, len(releases)):
            load.wait(requests=number * requests // (len(releases) + 1))
            reason = glance_handover.unsupported(pids(serving), listen, PORT)
            assert reason is None, reason
            straddle = Straddle(url, gate=gate, headers=IDENTITY).prepare()
            glance_handover.steer(pids(serving), listen, PORT)
            new = start(number, cpu_shares=ASIDE)
            begun = load.status()["at"]
            seconds = hand_over(serving, new, listen, load, straddle, errors)
            drained.append((begun, seconds, load.status()["at"]))
            serving = new
        load.wait(requests=requests)
        report = load.stop()
    figures = {key: report[key] for key in ("seconds", "requests", "failed", "slowest", "lag")}
    print(
        " -> ".join(releases),
        listen,
        figures,
        "(began, drained in, ended)",
        drained,
        report["kinds"],
    )
    assert report["failures"] == [], (errors, serving.logs(200))
    assert report["requests"] >= requests
    assert report["requests"] / report["seconds"] >= RATE
    assert report["slowest"]["seconds"] < SLOWEST, (report["slow"], report["lag"])
    assert {entry["state"] for entry in report["ledger"]} == {"deleted", "verified"}
    assert report["stuck"] == []


def test_from_the_last_eventlet_release_to_the_first_of_uwsgi(run):
    run(["2025.2", "2026.1"], 1500)


@pytest.mark.soak
@pytest.mark.parametrize(
    "releases",
    [
        *([release] * 3 for release in RELEASES),
        ["2023.2", "2024.1", "2023.2"],
        ["2024.1", "2025.2", "2026.1", "2026.2", "2026.1", "2025.2"],
    ],
    ids="-".join,
)
def test_every_release(run, releases):
    run(releases, 5000)


@pytest.mark.soak
@pytest.mark.parametrize("listen", ["::1", "::", "0.0.0.0"])
@pytest.mark.parametrize("releases", [["2025.2", "2026.1"], ["2026.2", "2026.2"]], ids="-".join)
def test_other_addresses(run, releases, listen):
    run(releases, 1500, listen)
