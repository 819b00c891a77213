# shellcheck shell=bash
# Functions of tests/demo.sh and tests/demo-cluster.sh, which source this file and set DIR, a folder for logs and images. Images are
# made with tar, and pushed and read with curl: no other tool is needed. LOGIN=USER:PASSWORD is sent to registries where it is set.

declare -A PIDS # by name
ENDING=""       # the name of a process that is expected to end
TIMES=""
MANIFEST=application/vnd.oci.image.manifest.v1+json
INDEX=application/vnd.oci.image.index.v1+json

fail() { # SENTENCE: ends the demo; what runs on exit prints REASON
  REASON=$*
  echo "demo: $REASON" >&2
  exit 1
}
start() { # NAME COMMAND…: in the background, with a log in $DIR/NAME.log
  local name=$1
  shift
  "$@" >>"$DIR/$name.log" 2>&1 &
  PIDS[$name]=$!
}
alive() { # fails with the name of a process that has ended
  local name
  for name in "${!PIDS[@]}"; do
    kill -0 "${PIDS[$name]}" 2>/dev/null || [ "$name" = "$ENDING" ] || fail "$name has ended"
  done
}
free_port() { # sets PORT to a port without a listener that was not returned before
  while :; do
    PORT=$((20000 + RANDOM % 10000))
    case " ${PORTS:-} " in *" $PORT "*) continue ;; esac
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || { PORTS="${PORTS:-} $PORT" && return; }
  done
}
until_true() { # SECONDS SENTENCE COMMAND…: runs COMMAND until it succeeds, and fails with the sentence after so many seconds
  local deadline=$((SECONDS + $1)) sentence=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive
    [ "$SECONDS" -lt "$deadline" ] || fail "not in time: $sentence"
    sleep 0.02
  done
}
end_processes() { # those that were started here
  { kill -KILL "${PIDS[@]}" && wait; } 2>/dev/null || true
}
shown() { # prints a command and runs it
  printf '\n$ %s\n' "$*"
  "$@"
}
now() { echo "${EPOCHREALTIME//[!0-9]/}"; } # in microseconds
note() { # SENTENCE SINCE: adds a line to TIMES, which is printed at the end
  TIMES+=$(printf '  %-58s %6d ms' "$1" $((($(now) - $2) / 1000)))$'\n'
}

sha256() { # [FILE]
  local sum
  sum=$(sha256sum "$@")
  echo "${sum%% *}"
}
call() { # ARGUMENT…: curl that fails on an HTTP error and after 20 s, and takes no proxy
  curl --noproxy '*' --silent --show-error --fail --max-time 20 ${LOGIN:+--user "$LOGIN"} "$@"
}

descriptor() { # MEDIA_TYPE FILE [MORE_FIELDS]
  printf '{"mediaType":"%s","digest":"sha256:%s","size":%d%s}' "$1" "$(sha256 "$2")" "$(wc -c <"$2")" "${3:-}"
}
make_layer() { # FILE BYTES: a compressed layer of random content, and the digest of its tar in FILE.diff
  local folder=$1.content
  mkdir -p "$folder/opt"
  head -c "$2" /dev/urandom >"$folder/opt/$(basename "$1")"
  tar -C "$folder" -cf "$1.tar" opt
  sha256 "$1.tar" >"$1.diff"
  gzip -c "$1.tar" >"$1"
  rm -rf "$folder" "$1.tar"
}
make_manifest() { # FOLDER ARCHITECTURE LAYER…: writes FOLDER/config-ARCHITECTURE and FOLDER/manifest-ARCHITECTURE
  local folder=$1 architecture=$2 layer layers="" diffs=""
  shift 2
  for layer in "$@"; do
    diffs+="${diffs:+,}\"sha256:$(cat "$layer.diff")\""
    layers+="${layers:+,}$(descriptor application/vnd.oci.image.layer.v1.tar+gzip "$layer")"
  done
  printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$architecture" "$diffs" >"$folder/config-$architecture"
  printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}' "$MANIFEST" \
    "$(descriptor application/vnd.oci.image.config.v1+json "$folder/config-$architecture")" "$layers" >"$folder/manifest-$architecture"
}
make_image() { # FOLDER BASE_LAYER: an image for two platforms. Each has the base layer and one of its own; FOLDER/index names both.
  local architecture manifests=""
  mkdir -p "$1"
  for architecture in amd64 arm64; do
    make_layer "$1/layer-$architecture" 200000
    make_manifest "$1" "$architecture" "$2" "$1/layer-$architecture"
    manifests+=${manifests:+,}$(descriptor "$MANIFEST" "$1/manifest-$architecture" \
      ",\"platform\":{\"os\":\"linux\",\"architecture\":\"$architecture\"}")
  done
  printf '{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' "$INDEX" "$manifests" >"$1/index"
}

put_blob() { # HOST REPOSITORY FILE: POST opens an upload at the Location that it answers, PUT sends the bytes and ends it
  local location
  location=$(call --request POST --header 'Content-Length: 0' --output /dev/null --dump-header - "http://$1/v2/$2/blobs/uploads/" |
    tr -d '\r' | awk 'tolower($1) == "location:" {print $2}')
  case $location in http*) ;; *) location=http://$1$location ;; esac
  case $location in *\?*) location+="&" ;; *) location+="?" ;; esac
  call --header 'Content-Type: application/octet-stream' --upload-file "$3" "${location}digest=sha256:$(sha256 "$3")"
}
put_manifest() { # HOST REPOSITORY TAG_OR_DIGEST MEDIA_TYPE FILE
  call --header "Content-Type: $4" --upload-file "$5" "http://$1/v2/$2/manifests/$3"
}
put_image() { # HOST REPOSITORY TAG FOLDER BASE_LAYER: content first, the index with its tag last
  local architecture file
  put_blob "$1" "$2" "$5"
  for architecture in amd64 arm64; do
    for file in "layer-$architecture" "config-$architecture"; do put_blob "$1" "$2" "$4/$file"; done
    put_manifest "$1" "$2" "sha256:$(sha256 "$4/manifest-$architecture")" "$MANIFEST" "$4/manifest-$architecture"
  done
  put_manifest "$1" "$2" "$3" "$INDEX" "$4/index"
}
get_manifest() { # HOST REPOSITORY TAG_OR_DIGEST
  call --header "Accept: $INDEX" --header "Accept: $MANIFEST" "http://$1/v2/$2/manifests/$3"
}
