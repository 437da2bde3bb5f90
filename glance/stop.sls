# glance-api does not run on this host; transfers end first. 'state.apply glance' starts it again.

include:
  - glance.settings

Glance API is stopped:
  glance_container.stopped:
    - require:
      - sls: glance.settings
