#!/usr/bin/env bash
# The walkthrough of the README on this machine. As root on Linux: a cluster with a real node, the chart installed with helm, registries
# as pods, Jobs that copy. Otherwise, or with KEEP=1, which leaves everything running: a real API server, registries and the operator as
# processes, and the operator copies by itself. Needs .build/bin (make go-tools) and a built transship.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=$PWD/.build/bin
TRANSSHIP=${TRANSSHIP:-$PWD/target/release/transship}
STAGE=${1:-}
if [ -z "$STAGE" ]; then
  if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && [ "${KEEP:-}" != 1 ]; then
    echo "demo: on a real node: the chart is installed with helm, registries are pods, Jobs copy"
    # In the cluster's network, where its DNS answers.
    exec tests/node/run.sh "$TRANSSHIP" unshare --mount bash -ec '
      printf "nameserver 10.250.0.1\n" >"$TRANSSHIP_NODE/resolv.conf"
      mount --bind "$TRANSSHIP_NODE/resolv.conf" /etc/resolv.conf
      exec tests/demo.sh node'
  fi
  echo "demo: without a node, which takes root and Linux: the operator is a process, and copies by itself"
  STAGE=process
fi
DIR=$(mktemp -d "${TMPDIR:-/tmp}/transship-demo.XXXXXX")
PIDS=()

end() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    echo "demo: FAILED; the operator's last words:" >&2
    if [ "$STAGE" = node ]; then
      kubectl logs -n transship deployment/transship --tail=15 >&2 || true
    else
      tail -n 15 "$DIR/operator.log" >&2 || true
    fi
  elif [ "${KEEP:-}" = 1 ]; then
    printf '\nLeft running. Use it:\n  export KUBECONFIG=%s DOCKER_CONFIG=%s\nEnd it:\n  kill %s; rm -rf %s\n' \
      "$DIR/kubeconfig" "$DIR" "${PIDS[*]}" "$DIR"
    exit 0
  fi
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$DIR"
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

start() { # NAME COMMAND…: in the background, with a log
  local name=$1
  shift
  "$@" >"$DIR/$name.log" 2>&1 &
  PIDS+=($!)
}
free_port() { # a port that nobody listens on, and none of this demo's earlier ones
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    case " ${PORTS:-} " in *" $port "*) continue ;; esac
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { PORTS="${PORTS:-} $port" && PORT=$port && return; }
  done
}
until_true() { # SECONDS SENTENCE COMMAND…
  local deadline=$((SECONDS + $1)) sentence=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "demo: not in time: $sentence" >&2 && exit 1; }
    sleep 0.1
  done
}
kubectl() { "$BIN/control-plane" kubectl "$@"; }
crane() { "$BIN/crane" "$@" --insecure 2>>"$DIR/crane.log"; }
shown() { # prints a command and runs it
  printf '\n$ %s\n' "$*"
  "$@"
}
apply() { # YAML on standard input, shown and applied
  local yaml
  yaml=$(cat)
  printf '\n$ kubectl apply -f - <<EOF\n%s\nEOF\n' "$yaml"
  kubectl apply -f - <<<"$yaml"
}
now() { date +%s%N; }
TIMES=""
push() { # REPOSITORY:TAG
  printf '\n$ crane push %s %s\n' "$1" "$US/$1"
  crane push "$DIR/${1##*:}.tar" "$US/$1"
  PUSHED=$(now)
}
complete() { # NAMESPACE CONFIGURATION TAG: waits for COMPLETE at every destination, and notes the time since the push
  local path="{.status.images[?(@.tag==\"$3\")].status}"
  printf '\n$ kubectl wait -n %s replicationstatus -l transship.dev/configuration=%s --for=jsonpath='"'%s'"'=COMPLETE\n' "$1" "$2" "$path"
  until_true 20 "a status of $2 exists" status_exists "$1" "$2"
  kubectl wait -n "$1" replicationstatus -l "transship.dev/configuration=$2" --for="jsonpath=$path=COMPLETE" --timeout=20s
  TIMES+=$(printf '%-34s %5d ms' "$4" $((($(now) - PUSHED) / 1000000)))$'\n'
}
status_exists() { [ -n "$(kubectl get replicationstatus -n "$1" -l "transship.dev/configuration=$2" -o name)" ]; }
same_digest() { # REPOSITORY:TAG DESTINATION
  local source destination
  source=$(crane digest "$US/$1")
  destination=$(crane digest "$2/$1")
  printf '\n$ crane digest %s; crane digest %s\n%s\n%s\n' "$US/$1" "$2/$1" "$source" "$destination"
  [ "$source" = "$destination" ] || { echo "demo: the digests differ" >&2 && exit 1; }
}

for tool in control-plane crane registry; do
  [ -x "$BIN/$tool" ] || { echo "demo: $BIN/$tool is missing: run make go-tools" >&2 && exit 2; }
done

# The bcrypt hash of the password "demo", which only this demo's registries know.
HASH='$2b$04$9hk7gUg9EZIF8uTVle/HEegTCgEwTlTdefizF.W/i/nu7HuSH7BuO'
export DOCKER_CONFIG=$DIR OTEL_TRACES_EXPORTER=none
registry() { # NAME PORT EXTRA
  echo "robot:$HASH" >"$DIR/$1.htpasswd"
  cat >"$DIR/$1.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "$DIR/$1"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$2", secret: demo}
auth: {htpasswd: {realm: "$1", path: "$DIR/$1.htpasswd"}}
$3
EOF
  start "$1" "$BIN/registry" serve "$DIR/$1.yml"
}
on_a_node() {
  echo "== A cluster with one node, three registries and the chart"
  export KUBECONFIG=$TRANSSHIP_NODE/kubeconfig
  kubectl create namespace registries
  pod us-west-2 "notifications: {endpoints: [{name: transship, url: 'http://transship-notify.transship.svc.cluster.local:8081/v1/notify/team-a/us-west-2', headers: {Authorization: ['Bearer demo-notification-token']}, timeout: 1s, threshold: 5, backoff: 1s}]}"
  pod eu-west-1 ""
  pod eu-central-1 ""
  US=us-west-2.registries.svc.cluster.local:5000 EU=eu-west-1.registries.svc.cluster.local:5000
  CENTRAL=eu-central-1.registries.svc.cluster.local:5000
  shown "$BIN/helm" install transship charts/transship --namespace transship --create-namespace --wait --timeout 60s \
    --set image.repository=localhost/transship,image.tag=test
  kubectl rollout status -n registries deployment --timeout=60s >/dev/null
}
pod() { # NAME EXTRA: a registry behind a Service
  kubectl apply -n registries -f - >/dev/null <<EOF
apiVersion: v1
kind: ConfigMap
metadata: {name: $1}
data:
  htpasswd: "robot:$HASH"
  config.yml: |
    version: 0.1
    log: {level: error, accesslog: {disabled: true}}
    storage: {filesystem: {rootdirectory: /data}, delete: {enabled: true}}
    http: {addr: ":5000", secret: demo}
    auth: {htpasswd: {realm: "$1", path: /etc/registry/htpasswd}}
    $2
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      securityContext: {fsGroup: 65532}
      containers:
      - name: registry
        image: localhost/registry:test
        args: [serve, /etc/registry/config.yml]
        env: [{name: OTEL_TRACES_EXPORTER, value: none}]
        readinessProbe: {tcpSocket: {port: 5000}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}, {name: config, mountPath: /etc/registry}]
      volumes: [{name: data, emptyDir: {}}, {name: config, configMap: {name: $1}}]
---
apiVersion: v1
kind: Service
metadata: {name: $1}
spec: {selector: {app: $1}, ports: [{port: 5000}]}
EOF
}
on_this_machine() {
echo "== A Kubernetes API server, three registries and the operator"
for name in ETCD PEER API ADMIN NOTIFY US_PORT EU_PORT CENTRAL_PORT; do free_port && declare "$name=$PORT"; done
US=127.0.0.1:$US_PORT EU=127.0.0.1:$EU_PORT CENTRAL=127.0.0.1:$CENTRAL_PORT
start etcd "$BIN/control-plane" etcd --data-dir "$DIR/etcd" --unsafe-no-fsync --log-level=error \
  --listen-client-urls "http://127.0.0.1:$ETCD" --advertise-client-urls "http://127.0.0.1:$ETCD" \
  --listen-peer-urls "http://127.0.0.1:$PEER" --initial-advertise-peer-urls "http://127.0.0.1:$PEER" \
  --initial-cluster "default=http://127.0.0.1:$PEER"
echo "demo-token,admin,admin,system:masters" >"$DIR/tokens.csv"
openssl genrsa -out "$DIR/accounts.key" 2048 2>/dev/null
start apiserver "$BIN/control-plane" kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD" --secure-port="$API" \
  --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --cert-dir="$DIR/certs" \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$DIR/accounts.key" \
  --service-account-signing-key-file="$DIR/accounts.key" --service-cluster-ip-range=10.96.0.0/16 \
  --token-auth-file="$DIR/tokens.csv" --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount
until_true 60 "the API server has its certificate" test -s "$DIR/certs/apiserver.crt"
cat >"$DIR/kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: demo, cluster: {server: "https://127.0.0.1:$API", certificate-authority: "$DIR/certs/apiserver.crt"}}]
users: [{name: admin, user: {token: demo-token}}]
contexts: [{name: demo, context: {cluster: demo, user: admin}}]
current-context: demo
EOF
export KUBECONFIG=$DIR/kubeconfig
registry us-west-2 "$US_PORT" "notifications: {endpoints: [{name: transship, url: 'http://127.0.0.1:$NOTIFY/v1/notify/team-a/us-west-2', headers: {Authorization: ['Bearer demo-notification-token']}, timeout: 1s, threshold: 5, backoff: 1s}]}"
registry eu-west-1 "$EU_PORT" ""
registry eu-central-1 "$CENTRAL_PORT" ""
until_true 60 "the API server is ready" kubectl get --raw /readyz
kubectl apply --server-side -f crds >/dev/null
kubectl wait --for=condition=Established --timeout=20s -f crds >/dev/null
start operator "$TRANSSHIP" operator --default-execution InProcess --admin-address "127.0.0.1:$ADMIN" --notify-address "127.0.0.1:$NOTIFY" \
  --egress-allow "$US" --egress-allow "$EU" --egress-allow "$CENTRAL"
}
if [ "$STAGE" = node ]; then on_a_node; else on_this_machine; fi
AUTH=$(printf robot:demo | base64)
echo "{\"auths\": {\"$US\": {\"auth\": \"$AUTH\"}, \"$EU\": {\"auth\": \"$AUTH\"}, \"$CENTRAL\": {\"auth\": \"$AUTH\"}}}" >"$DIR/config.json"
for tag in 42 43 44; do
  mkdir -p "$DIR/layer-$tag" && head -c 1000000 /dev/urandom >"$DIR/layer-$tag/content"
  tar -C "$DIR/layer-$tag" -czf "$DIR/layer-$tag.tgz" content
  crane append -f "$DIR/layer-$tag.tgz" -o "$DIR/$tag.tar" -t "mservice:$tag" >/dev/null
done

echo
echo "== An image, and where it is to go"
push mservice:42
apply <<EOF
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: v1
kind: Secret
metadata: {namespace: team-a, name: us-west-2, annotations: {transship.dev/registry-host: "$US"}}
stringData: {username: robot, password: demo}
---
apiVersion: v1
kind: Secret
metadata: {namespace: team-a, name: eu-west-1, annotations: {transship.dev/registry-host: "$EU"}}
stringData: {username: robot, password: demo}
---
apiVersion: v1
kind: Secret
metadata: {namespace: team-a, name: notifications}
stringData: {token: demo-notification-token}
---
apiVersion: transship.dev/v1alpha1
kind: Registry
metadata: {namespace: team-a, name: us-west-2}
spec:
  url: http://$US
  allowHttp: true
  credentials: {secretRef: {name: us-west-2}}
  notifications: {type: Distribution, auth: {type: Bearer, secretRef: {name: notifications}}}
---
apiVersion: transship.dev/v1alpha1
kind: Registry
metadata: {namespace: team-a, name: eu-west-1}
spec:
  url: http://$EU
  allowHttp: true
  credentials: {secretRef: {name: eu-west-1}}
---
apiVersion: transship.dev/v1alpha1
kind: ReplicationConfiguration
metadata: {namespace: team-a, name: services}
spec:
  source: {registryRef: {name: us-west-2}}
  rules:
  - name: services
    repositoryFilters: [{filter: mservice, filterType: PREFIX_MATCH}]
    destinations: [{registryRef: {name: eu-west-1}}]
EOF
PUSHED=$(now)
complete team-a services 42 "42, there before: since apply"
same_digest mservice:42 "$EU"
shown kubectl get replicationstatus -n team-a

echo
echo "== A later push follows"
push mservice:43
complete team-a services 43 "43, by notification: since push"
same_digest mservice:43 "$EU"

echo
echo "== Another owner's registry refuses, then consents"
apply <<EOF
apiVersion: v1
kind: Namespace
metadata: {name: team-b}
---
apiVersion: v1
kind: Secret
metadata: {namespace: team-b, name: eu-central-1, annotations: {transship.dev/registry-host: "$CENTRAL"}}
stringData: {username: robot, password: demo}
---
apiVersion: transship.dev/v1alpha1
kind: Registry
metadata: {namespace: team-b, name: eu-central-1}
spec:
  url: http://$CENTRAL
  allowHttp: true
  credentials: {secretRef: {name: eu-central-1}}
---
apiVersion: transship.dev/v1alpha1
kind: ReplicationConfiguration
metadata: {namespace: team-a, name: across}
spec:
  source: {registryRef: {name: us-west-2}}
  rules:
  - name: across
    repositoryFilters: [{filter: mservice, filterType: EXACT_MATCH}]
    destinations: [{registryRef: {namespace: team-b, name: eu-central-1}}]
EOF
denied() { kubectl get replicationstatus -n team-a -l transship.dev/configuration=across -o jsonpath='{.items[*].status.images[*].failureCode}' | grep -q RegistryPermissionDenied; }
until_true 20 "the images are refused" denied
shown kubectl get replicationstatus -n team-a
shown kubectl get replicationstatus -n team-a -l transship.dev/configuration=across -o jsonpath='{.items[0].status.images[0].message}{"\n"}'
apply <<EOF
apiVersion: transship.dev/v1alpha1
kind: RegistryPermissionPolicy
metadata: {namespace: team-b, name: allow-team-a}
spec:
  registryRef: {name: eu-central-1}
  statements:
  - sid: ReplicationAccessCrossAccount
    effect: Allow
    principals: [{namespace: team-a}]
    actions: [ReplicateImage, CreateRepository]
    resources: ['*']
EOF
PUSHED=$(now)
complete team-a across 42 "42, across: since the policy"
same_digest mservice:42 "$CENTRAL"
shown kubectl get replicationstatus -n team-a -l transship.dev/configuration=across -o jsonpath='{.items[0].status.conditions[?(@.type=="Permitted")].message}{"\n"}'

echo
echo "== Both at once"
printf '\n$ kubectl delete replicationconfiguration -n team-a across\n'
kubectl delete replicationconfiguration -n team-a across
printf '\n$ kubectl patch replicationconfiguration -n team-a services (a second destination)\n'
kubectl patch replicationconfiguration -n team-a services --type json -p \
  '[{"op": "add", "path": "/spec/rules/0/destinations/-", "value": {"registryRef": {"namespace": "team-b", "name": "eu-central-1"}}}]'
two() { [ "$(kubectl get replicationstatus -n team-a -l transship.dev/configuration=services -o name | wc -l)" -eq 2 ]; }
until_true 20 "both destinations have a status" two
push mservice:44
complete team-a services 44 "44, to both: since push"
same_digest mservice:44 "$EU"
same_digest mservice:44 "$CENTRAL"
shown kubectl get replicationstatus,replicationconfiguration -n team-a

if [ "$STAGE" = node ]; then shown kubectl get jobs,pods -n transship; fi
printf '\n== Times to COMPLETE\n%s' "$TIMES"
echo "demo: done in $SECONDS s"
