#!/bin/bash
# In a build container: the uWSGI that uwsgi.sh made in the place of the one that cannot serve TLS.
set -euo pipefail
install /mnt/uwsgi/uwsgi /var/lib/kolla/venv/bin/uwsgi
install -m 644 -t /usr/local/lib /mnt/uwsgi/libpython3*
ldconfig
/var/lib/kolla/venv/bin/uwsgi --help | grep -q https-socket
