#!/usr/bin/env bash
# Apache Kafka (KRaft, no ZooKeeper) for tests: 1 or 3 combined broker+controller
# nodes on loopback, from the jars in Maven Central. Needs: java >= 17, mvn.
#
#   kafka.sh install              resolve the jars (done by start when missing)
#   kafka.sh start [1|3]          fresh or existing data, returns when ready
#   kafka.sh stop                 all nodes;  wipe: stop and delete the data
#   kafka.sh status               exit 0 when every node of the cluster runs
#   kafka.sh kill N               kill -9 node N
#   kafka.sh stop-node N | start-node N
#   kafka.sh env                  LEAT_KAFKA=host:port,... (start prints it too)
#
# Environment: LEAT_SERVERS, KAFKA_VERSION, KAFKA_INSTANCE (a name; instances with
# different names and ports run side by side), KAFKA_PORT (node i listens on
# PORT+i-1), KAFKA_CONTROLLER_PORT (same), KAFKA_NODES, KAFKA_HEAP,
# KAFKA_AUTO_CREATE (true|false), KAFKA_PROPS (extra lines for server.properties),
# LEAT_MVN_ARGS (e.g. -Dmaven.repo.local=DIR where the home folder is not writable),
# KAFKA_CDS=0 (skip the class-data archive that install makes, which halves start-up).
SERVER=kafka
. "$(dirname "$(readlink -f "$0")")/lib.sh"

: "${KAFKA_VERSION:=4.4.0}" "${KAFKA_INSTANCE:=default}" "${KAFKA_PORT:=19092}" "${KAFKA_HEAP:=512m}"
: "${KAFKA_CONTROLLER_PORT:=$((KAFKA_PORT + 100))}" "${KAFKA_AUTO_CREATE:=true}" "${KAFKA_PROPS:=}"
LOG4J_VERSION=2.25.5   # the log4j that kafka 4.4.0 itself resolves
DIST=$LEAT_SERVERS/kafka/dist-$KAFKA_VERSION
RUN=$LEAT_SERVERS/kafka/run-$KAFKA_INSTANCE

do_install() {
  if [ -e "$DIST/.done" ]; then [ -d "$DIST/template" ] || make_template; return 0; fi
  have java || apt_install openjdk-17-jre-headless
  have mvn || apt_install maven
  local tmp=$DIST.tmp; rm -rf "$tmp"; mkdir -p "$tmp"
  cat >"$tmp/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>leat.test</groupId><artifactId>kafka-dist</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
POM
  log "kafka: resolving org.apache.kafka:kafka_2.13:$KAFKA_VERSION"
  # shellcheck disable=SC2086
  mvn -B -ntp -q ${LEAT_MVN_ARGS:-} -f "$tmp/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$tmp/libs" >"$tmp/mvn.log" 2>&1 || { cat "$tmp/mvn.log" >&2; die "mvn failed"; }
  cat >"$tmp/log4j2.properties" <<'LOG'
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
logger.config.name=org.apache.kafka.common.config
logger.config.level=warn
logger.kconfig.name=kafka.server.KafkaConfig
logger.kconfig.level=warn
LOG
  rm -rf "$DIST"; mv "$tmp" "$DIST"
  touch "$DIST/.done"
  make_template
}

# One formatted, never started data folder is kept and copied for each new node: a
# copy takes 10 ms, kafka-storage format a second of JVM. A short run of the server
# leaves a class-data archive behind.
make_template() (
  RUN=$DIST/warm; KAFKA_PORT=${KAFKA_WARM_PORT:-19990}; KAFKA_CONTROLLER_PORT=$((KAFKA_PORT + 1))
  rm -rf "$RUN" "$DIST/kafka.jsa" "$DIST/template.tmp"; write_config 1 1
  mapfile -t opts < <(java_opts)
  java "${opts[@]}" -cp "$(classpath)" kafka.tools.StorageTool format -t "$(uuid)" -c "$RUN/node-1/server.properties" \
    >"$DIST/format.log" 2>&1 || { cat "$DIST/format.log" >&2; die "format failed"; }
  cp -a "$RUN/node-1/data" "$DIST/template.tmp"
  if [ "${KAFKA_CDS:-1}" != 0 ] && ! port_open "$KAFKA_PORT" && ! port_open "$KAFKA_CONTROLLER_PORT"; then
    JAVA_EXTRA="-XX:ArchiveClassesAtExit=$DIST/kafka.jsa"
    launch 1; await 1; stop_pid "$RUN/node-1/pid" 30
    [ -s "$DIST/kafka.jsa" ] || log "kafka: no class-data archive; start-up stays slow, nothing else"
  fi
  rm -rf "$RUN"; mv "$DIST/template.tmp" "$DIST/template"
)
uuid() { # a Kafka Uuid: 16 random bytes in base64url, not starting with a dash
  local u=-; while [ "${u#-}" != "$u" ]; do u=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '='); done
  printf '%s' "$u"
}

classpath() { printf '%s/libs/*' "$DIST"; }
java_opts() {
  printf '%s\n' "-Xms$KAFKA_HEAP" "-Xmx$KAFKA_HEAP" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Xshare:auto -Djava.awt.headless=true -Djava.net.preferIPv4Stack=true \
    "-Dlog4j2.configurationFile=$DIST/log4j2.properties"
  if [ -n "${JAVA_EXTRA:-}" ]; then printf '%s\n' "$JAVA_EXTRA"
  elif [ -s "$DIST/kafka.jsa" ]; then printf '%s\n' "-XX:SharedArchiveFile=$DIST/kafka.jsa" -Xlog:cds=off -Xlog:class+path=off; fi
}

nodes() { cat "$RUN/nodes" 2>/dev/null || printf 0; }

write_config() { # NODE COUNT
  local i=$1 n=$2 dir=$RUN/node-$1 voters= k rf isr
  rf=$n; isr=$(( n > 2 ? 2 : 1 ))
  for k in $(seq 1 "$n"); do voters+=${voters:+,}$k@$HOST:$((KAFKA_CONTROLLER_PORT + k - 1)); done
  mkdir -p "$dir"
  cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$voters
listeners=PLAINTEXT://$HOST:$((KAFKA_PORT + i - 1)),CONTROLLER://$HOST:$((KAFKA_CONTROLLER_PORT + i - 1))
advertised.listeners=PLAINTEXT://$HOST:$((KAFKA_PORT + i - 1))
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=$KAFKA_AUTO_CREATE
num.partitions=1
default.replication.factor=$rf
min.insync.replicas=$isr
offsets.topic.replication.factor=$rf
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=$rf
transaction.state.log.min.isr=$isr
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=$rf
share.coordinator.state.topic.min.isr=$isr
share.coordinator.state.topic.num.partitions=3
# groups form and fail over at once
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
# a dead broker is fenced after 3 s instead of 9 s; abandoned transactions are swept every second
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# small footprint
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
controlled.shutdown.max.retries=1
$KAFKA_PROPS
P
}

format_node() { # NODE: nothing to do when the data is there
  local dir=$RUN/node-$1
  [ ! -e "$dir/data/meta.properties" ] || return 0
  [ -s "$RUN/cluster-id" ] || uuid >"$RUN/cluster-id"
  rm -rf "$dir/data"; cp -a "$DIST/template" "$dir/data"
  printf 'version=1\nnode.id=%s\ncluster.id=%s\ndirectory.id=%s\n' "$1" "$(cat "$RUN/cluster-id")" "$(uuid)" >"$dir/data/meta.properties"
}

launch() { # NODE
  local i=$1 dir=$RUN/node-$1 opts
  ! alive "$dir/pid" || return 0
  port_free $((KAFKA_PORT + i - 1))
  mapfile -t opts < <(java_opts)
  [ ! -e "$dir/log" ] || { cat "$dir/log" >>"$dir/log.old"; rm "$dir/log"; } # what led to a kill stays until wipe
  # GC and error files go to the node's folder
  ( cd "$dir" && exec setsid java "${opts[@]}" -cp "$(classpath)" kafka.Kafka server.properties ) \
    >"$dir/log" 2>&1 </dev/null 9>&- &
  write_pid "$dir/pid" $!
}
# "Kafka Server started" is logged once the broker is registered and unfenced.
ready() { grep -q 'Kafka Server started' "$RUN/node-$1/log"; }
await() { wait_for "${KAFKA_START_TIMEOUT:-60}" "$RUN/node-$1/pid" "$RUN/node-$1/log" ready "$1"; }

do_start() {
  local n=${1:-${KAFKA_NODES:-1}} i t0; t0=$(now_ms)
  with_lock kafka do_install
  if [ -s "$RUN/nodes" ] && [ "$(nodes)" != "$n" ]; then die "instance $KAFKA_INSTANCE has $(nodes) nodes; wipe it first"; fi
  mkdir -p "$RUN"; printf '%s' "$n" >"$RUN/nodes"
  for i in $(seq 1 "$n"); do write_config "$i" "$n"; format_node "$i"; done
  for i in $(seq 1 "$n"); do launch "$i"; done
  for i in $(seq 1 "$n"); do await "$i"; done
  log "kafka: $n node(s) ready after $(( $(now_ms) - t0 )) ms"
  do_env
}
do_env() {
  local i list=
  for i in $(seq 1 "$(nodes)"); do list+=${list:+,}$HOST:$((KAFKA_PORT + i - 1)); done
  printf 'LEAT_KAFKA=%s\n' "$list"
}
do_stop() { # all at once: they form each other's quorum
  local i
  for i in $(seq 1 "$(nodes)"); do stop_pid "$RUN/node-$i/pid" 10 & done; wait
}
do_status() {
  local i rc=0 n; n=$(nodes)
  [ "$n" -gt 0 ] || { log "kafka: no instance $KAFKA_INSTANCE"; return 3; }
  for i in $(seq 1 "$n"); do
    if alive "$RUN/node-$i/pid"; then printf 'node %s: pid %s, %s:%s, %s MiB\n' "$i" "$PID" "$HOST" $((KAFKA_PORT + i - 1)) "$(rss_mb "$PID")"
    else printf 'node %s: not running\n' "$i"; rc=3; fi
  done
  return $rc
}
node_arg() { [ -d "$RUN/node-${1:-}" ] && [ -n "${1:-}" ] || die "which node?"; }

case ${1:-} in
  install) with_lock kafka do_install ;;
  start) do_start "${2:-}" ;;
  stop) do_stop ;;
  wipe) for i in $(seq 1 "$(nodes)"); do stop_pid "$RUN/node-$i/pid" 10 KILL; done; rm -rf "$RUN" ;;
  status) do_status ;;
  env) do_env ;;
  kill) node_arg "${2:-}"; stop_pid "$RUN/node-$2/pid" 10 KILL ;;
  stop-node) node_arg "${2:-}"; stop_pid "$RUN/node-$2/pid" 10 ;;
  start-node) node_arg "${2:-}"; launch "$2"; await "$2" ;;
  *) sed -n '2,/^SERVER=/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
