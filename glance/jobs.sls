# The jobs that keep Glance in order are scheduled on this host: by Salt's scheduler, or by cron
# where there is no master. What is switched off is not scheduled any more.

include:
  - glance.container

Glance jobs are scheduled:
  glance_jobs.scheduled:
    - require:
      - sls: glance.container

Copies of images are gone where the cache is off:
  glance_cache.absent:
    - only_where_off: True
    - require:
      - Glance jobs are scheduled
