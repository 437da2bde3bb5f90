# Every host of glance_api_group runs Glance as the pillar says; no request fails meanwhile.
#
#   salt-run state.orchestrate glance.orchestrate.deploy test=True     # the plan, nothing touched
#   salt-run state.orchestrate glance.orchestrate.deploy
#   salt-run state.event 'glance/*'                                    # follow it, on the master
#
# 1. All hosts are asked what they run and what 'state.apply glance' would change. A host that does
#    not answer, a faulty pillar, an image of another release: refused, nothing is touched.
# 2. Hosts that would change make sure that they can: image, configuration, database, Keystone.
# 3. One host after the other gets 'state.apply glance'; all others are not touched. When a host
#    fails, it is back on its old container and the rest stays as it is.
# 4. The report: done, failed, untouched, seconds of each step, and the command to go on.
{%- set mode = 'deploy' %}
{%- include 'glance/orchestrate/steps.jinja' %}
