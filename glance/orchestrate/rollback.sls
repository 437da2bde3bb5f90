# The group goes back to a lower release, which the pillar names again, host after host.
#
#   salt-run state.orchestrate glance.orchestrate.rollback test=True   # the plan, nothing touched
#   salt-run state.orchestrate glance.orchestrate.rollback
#
# Only while the database holds nothing that the lower release does not know: its schema stays
# expanded. Else it is refused, and the backup is named.
{%- set mode = 'rollback' %}
{%- include 'glance/orchestrate/steps.jinja' %}
