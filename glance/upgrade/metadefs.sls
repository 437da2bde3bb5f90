# The database has the metadata definitions of the image; what is there stays as it is.

include:
  - glance.upgrade.image

Glance metadata definitions are loaded:
  glance_upgrade.metadefs_loaded:
    - require:
      - sls: glance.upgrade.image
