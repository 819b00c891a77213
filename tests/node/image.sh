#!/usr/bin/env bash
# image.sh ROOTFS_DIR IMAGE_REF OUTPUT.tar [--user N] [--entrypoint PATH]
# A one-layer image of a folder as an OCI archive, for `ctr images import`: a test node can pull nothing, and no builder is needed for
# static binaries. The same folder gives the same bytes, on any machine and for any caller.
set -euo pipefail
die() { echo "image.sh: $*" >&2 && exit 2; }
[ $# -ge 3 ] || die "usage: image.sh ROOTFS_DIR IMAGE_REF OUTPUT.tar [--user N] [--entrypoint PATH]"
ROOTFS=$1 REF=$2 OUTPUT=$3 USER_ID=65532 ENTRYPOINT=
shift 3
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "$1 needs a value"
  case $1 in
    --user) USER_ID=$2 ;;
    --entrypoint) ENTRYPOINT=$2 ;;
    *) die "unknown option $1" ;;
  esac
  shift 2
done
[ -d "$ROOTFS" ] || die "$ROOTFS is no folder"
# The names end up in JSON as they are.
[[ $REF =~ ^[a-zA-Z0-9./:_-]+/[a-z0-9._/-]+:[A-Za-z0-9._-]+$ ]] || die "$REF has to be HOST/NAME:TAG"
[[ $USER_ID =~ ^[0-9:]+$ ]] || die "--user takes a number: runAsNonRoot cannot be checked of a name"
[[ $ENTRYPOINT =~ ^[A-Za-z0-9./_-]*$ ]] || die "--entrypoint takes a path of plain characters"
case $(uname -m) in x86_64) ARCH=amd64 ;; aarch64) ARCH=arm64 ;; *) ARCH=$(uname -m) ;; esac

WORK=$(mktemp -d "${TMPDIR:-/tmp}/transship-image.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
BLOBS=$WORK/layout/blobs/sha256
mkdir -p "$BLOBS"
# Nothing of the caller gets in: neither the order of its folder nor its clock, its user or its umask.
packed() { LC_ALL=C tar --create --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner "$@"; }
blob() { # MEDIA_TYPE: standard input becomes a blob, and DESCRIPTOR its descriptor
  local digest
  cat >"$WORK/blob"
  digest=$(sha256sum <"$WORK/blob") && digest=${digest%% *}
  DESCRIPTOR="{\"mediaType\":\"$1\",\"digest\":\"sha256:$digest\",\"size\":$(stat -c %s "$WORK/blob")"
  mv "$WORK/blob" "$BLOBS/$digest"
}
packed --mode=u+rw,go+rX,go-w --directory="$ROOTFS" --file="$WORK/layer" .
DIFF=$(sha256sum <"$WORK/layer")
# Not compressed: it is unpacked once, on this machine.
blob application/vnd.oci.image.layer.v1.tar <"$WORK/layer"
LAYER="$DESCRIPTOR}"
blob application/vnd.oci.image.config.v1+json <<EOF
{"architecture":"$ARCH","os":"linux","config":{"User":"$USER_ID",${ENTRYPOINT:+\"Entrypoint\":[\"$ENTRYPOINT\"],}"Env":["PATH=/usr/local/bin:/usr/bin:/bin:/"]},"rootfs":{"type":"layers","diff_ids":["sha256:${DIFF%% *}"]}}
EOF
CONFIG="$DESCRIPTOR}"
blob application/vnd.oci.image.manifest.v1+json <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":$CONFIG,"layers":[$LAYER]}
EOF
echo '{"imageLayoutVersion":"1.0.0"}' >"$WORK/layout/oci-layout"
cat >"$WORK/layout/index.json" <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[$DESCRIPTOR,"annotations":{"io.containerd.image.name":"$REF","org.opencontainers.image.ref.name":"${REF##*:}"},"platform":{"architecture":"$ARCH","os":"linux"}}]}
EOF
packed --mode=u+rw,go+rX,go-w --directory="$WORK/layout" --file="$OUTPUT.new" blobs index.json oci-layout
mv "$OUTPUT.new" "$OUTPUT"
