#!/usr/bin/env bash
# down.sh DIR: ends the cluster that up.sh started in DIR, however far it came and whatever of it is dead already. Removes its data
# and leaves its logs. Prints what is left, if anything is, and then exits 1.
set -euo pipefail
[ $# = 1 ] || { echo "usage: down.sh DIR" >&2 && exit 2; }
[ -e "$1/id" ] || exit 0 # nothing was started
DIR=$(realpath "$1")
ID=$(cat "$DIR/id")
[[ $ID =~ ^[a-z0-9]+-[0-9a-f]+$ ]] || { echo "down.sh: $DIR/id is not from up.sh" >&2 && exit 2; }
NAME=transship-$ID

cgroups() { # the cluster's folder in each hierarchy where it has one
  local type path
  while read -r _ path type _; do
    case $type in cgroup | cgroup2) [ ! -d "$path/$NAME" ] || echo "$path/$NAME" ;; esac
  done </proc/self/mounts
}
processes() { # every component, shim and container was born in the cluster's cgroup, so no list of ids can be stale
  local roots
  mapfile -t roots < <(cgroups)
  # A cgroup that goes away meanwhile makes find fail, which says nothing of the others.
  [ ${#roots[@]} = 0 ] || { find "${roots[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null || true; } | sort -un
}
LIMIT=$((SECONDS + 6))
# All at once and at once: nothing is worth saving, and a component that outlives another only waits for it. Again, for what was
# being born meanwhile.
while PIDS=$(processes) && [ -n "$PIDS" ] && [ "$SECONDS" -lt "$LIMIT" ]; do
  # shellcheck disable=SC2086 # a list of ids
  kill -KILL $PIDS 2>/dev/null || true
  sleep 0.05
done
# The mounts, those of every pod included, were in a mount namespace that ended with its last process.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  mapfile -t roots < <(cgroups)
  [ ${#roots[@]} -gt 0 ] || break
  [ "$attempt" = 1 ] || sleep 0.1 # the kernel lets go of a dead process's cgroup a moment later
  find "${roots[@]}" -depth -type d -exec rmdir {} \; 2>/dev/null || true
done
# A foreign process in the namespace would keep it alive unseen: say so. The caller itself may well be in it.
STRANGERS=""
if [ -e "/run/netns/$NAME" ]; then
  own=" " pid=$$
  while [ "$pid" -gt 1 ]; do own+="$pid " && pid=$(awk '$1 == "PPid:" {print $2}' "/proc/$pid/status"); done
  for pid in $(ip netns pids "$NAME"); do
    case $own in *" $pid "*) continue ;; esac
    [ "$(awk '$1 == "PPid:" {print $2}' "/proc/$pid/status" 2>/dev/null)" != $$ ] || continue
    [ ! -e "/proc/$pid" ] || STRANGERS+=" $pid"
  done
  ip netns del "$NAME" || true
fi

LEFT=""
PIDS=$(processes)
[ -z "$PIDS" ] || LEFT+=" processes:"$(echo " $PIDS" | tr '\n' ' ')
[ -z "$STRANGERS" ] || LEFT+=" processes in the network namespace:$STRANGERS"
[ -z "$(cgroups)" ] || LEFT+=" cgroups:"$(cgroups | tr '\n' ' ')
[ ! -e "/run/netns/$NAME" ] || LEFT+=" network namespace: $NAME"
MOUNTS=$(awk -v dir="$DIR/" -v run="/run/$NAME/" 'index($2 "/", dir) == 1 || index($2 "/", run) == 1 {print $2}' /proc/self/mounts)
[ "$MOUNTS" = "$DIR" ] && MOUNTS="" # the caller's own
[ -z "$MOUNTS" ] || LEFT+=" mounts: $MOUNTS"
# With a process or a mount left, removing could reach into what is still in use.
[ -n "$LEFT" ] || rm -rf --one-file-system "/run/$NAME" "/dev/shm/$NAME" "$DIR/lib" "$DIR/pids" "$DIR/netns" "$DIR/containerd.sock"
[ -z "$LEFT" ] || { echo "down.sh: left of $NAME:$LEFT" >&2 && exit 1; }
