# glance-api and its configuration are gone from this host. The data stays, unless
# glance_remove_data is yes and the run confirms the volume by name.

include:
  - glance.prerequisites

Glance is no part of HAProxy:
  glance_haproxy.absent:
    - require:
      - sls: glance.prerequisites

Glance jobs are absent:
  glance_jobs.absent:
    - require:
      - sls: glance.prerequisites

Glance API container is absent:
  glance_container.absent:
    - require:
      - Glance jobs are absent

Glance configuration is absent:
  glance_configuration.absent:
    - require:
      - Glance API container is absent

Glance data is removed where asked for twice:
  glance_container.data_absent:
    - require:
      - Glance API container is absent

Copies of images are removed where asked for:
  glance_cache.absent:
    - require:
      - Glance API container is absent
