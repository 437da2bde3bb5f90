#!/bin/bash
# In a build container: Glance and Kolla's own start scripts. $1 = glance, $2 = kolla version.
set -euo pipefail
venv=/var/lib/kolla/venv
uv pip install -q --no-deps --python $venv/bin/python "glance==$1"
uv pip check -q --python $venv/bin/python

uv pip install -q --no-deps --target /tmp/kolla "kolla==$2"
cd "$(dirname "$(find /tmp/kolla -path '*docker/base/set_configs.py')")/.."
bin=/usr/local/bin
install -T base/set_configs.py $bin/kolla_set_configs
install -T base/start.sh $bin/kolla_start
install base/healthcheck_curl $bin
for script in copy_cacerts install_projects; do
  test ! -f base/$script.sh || install -T base/$script.sh $bin/kolla_$script
done
install -m 644 -T glance/glance-base/extend_start.sh $bin/kolla_extend_start
install -m 644 -T glance/glance-api/extend_start.sh $bin/kolla_glance_extend_start
install -m 440 -T base/sudoers /etc/sudoers

# The configuration files of Glance's source lie where Kolla's image has them.
mkdir -p /glance /etc/glance
cp -r --no-preserve=ownership "/mnt/glance-$1/etc" /glance/
cp -r /glance/etc/* /etc/glance/
cp $venv/etc/pycadf/glance_api_audit_map.conf /etc/glance/ 2>/dev/null || true
rm -rf /tmp/kolla /tmp/uv-*.lock
