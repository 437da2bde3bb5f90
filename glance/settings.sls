# The pillar under 'glance:' is valid. Everything else requires it, so with a faulty pillar
# nothing is touched; all faults are told at once.

include:
  - glance.modules

Glance pillar is valid:
  glance_settings.valid
