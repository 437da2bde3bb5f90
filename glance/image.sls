# The image that the pillar names is on this host and may replace what runs here: same release,
# and no glance_api container of somebody else.

include:
  - glance.sharing
  - glance.prerequisites

Glance image is present:
  glance_container.image_present:
    - require:
      - sls: glance.sharing
      - sls: glance.prerequisites
