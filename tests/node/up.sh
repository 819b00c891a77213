#!/usr/bin/env bash
# up.sh DIR [ARCHIVE.tar…]: a whole Kubernetes cluster with one node on this machine, its state in DIR, a new folder on disk. The
# images of the archives are there to run; none can be pulled. down.sh DIR ends it. Several run side by side: each has a network
# namespace, a mount namespace and a cgroup of its own, all named transship-ID.
#   DIR/kubeconfig       of an administrator; the server answers within the network namespace only
#   DIR/netns            name of that namespace: nsenter --net=/run/netns/"$(cat DIR/netns)" COMMAND
#   DIR/containerd.sock  link to the socket, for ctr -n k8s.io
#   DIR/audit.log, DIR/log/COMPONENT.log, DIR/log/pods, DIR/pids/COMPONENT.pid
# BIN is the folder of the binaries. Exits 77 where the machine lacks something, and 1 when a component does not start.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=$(realpath -m "${BIN:-$HERE/../../.build/bin}")
NODE=10.250.0.1 SERVICES=10.96.0.0/16 PODS=10.244.0.0/24
[ $# -ge 1 ] || { echo "usage: up.sh DIR [ARCHIVE.tar…]" >&2 && exit 2; }
mkdir -p "$1"
DIR=$(realpath "$1")
shift
[ -z "$(ls -A "$DIR")" ] || { echo "up.sh: $DIR is not empty" >&2 && exit 2; }

lacking() { echo "up.sh: a node cannot run here: $*" >&2 && exit 77; }
[ "$(uname -s)" = Linux ] || lacking "it takes Linux"
[ "$(id -u)" = 0 ] || lacking "it takes root"
for tool in runc nft ip nsenter unshare mount setsid flock openssl curl tar; do
  command -v "$tool" >/dev/null || lacking "$tool is missing (make debian)"
done
for tool in control-plane dns containerd containerd-shim-runc-v2 ctr pause; do
  [ -x "$BIN/$tool" ] || lacking "$BIN/$tool is missing (make go-tools)"
done
PLUGINS=/usr/lib/cni
for plugin in ptp host-local loopback; do
  [ -x "$PLUGINS/$plugin" ] || lacking "$PLUGINS/$plugin is missing (make debian)"
done
case $(stat --file-system --format=%T "$DIR") in
  tmpfs | ramfs | overlayfs) lacking "$DIR is not on a disk, where kubelet and containerd need it: choose another folder" ;;
esac
unshare --net --mount true 2>/dev/null || lacking "no right to make a network and a mount namespace (CAP_SYS_ADMIN, CAP_NET_ADMIN)"

BEGIN=$(date +%s%N)
LIMIT=$((SECONDS + 85))
WORD=$(basename "$DIR" | tr -cd a-z0-9 | head -c 10)
ID=${WORD:-node}-$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
NAME=transship-$ID
RUN=/run/$NAME
echo "$ID" >"$DIR/id"
mkdir -p "$RUN"/{dir,bin,containerd} "$DIR"/{lib/kubelet,log,pids,certs,cni,sysctl}

FAILING=""
end() {
  local status=$?
  [ "$status" -ne 0 ] || return 0
  trap - INT TERM
  if [ -n "$FAILING" ]; then
    echo "up.sh: the last words of $FAILING:" >&2
    tail -n 15 "$DIR/log/$FAILING.log" >&2 || true
  fi
  "$HERE/down.sh" "$DIR" || true
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

# In every hierarchy of cgroup v1, or in the one of v2. The components go below it, in "system", so that one look at the cgroup
# finds all that belongs to this cluster; kubelet puts the pods next to them.
CGROUPS=()
while read -r _ path type _; do
  case $type in cgroup | cgroup2) ;; *) continue ;; esac
  mkdir -p "$path/$NAME" 2>/dev/null || lacking "$path cannot be written"
  if [ -e "$path/cpuset.cpus" ] && [ "$type" = cgroup ]; then # a new one has no processor, and no process can enter it
    for file in cpuset.cpus cpuset.mems; do cat "$path/$file" >"$path/$NAME/$file"; done
  fi
  if [ -s "$path/cgroup.controllers" ]; then
    for controller in $(cat "$path/cgroup.controllers"); do
      echo "+$controller" 2>/dev/null >"$path/cgroup.subtree_control" || true
      echo "+$controller" 2>/dev/null >"$path/$NAME/cgroup.subtree_control" || true
    done
    for controller in cpu memory pids; do
      grep -qw "$controller" "$path/$NAME/cgroup.subtree_control" ||
        lacking "the cgroup controller $controller cannot be handed on: move the processes in $path/cgroup.procs to a group below it"
    done
  fi
  mkdir -p "$path/$NAME/system"
  if [ -e "$path/cpuset.cpus" ] && [ "$type" = cgroup ]; then
    for file in cpuset.cpus cpuset.mems; do cat "$path/$file" >"$path/$NAME/system/$file"; done
  fi
  CGROUPS+=("$path/$NAME/system")
done </proc/self/mounts
[ ${#CGROUPS[@]} -gt 0 ] || lacking "no cgroup file system is mounted"

# Two at once may be the first on this machine, and would both prepare /run/netns.
flock /run/lock ip netns add "$NAME"
echo "$NAME" >"$DIR/netns"
ip -n "$NAME" link set lo up
# On lo, since not every kernel has a dummy device. Nothing leads out: what is not in the cluster is unreachable at once. Services
# need a way for the node's own connections, which the kernel looks up before it translates their addresses.
ip -n "$NAME" address add "$NODE/32" dev lo
ip -n "$NAME" route add "$SERVICES" dev lo src "$NODE"
echo 1 | nsenter --net="/run/netns/$NAME" tee /proc/sys/net/ipv4/ip_forward >/dev/null

join() { for group in "${CGROUPS[@]}"; do echo 0 >"$group/cgroup.procs"; done; }
begin() { # NAME COMMAND…: in the background, in the cluster's cgroup, with a log
  local name=$1
  shift
  (
    trap - EXIT INT TERM
    join
    exec setsid "$@"
  ) >"$DIR/log/$name.log" 2>&1 </dev/null &
  echo $! >"$DIR/pids/$name.pid"
}
start() { # NAME COMMAND…: as begin, in the cluster's namespaces
  local name=$1
  shift
  begin "$name" nsenter --target="$HOLDER" --mount --net env PATH="/run/bin:$PATH" "$@"
}
alive() { # fails with a component that ended
  local file
  for file in "$DIR"/pids/*.pid; do
    kill -0 "$(cat "$file")" 2>/dev/null && continue
    FAILING=$(basename "$file" .pid)
    echo "up.sh: $FAILING ended" >&2 && exit 1
  done
}
until_true() { # COMPONENT SENTENCE COMMAND…
  local component=$1 sentence=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive
    [ "$SECONDS" -lt "$LIMIT" ] || { FAILING=$component && echo "up.sh: not in time: $sentence" >&2 && exit 1; }
    sleep 0.1
  done
}

# kubelet sets these for the whole machine. Here it finds them as it wants them, in files of its own.
set_aside() { mkdir -p "$DIR/sysctl/$(dirname "$1")" && echo "$2" >"$DIR/sysctl/$1"; }
set_aside vm/overcommit_memory 1
set_aside vm/panic_on_oom 0
set_aside kernel/panic 10
set_aside kernel/panic_on_oops 1
set_aside kernel/keys/root_maxkeys 1000000
set_aside kernel/keys/root_maxbytes 25000000
# The mount namespace: everything a node writes to fixed places of a machine (/run/containerd, /var/lib/cni, /var/log/containers) goes
# to folders of this cluster, and all mounts of its pods end with it. DIR is /run/dir in there, so that no path is too long for a socket.
begin namespaces nsenter --net="/run/netns/$NAME" unshare --mount --propagation private bash -euc '
  mount --make-rshared /
  mount --bind "$1" "$2/dir"
  mount --bind "$3" "$2/bin"
  mount --rbind "$2" /run
  mount --bind /run/dir/lib /var/lib
  mount --bind /run/dir/log /var/log
  cd /run/dir/sysctl
  find . -type f | while read -r file; do mount --bind "$file" "/proc/sys/$file"; done
  cd /
  touch /run/dir/log/ready
  exec sleep infinity' bash "$DIR" "$RUN" "$BIN"
HOLDER=$(cat "$DIR/pids/namespaces.pid")
until_true namespaces "the mount namespace is ready" test -e "$DIR/log/ready"
rm "$DIR/log/ready"

openssl genrsa -out "$DIR/accounts.key" 2048 2>/dev/null
TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && echo "$TOKEN,admin,admin,system:masters" >"$DIR/tokens.csv")
cat >"$DIR/audit.yaml" <<EOF
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
EOF
# In memory where there is some to have: etcd waits for the disk at every write.
ETCD=/run/dir/lib/etcd
if [ "$(stat --file-system --format=%T /dev/shm 2>/dev/null)" = tmpfs ] && mkdir "/dev/shm/$NAME"; then ETCD=/dev/shm/$NAME/etcd; fi
start etcd control-plane etcd --data-dir "$ETCD" --unsafe-no-fsync --log-level=error \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster default=http://127.0.0.1:2380
# The admission plugins are the default ones: Pod Security and ValidatingAdmissionPolicy are among them.
start apiserver control-plane kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$NODE" \
  --cert-dir=/run/dir/certs --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file=/run/dir/accounts.key --service-account-signing-key-file=/run/dir/accounts.key \
  --service-cluster-ip-range="$SERVICES" --token-auth-file=/run/dir/tokens.csv --authorization-mode=Node,RBAC \
  --kubelet-preferred-address-types=InternalIP --kubelet-client-certificate=/run/dir/certs/apiserver.crt \
  --kubelet-client-key=/run/dir/certs/apiserver.key --audit-policy-file=/run/dir/audit.yaml --audit-log-path=/run/dir/audit.log --audit-log-maxsize=100000

cat >"$DIR/containerd.toml" <<EOF
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  # Lowering the score takes a right that a machine in a container may lack, and runc fails over it.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$PLUGINS"]
    conf_dir = "/run/dir/cni"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
EOF
# Routed and not bridged: answers from a pod behind a service then pass the node without the kernel module br_netfilter.
cat >"$DIR/cni/10-pods.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": false,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOF
start containerd containerd --config /run/dir/containerd.toml
ln -s "$RUN/containerd/containerd.sock" "$DIR/containerd.sock"
ctr() { "$BIN/ctr" --address "$RUN/containerd/containerd.sock" --namespace k8s.io "$@"; }
mkdir "$DIR/lib/pause" && cp "$BIN/pause" "$DIR/lib/pause/"
"$HERE/image.sh" "$DIR/lib/pause" localhost/pause:1 "$DIR/lib/pause.tar" --entrypoint /pause
until_true containerd "containerd answers" ctr version
for archive in "$DIR/lib/pause.tar" "$@"; do
  ctr images import --local "$archive" >>"$DIR/log/import.log" 2>&1 || { FAILING=import && echo "up.sh: cannot import $archive" >&2 && exit 1; }
done

until_true apiserver "the API server has its certificate" test -s "$DIR/certs/apiserver.crt"
(umask 077 && cat >"$DIR/kubeconfig") <<EOF
apiVersion: v1
kind: Config
clusters: [{name: node, cluster: {server: "https://$NODE:6443", certificate-authority-data: "$(base64 -w0 "$DIR/certs/apiserver.crt")"}}]
users: [{name: admin, user: {token: "$TOKEN"}}]
contexts: [{name: node, context: {cluster: node, user: admin}}]
current-context: node
EOF
kubectl() { nsenter --net="/run/netns/$NAME" "$BIN/control-plane" kubectl --kubeconfig "$DIR/kubeconfig" "$@"; }
until_true apiserver "the API server is ready" kubectl get --raw /readyz
CONFIG=--kubeconfig=/run/dir/kubeconfig
start controllers control-plane kube-controller-manager "$CONFIG" --service-account-private-key-file=/run/dir/accounts.key \
  --root-ca-file=/run/dir/certs/apiserver.crt --leader-elect=false --flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins
# Nothing can be pulled again, so kubelet must never make room on a full disk by removing images.
cat >"$DIR/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
clusterDNS: [$NODE]
clusterDomain: cluster.local
resolvConf: ""
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
readOnlyPort: 0
EOF
start kubelet control-plane kubelet --config=/run/dir/kubelet.yaml "$CONFIG" --hostname-override=node-1 --node-ip="$NODE"
start scheduler control-plane kube-scheduler "$CONFIG" --leader-elect=false
start proxy control-plane kube-proxy "$CONFIG" --hostname-override=node-1 --proxy-mode=nftables --conntrack-max-per-core=0 \
  --cluster-cidr="$PODS"
cat >"$DIR/Corefile" <<EOF
.:53 {
  ready 127.0.0.1:8181
  errors
  kubernetes cluster.local {
    kubeconfig /run/dir/kubeconfig
  }
}
EOF
start dns dns -conf /run/dir/Corefile
until_true kubelet "the node is ready" kubectl wait --for=condition=Ready --timeout=1s node/node-1
until_true controllers "the default service account exists" kubectl get -n default serviceaccount/default configmap/kube-root-ca.crt
until_true dns "the cluster's DNS answers" nsenter --net="/run/netns/$NAME" curl --fail --silent --max-time 1 http://127.0.0.1:8181/ready
until_true proxy "services are reachable" nsenter --net="/run/netns/$NAME" \
  curl --fail --silent --max-time 1 --cacert "$DIR/certs/apiserver.crt" https://10.96.0.1/readyz
alive
MS=$((($(date +%s%N) - BEGIN) / 1000000))
printf 'up.sh: %s is ready after %d.%d s\n' "$NAME" $((MS / 1000)) $((MS % 1000 / 100))
