# One healthy glance-api container of the wanted image and configuration is in charge, answers,
# and keeps images in every store. It replaces a present one without failing a request.

include:
  - glance.identity

Glance API runs:
  glance_container.running:
    - require:
      - sls: glance.identity

Glance API answers:
  glance_api.answers:
    - require:
      - Glance API runs

Glance stores work:
  glance_api.stores_work:
    - require:
      - Glance API answers
    - onchanges:
      - Glance API runs
