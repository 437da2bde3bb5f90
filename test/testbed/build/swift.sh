#!/bin/bash
# In a build container: all servers of a Swift, which asks a Keystone who may come in.
set -euo pipefail
cat >/usr/local/bin/start-swift <<'EOF'
#!/bin/bash
# start-swift ADDRESS KEYSTONE CERTIFICATE: the proxy serves HTTPS at ADDRESS:8080 with a file that
# holds certificate and key. Its user in Keystone is swift, password swiftpass, project service.
set -eu
address=$1 keystone=$2 certificate=$3
mkdir -p /etc/swift /srv/node/d1 /var/cache/swift
cd /etc/swift
cat >swift.conf <<CONF
[swift-hash]
swift_hash_path_prefix = glance
swift_hash_path_suffix = testbed
[storage-policy:0]
name = one
default = yes
CONF
port=6200
for server in object container account; do
  swift-ring-builder $server.builder create 4 1 1 >/dev/null
  swift-ring-builder $server.builder add "r1z1-$address:$port/d1" 1 >/dev/null
  swift-ring-builder $server.builder rebalance >/dev/null
  cat >$server.conf <<CONF
[DEFAULT]
devices = /srv/node
mount_check = false
bind_ip = $address
bind_port = $port
workers = 0
user = root
log_level = WARNING
[pipeline:main]
pipeline = $server-server
[app:$server-server]
use = egg:swift#$server
CONF
  swift-$server-server /etc/swift/$server.conf -v &
  port=$((port + 1))
done
cat >proxy.conf <<CONF
[DEFAULT]
bind_ip = $address
bind_port = 8080
cert_file = $certificate
key_file = $certificate
workers = 0
user = root
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck authtoken keystoneauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = $keystone
auth_url = $keystone
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = swift
password = swiftpass
delay_auth_decision = true
service_token_roles_required = false
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin,swiftoperator,member
CONF
for filter in catch_errors gatekeeper healthcheck slo dlo; do
  printf '[filter:%s]\nuse = egg:swift#%s\n' $filter $filter >>proxy.conf
done
swift-proxy-server /etc/swift/proxy.conf -v &
wait -n
EOF
chmod 755 /usr/local/bin/start-swift
