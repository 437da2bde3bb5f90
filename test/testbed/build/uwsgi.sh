#!/bin/bash
# In a build container with a compiler: uWSGI with OpenSSL, and the library of Python that it needs.
# $1 = version.
set -euo pipefail
mkdir -p /opt/uwsgi
uv venv -q --python /usr/bin/python3 /tmp/venv
uv pip install -q --no-binary uwsgi --python /tmp/venv/bin/python "uwsgi==$1"
cp -L /tmp/venv/bin/uwsgi "$(ldconfig -p | sed -n 's/.*libpython3.*=> //p' | head -n 1)" /opt/uwsgi/
