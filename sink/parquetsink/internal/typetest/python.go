package typetest

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed read.py
var read string

//go:embed prune.py
var prune string

// Table is what a tool of Python found.
type Table struct {
	Columns [][2]string // name and type
	Rows    [][]any     // in the form of Row.Want
}

// Python reads path (a file, or a lake's folder) with DuckDB and pyarrow, ordered by
// a column if one is given. LEAT_PYTHON is a Python that has both; without it the
// test is skipped.
func Python(t testing.TB, path, order string) map[string]Table {
	t.Helper()
	var out map[string]Table
	run(t, &out, read, path, order)
	return out
}

// Prune filters a file with an id column in DuckDB and pyarrow by random conditions
// on all columns but lists, and asserts that each finds the rows that it finds
// without the statistics in the footer.
func Prune(t testing.TB, path string, seed uint64) {
	t.Helper()
	var out struct {
		Tried  int
		Faults []string
	}
	run(t, &out, prune, path, strconv.FormatUint(seed, 10))
	require.Empty(t, out.Faults)
	require.NotZero(t, out.Tried)
}

func run(t testing.TB, out any, script string, args ...string) {
	t.Helper()
	python := os.Getenv("LEAT_PYTHON")
	if python == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PYTHON is not set: it is a Python with duckdb and pyarrow")
		}
		t.Skip("LEAT_PYTHON is not set: set it to a Python with duckdb and pyarrow to read the files with these")
	}
	cmd := exec.Command(python, append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, out))
}
