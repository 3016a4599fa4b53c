package csvsource_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
)

type sale struct {
	ID   int64
	Text string
	Line int64 `leat:"@line"`
}

// load runs the real engine over a folder.
func load(t *testing.T, root string, sink *leattest.Collector[sale], c csvsource.Config[sale]) error {
	t.Helper()
	p := leat.New("load", leat.Config{
		StateDir: filepath.Join(root, "state"), Require: leat.ExactlyOnce, CheckpointEvery: time.Millisecond,
		Breaker: leat.Breaker{Share: -1}, Logger: slog.New(slog.DiscardHandler),
		Retry: leat.Retry{First: time.Millisecond, Max: time.Millisecond},
	})
	c.Dir, c.Name = filepath.Join(root, "in"), "src"
	leat.To(leat.From(p, csvsource.New(c)), sink)
	return p.Run(t.Context())
}

func fill(t *testing.T, root string, files, rows int) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(root, "in"), 0o755))
	id := 0
	for f := range files {
		var b bytes.Buffer
		b.WriteString("text,id\n")
		for range rows {
			if id%10 == 9 {
				fmt.Fprintf(&b, "\"bad\n\"\"one\"\"\",x%d\n", id)
			} else {
				fmt.Fprintf(&b, "x,%d\n", id)
			}
			id++
		}
		require.NoError(t, os.WriteFile(filepath.Join(root, "in", fmt.Sprintf("%02d.csv", f)), b.Bytes(), 0o644))
	}
}

func checkSales(t *testing.T, root string, rows []sale, files, each int) {
	t.Helper()
	var want []int64
	for id := range int64(files * each) {
		if id%10 != 9 {
			want = append(want, id)
		}
	}
	var got []int64
	for _, r := range rows {
		got = append(got, r.ID)
	}
	require.Equal(t, want, got, "rule D4")
	history, err := csvsource.Ledger(filepath.Join(root, "state"), "src")
	require.NoError(t, err)
	require.Len(t, history, files)
	for _, e := range history {
		require.Equal(t, "ok", e.Status, e.Name)
		require.Equal(t, int64(each), e.Rows, e.Name)
		require.Equal(t, int64(each/10), e.Rejected, e.Name)
	}

	// rules B3, B4: each bad record once, with its bytes and its place.
	f, err := os.Open(filepath.Join(root, "state", "dead-letters.jsonl"))
	require.NoError(t, err)
	defer f.Close()
	letters := 0
	for s := bufio.NewScanner(f); s.Scan(); letters++ {
		var l struct {
			Class, Error, File, Header string
			Line, Offset               int64
			Raw                        []byte
		}
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		require.Equal(t, "Decode", l.Class)
		require.Equal(t, "text,id", l.Header)
		require.Regexp(t, `^"bad\n""one""",x\d+9$|^"bad\n""one""",x9$`, string(l.Raw))
		require.Contains(t, l.Error, "is not a whole number")
		require.Positive(t, l.Line)
		require.NotEmpty(t, l.File)
	}
	require.Equal(t, files*each/10, letters)
}

func TestEngine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 3, 1000)
	sink := leattest.Collect[sale]()
	require.NoError(t, load(t, root, sink, csvsource.Config[sale]{ChunkBytes: 1000}))
	checkSales(t, root, sink.Committed(), 3, 1000)
	begin := time.Now()
	require.NoError(t, load(t, root, sink.Successor(), csvsource.Config[sale]{}))
	require.Less(t, time.Since(begin), 5*time.Second)
	checkSales(t, root, sink.Committed(), 3, 1000)
}

// rule E8: after an aborted commit the engine runs the source again, in the same process.
func TestEngineRewinds(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 3, 1000)
	sink := leattest.Collect[sale]().FailCommit(2, leat.ErrAborted).FailCommit(5, leat.ErrAborted)
	require.NoError(t, load(t, root, sink, csvsource.Config[sale]{ChunkBytes: 500, After: csvsource.Move}))
	checkSales(t, root, sink.Committed(), 3, 1000)
	left, err := os.ReadDir(filepath.Join(root, "in"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// The pipeline ends at a commit and is built again, until it is through.
func TestEngineRestarts(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 3, 1000)
	sink := leattest.Collect[sale]()
	boom := errors.New("boom")
	failed := 0
	for n := 1; ; n++ {
		err := load(t, root, sink.FailCommit(1+n%3, boom), csvsource.Config[sale]{ChunkBytes: 300 * n, After: csvsource.Move})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, boom)
		failed++
		sink = sink.Successor()
		require.Less(t, n, 50)
	}
	require.Positive(t, failed)
	checkSales(t, root, sink.Committed(), 3, 1000)
}

func TestEngineRefusesAReplacedLedger(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 1, 100)
	sink := leattest.Collect[sale]()
	require.NoError(t, load(t, root, sink, csvsource.Config[sale]{}))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "state", "src")))
	err := load(t, root, sink.Successor(), csvsource.Config[sale]{})
	require.ErrorContains(t, err, "rule A2-1")
	require.Len(t, sink.Committed(), 90)
}
