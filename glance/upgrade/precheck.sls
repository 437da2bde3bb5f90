# The image that the pillar names accepts the configuration of this host, proved in a one-shot
# container. No service and no database is touched.

include:
  - glance.upgrade.image

Glance configuration is accepted by the new image:
  glance_configuration.proved:
    - require:
      - sls: glance.upgrade.image
