package leat_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain is text without its indentation.
func plain(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	return out.String()
}

// What docs/kafka.md shows of TLS and logins is an example of kafkasink's, so that it compiles.
func TestKafkaDocShowsTheExample(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/kafka.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(doc), "## TLS, logins and ACLs\n")
	require.True(t, ok)
	_, section, _ = strings.Cut(section, "```go\n")
	code, _, _ := strings.Cut(section, "```")
	require.NotEmpty(t, code)
	example, err := os.ReadFile("sink/kafkasink/example_test.go")
	require.NoError(t, err)
	require.Contains(t, plain(string(example)), plain(code))
}

// What docs/testing.md shows is in examples/downstream, whose tests CI runs.
func TestDocsShowWhatRuns(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	require.NoError(t, filepath.WalkDir("examples/downstream", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		b, err := os.ReadFile(path)
		code.WriteString(plain(string(b)))
		return err
	}))
	doc, err := os.ReadFile("docs/testing.md")
	require.NoError(t, err)
	blocks := strings.Split(string(doc), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		b, _, ok := strings.Cut(b, "```")
		require.True(t, ok)
		require.Contains(t, code.String(), plain(b), "examples/downstream does not have this code of docs/testing.md")
	}
}
