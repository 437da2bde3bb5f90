# One healthy glance-api container of the wanted image and configuration is in charge, and
# answers. It replaces a present one without failing a request.

include:
  - glance.database

Glance API runs:
  glance_container.running:
    - require:
      - sls: glance.database

Glance API answers:
  glance_api.answers:
    - require:
      - Glance API runs
