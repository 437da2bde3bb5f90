# Shared by the scripts of this folder: where things are kept, how progress is told.
# Sourced, not run.
set -euo pipefail

TESTBED_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$(cd "$TESTBED_SRC/../.." && pwd)
TESTBED=${GLANCE_TESTBED:-${XDG_CACHE_HOME:-$HOME/.cache}/glance-testbed}
export GLANCE_TESTBED=$TESTBED
export TESTBED_STARTED=${TESTBED_STARTED:-$(date +%s)}
mkdir -p "$TESTBED"/{log,lock,cache}

# Unix socket paths end at 107 characters; the longest one below the folder needs 40.
if ((${#TESTBED} > 64)); then
  echo "testbed: $TESTBED is too long a path for unix sockets: set GLANCE_TESTBED to a shorter folder" >&2
  exit 1
fi

say() { printf '[testbed %3ds] %s\n' $(($(date +%s) - TESTBED_STARTED)) "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# step TEXT COMMAND...: run a command quietly, tell how long it took, show its log if it fails.
step() {
  local text=$1 log begin
  shift
  log=$TESTBED/log/$(tr -cs '[:alnum:].' - <<<"$text" | head -c 60)$$
  begin=$(date +%s)
  say "$text ..."
  # In the background, since bash ignores `set -e` in whatever an `if` looks at.
  (set -e && "$@") >"$log" 2>&1 </dev/null &
  if wait $!; then
    say "$text: $(($(date +%s) - begin)) s"
    rm -f "$log"
  else
    say "$text: FAILED after $(($(date +%s) - begin)) s, the end of $log:"
    tail -n 40 "$log" >&2
    return 1
  fi
}

# The docker client that belongs to the engine, not another one in front of it in PATH.
docker_client() {
  local beside
  beside=$(dirname "$(readlink -f "$(command -v dockerd)")")/../bin/docker
  if [[ -x $beside ]]; then echo "$beside"; else command -v docker; fi
}

socket_of() { echo "$TESTBED/engine/$1/docker.sock"; }

# on ENGINE ARGUMENTS...: the docker client against one of the numbered engines.
on() {
  local number=$1
  shift
  env -u DOCKER_CONTEXT -u DOCKER_HOST "$(docker_client)" -H "unix://$(socket_of "$number")" "$@"
}

engine() { python3 "$TESTBED_SRC/engine" "$@"; }

# hash_of FILE-OR-TEXT...: a short key for what was made from these inputs.
hash_of() {
  local input
  for input in "$@"; do
    if [[ -f $input ]]; then cat "$input"; else echo "$input"; fi
  done | sha256sum | cut -c1-16
}

# locked NAME: hold a lock of the work folder until this shell ends.
locked() {
  exec {LOCK_FD}>"$TESTBED/lock/$1"
  if ! flock -n "$LOCK_FD"; then
    say "waiting for another run that holds the lock $1 ..."
    flock "$LOCK_FD"
  fi
}
