# What was stopped for an upgrade serves again, as it was: the upgrade failed before the schema
# had changed.

include:
  - glance.prerequisites

Glance API serves again:
  glance_container.started_again:
    - require:
      - sls: glance.prerequisites
