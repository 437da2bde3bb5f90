# The Python library that the minion needs is installed, when the pillar allows it
# (glance_prerequisites_install). Otherwise the first state that needs it says what to run.

include:
  - glance.settings
{%- if salt['pillar.get']('glance:glance_prerequisites_install', False) | to_bool %}

Docker SDK for Python is installed:
  pip.installed:
    - name: docker >= 7.1, < 8
    - reload_modules: True
    - require:
      - sls: glance.settings
{%- endif %}
