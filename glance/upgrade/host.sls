# One healthy container of the image that the pillar names, of whatever release, is in charge here
# and answers. The same as glance.container, which replaces within one release only.

include:
  - glance.upgrade.pull
  - glance.container
