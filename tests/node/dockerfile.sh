#!/usr/bin/env bash
# dockerfile.sh BINARY: builds the final stage of the Dockerfile from BINARY, and fails where it is not what docker/rootfs.sh makes, of
# which the tests' image is made too. The stage before it cannot be built here: its base image would have to be pulled.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/transship-dockerfile.XXXXXX")
buildah() { command buildah --storage-driver vfs --root "$WORK/store" --runroot "$WORK/run" "$@"; }
end() {
  local status=$?
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$WORK"
  exit "$status"
}
trap end EXIT
mkdir -p "$WORK/context" "$WORK/build"
"$ROOT/docker/rootfs.sh" "$1" "$WORK/build/rootfs"
# From its last FROM on, with a folder in the place of the stage before.
awk '/^FROM /{stage = ""} {stage = stage $0 "\n"} END {printf "%s", stage}' "$ROOT/Dockerfile" >"$WORK/context/Dockerfile"
head -n 1 "$WORK/context/Dockerfile" | grep -qx 'FROM scratch' || { echo "dockerfile.sh: the final stage is not FROM scratch" >&2 && exit 1; }
buildah build --quiet --isolation chroot --build-context build="$WORK/build" --tag final "$WORK/context" >/dev/null
tree() { # of everything below a folder: kind, mode, owner, size and content
  (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U:%G %l\n' | sort && find . -type f -exec sha256sum {} + | sort)
}
diff <(tree "$(buildah mount "$(buildah from --pull-never final)")") <(tree "$WORK/build/rootfs")
CONFIG=$(buildah inspect --type image --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}' final)
[ "$CONFIG" = "65532:65532 [/usr/local/bin/transship]" ] || { echo "dockerfile.sh: user and entrypoint are $CONFIG" >&2 && exit 1; }
echo "dockerfile.sh: the final stage is what docker/rootfs.sh makes: $(find "$WORK/build/rootfs" -type f | wc -l) files"
