# The database has the metadata definitions of the image; what is there stays as it is.

include:
  - glance.upgrade.pull

Glance metadata definitions are loaded:
  glance_upgrade.metadefs_loaded:
    - require:
      - sls: glance.upgrade.pull
