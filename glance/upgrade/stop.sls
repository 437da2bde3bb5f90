# glance-api does not run on this host while the schema is changed; transfers end first.

include:
  - glance.stop
