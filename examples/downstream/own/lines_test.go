package own_test

import (
	"os"
	"path/filepath"
	"testing"

	"example.com/downstream/own"
	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// The contract of leat.Source, over files of each kind.
func TestLinesIsASource(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		want    []string
		rejects int
	}{
		"lines":            {text: "a\nbb\n\nccc\n", want: []string{"a", "bb", "", "ccc"}},
		"no last line end": {text: "a\nbb", want: []string{"a", "bb"}},
		"a bad line":       {text: "a\n\xff\nb\n", want: []string{"a", "b"}, rejects: 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lines.txt")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			leattest.TestSource(t, leattest.SourceHarness[string]{
				New: func(_ *testing.T, size int) leat.Source[string] {
					return &own.Lines{Path: path, ChunkBytes: size}
				},
				Want:        tc.want,
				WantRejects: tc.rejects,
			})
		})
	}
}
