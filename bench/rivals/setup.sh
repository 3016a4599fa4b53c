#!/usr/bin/env bash
# Installs the rivals into a folder (default ~/.cache/leat-rivals), with the versions
# that the published figures name. Needs python3, pip and the sqlite3 shell.
set -euo pipefail
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/leat-rivals}
mkdir -p "$dir"
if ! "$dir/venv/bin/python" -c 'import polars, duckdb, pyarrow, pandas, fastavro' 2>/dev/null; then
	python3 -m venv "$dir/venv"
	"$dir/venv/bin/pip" install -q polars==2.1.0 duckdb==2.0.0 pyarrow==26.0.1 pandas==3.1.1 fastavro==1.13.1
fi
# The newest DuckDB has no SQLite extension in its wheels; 1.5.5 has.
if ! "$dir/venv-sqlite/bin/python" -c 'import duckdb' 2>/dev/null; then
	python3 -m venv "$dir/venv-sqlite"
	"$dir/venv-sqlite/bin/pip" install -q duckdb==1.5.5 duckdb-extension-sqlite-scanner
fi
if ! command -v sqlite3 >/dev/null; then
	(apt-get update -q && apt-get install -qy sqlite3) >/dev/null
fi
echo "$dir"
