# One healthy glance-api container of the wanted image and configuration is in charge, and
# answers. It replaces a present one without failing a request.

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
