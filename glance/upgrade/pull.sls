# The image that the pillar names is on this host, of whatever release, pulled as
# glance:glance_image_pull says. No service is touched.
{%- set planned = (pillar.get('glance_orchestration') or {}).get('release') %}

include:
  - glance.image

extend:
  Glance image is present:
    glance_container:
      - any_release: True
      - planned: {{ planned | tojson }}
