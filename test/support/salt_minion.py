"""A minion's world of its own: root folder, pillar, configuration."""

import shutil
import tempfile
from pathlib import Path

import yaml

from support import session

TOP = {"base": {"*": ["glance"]}}


class Minion:
    """A throw-away minion with the formula as its file roots."""

    def __init__(self, docker_url, minion_id="one"):
        # Short: Salt puts unix sockets below it.
        self.root = Path(tempfile.mkdtemp(prefix="gl-"))
        self.id = minion_id
        self.pillar_root = self.root / "pillar"
        self.pillar_root.mkdir()
        (self.root / "cron.d").mkdir()
        self.options = {
            "id": minion_id,
            "file_client": "local",
            "root_dir": str(self.root),
            "cachedir": str(self.root / "cache"),
            "pki_dir": str(self.root / "pki"),
            "sock_dir": str(self.root / "s"),
            "conf_file": str(self.root / "minion"),
            "log_file": str(self.root / "log"),
            "extension_modules": str(self.root / "ext"),
            "file_roots": {"base": [session.file_root()]},
            "fileserver_backend": ["roots"],
            "pillar_roots": {"base": [str(self.pillar_root)]},
            "enable_fqdns_grains": False,
            "mine_enabled": False,
            "docker.url": docker_url,
            "docker.update_mine": False,
            "glance.cron_dir": str(self.root / "cron.d"),
        }
        self.pillar({})

    def pillar(self, data):
        """Set the whole pillar of this minion."""
        # sort_keys off: the order of some mappings has a meaning.
        for name, content in {"top": TOP, "glance": data}.items():
            text = yaml.safe_dump(content, sort_keys=False)
            (self.pillar_root / f"{name}.sls").write_text(text, encoding="utf8")

    def clean(self):
        """Delete everything."""
        shutil.rmtree(self.root, ignore_errors=True)
