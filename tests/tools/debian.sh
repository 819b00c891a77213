#!/bin/sh
# debian.sh [tests|demo|demo-cluster]: installs the Debian packages that are missing; `tests`, the default, takes all of them.
# docker-registry is a registry of an older generation, skopeo a second copying tool; runc, the network plugins, nft, ip and nsenter are
# what tests/node needs for a Kubernetes node, buildah for the Dockerfile and prometheus for alerts and the dashboard; the others are used
# by scripts. Starts no service.
set -eu

purpose=${1:-tests}
case $purpose in tests | demo | demo-cluster) ;; *) echo "usage: debian.sh [tests|demo|demo-cluster]" >&2 && exit 2 ;; esac
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
survey() {
    missing=""
    need curl curl
    [ "$purpose" = demo-cluster ] || need docker-registry docker-registry
    [ "$purpose" = demo ] || survey_node
    [ "$purpose" != tests ] || survey_tests
}
survey_node() {
    need openssl openssl
    need runc runc
    # The plugins are in no search path, and each of them belongs to the one package.
    need /usr/lib/cni/bridge containernetworking-plugins
    need nft nftables
    need ip iproute2
    need nsenter util-linux
}
survey_tests() {
    need skopeo skopeo
    need jq jq
    need buildah buildah
    need promtool prometheus
}

survey
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "make debian: these Debian packages are missing:$missing" >&2
    echo "make debian: install them, or run 'make debian' as root on Debian" >&2
    exit 1
fi

# Two clones may get here at once: the second waits, and then finds everything installed.
exec 9>/run/lock/transship-debian-packages
flock 9
survey
[ -n "$missing" ] || exit 0

# docker-registry starts a service on installation unless the policy file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get -q -o DPkg::Lock::Timeout=600 update
# shellcheck disable=SC2086 # a list of words
apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends $missing 9>&-
survey
if [ -n "$missing" ]; then
    echo "make debian: installed, and still missing:$missing" >&2
    exit 1
fi
