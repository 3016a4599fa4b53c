# Shared by the scripts of the servers that tests use; sourced, never run.
# Every script keeps what it installs, its data, its logs and its pid files
# under $LEAT_SERVERS and talks to loopback only.
set -euo pipefail

: "${LEAT_SERVERS:=${XDG_CACHE_HOME:-$HOME/.cache}/leat-servers}"
export LEAT_SERVERS
HOST=127.0.0.1

log() { printf '%s\n' "$*" >&2; }
die() { log "${SERVER:-server}: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
now_ms() { date +%s%3N; }

# Root rights are needed for apt and for switching user, for nothing else.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo; then sudo -n "$@"
  else die "needs root once, for: $*"; fi
}

# apt_install PACKAGE... : installs without starting the packaged services.
apt_install() {
  local rc=0 made=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    made=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    { as_root apt-get update -qq >&2 &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2; } || rc=$?
  [ -z "$made" ] || as_root rm -f /usr/sbin/policy-rc.d
  return $rc
}

# One installation at a time, also between concurrent test processes.
with_lock() { # NAME COMMAND...
  local name=$1; shift
  mkdir -p "$LEAT_SERVERS"
  ( flock 9; "$@" ) 9>"$LEAT_SERVERS/.$name.lock"
}

# A pid file holds "PID STARTTIME": a reused pid is never taken for ours.
# field 22 of /proc/PID/stat, empty once the process is gone. A killed JVM's first thread is
# a zombie while the others still hold the ports, so a zombie counts as gone only when alone.
_starttime() {
  local s p=$1 t; s=$(cat "/proc/$p/stat" 2>/dev/null) || return 0
  s=${s##*) }; set -- $s
  if [ "$1" = Z ]; then t=("/proc/$p/task"/*); [ "${#t[@]}" -gt 1 ] || return 0; fi
  printf '%s' "${20}"
}
write_pid() { printf '%s %s\n' "$2" "$(_starttime "$2")" >"$1"; } # FILE PID
alive() { # FILE: true (and sets PID) when the process in the file still runs
  PID=; local p s
  [ -s "$1" ] || return 1
  read -r p s <"$1" || return 1
  [ -n "$s" ] && [ "$(_starttime "$p")" = "$s" ] || return 1
  PID=$p
}
# stop_pid FILE [SECONDS] [SIGNAL]: SIGNAL (TERM), then KILL once SECONDS passed.
stop_pid() {
  local f=$1 left=$(( ${2:-10} * 20 )) sig=${3:-TERM}
  if alive "$f"; then
    kill "-$sig" "$PID" 2>/dev/null || true
    while alive "$f" && [ $left -gt 0 ]; do sleep 0.05; left=$((left - 1)); done
    if alive "$f"; then log "${SERVER:-server}: pid $PID ignored SIG$sig, killing"; kill -KILL "$PID" || true
      while alive "$f"; do sleep 0.05; done; fi
  fi
  rm -f "$f"
}
rss_mb() { awk '/^VmRSS/ {printf "%d", $2/1024}' "/proc/$1/status" 2>/dev/null || printf 0; }

port_open() { (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; }
port_free() { ! port_open "$1" || die "port $1 is already taken"; }
# wait_for SECONDS PIDFILE LOGFILE COMMAND... : until COMMAND succeeds.
wait_for() {
  local end=$(( $(date +%s) + $1 )) pf=$2 lf=$3; shift 3
  until "$@" >/dev/null 2>&1; do
    alive "$pf" || { tail -n 25 "$lf" >&2; die "exited while starting, see $lf"; }
    [ "$(date +%s)" -lt "$end" ] || { tail -n 25 "$lf" >&2; die "not ready in time, see $lf"; }
    sleep 0.05
  done
}
