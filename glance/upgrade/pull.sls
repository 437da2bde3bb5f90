# The image that the pillar names is on this host, of whatever release. Nothing else is touched.

include:
  - glance.image

extend:
  Glance image is present:
    glance_container:
      - any_release: True
