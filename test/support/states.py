"""A state module of the formula over functions that the test chooses, without Salt's loaders."""

import importlib.util

from support import session


def state_module(name, functions, test=False):
    """Return ``_states/NAME.py``; a function that is not given may not be called."""
    path = session.ROOT / "_states" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_state", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__salt__, module.__opts__ = functions, {"test": test}
    return module
