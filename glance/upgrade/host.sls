# One healthy container of the image that the pillar names, of whatever release, is in charge here
# and answers. The same as glance.container, which replaces within one release only.

include:
  - glance.upgrade.pull
  - glance.container

# Earlier steps of the upgrade have seen to the database, once for all hosts.
extend:
  Glance database is present:
    glance_schema:
      - by_upgrade: True
  Glance schema is bootstrapped:
    glance_schema:
      - by_upgrade: True
