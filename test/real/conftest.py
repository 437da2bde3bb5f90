"""Fixtures of the tests on a real engine."""

import shutil
import tempfile

import pytest

from support import session
from support.cluster import Cluster, Engines
from support.deployed import WEB_HOST, WEB_PORT, Deployer
from support.haproxy import HAProxy
from support.image_cache import PILLAR as CACHE_PILLAR
from support.image_cache import ImageCache
from support.production import Production
from support.salt_master import Master
from support.stores.everything import Stores
from support.straddle import Gate
from support.watched import Place

CACHE_SOAK = ("2023.2", "2024.1", "2026.1")


@pytest.fixture(scope="session")
def salt_factories_config():
    """Where Salt's daemons live: short, since Salt puts unix sockets below it."""
    root = tempfile.mkdtemp(prefix="gl-")
    yield {
        "root_dir": root,
        "code_dir": str(session.ROOT),
        "slow_stop": False,
        "inject_sitecustomize": False,
        "start_timeout": 90,
        "log_server_level": "error",
    }
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def production_services(mariadb, keystone):
    """MariaDB, Keystone and memcached, and the pillar that names them."""
    made = Production(mariadb, keystone)
    yield made
    made.close()


@pytest.fixture(scope="session")
def haproxy(_services):
    """A HAProxy as Kolla runs it; see support/haproxy.py."""
    made = HAProxy(_services)
    yield made
    made.clean()


@pytest.fixture(scope="session")
def deploy(_engine, request):
    """A function that deploys Glance by the formula itself; see support/deployed.py.

    A deployment lives until the next one, or until the fixture `engine` empties the engine.
    """
    deployer = Deployer(_engine, lambda: request.getfixturevalue("production_services"))
    yield deployer
    deployer.clean()


@pytest.fixture(
    scope="session",
    params=["2026.2", *(pytest.param(one, marks=pytest.mark.soak) for one in CACHE_SOAK)],
)
def cache_release(request):
    """The releases that cache and housekeeping are tested with."""
    return request.param


@pytest.fixture
def cache(deploy, mariadb, cache_release):
    """The cache of a production Glance, deployed once; see support/image_cache.py."""
    glance = deploy(cache_release, production=True, reuse=True, **CACHE_PILLAR)
    return ImageCache(glance, mariadb)


@pytest.fixture(scope="session")
def _cluster_engines(_engine):
    with Engines(3) as engines:
        yield engines


@pytest.fixture(scope="session")
def cluster(_cluster_engines, _mariadb, _keystone, haproxy, salt_factories, request):
    """Three hosts under a Salt master behind a load balancer; see support/cluster.py."""
    # What takes longest, Keystone, has been started above and is waited for last.
    with Master(salt_factories) as master:
        master.add(_cluster_engines.minions())
        production = request.getfixturevalue("production_services")
        made = Cluster(_cluster_engines, master, production, haproxy)
        yield made
        made.clean()


@pytest.fixture(scope="session")
def gate(tmp_path_factory):
    """What keeps imports going until a test lets them end; see support/straddle.py."""
    web = f"{session.address(WEB_HOST)}:{WEB_PORT}"
    return Gate(tmp_path_factory.mktemp("gate"), web)


@pytest.fixture(scope="session")
def _watched(_engine, mariadb, keystone, image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("production")
    place = Place(_engine, mariadb, keystone, image("2026.2"), folder)
    yield place
    place.clean()


@pytest.fixture
def production(_watched):
    """A production Glance on one host, deployed once; see support/watched.py."""
    return _watched.present()


@pytest.fixture(scope="session")
def stores(_services, request):
    """Ceph (twice), Swift with Keystone, S3, vCenter, web; see support/stores/everything.py."""
    request.getfixturevalue("_mariadb")  # starts beside them, and Glance needs it afterwards
    return Stores(_services, lambda: request.getfixturevalue("keystone"))
