package main

import "path/filepath"

// job is work that all its contenders do. The first contender is leat.
type job struct {
	name, title string
	input       input
	contenders  []contender
	targets     []target
}

type contender struct {
	name    string
	command func(b *bench, in, out string) []string
	verify  []string // "script:path below the output folder"
}

// target is a ratio to the fastest of some contenders or, without any, a number of
// files per second.
type target struct {
	against      []string
	least, reach float64
}

var (
	million = input{name: "1m", perFile: 1_000_000}
	tenfold = input{name: "10m", perFile: 10_000_000}
	wide    = input{name: "wide", perFile: 100_000, groups: 10}
	quoted  = input{name: "quoted", perFile: 1_000_000, quoted: true}
	small   = input{name: "files", perFile: 100, files: 10_000}
	lines   = input{name: "json", perFile: 1_000_000, format: "jsonl"}
	columns = input{name: "columns", perFile: 1_000_000, format: "parquet"}
)

func jobs() []job {
	fastest := []string{"polars", "duckdb 2 threads"}
	flat := func() []contender {

		return []contender{leat("parquet", []string{"parquet:lake"}), polars(), duckdb()}
	}
	return []job{
		{"parquet", "CSV, contract, enrich, Parquet (snappy); 1,000,000 rows, 73 MB", million,
			append(flat(), duckdb1(), pandas()), []target{{fastest, 1.6, 2}}},
		{"hive", "the same, partitioned by mes", million,
			[]contender{leat("hive", []string{"parquet:lake"}), polars("hive"), duckdb("hive")}, []target{{fastest, 1.6, 2}}},
		{"sqlite", "CSV, contract, enrich, SQLite (no key, WAL, NORMAL)", million,
			[]contender{leat("sqlite", []string{"sqlite:o.db"}), duckdbSQLite(), shell(), leatFull()},
			[]target{{[]string{"duckdb sqlite"}, 1.1, 1.3}, {[]string{"sqlite3 shell"}, 1.7, 0}}},
		{"both", "both sinks in one pipeline, beside SQLite alone", million,
			[]contender{leat("both", []string{"sqlite:o.db", "parquet:lake"}), leat("sqlite", []string{"sqlite:o.db"})},
			[]target{{[]string{"leat sqlite"}, 0.75, 0.9}}},
		{"rows10", "ten times the rows: 10,000,000, 750 MB, to Parquet", tenfold, flat(), []target{{fastest, 1, 0}}},
		{"columns10", "ten times the columns: 100,000 rows of 90 columns, to Parquet", wide,
			[]contender{leat("parquet", []string{"parquet:lake"}, "-wide"), polars(), duckdb()}, []target{{fastest, 1, 0}}},
		{"quoted", "all fields quoted; 1,000,000 rows, 91 MB, to Parquet", quoted, append(flat(), pandas()), []target{{fastest, 1, 0}}},
		{"json", "JSON lines, contract, enrich, Parquet; 1,000,000 rows, 194 MB", lines,
			[]contender{leat("parquet", []string{"parquet:lake"}, "-from", "json"), duckdb(), polars(), pandas()}, []target{{[]string{"duckdb 2 threads"}, 1, 0}}},
		{"json-sqlite", "JSON lines, contract, enrich, SQLite (no key, WAL, NORMAL)", lines,
			[]contender{leat("sqlite", []string{"sqlite:o.db"}, "-from", "json"), duckdbSQLite()}, []target{{[]string{"duckdb sqlite"}, 1, 0}}},
		{"columns", "Parquet, contract, enrich, Parquet; 1,000,000 rows", columns,
			[]contender{leat("parquet", []string{"parquet:lake"}, "-from", "parquet"), duckdb(), polars(), pandas()}, []target{{[]string{"duckdb 2 threads"}, 0.6, 0}}},
		{"files", "10,000 files of 100 rows, to Parquet", small, flat(), []target{{nil, 3000, 0}}},
	}
}

func leat(kind string, verify []string, extra ...string) contender {
	return contender{"leat " + kind, func(b *bench, in, out string) []string {
		return append([]string{b.tool("ventas"), "-job", kind, "-in", in, "-out", out}, extra...)
	}, verify}
}

func leatFull() contender {
	c := leat("sqlite", []string{"sqlite:o.db"}, "-full")
	c.name = "leat sqlite, FULL"
	return c
}

// rival is a Python program of the folder rivals.
func rival(name, script, result string, args ...string) contender {
	return contender{name, func(b *bench, in, out string) []string {
		python := b.python()
		if name == "duckdb sqlite" {
			python = b.pythonSQLite()
		}
		_, file := filepath.Split(result)
		return append([]string{python, filepath.Join("rivals", script), b.glob(in), filepath.Join(out, file)}, args...)
	}, []string{filepath.Dir(script) + ":" + result}}
}

func polars(hive ...string) contender {
	return rival("polars", "parquet/with_polars.py", output(hive), hive...)
}

func duckdb(hive ...string) contender {
	return rival("duckdb 2 threads", "parquet/with_duckdb.py", output(hive), append([]string{"2"}, hive...)...)
}

func duckdb1() contender { return rival("duckdb 1 thread", "parquet/with_duckdb.py", "o.parquet", "1") }

func pandas() contender { return rival("pandas", "parquet/with_pandas.py", "o.parquet") }

func output(hive []string) string {
	if len(hive) > 0 {
		return "hive"
	}
	return "o.parquet"
}

func duckdbSQLite() contender { return rival("duckdb sqlite", "sqlite/with_duckdb.py", "o.db", "2") }

func shell() contender {
	return contender{"sqlite3 shell", func(_ *bench, in, out string) []string {
		return []string{"rivals/sqlite/shell.sh", filepath.Join(in, "ventas-000000.csv"), filepath.Join(out, "o.db")}
	}, []string{"sqlite:o.db"}}
}
