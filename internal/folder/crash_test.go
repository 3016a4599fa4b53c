package folder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/killtest"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"load": func(dir string) { killtest.Must(load(dir, killtest.Ack)) }})
}

var killedFiles = []string{"a", "b", "c"}

// killedSink is what a sink would hold: rows and position, saved in one step.
type killedSink struct {
	Next int64
	Rows []string
}

// load makes the files, unless they are there or were loaded, and loads them: each is
// one row. It tells of each file that the folder has been told is durable.
func load(dir string, ack func(rows int64)) error {
	ctx := context.Background()
	c := Config{
		Dir: filepath.Join(dir, "in"), Globs: []string{"*"}, StateDir: filepath.Join(dir, "state"), Move: true,
		Logger: slog.New(slog.DiscardHandler),
		Inspect: func(_ context.Context, _ string, _ *os.File, size int64) (Look, error) {
			return Look{Extent: size + 1}, nil
		},
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	made := filepath.Join(dir, "made")
	if _, err := os.Stat(made); errors.Is(err, fs.ErrNotExist) {
		for _, name := range killedFiles {
			if err := durable.WriteFile(filepath.Join(c.Dir, name), []byte(name), 0o644); err != nil {
				return err
			}
		}
		if err := durable.WriteFile(made, nil, 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, "sink")
	var sink killedSink
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &sink)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	f, err := Open(ctx, c)
	if err != nil {
		return err
	}
	if err := f.Start(ctx, sink.Next, sink.Next > 0, sink.Next); err != nil {
		return err
	}
	for e, err := range f.Entries(ctx) {
		if err != nil {
			return err
		}
		r, err := f.Begin(ctx, e)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		row, err := io.ReadAll(r.Reader())
		if err != nil {
			return err
		}
		if r.OnlyCount {
			r.Counted(1, 0)
		} else {
			n := new(Count)
			n.Set(1, 0)
			if err := r.Sent(e.End(), 1, n); err != nil {
				return err
			}
			sink.Rows, sink.Next = append(sink.Rows, string(row)), e.End()
		}
		if err := r.End(nil); err != nil {
			return err
		}
		text, err := json.Marshal(sink)
		if err == nil {
			err = durable.WriteFile(path, text, 0o644)
		}
		if err == nil {
			err = f.Commit(ctx, sink.Next)
		}
		if err != nil {
			return err
		}
		ack(int64(len(sink.Rows)))
	}
	return f.Close()
}

// requireLoaded runs it to the end after a kill, and checks (rules D3, D4, D6).
func requireLoaded(t *testing.T, dir string, acked int64) {
	t.Helper()
	before, err := History(filepath.Join(dir, "state"))
	if err == nil {
		done := int64(0)
		for _, e := range before {
			if e.Status == OK {
				done++
			}
		}
		require.GreaterOrEqual(t, done, acked, "D3: done is durable")
	}
	require.NoError(t, load(dir, func(int64) {}))

	var sink killedSink
	text, err := os.ReadFile(filepath.Join(dir, "sink"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &sink))
	require.Equal(t, killedFiles, sink.Rows, "D4: each row once, in order")

	history, err := History(filepath.Join(dir, "state"))
	require.NoError(t, err)
	require.Len(t, history, len(killedFiles), "D6: a file has one place in the log")
	for i, e := range history {
		require.Equal(t, killedFiles[i], e.Name)
		require.Equal(t, OK, e.Status, e.Error)
		require.EqualValues(t, 1, e.Rows)
		require.Equal(t, ToProcessed, e.Moved)
		moved, err := os.ReadFile(filepath.Join(dir, "processed", e.Name))
		require.NoError(t, err)
		require.Equal(t, e.Name, string(moved))
	}
	for name, n := range map[string]int{"in": 0, "processed": len(killedFiles), "failed": 0} {
		left, err := filepath.Glob(filepath.Join(dir, name, "[^.]*")) // making the files was killed too
		require.NoError(t, err)
		require.Len(t, left, n, name)
	}
}

// D3, D4, D6: a kill at any system call of entering, reading, committing and moving
// three files is repaired at the next start.
func TestKillAtEverySyscall(t *testing.T) {
	t.Parallel()
	killtest.EverySyscall(t, "load", 0, requireLoaded)
}

// The same on the goroutine that scans and enters.
func TestKillAtEverySyscallOfTheScan(t *testing.T) {
	t.Parallel()
	killtest.EverySyscallOfThreads(t, "load", 0, requireLoaded)
}
