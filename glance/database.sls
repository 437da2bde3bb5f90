# The database exists and holds the schema of the image. Only an empty database is filled;
# changing a schema is the work of the upgrade.

include:
  - glance.config

Glance database is present:
  glance_schema.database_present:
    - require:
      - sls: glance.config

Glance schema is bootstrapped:
  glance_schema.bootstrapped:
    - require:
      - Glance database is present
