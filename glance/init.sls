# Glance, the image service, runs on this host as the pillar says.
#
# In order of work: pillar valid, load balancer told, image present, configuration rendered and
# accepted, database and schema there, container in charge, API answers, jobs scheduled. With
# 'enable_glance: no' the service is removed and its data kept; nothing but a plain no removes it.

{%- set enabled = salt['pillar.get']('glance:enable_glance') %}
{%- if enabled in [none, '', '{enable_openstack_core}'] %}
{%- set enabled = salt['pillar.get']('glance:enable_openstack_core', True) %}
{%- endif %}

include:
{%- if enabled | string | trim | lower in ['no', 'false', 'off'] %}
  - glance.clean
{%- else %}
  - glance.loadbalancer
  - glance.jobs
{%- endif %}
