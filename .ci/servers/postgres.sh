#!/usr/bin/env bash
# PostgreSQL 15 from Debian on loopback, throwaway clusters ready for logical decoding.
# The server refuses to run as root: started by root it runs as another user.
#
#   postgres.sh install | start | stop | wipe | status | kill | env
#
# start and env print LEAT_PG=DSN; wipe stops it and deletes the data; kill is as a crash.
#
# Environment: LEAT_SERVERS, PG_INSTANCE, PG_PORT, PG_DB, PG_FSYNC (on|off),
# PG_SERVER_USER (whom root runs the server as; default: postgres, else nobody), PG_CONF (extra lines).
SERVER=postgres
. "$(dirname "$(readlink -f "$0")")/lib.sh"

: "${PG_INSTANCE:=default}" "${PG_PORT:=15432}" "${PG_DB:=test}" "${PG_FSYNC:=off}" "${PG_CONF:=}"
# a cluster owned by another user cannot live below a home that only its owner may enter
if [ "$(id -u)" = 0 ]; then
  if [ -z "${PG_SERVER_USER:-}" ]; then PG_SERVER_USER=postgres; id postgres >/dev/null 2>&1 || PG_SERVER_USER=nobody; fi
  BASE=${PG_BASE:-${TMPDIR:-/tmp}/leat-postgres}
  user() { setpriv --reuid "$PG_SERVER_USER" --regid "$(id -g "$PG_SERVER_USER")" --clear-groups env HOME="$RUN" "$@"; }
else
  BASE=${PG_BASE:-$LEAT_SERVERS/postgres}
  user() { "$@"; }
fi
RUN=$BASE/run-$PG_INSTANCE

bindir() {
  local d
  for d in /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin; do [ -x "$d/initdb" ] && { printf '%s' "$d"; return; }; done
  return 1
}
do_install() { bindir >/dev/null || apt_install postgresql-15; }
up() { "$(bindir)/pg_isready" -q -h $HOST -p "$PG_PORT" -U postgres; }

do_start() {
  local t0 b; t0=$(now_ms)
  with_lock postgres do_install
  b=$(bindir)
  if ! alive "$RUN/pid"; then
    port_free "$PG_PORT"
    mkdir -p "$BASE"; chmod 755 "$BASE"; mkdir -p "$RUN"
    [ "$(id -u)" != 0 ] || chown "$PG_SERVER_USER" "$RUN"
    if [ ! -s "$RUN/data/PG_VERSION" ]; then
      rm -rf "$RUN/data"
      user "$b/initdb" -D "$RUN/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$RUN/initdb.log" 2>&1 ||
        { cat "$RUN/initdb.log" >&2; die "initdb failed"; }
      cat >>"$RUN/data/postgresql.conf" <<C
wal_level = logical
max_replication_slots = 20
max_wal_senders = 20
max_connections = 100
shared_buffers = 64MB
unix_socket_directories = ''
log_min_messages = warning
C
    fi
    printf '%s\n' "fsync = $PG_FSYNC" "full_page_writes = $PG_FSYNC" "synchronous_commit = on" "$PG_CONF" >"$RUN/data/leat.conf"
    grep -q "include 'leat.conf'" "$RUN/data/postgresql.conf" || printf "include 'leat.conf'\n" >>"$RUN/data/postgresql.conf"
    ( cd "$RUN"
      if [ "$(id -u)" = 0 ]; then
        exec setsid setpriv --reuid "$PG_SERVER_USER" --regid "$(id -g "$PG_SERVER_USER")" --clear-groups \
          "$b/postgres" -D "$RUN/data" -h $HOST -p "$PG_PORT"
      else exec setsid "$b/postgres" -D "$RUN/data" -h $HOST -p "$PG_PORT"; fi ) >"$RUN/log" 2>&1 </dev/null 9>&- &
    write_pid "$RUN/pid" $!
  fi
  wait_for 20 "$RUN/pid" "$RUN/log" up
  "$b/psql" -qAt -h $HOST -p "$PG_PORT" -U postgres -c "select 1 from pg_database where datname='$PG_DB'" | grep -q 1 ||
    "$b/createdb" -h $HOST -p "$PG_PORT" -U postgres "$PG_DB"
  log "postgres: ready after $(( $(now_ms) - t0 )) ms"
  do_env
}
do_env() { printf 'LEAT_PG=postgres://postgres@%s:%s/%s?sslmode=disable\n' $HOST "$PG_PORT" "$PG_DB"; }

case ${1:-} in
  install) with_lock postgres do_install ;;
  start) do_start ;;
  stop) stop_pid "$RUN/pid" 10 INT ;;     # INT: fast shutdown; TERM would wait for the clients
  kill) stop_pid "$RUN/pid" 10 QUIT ;;    # QUIT: as after a crash, without orphans
  wipe) stop_pid "$RUN/pid" 10 QUIT; rm -rf "$RUN" ;;
  status) alive "$RUN/pid" && up && printf 'pid %s, %s:%s, %s MiB\n' "$PID" $HOST "$PG_PORT" "$(rss_mb "$PID")" || { echo "not running"; exit 3; } ;;
  env) do_env ;;
  *) sed -n '2,/^SERVER=/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
