#!/usr/bin/env bash
# The walkthrough of the README without a cluster: three registries and `transship serve` as processes, on free ports and in a
# temporary folder. Needs bash 5, curl, a built transship and a registry.
#   TRANSSHIP=FILE      the binary; default target/debug/transship
#   DEMO_REGISTRY=FILE  docker-registry or Distribution's registry; default: the first of docker-registry and .build/bin/registry that exists
#   KEEP=1              leaves everything running, and prints how to use and end it
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
# shellcheck source=tests/demo-common.sh
. tests/demo-common.sh
TRANSSHIP=${TRANSSHIP:-target/debug/transship}
REGISTRY=${DEMO_REGISTRY:-$(command -v docker-registry || echo .build/bin/registry)}
DIR="" STEP="" STEPS=""

end() {
  local status=$? log
  trap - INT TERM
  if [ "$status" -ne 0 ]; then
    for log in ap-south eu-west us-west serve; do
      [ ! -s "$DIR/$log.log" ] || printf '%s\n' "" "demo: the end of the log of $log:" "$(tail -n 12 "$DIR/$log.log" | cut -c 1-300)" >&2
    done
    printf '\ndemo: FAILED%s: %s\n' "${STEP:+ in the step \"$STEP\"}" "${REASON:-exit code $status}" >&2
  elif [ "${KEEP:-}" = 1 ]; then
    printf '\nLeft running. Use it:\n  cd %s\n  %s status --state state\nEnd it:\n  kill %s; rm -rf %s\n' "$DIR" "$TRANSSHIP" "${PIDS[*]}" "$DIR"
    exit 0
  fi
  end_processes
  [ -z "$DIR" ] || rm -rf "$DIR"
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

[ -n "${EPOCHREALTIME:-}" ] || fail "bash 5 or later is needed"
command -v curl >/dev/null || fail "curl is missing"
case $TRANSSHIP in /*) ;; *) TRANSSHIP=$ROOT/$TRANSSHIP ;; esac
case $REGISTRY in /*) ;; *) REGISTRY=$ROOT/$REGISTRY ;; esac
[ -x "$TRANSSHIP" ] || fail "$TRANSSHIP is missing: run make demo, which builds it"
[ -x "$REGISTRY" ] || fail "there is no registry: install docker-registry, or run make demo, which builds one"
DIR=$(mktemp -d "${TMPDIR:-/tmp}/transship-demo.XXXXXX")
# Nothing of the caller's set-up has a part in it: no proxy, no logins, no telemetry.
export DOCKER_CONFIG=$DIR/docker no_proxy=127.0.0.1 NO_PROXY=127.0.0.1 OTEL_TRACES_EXPORTER=none
mkdir "$DIR/docker" && echo '{}' >"$DIR/docker/config.json"

transship() { timeout 10 "$TRANSSHIP" "$@"; }
step() { # TITLE: ends the step before it, and notes how long it took
  [ -z "$STEP" ] || STEPS+=$(printf '  %-58s %6d ms' "$STEP" $((($(now) - BEGIN) / 1000)))$'\n'
  STEP=${1:-} BEGIN=$(now)
  [ -z "$STEP" ] || printf '\n== %s\n' "$STEP"
}
registry() { # NAME HOST [CONFIGURATION]
  cat >"$DIR/$1.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: "$DIR/data/$1"}}
http: {addr: "$2", secret: demo}
${3:-}
YAML
  start "$1" "$REGISTRY" serve "$DIR/$1.yml"
  until_true 20 "the registry $1 answers" call "http://$2/v2/"
  echo "$1 is a registry at http://$2"
}
serve() { # starts `transship serve`; SINCE is when
  local command=(serve -f 1-team-a.yaml 2-team-b.yaml --state state --listen "$LISTEN")
  printf '\n$ transship %s &\n' "${command[*]}"
  SINCE=$(now)
  start serve "$TRANSSHIP" "${command[@]}"
  until_true 20 "serve is ready" ready
}
ready() { call "http://$LISTEN/readyz"; }
push() { # TAG: pushes shop/web:TAG to the source; SINCE is when the source has it
  printf '\npush shop/web:%s to us-west, for two platforms\n' "$1"
  make_image "$DIR/image-$1" "$DIR/base"
  put_image "$US" shop/web "$1" "$DIR/image-$1" "$DIR/base"
  SINCE=$(now)
}
replica() { # NAME HOST TAG SENTENCE: waits for the same bytes under the tag, and notes the time since SINCE
  until_true 20 "shop/web:$3 is at $1" is_replica "$2" "$3"
  printf 'shop/web:%s is at %s %d ms later\n' "$3" "$1" $((($(now) - SINCE) / 1000))
  note "$4" "$SINCE"
}
is_replica() { [ "$(get_manifest "$1" shop/web "$2" | sha256)" = "$(sha256 "$DIR/image-$2/index")" ]; }
rows() { # SOURCE, DESTINATION, STATUS, IMAGES, COMPLETE and FAILED of each row
  transship status --state state | awk '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    { print $column["SOURCE"], $column["DESTINATION"], $column["STATUS"], $column["IMAGES"], $column["COMPLETE"], $column["FAILED"] }'
}
has_row() { rows | grep -xF "us-west/shop/web $*"; }
status() { # 'DESTINATION STATUS IMAGES COMPLETE FAILED'…: prints the table once it has these rows
  local row
  for row in "$@"; do until_true 20 "a row of the status is $row" has_row "$row"; done
  shown transship status --state state
}
requests() { # NAME METHODS: number of such requests in the access log of a registry
  grep -cE "\"($2) /v2/" "$DIR/$1.log" || true
}

cd "$DIR"
for name in US EU AP LISTEN; do free_port && declare "$name=127.0.0.1:$PORT"; done
for file in 1-team-a 2-team-b; do
  sed -e "s/127.0.0.1:5001/$US/; s/127.0.0.1:5002/$EU/; s/127.0.0.1:5003/$AP/; s/127.0.0.1:8081/$LISTEN/" \
    "$ROOT/examples/embedded/$file.yaml" >"$file.yaml"
done
cp "$ROOT/examples/embedded/3-consent.yaml" .
TOKEN=$(sed -n 's/^stringData: {token: \(.*\)}$/\1/p' 1-team-a.yaml)
make_layer base 1000000

step "Three registries, and an image in the first"
registry us-west "$US" "notifications: {endpoints: [{name: transship, url: 'http://$LISTEN/v1/notify/team-a/us-west', \
headers: {Authorization: ['Bearer $TOKEN']}, timeout: 1s, threshold: 5, backoff: 100ms}]}"
registry eu-west "$EU"
registry ap-south "$AP"
push 1.0

step "Start: team A's registry gets the image, team B's does not"
shown cat 1-team-a.yaml
shown cat 2-team-b.yaml
serve
replica eu-west "$EU" 1.0 "1.0 at eu-west, since the start of serve"
status "eu-west/shop/web COMPLETE 1 1 0" "team-b/ap-south/shop/web FAILED 1 0 1"
refused() { transship status --state state -o wide | grep RegistryPermissionDenied; }
printf '\n$ transship status --state state -o wide | grep RegistryPermissionDenied\n'
refused || fail "team B's registry does not refuse the image"
[ "$(requests ap-south 'POST|PUT|PATCH|DELETE')" = 0 ] || fail "there was a write to team B's registry without its consent"

step "The source notifies transship of a push"
push 1.1
replica eu-west "$EU" 1.1 "1.1 at eu-west, since the push"
status "eu-west/shop/web COMPLETE 2 2 0" "team-b/ap-south/shop/web FAILED 2 0 2"

step "Team B consents: the refused images arrive"
shown cat 3-consent.yaml
printf '\n$ cat 3-consent.yaml >>2-team-b.yaml\n'
cat 3-consent.yaml >>2-team-b.yaml
SINCE=$(now)
replica ap-south "$AP" 1.0 "1.0 at ap-south, since its owner's consent"
replica ap-south "$AP" 1.1 "1.1 at ap-south, since its owner's consent"
status "team-b/ap-south/shop/web COMPLETE 2 2 0"

step "A push goes to both destinations"
push 1.2
replica eu-west "$EU" 1.2 "1.2 at eu-west, since the push"
replica ap-south "$AP" 1.2 "1.2 at ap-south, since the push"
status "eu-west/shop/web COMPLETE 3 3 0" "team-b/ap-south/shop/web COMPLETE 3 3 0"

step "The replicas are the same, byte for byte"
same() { # DIGEST HOST PATH: fails where the content has another digest
  local found
  found=$(call --header "Accept: $INDEX" --header "Accept: $MANIFEST" "http://$2/v2/shop/web/$3" | sha256)
  [ "$found" = "$1" ] || fail "http://$2/v2/shop/web/$3 has the digest $found instead of $1"
}
printf '\n$ curl http://HOST/v2/shop/web/manifests/TAG | sha256sum\n'
for tag in 1.0 1.1 1.2; do
  digest=$(sha256 "image-$tag/index")
  for name in us-west:"$US" eu-west:"$EU" ap-south:"$AP"; do
    same "$digest" "${name#*:}" "manifests/$tag"
    printf '%-5s %-9s sha256:%s\n' "$tag" "${name%%:*}" "$digest"
  done
done
COMPARED=0
for host in "$EU" "$AP"; do
  for file in base image-*/layer-*64 image-*/config-* image-*/manifest-*; do
    digest=$(sha256 "$file")
    case $file in */manifest-*) path=manifests ;; *) path=blobs ;; esac
    same "$digest" "$host" "$path/sha256:$digest"
    COMPARED=$((COMPARED + 1))
  done
done
printf 'equal at both destinations, too: %d manifests, configurations and layers\n' "$COMPARED"

step "A restart copies nothing again"
before=$(rows)
writes=$(($(requests eu-west 'POST|PUT|PATCH') + $(requests ap-south 'POST|PUT|PATCH')))
printf '\n$ kill -TERM %s\n' "${PIDS[serve]}"
ENDING=serve
kill -TERM "${PIDS[serve]}"
ended() { ! kill -0 "${PIDS[serve]}"; }
until_true 20 "serve ends after SIGTERM" ended
wait "${PIDS[serve]}" && code=0 || code=$?
unset "PIDS[serve]"
ENDING=""
printf 'serve has ended with exit code %s\n' "$code"
[ "$code" = 0 ] || fail "the exit code has to be 0"
lists() { grep -c '"GET /v2/shop/web/tags/list' us-west.log || true; }
LISTS=$(lists)
serve
compared() { [ "$(lists)" -gt "$LISTS" ]; }
until_true 20 "serve lists the tags of the source again" compared
sleep 1 # enough for a copy to begin: the pushes above arrived sooner
shown transship status --state state
[ "$(rows)" = "$before" ] || fail "the status was another before the restart: $before"
again=$(($(requests eu-west 'POST|PUT|PATCH') + $(requests ap-south 'POST|PUT|PATCH') - writes))
printf '\nrequests that write to a destination since the restart: %d\n' "$again"
[ "$again" = 0 ] || fail "something was copied again"

step
printf '\n== Times\n%s\n== Steps\n%s' "$TIMES" "$STEPS"
echo "demo: done in $SECONDS s"
