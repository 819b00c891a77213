#!/usr/bin/env bash
# The operator on Kubernetes, on this machine. As root on Linux: a cluster with a real node, the chart installed with helm, registries as
# pods, copies by Jobs. Otherwise, or with KEEP=1, which leaves everything running: a real API server, registries and the operator as
# processes, copies in the operator. Needs bash 5, curl, a built transship (TRANSSHIP names another binary) and the binaries in .build/bin
# that `make demo-cluster` builds.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/demo-common.sh
. tests/demo-common.sh
BIN=$PWD/.build/bin
TRANSSHIP=${TRANSSHIP:-$PWD/target/debug/transship}
STAGE=${1:-}
if [ -z "$STAGE" ]; then
  if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && [ "${KEEP:-}" != 1 ]; then
    echo "demo: on a real node: the chart is installed with helm, registries are pods, copies are Jobs"
    # In the cluster's network, where its DNS answers.
    # shellcheck disable=SC2016 # the inner shell expands it
    exec tests/node/run.sh "$TRANSSHIP" unshare --mount bash -ec '
      printf "nameserver 10.250.0.1\n" >"$TRANSSHIP_NODE/resolv.conf"
      mount --bind "$TRANSSHIP_NODE/resolv.conf" /etc/resolv.conf
      exec tests/demo-cluster.sh node'
  fi
  echo "demo: without a node, which takes root and Linux: the operator is a process, and copies itself"
  STAGE=process
fi
DIR=$(mktemp -d "${TMPDIR:-/tmp}/transship-demo.XXXXXX")

end() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    printf '\ndemo: FAILED: %s; the end of the operator'"'"'s log:\n' "${REASON:-exit code $status}" >&2
    if [ "$STAGE" = node ]; then
      kubectl logs -n transship deployment/transship --tail=15 >&2 || true
    else
      tail -n 15 "$DIR/operator.log" >&2 || true
    fi
  elif [ "${KEEP:-}" = 1 ]; then
    printf '\nLeft running; the registries take the user robot with the password demo. Use it:\n  export KUBECONFIG=%s\n  %s get replicationstatus -A\n' \
      "$DIR/kubeconfig" "$BIN/control-plane kubectl"
    printf 'End it:\n  kill %s; rm -rf %s\n' "${PIDS[*]}" "$DIR"
    exit 0
  fi
  end_processes
  rm -rf "$DIR"
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

kubectl() { "$BIN/control-plane" kubectl "$@"; }
apply() { # YAML on standard input, shown and applied
  local yaml
  yaml=$(cat)
  printf '\n$ kubectl apply -f - <<EOF\n%s\nEOF\n' "$yaml"
  kubectl apply -f - <<<"$yaml"
}
push() { # TAG: pushes mservice:TAG to us-west-2; SINCE is when it has it
  printf '\npush mservice:%s to us-west-2, for two platforms\n' "$1"
  put_image "$US" mservice "$1" "$DIR/$1" "$DIR/base"
  SINCE=$(now)
}
complete() { # NAMESPACE CONFIGURATION TAG SENTENCE: waits for COMPLETE at every destination, and notes the time since SINCE
  local path="{.status.images[?(@.tag==\"$3\")].status}"
  printf '\n$ kubectl wait -n %s replicationstatus -l transship.dev/configuration=%s --for=jsonpath='"'%s'"'=COMPLETE\n' "$1" "$2" "$path"
  until_true 20 "a status of $2 exists" status_exists "$1" "$2"
  kubectl wait -n "$1" replicationstatus -l "transship.dev/configuration=$2" --for="jsonpath=$path=COMPLETE" --timeout=20s
  note "$4" "$SINCE"
}
status_exists() { [ -n "$(kubectl get replicationstatus -n "$1" -l "transship.dev/configuration=$2" -o name)" ]; }
same_digest() { # TAG DESTINATION: compares the bytes under the tag
  local source destination
  source=$(get_manifest "$US" mservice "$1" | sha256)
  destination=$(get_manifest "$2" mservice "$1" | sha256)
  printf '\n$ curl http://HOST/v2/mservice/manifests/%s | sha256sum\n%s  %s\n%s  %s\n' "$1" "$source" "$US" "$destination" "$2"
  [ "$source" = "$destination" ] || fail "the digests differ"
}

[ -n "${EPOCHREALTIME:-}" ] || fail "bash 5 or later is needed"
for tool in control-plane registry; do
  [ -x "$BIN/$tool" ] || fail "$BIN/$tool is missing: run make demo-cluster, which builds it"
done
[ -x "$TRANSSHIP" ] || fail "$TRANSSHIP is missing: run make demo-cluster, which builds it"

# Only this demo's registries know the password, whose bcrypt hash is HASH.
LOGIN=robot:demo
# shellcheck disable=SC2016 # no variable
HASH='$2b$04$9hk7gUg9EZIF8uTVle/HEegTCgEwTlTdefizF.W/i/nu7HuSH7BuO'
export OTEL_TRACES_EXPORTER=none
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
make_layer "$DIR/base" 1000000
for tag in 42 43 44; do make_image "$DIR/$tag" "$DIR/base"; done

echo
echo "== An image, and where it is to go"
push 42
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
  allowHTTP: true
  credentials: {secretRef: {name: us-west-2}}
  notifications: {type: Distribution, auth: {type: Bearer, secretRef: {name: notifications}}}
---
apiVersion: transship.dev/v1alpha1
kind: Registry
metadata: {namespace: team-a, name: eu-west-1}
spec:
  url: http://$EU
  allowHTTP: true
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
SINCE=$(now)
complete team-a services 42 "42, there before: since apply"
same_digest 42 "$EU"
shown kubectl get replicationstatus -n team-a

echo
echo "== A later push follows"
push 43
complete team-a services 43 "43, by notification: since push"
same_digest 43 "$EU"

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
  allowHTTP: true
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
denied() { kubectl get replicationstatus -n team-a -l transship.dev/configuration=across -o jsonpath='{.items[*].status.images[*].failureCode}' | grep RegistryPermissionDenied; }
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
SINCE=$(now)
# With the first consent the pair gets another status, as its spec then names the uid of the Registry.
permitted() { ! denied >/dev/null && status_exists team-a across; }
until_true 20 "the pair is permitted" permitted
complete team-a across 42 "42, across: since the policy"
same_digest 42 "$CENTRAL"
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
push 44
complete team-a services 44 "44, to both: since push"
same_digest 44 "$EU"
same_digest 44 "$CENTRAL"
shown kubectl get replicationstatus,replicationconfiguration -n team-a

if [ "$STAGE" = node ]; then shown kubectl get jobs,pods -n transship; fi
printf '\n== Times to COMPLETE\n%s' "$TIMES"
echo "demo: done in $SECONDS s"
