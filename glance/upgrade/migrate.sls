# The data is where the new release looks for it; the old one goes on serving.

include:
  - glance.upgrade.image

Glance data is migrated:
  glance_upgrade.migrated:
    - require:
      - sls: glance.upgrade.image
