"""Fixtures of the tests on a real engine."""

import pytest

from support.deployed import Deployer


@pytest.fixture(scope="session")
def deploy(_engine, request):
    """A function that deploys Glance by the formula itself; see support/deployed.py.

    A deployment lives until the next one, or until the fixture `engine` empties the engine.
    """
    deployer = Deployer(_engine, request.getfixturevalue)
    yield deployer
    deployer.close()
