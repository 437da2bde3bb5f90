"""A model of a group of hosts and their database, on which the steps of an upgrade are tried.

Every step can be cut at any point of it; what it leaves is what the real one would leave.
"""

import glance_advisories
import glance_drain
import glance_group
import glance_lock
import glance_releases
import glance_upgrade
import glance_upgrade_rules

PARTS = {
    "glance_releases.step": glance_releases.step,
    "glance_releases.first_step": glance_releases.first_step,
    "glance_advisories.of": glance_advisories.of,
    "glance_lock.sentence": glance_lock.sentence,
    "glance_group.refusals": glance_group.refusals,
    "glance_group.old_outsiders": glance_group.old_outsiders,
    "glance_drain.is_ours": glance_drain.is_ours,
    "glance_drain.at_once": glance_drain.at_once,
    "glance_upgrade_rules.refusals": lambda facts, method: glance_upgrade_rules.refusals(
        facts, method, PARTS
    ),
}
VERSIONS = {release: f"{major}.9.0" for major, release in glance_releases.RELEASES.items()}
STAGES = ("old", "expanded", "migrated", "new")
SETTINGS = {
    "glance_enable_rolling_upgrade": True,
    "glance_upgrade_contract": "auto",
    "glance_upgrade_pause_after_canary": False,
    "glance_upgrade_max_unavailable": 1,
    "glance_upgrade_handover_single_host": False,
    "glance_accepted_advisories": [],
    "glance_image_pull": "missing",
    "glance_backup_dir": "/var/backups/glance",
    "glance_api_image_full": "glance-api:new",
}


class Cut(Exception):
    """The run was killed."""


class Failed(Exception):
    """A step failed."""


class Container:
    """One glance-api container."""

    def __init__(self, name, release, spec, serves=True):
        self.name, self.release, self.spec, self.serves = name, release, spec, serves

    def told(self):
        return {
            "name": self.name,
            "release": self.release,
            "version": VERSIONS[self.release],
            "image_id": self.spec,
            "hash": self.spec,
            "database": "mysql://db/glance",
            "runs": self.serves,
            "serves": self.serves,
        }


class World:
    """Hosts that run ``old`` and a pillar that names ``new``.

    cut
        Called at every point of a step where a kill may strike; raises Cut or Failed.
    strategy
        ``handover`` or ``drain``.
    schema
        Whether the new release changes the schema.
    """

    def __init__(self, count, old, new, strategy="handover", schema=True, **settings):
        self.old, self.new, self.strategy = old, new, strategy
        self.mode, self.shared, self.settings = "upgrade", True, {**SETTINGS, **settings}
        self.ids = [f"ctl{number}" for number in range(1, count + 1)]
        self.hosts = {one: [Container("glance_api", old, old)] for one in self.ids}
        self.images = {one: {old} for one in self.ids}
        self.drained, self.missing_metadefs = {}, {new}
        self.stage = "old" if schema else "new"
        self.backups, self.saved, self.most_out = [], False, 0
        self.broken = self.half_done = False
        self.contracted_by = None
        self.cut = lambda: None
        self.legacy_stop = self.again = False
        self.leaving = set()  # hosts that may not run the API any more

    # what can be seen

    def facts(self):
        wanted = self.old if self.mode == "rollback" else self.new
        return {
            "mode": self.mode,
            "settings": self.settings,
            "hosts": [self._host(one, wanted) for one in self.ids],
            "schema": self._schema(wanted) if wanted in self.images[self.ids[0]] else None,
            "store": {"shared": self.shared, "why": "they are on one host", "unproved": False},
            "outsiders": [],
            "lock": None,
            "again": self.again,
            "image_may_be_new": self.settings["glance_image_pull"] == "always" and not self.again,
        }

    def _host(self, name, wanted):
        containers = self.hosts[name]
        charge = next((one for one in containers if one.serves), None) or (
            containers[0] if containers else None
        )
        tidy = len(containers) == 1 and charge.serves and charge.name == "glance_api"
        here = wanted in self.images[name]
        return {
            "id": name,
            "answers": True,
            "faults": [],
            "runs_api": name not in self.leaving,
            "running": charge.told() if charge else None,
            "others": [
                {"name": one.name, "release": one.release}
                for one in containers
                if one is not charge
            ],
            "wanted": {
                "image_id": wanted if here else None,
                "release": wanted if here else None,
                "version": VERSIONS[wanted] if here else None,
                "hash": wanted if here else None,
            },
            "change": not (tidy and charge.spec == wanted),
            "settings": {"glance_api_group": self.ids},
            "drains": None,
            "drained_at": [],
            "drained_by": self.drained.get(name),
            "proved": here,
        }

    def _schema(self, wanted):
        position, pending = "current", []
        if wanted == self.new and self.stage != "new":
            pending = ["expand", "migrate", "contract"][STAGES.index(self.stage) :]
            position = "uncontracted" if pending == ["contract"] else "behind"
        if wanted == self.old and self.stage != "old":
            position = "expanded" if self.stage != "new" or not self.contracted_by else "ahead"
        return {
            "error": None,
            "database": "mysql://db/glance",
            "position": position,
            "heads": [self.stage],
            "used": True,
            "pending": pending,
            "half_done": {"objects": ["x"], "repairable": True, "remedy": ""}
            if self.half_done and wanted == self.new
            else None,
            "metadefs_missing": sorted(self.missing_metadefs) if wanted == self.new else [],
            "backups": self.backups,
        }

    def out(self):
        """Hosts that do not serve now."""
        return [
            one
            for one in self.ids
            if one not in self.leaving and not any(c.serves for c in self.hosts[one])
        ]

    # what is done

    def run(self):
        """Plan, and do the steps; returns the plan."""
        made, self.saved = glance_upgrade.plan(self.facts(), PARTS), False
        failed = []
        for step in made["steps"]:
            if "onfail" in step:
                if failed and set(step["onfail"]) & set(failed):
                    self._start_old(step["hosts"])
                continue
            if failed:
                continue
            try:
                self._do(step)
            except Failed:
                failed.append(step["id"])
        made["failed"] = failed
        return made

    def _do(self, step):
        self.cut()
        phase = step["phase"]
        if phase == "host":
            self._replace(step["hosts"])
        elif phase == "again":
            self.again = True
            assert not self.run()["refusals"]
            self.again = False
        else:
            getattr(self, f"_{phase}")(step["hosts"])
        self.cut()

    def _pull(self, hosts):
        for one in hosts:
            self.images[one].add(self.old if self.mode == "rollback" else self.new)

    def _precheck(self, hosts):
        assert all(self.new in self.images[one] or self.mode == "rollback" for one in hosts)

    def _backup(self, _hosts):
        self.backups.append(self.stage)
        self.saved = True

    def _expand(self, _hosts):
        assert self.saved and self.stage == "old"
        self.half_done = True
        self.cut()
        self.half_done, self.stage = False, "expanded"

    def _migrate(self, _hosts):
        assert self.stage in ("expanded", "migrated")
        self.stage = "migrated"

    def _confirm(self, _hosts):
        assert glance_upgrade.contract_refusal(self.facts(), PARTS) is None

    def _contract(self, _hosts):
        old = [c for one in self.ids for c in self.hosts[one] if c.release != self.new]
        assert not old, "contract under old containers"
        assert self.settings["glance_upgrade_contract"] == "auto"
        assert self.stage == "migrated" and self.saved
        self.stage, self.contracted_by = "new", "rolling"

    def _metadefs(self, _hosts):
        self.missing_metadefs = set()

    def _verify(self, _hosts):
        assert not self.out()

    def _stop(self, hosts):
        self.legacy_stop = True
        for one in hosts:
            for container in self.hosts[one]:
                container.serves = False
            self.cut()

    def _sync(self, _hosts):
        serving = [c for one in self.ids for c in self.hosts[one] if c.serves]
        assert all(c.release == self.new for c in serving), "sync under old containers"
        assert self.saved
        self.half_done = self.stage == "old"
        self.cut()
        self.half_done = False
        self.stage, self.contracted_by = "new", "legacy"

    def _start_old(self, hosts):
        for one in hosts:
            self.hosts[one][0].serves = True

    def _replace(self, hosts):
        wanted = self.old if self.mode == "rollback" else self.new
        assert self.legacy_stop or self.stage in ("migrated", "new") or wanted == self.old
        if self.strategy == "drain":
            for one in hosts:  # a wave is out at the same time
                self._drain(one)
            self._note()
            self.cut()
        for one in hosts:
            self._hand_over(one, wanted)

    def _drain(self, name):
        self.drained[name] = "replacement"
        for container in self.hosts[name]:
            container.serves, container.name = False, f"glance_api_{container.spec}_ending"

    def _hand_over(self, name, wanted):
        present = self.hosts[name]
        if name in self.leaving:
            self.cut()
            self.hosts[name] = []
            return
        newcomer = next((one for one in present if one.spec == wanted), None)
        if newcomer is None:
            newcomer = Container(f"glance_api_{wanted}", wanted, wanted, serves=False)
            present.append(newcomer)
        self.cut()
        if self.broken and wanted == self.new:
            present.remove(newcomer)
            for one in present:
                one.serves, one.name = True, "glance_api"
            self.drained.pop(name, None)
            raise Failed
        newcomer.serves = True
        self.cut()
        for one in present:
            if one is not newcomer:
                one.serves, one.name = False, f"glance_api_{one.spec}_ending"
        self.cut()
        newcomer.name, self.hosts[name] = "glance_api", [newcomer]
        self.drained.pop(name, None)
        self._note()

    def _note(self):
        if not self.legacy_stop:
            self.most_out = max(self.most_out, len(self.out()))
