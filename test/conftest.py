"""Fixtures that all tests share: engine, images, registry, Glance by hand, Salt."""

import pytest

from support import session
from support.docker_engine import TestEngine
from support.glance_by_hand import Maker
from support.registry import Registry
from support.salt_call import SaltCall
from support.salt_loaders import Loaders
from support.services import Keystone, MariaDB

FOLDER_ORDER = ["unit", "functional", "real"]


def pytest_addoption(parser):
    """Add --soak."""
    parser.addoption("--soak", action="store_true", help="run the long tests (marker soak) too")


def pytest_collection_modifyitems(config, items):
    """Fast folders first, several hosts last; leave out what is marked soak unless asked for.

    Files that use one standing deployment (support/sturdy.py) follow each other.
    """

    def rank(item):
        folder = item.path.relative_to(session.ROOT / "test").parts[0]
        place = FOLDER_ORDER.index(folder) if folder in FOLDER_ORDER else len(FOLDER_ORDER)
        # The cluster stays up to the end of the session; nothing else should have it beside it.
        return place, "cluster" in item.fixturenames, not hasattr(item.module, "standing")

    items.sort(key=rank)
    if not config.getoption("soak") and "soak" not in (config.option.markexpr or ""):
        left_out = [item for item in items if item.get_closest_marker("soak")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(autouse=True)
def _restart_event_listener():
    """In place of that of pytest-salt-factories, which starts its event server for every test.

    Only tests with Salt daemons need one, and have it by ``salt_factories``.
    """


@pytest.fixture(scope="session")
def address():
    """A function: number of a simulated host -> loopback address of this run."""
    return session.address


@pytest.fixture(scope="session")
def _engine():
    claimed = session.claim()
    with TestEngine(session.ENGINE_NUMBER).used() as engine:
        engine.reset()
        yield engine
        engine.reset()
    claimed.close()


@pytest.fixture
def engine(_engine):
    """The session's Docker engine, empty of containers and volumes before and after a test."""
    _engine.reset()
    yield _engine
    _engine.reset()


@pytest.fixture(scope="session")
def image(_engine):
    """A function: release -> reference of its image in the engine."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = _engine.image(name)
        return made[name]

    return get


@pytest.fixture
def glance_by_hand(engine):
    """Start Glance containers without the formula; see support/glance_by_hand.py."""
    maker = Maker(engine)
    yield maker
    maker.clean()


@pytest.fixture(scope="session")
def registry(_engine):
    """A loopback image registry; see support/registry.py."""
    with Registry(_engine, session.address(250)) as running:
        yield running


@pytest.fixture(scope="session")
def _services(_engine):
    with TestEngine(session.SERVICES_NUMBER).used() as engine:
        engine.reset()
        yield engine
        engine.reset()


@pytest.fixture(scope="session")
def _mariadb(_services):
    # As in production: with a binary log, ordinary users may not make triggers.
    return MariaDB(_services, ["--log-bin"])


@pytest.fixture(scope="session")
def _keystone(_services):
    return Keystone(_services)


@pytest.fixture(scope="session")
def mariadb(_mariadb):
    """A MariaDB server; see support/services.py."""
    return _mariadb.ready()


@pytest.fixture(scope="session")
def keystone(_keystone):
    """A Keystone; see support/services.py."""
    return _keystone.ready()


@pytest.fixture
def salt_call(_engine, tmp_path_factory):
    """The real salt-call --local; see support/salt_call.py."""
    with SaltCall(docker_url=_engine.url) as call:
        yield call


@pytest.fixture
def loaders():
    """Salt's loaders in this process; see support/salt_loaders.py."""
    with Loaders(docker_url=TestEngine(session.ENGINE_NUMBER).url) as made:
        yield made
