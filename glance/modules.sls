# The formula's own modules and states are those of the file server.
#
# Salt syncs them only before a highstate; 'state.apply glance' on a new minion would not find
# them, and after an update of the formula would run the old ones. Included by every other SLS;
# does nothing when they are up to date. Works with test=True too: Salt loads a module when it is
# called first, which is after this. No SLS of the formula calls its own modules from Jinja, since
# the functions of a render are fixed before this one.
# An orchestration has synced them right before its first step, and says so.
{%- if not (pillar.get('glance_orchestration') or {}).get('synced') %}
{%- do salt['saltutil.sync_modules'](saltenv=saltenv, refresh=False) %}
{%- do salt['saltutil.sync_states'](saltenv=saltenv, refresh=False) %}
{%- endif %}

{}
