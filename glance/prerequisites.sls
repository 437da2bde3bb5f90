# What the minion needs is there: the Docker SDK for Python and an engine that answers. The SDK
# is installed when the pillar allows it (glance_prerequisites_install); otherwise the state says
# what to run.

include:
  - glance.settings
{%- set install = salt['pillar.get']('glance:glance_prerequisites_install', False) %}
{%- if install | string | trim | lower in ['yes', 'true', 'on'] %}

Docker SDK for Python is installed:
  pip.installed:
    - name: docker >= 7.1, < 8
    - reload_modules: True
    - require:
      - sls: glance.settings
    - require_in:
      - Docker engine answers
{%- endif %}

Docker engine answers:
  glance_container.engine_answers:
    - require:
      - sls: glance.settings
