#!/bin/bash
# In a build container: a Keystone on SQLite behind uWSGI, with an empty database.
set -euo pipefail
home=/var/lib/keystone
cd $home
umask 077
mkdir fernet credential
cat >keystone.conf <<CONF
[cache]
enabled = false
[database]
connection = sqlite:////$home/keystone.sqlite
[token]
provider = fernet
[fernet_tokens]
key_repository = $home/fernet
[fernet_receipts]
key_repository = $home/fernet
[credential]
key_repository = $home/credential
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 4
CONF
/var/lib/kolla/venv/bin/keystone-manage --config-file $home/keystone.conf db_sync
chown -R keystone: $home
umask 022

cat >/usr/local/bin/start-keystone <<'EOF'
#!/bin/bash
# start-keystone ADDRESS PORT: user admin, password admin, project admin.
set -eu
home=/var/lib/keystone url=http://$1:$2/v3
cd $home
umask 077
if [[ ! -e fernet/0 ]]; then
  for key in fernet/0 fernet/1 credential/0 credential/1; do
    head -c 32 /dev/urandom | base64 | tr '+/' '-_' >"$key"
  done
  keystone-manage --config-file $home/keystone.conf bootstrap --bootstrap-password admin \
    --bootstrap-username admin --bootstrap-project-name admin --bootstrap-role-name admin \
    --bootstrap-service-name keystone --bootstrap-region-id RegionOne \
    --bootstrap-admin-url "$url" --bootstrap-public-url "$url" --bootstrap-internal-url "$url"
fi
export OS_KEYSTONE_CONFIG_FILES=$home/keystone.conf
exec uwsgi --http-socket "$1:$2" --module keystone.wsgi.api:application --master --processes 1 \
  --need-app --die-on-term --buffer-size 65535 --add-header "Connection: close"
EOF
chmod 755 /usr/local/bin/start-keystone
