# One healthy glance-api container of the wanted image and configuration is in charge, answers,
# and keeps images in every store. It replaces a present one without failing a request. Before that,
# it is proved that it sees the images that there are.

include:
  - glance.identity

Glance data directory is shared where it must be:
  glance_sharing.proved:
    - require:
      - sls: glance.identity

Glance images stay in reach:
  glance_sharing.in_reach:
    - require:
      - Glance data directory is shared where it must be

Glance API runs:
  glance_container.running:
    - require:
      - Glance images stay in reach

Glance API answers:
  glance_api.answers:
    - require:
      - Glance API runs

Glance stores work:
  glance_api.stores_work:
    - require:
      - Glance API answers
