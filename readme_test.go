package leat_test

import (
	"flag"
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
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/sink/watermillsink"
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

var update = flag.Bool("update", false, "write what tests compare with: the README's guarantee table")

// The README's guarantee table is made from docs/guarantees.md, and both say what the
// sinks declare (rule E5).
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
		"kafkasink":   kafkasink.New(kafkasink.Config[row]{Topic: "t"}).(leat.Guaranteed),
		"kafkasink, Transaction": kafkasink.New(kafkasink.Config[row]{Topic: "t",
			Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{})}).(leat.Guaranteed),
		"watermillsink": watermillsink.New(watermillsink.Config[row]{Topic: "t"}),
	}
	sinks, err := filepath.Glob("sink/*sink")
	require.NoError(t, err)
	require.Len(t, sinks, len(declared)-1, "a sink is missing from this test") // kafkasink is there twice

	page, err := os.ReadFile("docs/guarantees.md")
	require.NoError(t, err)
	section := regexp.MustCompile("(?m)^## `([\\w, ]+)`\n\n- Promise: (.+)\n- How: (.+)\n- What would break it: (.+)$")
	table := "| sink | guarantee behind files | how | what would break it |\n|---|---|---|---|\n"
	found := section.FindAllStringSubmatch(string(page), -1)
	require.Len(t, found, len(declared), "docs/guarantees.md: a section for each sink")
	for _, s := range found {
		require.Contains(t, declared, s[1])
		require.Equal(t, declared[s[1]].Guarantee().String(), s[2], "E5: what %s declares", s[1])
		table += "| `" + s[1] + "` | " + strings.Join(s[2:], " | ") + " |\n"
	}
	text := readme(t)
	const begin, end = "<!-- guarantees: made from docs/guarantees.md by go test -run TestGuaranteeTable -update . -->\n\n", "\n<!-- end of guarantees -->"
	before, rest, ok := strings.Cut(text, begin)
	require.True(t, ok)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(before+begin+table+end+after), 0o600))
		return
	}
	require.Equal(t, table, have, "the README's table: go test -run TestGuaranteeTable -update .")
}
