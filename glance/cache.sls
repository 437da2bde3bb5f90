# The image cache, where it is on, has a place of its own on a disk of this host; on a filesystem
# that several hosts share it is refused. The copies are cleaned by a job (glance.jobs).

include:
  - glance.image

Glance image cache is on a disk of this host:
  glance_cache.local:
    - require:
      - sls: glance.image
