"""The scripts of one-shot containers as modules: they import each other from their own folder."""

import importlib.util
import sys
from unittest import mock

from support import session

FILES = session.ROOT / "glance" / "files"


def script(name):
    """Load ``glance/files/NAME.py``."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(FILES), *sys.path]):
        spec.loader.exec_module(module)
    return module
