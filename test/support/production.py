"""What production has beside Glance, and the pillar that names it: MariaDB, Keystone, memcached."""

from support import session
from support.docker_engine import archive
from support.engines import work_folder
from support.memcached import PORT, Memcached

# None of these is a part of another word, such as a file name.
GLANCE_PASSWORD, LOAD_PASSWORD = "glance-keystone-secret", "load-secret"
DATABASE_PASSWORD = "glance-database-secret"


class Production:
    """The services of one session.

    mariadb, keystone
        See support/services.py.
    """

    def __init__(self, mariadb, keystone):
        self.mariadb, self.keystone = mariadb, keystone
        self._memcached = Memcached(session.address(202)).__enter__()

    def pillar(self):
        """Forget the database and what was registered; return the keys that name the services."""
        self.mariadb.drop()
        self.keystone.user("glance", GLANCE_PASSWORD)
        self.keystone.ensure("project", "load", domain_id="default")
        self.keystone.user("load", LOAD_PASSWORD, project="load", role="member")
        return {
            "database_address": self.mariadb.address,
            "database_password": self.mariadb.root_password,
            "glance_database_password": DATABASE_PASSWORD,
            "keystone_internal_url": self.keystone.url,
            "glance_keystone_password": GLANCE_PASSWORD,
            "keystone_admin_password": "admin",
            "memcached_servers": [f"{self._memcached.address}:{PORT}"],
            "memcache_secret_key": "memcache-secret",
        }

    def token(self):
        """A new token of the user that the tests are."""
        return self.keystone.token("load", LOAD_PASSWORD, "load")

    # The database that was bootstrapped once per image

    @staticmethod
    def kept(image_id, kind="sql"):
        """Where the database of an image is kept."""
        folder = work_folder() / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"bootstrapped-{image_id.split(':')[1][:16]}.{kind}"

    def restore(self, image_id):
        """Make the database that was kept for an image, with its user; whether there was one."""
        kept = self.kept(image_id)
        if not kept.exists():
            return False
        self.mariadb.fresh(password=DATABASE_PASSWORD)
        self.mariadb.container.put_archive("/tmp", archive({"glance.sql": kept.read_bytes()}))
        self.mariadb.sql("source /tmp/glance.sql", "glance")
        return True

    def keep(self, image_id):
        """Keep the database as it is now for an image."""
        login = ["-h", self.mariadb.address, "-uroot", f"-p{self.mariadb.root_password}"]
        code, (content, errors) = self.mariadb.container.exec_run(
            ["mariadb-dump", *login, "--skip-comments", "glance"], demux=True
        )
        assert code == 0, errors
        write_whole(self.kept(image_id), content)

    def close(self):
        """End what it has started."""
        self._memcached.__exit__()


def write_whole(path, content):
    """Write a file so that nobody ever sees a part of it."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
