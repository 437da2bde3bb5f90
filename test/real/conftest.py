"""Fixtures of the tests on a real engine."""

import pytest

from support import session
from support.deployed import WEB_HOST, WEB_PORT, Deployer
from support.straddle import Gate


@pytest.fixture(scope="session")
def deploy(_engine, request):
    """A function that deploys Glance by the formula itself; see support/deployed.py.

    A deployment lives until the next one, or until the fixture `engine` empties the engine.
    """
    deployer = Deployer(_engine, request.getfixturevalue)
    yield deployer
    deployer.close()


@pytest.fixture(scope="session")
def gate(tmp_path_factory):
    """What keeps imports going until a test lets them end; see support/straddle.py."""
    web = f"{session.address(WEB_HOST)}:{WEB_PORT}"
    return Gate(tmp_path_factory.mktemp("gate"), web)
