# The schema is the new release's, in one go. No API may run meanwhile: the orchestration stops
# them all.

include:
  - glance.upgrade.image

Glance schema is the new release's:
  glance_upgrade.synced:
    - require:
      - sls: glance.upgrade.image
