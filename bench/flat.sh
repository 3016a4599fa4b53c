#!/usr/bin/env bash
# Flat memory: one CSV file of GB gigabytes (default 5) through ventas into both
# sinks; prints the summary and the peak memory of the process.
#
#	bench/flat.sh [GB] [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
gb=${1:-5}
dir=${2:-$(mktemp -d)}
mkdir -p "$dir/in"
go build -o "$dir/ventas" ./examples/ventas
(cd bench && go build -o "$dir/genventas" ./genventas)
"$dir/genventas" $((gb * 13600000)) >"$dir/in/ventas.csv" # 73 bytes a row and a little more as numbers grow
ls -l "$dir/in"
/usr/bin/time -f 'peak memory %M KiB, %e s, %U s user, %S s system' "$dir/ventas" -in "$dir/in" -out "$dir/out" -json 2>"$dir/err" | tail -1
tail -1 "$dir/err"
[ $# -ge 2 ] || rm -rf "$dir"
