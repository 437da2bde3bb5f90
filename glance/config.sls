# The files of the Kolla image contract are on this host, and the image accepts them. A running
# container keeps its own snapshot, so this alone changes no service.

include:
  - glance.cache

Glance configuration is rendered:
  glance_configuration.rendered:
    - require:
      - sls: glance.cache

Glance configuration is accepted by the image:
  glance_configuration.proved:
    - require:
      - Glance configuration is rendered
