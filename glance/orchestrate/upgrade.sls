# The group goes to the release of the image that the pillar names; see 'Upgrades' in the README.
#
#   salt-run state.orchestrate glance.orchestrate.upgrade test=True    # the plan, nothing touched
#   salt-run state.orchestrate glance.orchestrate.upgrade
#
# glance_enable_rolling_upgrade says how: rolling (database expanded and migrated, hosts replaced
# one after the other, database contracted) or legacy (all stopped, database synced, all started).
# After any interruption the same command goes on. The plan is made by glance_upgrade, which is
# pure; each of its steps applies one SLS of glance/upgrade/.
{%- set mode = 'upgrade' %}
{%- include 'glance/orchestrate/steps.jinja' %}
