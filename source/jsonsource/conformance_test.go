package jsonsource

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/files"
)

// The contract of leat.Source, over folders of each kind.
func TestConformance(t *testing.T) {
	t.Parallel()
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, `{"id":%d,"text":"text of \"%d\""}`+"\n", i, i)
		}
		return b.String()
	}
	for name, tc := range map[string]struct {
		files   map[string]string
		config  func(c *Config[rec])
		endless bool
	}{
		"files":      {files: map[string]string{"a.jsonl": lines(0, 20), "b.ndjson": lines(20, 25), "c.jsonl": ""}},
		"compressed": {files: map[string]string{"a.jsonl.gz": filetest.Gzip(lines(0, 20)), "b.jsonl.zst": filetest.Zstd(lines(20, 30))}},
		"bad rows":   {files: map[string]string{"a.jsonl": lines(0, 9) + "\n{\"id\":\"x\"}\r\n[1]\n\xff\n" + lines(9, 20)}},
		"watched": {files: map[string]string{"a.jsonl": lines(0, 20)}, endless: true, config: func(c *Config[rec]) {
			c.Watch, c.PollOnly = time.Second, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "in")
			require.NoError(t, os.Mkdir(dir, 0o700))
			for file, text := range tc.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			leattest.TestSource(t, leattest.SourceHarness[rec]{
				New: func(_ *testing.T, size int) leat.Source[rec] {
					c := Config[rec]{Name: "src", Dir: dir, ChunkBytes: size, Duplicates: files.ReadDuplicates}
					if tc.config != nil {
						tc.config(&c)
					}
					return New(c)
				},
				Endless: tc.endless,
			})
		})
	}
}
