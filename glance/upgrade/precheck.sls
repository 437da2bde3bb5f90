# The image that the pillar names accepts the configuration of this host, proved in a one-shot
# container. No service, no file and no database is touched.

include:
  - glance.upgrade.pull

Glance configuration is accepted by the new image:
  glance_configuration.proved:
    - require:
      - sls: glance.upgrade.pull
