#!/usr/bin/env bash
# Installs the rivals of the Kafka jobs into a folder (default ~/.cache/leat-rivals): Kafka Streams,
# Flink, Bytewax, plain Python and PySpark, with the versions that the published figures name.
# Needs java, mvn and python3. Any of them may be missing afterwards; compare says so.
set -uo pipefail
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/leat-rivals}
here=$(cd "$(dirname "$0")" && pwd)/kafka
mkdir -p "$dir"
jars() { # NAME ARGS: the jars of NAME/pom.xml, and NAME's classes
	local name=$1; shift
	[ ! -e "$dir/$name/cls/$2" ] || return 0
	mkdir -p "$dir/$name/cls"
	mvn -B -ntp -q -f "$here/$name/pom.xml" "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/$name/libs" &&
		javac -cp "$dir/$name/libs/*" -d "$dir/$name/cls" "$here/$name"/*.java
}
jars kstreams -Dks.version=4.3.1 KS.class
jars flink -Dfl.version=2.3.0 FL.class
if ! "$dir/venv-bytewax/bin/python" -c 'import bytewax, confluent_kafka, orjson, pyarrow' 2>/dev/null; then
	python3 -m venv "$dir/venv-bytewax" &&
		"$dir/venv-bytewax/bin/pip" install -q bytewax==0.21.1 confluent-kafka==2.16.1 pyarrow==26.0.1 orjson
fi
if ! "$dir/venv-spark/bin/python" -c 'import pyspark' 2>/dev/null; then
	python3 -m venv "$dir/venv-spark" && "$dir/venv-spark/bin/pip" install -q pyspark==4.2.0
	mkdir -p "$dir/spark"
	mvn -B -ntp -q -f "$here/spark-pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/spark/all"
	mkdir -p "$dir/spark/libs"
	cp "$dir"/spark/all/{commons-pool2,kafka-clients,spark-sql-kafka,spark-token-provider}*.jar "$dir/spark/libs/"
fi
echo "$dir"
