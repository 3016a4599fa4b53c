package typetest

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed read.py
var script string

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
	python := os.Getenv("LEAT_PYTHON")
	if python == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PYTHON is not set: it is a Python with duckdb and pyarrow")
		}
		t.Skip("LEAT_PYTHON is not set: set it to a Python with duckdb and pyarrow to read the files with these")
	}
	cmd := exec.Command(python, "-c", script, path, order)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	require.NoError(t, err)
	var out map[string]Table
	require.NoError(t, json.Unmarshal(b, &out))
	return out
}
