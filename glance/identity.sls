# Keystone knows Glance: service, endpoints, region, project, user and role. The first host that
# runs the API registers them; the others wait until Glance's user can log in.

include:
  - glance.database

Glance is registered in Keystone:
  glance_identity.registered:
    - require:
      - sls: glance.database
