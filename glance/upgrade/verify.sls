# Images go up and come back unchanged by the address that users take.

include:
  - glance.prerequisites

Glance is verified:
  glance_upgrade.verified:
    - require:
      - sls: glance.prerequisites
