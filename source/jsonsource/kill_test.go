package jsonsource_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/source/files"
	"github.com/leatgo/leat/source/jsonsource"
)

func TestMain(m *testing.M) { killtest.Main(m, map[string]func(dir string){"copies": copies}) }

const linesOfAFile = 300

// killText is file n: rows, and every tenth line one that is none.
func killText(n int) []byte {
	var b bytes.Buffer
	for i := range linesOfAFile {
		id := n*linesOfAFile + i
		switch {
		case i%10 == 9:
			fmt.Fprintf(&b, "{\"id\":%d,\"text\":\"\xff\"}\n", id)
		case i%10 == 5:
			b.WriteString("\r\n")
		default:
			fmt.Fprintf(&b, `{"text":"%s","id":%d}`+"\n", strings.Repeat("x", id%200), id)
		}
	}
	return b.Bytes()
}

func killDrop(dir string, n int) {
	path := filepath.Join(dir, "in", fmt.Sprintf("%06d.jsonl", n))
	killtest.Must(os.WriteFile(path+".tmp", killText(n), 0o644))
	killtest.Must(os.Rename(path+".tmp", path))
}

func killPipeline(dir string, c jsonsource.Config[sale]) *leat.Pipeline {
	p := leat.New("copy", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 2 * time.Millisecond,
		Breaker: leat.Breaker{Share: -1}, Logger: slog.New(slog.DiscardHandler), Require: leat.ExactlyOnce})
	c.Dir, c.Name, c.ChunkBytes = filepath.Join(dir, "in"), "src", 2000
	leat.To(leat.From(p, jsonsource.New(c)), jsonsink.New(jsonsink.Config[sale]{Dir: filepath.Join(dir, "out"), Roll: jsonsink.Roll{Rows: 100}}))
	return p
}

// copies reads files as they come, for ever: each that is done is followed by another.
func copies(dir string) {
	killtest.Must(os.MkdirAll(filepath.Join(dir, "in"), 0o755))
	have, err := os.ReadDir(filepath.Join(dir, "in"))
	killtest.Must(err)
	next := len(have)
	killDrop(dir, next)
	killtest.Must(killPipeline(dir, jsonsource.Config[sale]{
		Watch: time.Millisecond, Settle: -1,
		OnFile: func(e files.Event) {
			var n int
			_, err := fmt.Sscanf(e.Name, "%d.jsonl", &n)
			killtest.Must(err)
			killtest.Ack(int64(n + 1))
			if n == next {
				next++
				killDrop(dir, next)
			}
		},
	}).Run(context.Background()))
}

// rules D3, D4, D6: killed at any moment, the next process reads on: no row is lost, none
// comes twice, and neither does a letter.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killtest.Kill(t, "copies", dir, 6, func(t *testing.T, acked int64) {
		for _, tmp := range glob(t, dir, "in/*.tmp") {
			require.NoError(t, os.Remove(tmp))
		}
		n := len(glob(t, dir, "in/*.jsonl"))
		require.GreaterOrEqual(t, int64(n), acked)
		history, err := files.Ledger(filepath.Join(dir, "state"), "src")
		require.NoError(t, err)
		for _, e := range history[:acked] {
			require.Equal(t, "ok", e.Status, "rule D3: what was said to be read is")
		}
		require.NoError(t, killPipeline(dir, jsonsource.Config[sale]{}).Run(t.Context()))

		seen := map[int64]int{}
		out, err := lake.Files(filepath.Join(dir, "out"))
		require.NoError(t, err)
		for _, f := range out {
			text, err := os.ReadFile(filepath.Join(dir, "out", f.Path))
			require.NoError(t, err)
			for line := range strings.Lines(string(text)) {
				var id int64
				_, err := fmt.Sscanf(line, `{"id":%d,`, &id)
				require.NoError(t, err, line)
				seen[id]++
			}
		}
		letters := map[int64]int{}
		require.NoError(t, leat.ReadDeadLetters(filepath.Join(dir, "state", "dead-letters.jsonl"), func(l leat.DeadLetter) error {
			var id int64
			_, err := fmt.Sscanf(string(l.Raw), `{"id":%d,`, &id)
			letters[id]++
			return err
		}))
		for id := range int64(n * linesOfAFile) {
			row, letter := 1, 0
			switch id % linesOfAFile % 10 {
			case 9:
				row, letter = 0, 1
			case 5:
				row = 0
			}
			require.Equal(t, row, seen[id], "rule D4: row %d", id)
			require.Equal(t, letter, letters[id], "rule B3-2: letter of row %d", id)
		}
	})
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	return names
}
