#!/usr/bin/env bash
# run.sh BINARY COMMAND…: starts a cluster with one node that has the image localhost/transship:test made of BINARY (and one of the
# registry of the test tools), runs COMMAND in the cluster's network namespace with TRANSSHIP_NODE set to the cluster's folder, and takes
# everything down, however the command ends.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=$(realpath "${BIN:-$HERE/../../.build/bin}")
BINARY=$1
shift
# On disk: containerd and kubelet need it.
DIR=$(mktemp -d "${TMPDIR:-/var/tmp}/transship-node.XXXXXX")
end() {
  local status=$?
  trap - INT TERM
  "$HERE/down.sh" "$DIR/cluster" || status=1
  rm -rf "$DIR"
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM
"$HERE/../../docker/rootfs.sh" "$BINARY" "$DIR/rootfs"
"$HERE/image.sh" "$DIR/rootfs" localhost/transship:test "$DIR/transship.tar" --user 65532:65532 --entrypoint /usr/local/bin/transship
mkdir -p "$DIR/registry/tmp" && cp "$BIN/registry" "$DIR/registry/registry"
"$HERE/image.sh" "$DIR/registry" localhost/registry:test "$DIR/registry.tar" --entrypoint /registry
"$HERE/up.sh" "$DIR/cluster" "$DIR/transship.tar" "$DIR/registry.tar"
rm -rf "$DIR/rootfs" "$DIR/registry" "$DIR"/*.tar
# Ended with this script, not left behind by it.
TRANSSHIP_NODE=$DIR/cluster setpriv --pdeathsig KILL nsenter --net="/run/netns/$(cat "$DIR/cluster/netns")" "$@" &
wait $!
