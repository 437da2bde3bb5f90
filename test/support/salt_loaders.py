"""Salt's loaders in the test process: modules and states in milliseconds, no daemon."""

import salt.config
import salt.loader

from support import session
from support.salt_minion import Minion

GRAINS = {"os": "Debian", "os_family": "Debian", "kernel": "Linux", "num_cpus": 2}


class Loaders:
    """Loaders over the repository.

    modules, states
        What `__salt__` and `__states__` are: ``loaders.modules["glance_settings.get"]()``,
        ``loaders.modules["state.sls"]("glance", test=True)``.
    opts, context
        The minion's options, as the modules see them; what they share, such as the return code.
    """

    def __init__(self, docker_url, pillar=None, minion_id="one", grains=None, minion=None):
        self.minion = minion or Minion(docker_url, minion_id)
        minion_id = self.minion.id
        self._grains = {"id": minion_id, **GRAINS, **(grains or {})}
        self.pillar(pillar or {})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.minion.clean()

    def pillar(self, data, **options):
        """Set the pillar ({"glance": {...}}) and load everything anew.

        options
            Minion options to set as well, such as ``test=True``.
        """
        self.minion.pillar(data)
        self.opts = salt.config.DEFAULT_MINION_OPTS.copy()
        self.opts.update(
            self.minion.options,
            test=False,
            pillar=data,
            grains=dict(self._grains),
            module_dirs=[str(session.ROOT)],
            states_dirs=[str(session.ROOT / "_states")],
            __role="minion",
            __cli="salt-call",
        )
        self.opts.update(options)
        self.context = {}
        utils = salt.loader.utils(self.opts)
        self.modules = salt.loader.minion_mods(self.opts, utils=utils, context=self.context)
        serializers = salt.loader.serializers(self.opts)
        self.states = salt.loader.states(
            self.opts, self.modules, utils, serializers, context=self.context
        )
        return self

    def grains(self, **grains):
        """Set grains and load everything anew."""
        self._grains.update(grains)
        return self.pillar(self.opts["pillar"])

    def test_mode(self, on=True):
        """Switch test=True for states that are called directly."""
        self.states.opts["test"] = on
        self.modules.opts["test"] = on
