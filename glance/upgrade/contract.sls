# What only older releases need is gone from the schema. None of them may run any more:
# the orchestration makes sure of that.

include:
  - glance.upgrade.pull

Glance schema is contracted:
  glance_upgrade.contracted:
    - require:
      - sls: glance.upgrade.pull
