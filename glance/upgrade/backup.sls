# There is a backup of the database as it is, in glance:glance_backup_dir of this host.

include:
  - glance.upgrade.image

Glance database is backed up:
  glance_upgrade.backed_up:
    - require:
      - sls: glance.upgrade.image
