# The directory that the images lie in is the one that this host uses, and bears its mark, so that
# the others of the group can see that they share it. Nothing is written into another one.

include:
  - glance.settings

Glance data directory is marked:
  glance_sharing.marked:
    - require:
      - sls: glance.settings
