# One healthy container of the image that the pillar names, of whatever release, is in charge here
# and answers, and its jobs are scheduled. The same as glance.jobs, which replaces within one release
# only.
{%- set planned = (pillar.get('glance_orchestration') or {}).get('release') %}

include:
  - glance.upgrade.image
  - glance.jobs
{%- if planned %}

# Earlier steps of the upgrade have seen to the database, once for all hosts.
extend:
  Glance database is present:
    glance_schema:
      - by_upgrade: True
  Glance schema is bootstrapped:
    glance_schema:
      - by_upgrade: True
{%- endif %}
