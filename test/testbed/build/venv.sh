#!/bin/bash
# In a build container: the virtualenv of a Kolla image. $1 = pins file.
set -euo pipefail
venv=/var/lib/kolla/venv
uv venv -q --system-site-packages --python /usr/bin/python3 $venv
uv pip install -q --python $venv/bin/python -r "/mnt/pins/$1"
rm -f /tmp/uv-*.lock
