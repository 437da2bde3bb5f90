# What only older releases need is gone from the schema. None of them may run any more:
# the orchestration makes sure of that.

include:
  - glance.upgrade.image

Glance schema is contracted:
  glance_upgrade.contracted:
    - require:
      - sls: glance.upgrade.image
