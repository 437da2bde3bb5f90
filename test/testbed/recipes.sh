# How each image is made, on engine 0. Sourced by `images`.
#   describe NAME    sets IMAGE (its reference) and KEY (hash of what it is made from)
#   build NAME       makes what is missing; needs engine 0 and `prepare_build`

LABEL=glance-testbed.inputs
SUITE=bookworm
BASE_PACKAGES=python3,ca-certificates,sudo,curl,python3-yaml,dumb-init
# Kolla's image has the client libraries of Ceph; the variants RELEASE-stores do, too.
STORES_PACKAGES=$BASE_PACKAGES,python3-rados,python3-rbd
# For a uWSGI that can serve TLS; the one from a wheel cannot.
UWSGI=2.0.31
UWSGI_PACKAGES=$BASE_PACKAGES,gcc,libc6-dev,python3-dev,libssl-dev
BUILD=$TESTBED_SRC/build
. "$TESTBED_SRC/recipes_stores.sh"
RUN=(--network host -v "$TESTBED/build:/mnt:ro" -v "$TESTBED/cache/uv:/media")
KOLLA_START=('ENTRYPOINT ["dumb-init","--single-child","--"]' 'CMD ["kolla_start"]')

has() { [[ $(on "$1" image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$2" 2>/dev/null) == "$3" ]]; }

describe() {
  BASE_NAME=kolla-base BASE_HAS=$BASE_PACKAGES
  [[ $1 != *-stores ]] || BASE_NAME=kolla-base-stores BASE_HAS=$STORES_PACKAGES
  BASE_KEY=$(hash_of "$SUITE" "$BASE_HAS" "$BUILD/kolla_base_hook")
  BASE=$BASE_NAME:$BASE_KEY
  ! is_store_server "$1" || { describe_store_server "$1" && return; }
  case $1 in
    mariadb)
      IMAGE=mariadb:10.11
      KEY=$(hash_of "$SUITE" "$BUILD/mariadb_hook")
      ;;
    haproxy)
      IMAGE=haproxy:2.6
      KEY=$(hash_of "$SUITE" "$BUILD/haproxy_hook")
      ;;
    keystone)
      describe_venv keystone
      IMAGE=keystone:30.0.0
      KEY=$(hash_of "$VENV" "$BUILD/keystone.sh")
      ;;
    *-tls)
      describe "${1%-tls}"
      PLAIN=$IMAGE
      IMAGE=$PLAIN-tls
      KEY=$(hash_of "$KEY" "$UWSGI" "$UWSGI_PACKAGES" "$BUILD"/{uwsgi,tls}.sh)
      ;;
    *)
      read -r RELEASE VERSION KOLLA PINS < <(grep "^${1%-stores} " "$TESTBED_SRC/releases.txt") ||
        die "no image is named $1: take mariadb, keystone, haproxy, one of $STORE_SERVERS, a release of" \
          "test/testbed/releases.txt, or RELEASE-stores"
      [[ $1 != *-stores ]] || PINS+=-stores
      describe_venv "$PINS"
      IMAGE=glance-api:$1
      KEY=$(hash_of "$VENV" "$VERSION" "$KOLLA" "$BUILD/glance.sh")
      ;;
  esac
}

describe_venv() {
  VENV_PINS=$1.txt
  VENV_KEY=$(hash_of "$BASE" "$TESTBED_SRC/pins/$VENV_PINS" "$BUILD/venv.sh" "$BUILD/build.sh")
  VENV=venv-$1:$VENV_KEY
}

build() {
  describe "$1"
  ! has 0 "$IMAGE" "$KEY" || return 0
  ! is_store_server "$1" || { build_store_server "$1" && return; }
  case $1 in
    mariadb)
      step "image: $IMAGE" rootfs "$IMAGE" "$KEY" mariadb-server "$BUILD/mariadb_hook" \
        'ENTRYPOINT ["start-mariadb"]' 'CMD ["127.0.0.1","3306"]'
      ;;
    haproxy)
      step "image: $IMAGE" rootfs "$IMAGE" "$KEY" haproxy "$BUILD/haproxy_hook" \
        'ENTRYPOINT ["start-haproxy"]' 'CMD ["127.0.0.1","1936"]'
      ;;
    keystone)
      build_venv
      step "image: $IMAGE" layer "$VENV" "$IMAGE" "$KEY" keystone.sh "" "USER keystone" \
        "${KOLLA_START[0]}" 'CMD ["start-keystone","127.0.0.1","5000"]'
      ;;
    *-tls)
      build "${1%-tls}"
      describe "$1"
      step "image: $IMAGE" tls_layer
      ;;
    *)
      build_venv
      step "image: $IMAGE" glance_layer
      ;;
  esac
}

build_base() {
  ! has 0 "$BASE" "$BASE_KEY" || return 0
  step "image: Kolla's base on Debian $SUITE ($BASE_NAME)" rootfs "$BASE" "$BASE_KEY" \
    "$BASE_HAS" "$BUILD/kolla_base_hook" \
    "ENV LANG=C.UTF-8" "ENV KOLLA_BASE_DISTRO=debian" "ENV KOLLA_BASE_ARCH=$(uname -m)" \
    "ENV PATH=/var/lib/kolla/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    "${KOLLA_START[@]}" "LABEL maintainer=glance-testbed" "LABEL name=base"
  supersede "$BASE"
}

# The layer with a virtualenv, shared by all images that have the same pins.
build_venv() {
  build_base
  ! has 0 "$VENV" "$VENV_KEY" || return 0
  step "image: Python libraries (${VENV_PINS%.txt})" \
    layer "$BASE" "$VENV" "$VENV_KEY" venv.sh "$VENV_PINS"
  supersede "$VENV"
}

glance_layer() {
  source_of "$VERSION"
  layer "$VENV" "$IMAGE" "$KEY" glance.sh "$VERSION $KOLLA" "USER glance" "${KOLLA_START[@]}" \
    "LABEL name=glance-api" "LABEL kolla_version=$KOLLA" "LABEL build-date=20261101"
}

# A Glance image with a uWSGI that was compiled against OpenSSL, in an image made for that.
tls_layer() {
  local made
  rootfs "uwsgi-build:$KEY" "$KEY" "$UWSGI_PACKAGES" true
  layer "uwsgi-build:$KEY" "uwsgi-made:$KEY" "$KEY" uwsgi.sh "$UWSGI"
  made=$(on 0 create "uwsgi-made:$KEY" none)
  rm -rf "$TESTBED/build/uwsgi"
  on 0 cp "$made:/opt/uwsgi" "$TESTBED/build/uwsgi"
  on 0 rm "$made"
  on 0 rmi "uwsgi-made:$KEY" "uwsgi-build:$KEY"
  layer "$PLAIN" "$IMAGE" "$KEY" tls.sh "" "USER glance" "${KOLLA_START[@]}"
}

# Glance's source, of which the image gets the etc folder; pip finds it by the machine's settings.
source_of() {
  local kept=$TESTBED/cache/source
  [[ -f $kept/glance-$1.tar.gz ]] ||
    "$PYTHON_WITH_PIP" -I -m pip download -q --no-deps --no-binary :all: -d "$kept" "glance==$1"
  tar -xzf "$kept/glance-$1.tar.gz" -C "$TESTBED/build" --no-same-owner "glance-$1/etc"
}

# What builds see below /mnt: the build scripts, the pins, uv, the machine's CA bundle.
prepare_build() {
  local uv
  mkdir -p "$TESTBED"/build/pins "$TESTBED/cache/uv"
  cp "$BUILD"/*.sh "$TESTBED/build/"
  cp "$TESTBED_SRC"/pins/*.txt "$TESTBED/build/pins/"
  uv=$("$TESTBED_SRC/uv")
  cp "$uv" "$TESTBED/build/uv"
  PYTHON_WITH_PIP=$(dirname "$uv")/python
  cp /etc/ssl/certs/ca-certificates.crt "$TESTBED/build/ca.crt"
  "$TESTBED_SRC/machine_env" "$PYTHON_WITH_PIP" >"$TESTBED/build/env"
}

# The machine's own Debian mirrors, if it has any for this suite.
package_sources() {
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep " $SUITE" | sort -u || true
}

# rootfs TAG KEY PACKAGES HOOK CHANGES...: a root file system from Debian packages.
rootfs() {
  local tag=$1 key=$2 packages=$3 hook=$4
  shift 4
  debian --include="$packages" --customize-hook="$hook" \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap' |
    on 0 import -c "LABEL $LABEL=$key" "${@/#/-c}" - "$tag"
}

# debian OPTION...: mmdebstrap as this machine reaches Debian; a tar on standard output.
debian() {
  local sources
  mapfile -t sources < <(package_sources)
  apt-config dump | grep '^Acquire::.*\(Proxy\|Verify\|CAInfo\|Retries\)' >"$TESTBED/build/apt.conf" || true
  mmdebstrap --quiet --variant=minbase \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "5"' \
    --aptopt="$TESTBED/build/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$@" "$SUITE" - "${sources[@]}" </dev/null
}

# layer FROM TAG KEY SCRIPT "ARGUMENTS" CHANGES...: run a build script as root, keep the result.
layer() {
  local from=$1 tag=$2 key=$3 script=$4 arguments=$5 name
  shift 5
  name=build-$key
  on 0 rm -f "$name" >/dev/null 2>&1 || true
  # shellcheck disable=SC2086
  on 0 run --name "$name" "${RUN[@]}" --env-file "$TESTBED/build/env" --user root --entrypoint /bin/bash \
    "$from" -c 'set -a; . /mnt/build.sh; exec bash "$@"' bash "/mnt/$script" $arguments
  on 0 commit -c "LABEL $LABEL=$key" "${@/#/-c}" "$name" "$tag"
  on 0 rm -f "$name"
}

# Forget the layers that NAME:KEY takes the place of; what still needs them keeps them.
supersede() {
  local tag
  for tag in $(on 0 image ls --format '{{.Repository}}:{{.Tag}}' "${1%:*}"); do
    [[ $tag == "$1" ]] || on 0 rmi --no-prune "$tag" >/dev/null
  done
}
