# The image that the pillar names is on this host, of whatever release. One that is here is not
# pulled anew, so that all steps of an upgrade work with the same image.
{%- set planned = (pillar.get('glance_orchestration') or {}).get('release') %}

include:
  - glance.image

extend:
  Glance image is present:
    glance_container:
      - any_release: True
      - pulled: True
      - planned: {{ planned | tojson }}
