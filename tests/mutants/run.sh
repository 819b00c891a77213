#!/usr/bin/env bash
# run.sh [NAME…]: shows that the simulation of the replication core notices faults. Each NAME.patch of this folder, by default all of
# them, puts one fault into a copy of the tree; random schedules then run until an oracle notices it. Prints the first seed that fails
# and the oracle. Exits with 1 if a fault is not noticed, or the tree fails without one. Needs git and flock.
#   MUTANT_SCHEDULES=N     the schedules that may notice a fault; default 4000
#   MUTANT_FOLDER=FOLDER   what is built, and kept for the next run; default .build/mutants
#   CARGO=FILE             cargo
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
SCHEDULES=${MUTANT_SCHEDULES:-4000}
FOLDER=${MUTANT_FOLDER:-$ROOT/.build/mutants}
CARGO=${CARGO:-cargo}
UNCHANGED_SCHEDULES=100
RUNNING=""

usage() {
  echo "run.sh: there is no $1 in tests/mutants" >&2
  exit 2
}
NAMES=()
for name in "$@"; do
  [ -f "$HERE/$name.patch" ] || usage "$name.patch"
  NAMES+=("$name")
done
if [ $# -eq 0 ]; then
  for patch in "$HERE"/*.patch; do NAMES+=("$(basename "$patch" .patch)"); done
fi

# A run has a slot of its own. The tree is at the same path in each run: at another one cargo would build everything anew.
mkdir -p "$FOLDER"
FOLDER=$(cd "$FOLDER" && pwd)
SLOT=1
while exec 9>"$FOLDER/$SLOT.lock" && ! flock --nonblock 9; do SLOT=$((SLOT + 1)); done
SLOT=$FOLDER/$SLOT
TREE=$SLOT/tree
end() {
  local status=$?
  trap - INT TERM
  [ -z "$RUNNING" ] || kill "$RUNNING" 2>/dev/null || true
  [ -z "$RUNNING" ] || wait "$RUNNING" 2>/dev/null || true
  rm -rf "$TREE" "$SLOT/log"
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM
rm -rf "$TREE"
mkdir -p "$TREE"

# With new times of change: cargo would take the files of an earlier run, and what was built of them with a fault, for these.
cd "$ROOT"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar -c --null -T - | tar -x -m -C "$TREE"
cd "$TREE"
# The copy is no repository, and git is not to take it for a part of the one around it.
export GIT_CEILING_DIRECTORIES=$SLOT CARGO_TARGET_DIR=$SLOT/target
# Most of the time goes into builds, and no backtrace is read.
export CARGO_PROFILE_DEV_DEBUG=0
unset TRANSSHIP_SEED TRANSSHIP_FIRST

# In the background, so that a signal does not wait for its end.
run() { # LOG COMMAND…
  local log=$1 status=0
  shift
  "$@" >"$log" 2>&1 &
  RUNNING=$!
  wait "$RUNNING" || status=$?
  RUNNING=""
  return "$status"
}
# Builds the tree as it is, and runs so many schedules. Sets SEED and ORACLE to the first failure, or to nothing.
simulate() { # SCHEDULES
  local binary found
  SEED="" ORACLE=""
  if ! run "$SLOT/log" "$CARGO" test --locked -p transship-simulation --no-run; then
    cat "$SLOT/log" >&2
    echo "run.sh: the tree does not compile" >&2
    exit 1
  fi
  binary=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$SLOT/log")
  run "$SLOT/log" env TRANSSHIP_SCHEDULES="$1" "$binary" replication::simulation::random --nocapture && return
  # The panic says "ORACLE: SENTENCE", and the line after it the seed.
  found=$(awk '/^seed [0-9]+; replay it/ { split(before, part, ": "); print $2 + 0, part[1]; exit } { before = $0 }' "$SLOT/log")
  if [ -z "$found" ]; then
    tail -n 50 "$SLOT/log" >&2
    echo "run.sh: the simulation failed without a seed" >&2
    exit 1
  fi
  SEED=${found%% *} ORACLE=${found#* }
}

simulate "$UNCHANGED_SCHEDULES"
if [ -n "$SEED" ]; then
  echo "run.sh: the tree fails without a fault: seed $SEED, $ORACLE" >&2
  exit 1
fi
MISSED=0
printf '%-28s %10s  %s\n' fault "first seed" "noticed by"
for name in "${NAMES[@]}"; do
  git apply "tests/mutants/$name.patch"
  simulate "$SCHEDULES"
  git apply --reverse "tests/mutants/$name.patch"
  [ -n "$SEED" ] || MISSED=$((MISSED + 1))
  printf '%-28s %10s  %s\n' "$name" "${SEED:--}" "${ORACLE:-nothing in $SCHEDULES schedules}"
done
if [ "$MISSED" -gt 0 ]; then
  echo "run.sh: $MISSED of ${#NAMES[@]} faults were not noticed" >&2
  exit 1
fi
