package leat_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(b)
}

// The program that the README shows compiles as it stands.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	_, code, ok := strings.Cut(readme(t), "```go\n")
	require.True(t, ok)
	code, _, ok = strings.Cut(code, "\n```")
	require.True(t, ok)
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, []byte(code+"\n"), 0o600))
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "program"), file).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}

// The README's guarantee table says what the sinks declare (rule E5).
func TestGuaranteeTable(t *testing.T) {
	t.Parallel()
	type row struct {
		ID int `leat:"id"`
	}
	declared := map[string]leat.Guaranteed{
		"sqlitesink":  sqlitesink.New(sqlitesink.Config[row]{Path: "x.db", Table: "t"}),
		"parquetsink": parquetsink.New(parquetsink.Config[row]{Dir: "lake"}),
		"csvsink":     csvsink.New(csvsink.Config[row]{Dir: "lake"}),
		"jsonsink":    jsonsink.New(jsonsink.Config[row]{Dir: "lake"}),
	}
	_, table, ok := strings.Cut(readme(t), "## Guarantees")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\|").FindAllStringSubmatch(table, -1)
	require.Len(t, rows, len(declared))
	sinks, err := filepath.Glob("sink/*sink")
	require.NoError(t, err)
	require.Len(t, sinks, len(declared), "a sink is missing from the table")
	for _, r := range rows {
		require.Contains(t, declared, r[1])
		require.Equal(t, declared[r[1]].Guarantee().String(), strings.TrimSpace(r[2]), r[1])
	}
}
