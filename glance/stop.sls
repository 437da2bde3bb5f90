# glance-api does not run on this host; transfers end first. 'state.apply glance' starts it again.

include:
  - glance.prerequisites

Glance API is stopped:
  glance_container.stopped:
    - require:
      - sls: glance.prerequisites
