# The schema has what the new release needs; the old one goes on working on it.

include:
  - glance.upgrade.image

Glance schema is expanded:
  glance_upgrade.expanded:
    - require:
      - sls: glance.upgrade.image
