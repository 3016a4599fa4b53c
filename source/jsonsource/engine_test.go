package jsonsource_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/files"
	"github.com/leatgo/leat/source/jsonsource"
	"github.com/leatgo/leat/stage"
)

type sale struct {
	ID   int64
	Text string
	Line int64 `leat:"@line"`
}

// load runs the real engine over a folder.
func load(t *testing.T, root string, sink *leattest.Collector[sale], c jsonsource.Config[sale]) error {
	t.Helper()
	p := leat.New("load", leat.Config{
		StateDir: filepath.Join(root, "state"), Require: leat.ExactlyOnce, CheckpointEvery: time.Millisecond,
		Breaker: leat.Breaker{Share: -1}, Logger: slog.New(slog.DiscardHandler),
		Retry: leat.Retry{First: time.Millisecond, Max: time.Millisecond},
	})
	c.Dir, c.Name = filepath.Join(root, "in"), "src"
	leat.To(leat.From(p, jsonsource.New(c)), sink)
	return p.Run(t.Context())
}

// lines are rows with these ids.
func lines(ids ...int) string {
	var b bytes.Buffer
	for _, id := range ids {
		fmt.Fprintf(&b, `{"id":%d,"text":"x"}`+"\n", id)
	}
	return b.String()
}

func fill(t *testing.T, root string, files, rows int) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(root, "in"), 0o755))
	id := 0
	for f := range files {
		var b bytes.Buffer
		for range rows {
			if id%10 == 9 {
				fmt.Fprintf(&b, `{"text":"bad\n\"one\"","id":"x%d"}`+"\n", id)
			} else {
				fmt.Fprintf(&b, `{"text":"x","id":%d}`+"\n", id)
			}
			id++
		}
		require.NoError(t, os.WriteFile(filepath.Join(root, "in", fmt.Sprintf("%02d.jsonl", f)), b.Bytes(), 0o644))
	}
}

func checkSales(t *testing.T, root string, rows []sale, count, each int) {
	t.Helper()
	var got []int64
	for _, r := range rows {
		got = append(got, r.ID)
	}
	filetest.CheckLoad(t, root, got, count, each, func(l filetest.Letter) {
		require.Regexp(t, `^{"text":"bad\\n\\"one\\"","id":"x\d*9"}$`, string(l.Raw))
		require.Contains(t, l.Error, "column id: there is a string, but the column must hold an int64 (byte 29, $.id)")
	})
}

func TestEngine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 3, 1000)
	sink := leattest.Collect[sale]()
	require.NoError(t, load(t, root, sink, jsonsource.Config[sale]{ChunkBytes: 1000}))
	checkSales(t, root, sink.Committed(), 3, 1000)
	begin := time.Now()
	require.NoError(t, load(t, root, sink.Successor(), jsonsource.Config[sale]{}))
	require.Less(t, time.Since(begin), 5*time.Second)
	checkSales(t, root, sink.Committed(), 3, 1000)
}

// rule E8: after an aborted commit the engine runs the source again, in the same process.
func TestEngineRewinds(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fill(t, root, 3, 1000)
	sink := leattest.Collect[sale]().FailCommit(2, leat.ErrAborted).FailCommit(5, leat.ErrAborted)
	require.NoError(t, load(t, root, sink, jsonsource.Config[sale]{ChunkBytes: 500, After: files.Move}))
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
		err := load(t, root, sink.FailCommit(1+n%3, boom), jsonsource.Config[sale]{ChunkBytes: 300 * n, After: files.Move})
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
	require.NoError(t, load(t, root, sink, jsonsource.Config[sale]{}))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "state", "src")))
	err := load(t, root, sink.Successor(), jsonsource.Config[sale]{})
	require.ErrorContains(t, err, "rule A2-1")
	require.Len(t, sink.Committed(), 90)
}

// rule B2 with the real engine: a file with a bad row, of the source or of a stage, is
// refused whole.
func TestB2EngineRejectsFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	in := filepath.Join(root, "in")
	require.NoError(t, os.Mkdir(in, 0o755))
	for name, text := range map[string]string{
		"a.jsonl": lines(1, 2), "b.jsonl": lines(3) + "{\"id\":true}\n{\n", "c.jsonl": lines(4) + `{"id":5,"text":"forbidden"}`, "d.jsonl": lines(6),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(in, name), []byte(text), 0o644))
	}
	sink := leattest.Collect[sale]()
	p := leat.New("load", leat.Config{
		StateDir: filepath.Join(root, "state"), Logger: slog.New(slog.DiscardHandler), Breaker: leat.Breaker{Share: -1},
		OnReject: map[leat.Class]leat.Policy{leat.Decode: leat.RejectFile, leat.Contract: leat.RejectFile},
	})
	rows := leat.From(p, jsonsource.New(jsonsource.Config[sale]{Dir: in, Name: "src", After: files.Move, ChunkBytes: 8}))
	leat.To(leat.Via(rows, "check", stage.Check(func(s sale) error {
		if s.Text == "forbidden" {
			return &leat.FieldError{Column: "text", Rule: "oneof", Msg: "text: it is forbidden"}
		}
		return nil
	})), sink)
	require.NoError(t, p.Run(t.Context()))
	var ids []int64
	for _, s := range sink.Committed() {
		ids = append(ids, s.ID)
	}
	require.Equal(t, []int64{1, 2, 6}, ids)
	history, err := files.Ledger(filepath.Join(root, "state"), "src")
	require.NoError(t, err)
	require.Equal(t, "failed", history[1].Status)
	require.Regexp(t, `^rejected whole: 2 bad rows, the first: line 2: column id: there is a bool, but the column must hold an int64 \(byte 7, \$\.id\)`, history[1].Error)
	require.Equal(t, "rejected whole: 1 bad row, the first: line 2: text: it is forbidden", history[2].Error)
	require.Equal(t, []string{"processed/a.jsonl", "failed/b.jsonl", "failed/c.jsonl", "processed/d.jsonl"},
		[]string{history[0].MovedTo, history[1].MovedTo, history[2].MovedTo, history[3].MovedTo})
}

// rule B4 with the real engine: a letter of a file is replayed.
func TestEngineReplaysLetters(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	in := filepath.Join(root, "in")
	require.NoError(t, os.Mkdir(in, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(in, "a.jsonl"), []byte(lines(1)+`{"id":bad,"text":"y"}`+"\n"+lines(3)), 0o644))
	sink := leattest.Collect[sale]()
	build := func(sink *leattest.Collector[sale]) *leat.Pipeline {
		p := leat.New("load", leat.Config{
			StateDir: filepath.Join(root, "state"), Logger: slog.New(slog.DiscardHandler), Breaker: leat.Breaker{Share: -1},
		})
		leat.To(leat.From(p, jsonsource.New(jsonsource.Config[sale]{Dir: in, Name: "src"})), sink)
		return p
	}
	require.NoError(t, build(sink).Run(t.Context()))
	require.Len(t, sink.Committed(), 2)
	mended := func(yield func(leat.DeadLetter, error) bool) {
		err := leat.ReadDeadLetters(filepath.Join(root, "state", "dead-letters.jsonl"), func(l leat.DeadLetter) error {
			l.Raw = bytes.Replace(l.Raw, []byte("bad"), []byte("2"), 1)
			yield(l, nil)
			return nil
		})
		require.NoError(t, err)
	}
	next := sink.Successor()
	stats, err := leat.Replay(t.Context(), build(next), mended)
	require.NoError(t, err)
	require.Equal(t, int64(1), stats.Sent, "%+v", stats)
	rows := next.Committed()
	require.Contains(t, rows, sale{ID: 2, Text: "y", Line: 2})
	require.Len(t, rows, 3)
}

// Watching with the real engine: files come while it runs, OnFile hears of them when
// they are durable, and the end of the context is a clean drain.
func TestEngineWatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		in := filepath.Join(root, "in")
		require.NoError(t, os.Mkdir(in, 0o755))
		sink := leattest.Collect[sale]()
		p := leat.New("load", leat.Config{StateDir: filepath.Join(root, "state"), Logger: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		count := 0
		leat.To(leat.From(p, jsonsource.New(jsonsource.Config[sale]{
			Dir: in, Name: "src", After: files.Move, Watch: time.Minute, PollOnly: true,
			OnFile: func(e files.Event) {
				require.Equal(t, "ok", e.Status)
				require.Equal(t, int64(1), e.Rows)
				count++
				require.Len(t, sink.Committed(), count)
				if count == 3 {
					stop()
				}
			},
		})), sink)
		go func() {
			for i := range 3 {
				time.Sleep(10 * time.Minute)
				_ = os.WriteFile(filepath.Join(in, fmt.Sprintf("%d.jsonl", i)), []byte(lines(i)), 0o644)
			}
		}()
		require.NoError(t, p.Run(ctx))
		require.Len(t, sink.Committed(), 3)
		left, err := os.ReadDir(in)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
