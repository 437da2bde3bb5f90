# How the images of the storage servers are made, on engine 0. Sourced by recipes.sh.

STORE_SERVERS="s3 swift vcenter ceph gluster"
GO_PACKAGES=golang-go,golang-github-vmware-govmomi-dev,golang-github-google-uuid-dev

is_store_server() { [[ " $STORE_SERVERS " == *" $1 "* ]]; }

describe_store_server() {
  IMAGE=store-$1:latest
  case $1 in
    s3)
      describe_venv s3
      KEY=$VENV_KEY
      ;;
    swift)
      describe_venv swift
      KEY=$(hash_of "$VENV" "$BUILD/swift.sh")
      ;;
    vcenter)
      describe_venv vcenter
      KEY=$(hash_of "$VENV" "$GO_PACKAGES" "$BUILD"/vcenter{.sh,.go,_wsdl.py})
      ;;
    ceph | gluster)
      KEY=$(hash_of "$SUITE" "$BUILD/$1_hook")
      ;;
  esac
}

build_store_server() {
  case $1 in
    s3)
      build_venv
      on 0 tag "$VENV" "$IMAGE"
      ;;
    swift)
      build_venv
      step "image: $IMAGE" layer "$VENV" "$IMAGE" "$KEY" swift.sh "" 'ENTRYPOINT ["start-swift"]'
      ;;
    vcenter)
      build_venv
      step "VMware's simulator" compile_vcenter
      cp "$BUILD/vcenter_wsdl.py" "$TESTBED/build/"
      step "image: $IMAGE" layer "$VENV" "$IMAGE" "$KEY" vcenter.sh "" \
        'ENTRYPOINT ["vcenter","-wsdl","/usr/local/share/vim.wsdl"]'
      ;;
    ceph)
      step "image: $IMAGE" rootfs "$IMAGE" "$KEY" ceph-mon,ceph-osd,ceph-common \
        "$BUILD/ceph_hook" 'ENTRYPOINT ["start-ceph"]'
      ;;
    gluster)
      step "image: $IMAGE" rootfs "$IMAGE" "$KEY" glusterfs-server,glusterfs-client,fuse3 \
        "$BUILD/gluster_hook" 'ENTRYPOINT ["start-gluster"]'
      ;;
  esac
}

# The simulator is a library in Debian; the compiler is gone when this ends.
compile_vcenter() {
  local root=/tmp/vcenter
  debian --format=null --include="$GO_PACKAGES" \
    --customize-hook="mkdir -p \"\$1$root/src/vcenter\"" \
    --customize-hook="upload $BUILD/vcenter.go $root/src/vcenter/main.go" \
    --customize-hook="chroot \"\$1\" env HOME=$root GO111MODULE=off CGO_ENABLED=0 \
      GOPATH=$root:/usr/share/gocode go build -trimpath -ldflags '-s -w' -o $root/vcenter vcenter" \
    --customize-hook="download $root/vcenter $TESTBED/build/vcenter" \
    --customize-hook="rm -rf \"\$1$root\""
}
