# HAProxy on this host, where glance_loadbalancer_group lists it, has exactly the hosts that run the
# API. Its reload is its operator's, unless glance_haproxy_reload says how.

include:
  - glance.settings

Glance is part of HAProxy:
  glance_haproxy.configured:
    - require:
      - sls: glance.settings
