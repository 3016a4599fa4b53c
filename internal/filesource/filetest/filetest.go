// Package filetest is the world that the tests of csvsource, jsonsource and parquetsource
// run their source in: folders, an engine that checks what it is sent, and lives that end
// where a test wants.
//
//	w := filetest.New(t, func(r rec) filetest.Row { return filetest.Row{ID: r.ID, …} })
//	w.Put("a.csv", text)
//	err := w.Live(ctx, New(c), filetest.Life{StopAfter: 2, Commit: 1}) // a crash
//	err = w.Live(ctx, New(c), filetest.Whole())                       // the next process
//	… compare w.Rows …
//
// A package wraps World in a type of its own, which knows its Config.
package filetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/source/files"
)

// Name is what every source is called here.
const Name = "src"

// Bad is the text of a row that Engine.Try finds fault with.
const Bad = "bad"

// ErrKilled is how a life ends that Life.StopAfter ends.
var ErrKilled = errors.New("killed")

// Source is what a source of files is here.
type Source[R any] interface {
	Validate() error
	Drive(ctx context.Context, in filesource.Intake[R]) error
	Commit(ctx context.Context, c leat.Checkpoint) error
	Stats() files.Stats
	Close() error
}

// Row is what a row must tell of itself: what it holds, and where it came from.
type Row struct {
	ID           int64
	Text         string
	Line, Offset int64
}

// World is what outlives a process: folders, and what the sinks hold.
type World[R any] struct {
	T      *testing.T
	Dir    string // the folder that is read
	State  string
	Held   leat.Position
	Ahead  int64 // where a second sink stands
	Rows   []R   // durable
	Log    Log
	Stats  files.Stats // of the last life
	Events []files.Event

	describe func(R) Row
	mu       sync.Mutex // guards Held and Events while a source runs
}

// New makes an empty world.
func New[R any](t *testing.T, describe func(R) Row) *World[R] {
	root := t.TempDir()
	w := &World[R]{T: t, Dir: filepath.Join(root, "in"), State: filepath.Join(root, "state"), describe: describe}
	require.NoError(t, os.Mkdir(w.Dir, 0o755))
	require.NoError(t, os.Mkdir(w.State, 0o755))
	return w
}

// Path is where a file of the folder lies.
func (w *World[R]) Path(name string) string { return filepath.Join(w.Dir, filepath.FromSlash(name)) }

// Put writes a file into the folder, complete at once.
func (w *World[R]) Put(name, text string) {
	w.T.Helper()
	path := w.Path(name)
	require.NoError(w.T, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(w.T, os.WriteFile(path+".tmp", []byte(text), 0o644))
	require.NoError(w.T, os.Rename(path+".tmp", path))
}

// Beside is where something next to the folder lies.
func (w *World[R]) Beside(name string) string { return filepath.Join(filepath.Dir(w.Dir), name) }

// OnFile keeps what a source tells: it belongs into its Config.
func (w *World[R]) OnFile(e files.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(w.T, Name, e.Source)
	require.False(w.T, e.Finished.IsZero())
	w.Events = append(w.Events, e)
}

// Told are name and status of what OnFile heard of.
func (w *World[R]) Told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []string{}
	for _, e := range w.Events {
		out = append(out, e.Name+" "+e.Status)
	}
	return out
}

// Ledger gives the history.
func (w *World[R]) Ledger() []files.Entry {
	w.T.Helper()
	entries, err := files.Ledger(w.State, Name)
	require.NoError(w.T, err)
	return entries
}

// Brief is what must be the same of a history after any crashes.
func Brief(entries []files.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s %s rows=%d rejected=%d at=%d %s", e.Name, e.Status, e.Rows, e.Rejected, e.Offset, e.Error))
	}
	return out
}

// LedgerPath is where the history lies.
func (w *World[R]) LedgerPath() string { return filepath.Join(w.State, Name, "ledger.jsonl") }

// Statuses are the name and status of each entry, and where it was moved.
func (w *World[R]) Statuses() []string {
	w.T.Helper()
	var out []string
	for _, e := range w.Ledger() {
		s := e.Name + " " + e.Status
		if e.MovedTo != "" {
			s += " " + e.MovedTo
		}
		out = append(out, s)
	}
	return out
}

// IDs are those of the durable rows.
func (w *World[R]) IDs() []int64 {
	out := []int64{}
	for _, r := range w.Rows {
		out = append(out, w.describe(r).ID)
	}
	return out
}

// Env is what a source in this world is given.
func (w *World[R]) Env() leat.Env {
	return leat.Env{Pipeline: "p", Node: Name, StateDir: w.State, Logger: slog.New(slog.NewTextHandler(&w.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// Life is one process: how long it lives and what it gets done.
type Life struct {
	StopAfter   int  // chunks; 0: to the end
	Commit      int  // chunks that become durable in the sinks, of those sent; -1: all
	Hear        bool // the source hears of it before the process ends
	Early       int  // after so many chunks, one checkpoint of everything so far
	BeforeChunk func(i int)
	CaughtUp    func(n int) // the n-th time, after a commit of everything
	RejectFile  bool        // the policy is to refuse a file with the text Bad
	Dying       bool        // a failpoint may end it anywhere
}

// Whole is a life without trouble.
func Whole() Life { return Life{Commit: -1, Hear: true} }

// Live runs one life of a source and gives what Drive returned.
func (w *World[R]) Live(ctx context.Context, src Source[R], l Life) error {
	w.T.Helper()
	require.NoError(w.T, src.Validate())
	e := w.Engine(src, l)
	err := src.Drive(ctx, e)
	n := l.Commit
	if n < 0 || n > len(e.Sent) {
		n = len(e.Sent)
	}
	e.Keep(n)
	if l.Hear && n > 0 {
		if err := e.Commit(n); !l.Dying {
			require.NoError(w.T, err)
			require.NoError(w.T, e.Commit(n), "Commit may be repeated")
		}
	}
	w.Stats = src.Stats()
	require.NoError(w.T, src.Close())
	require.Equal(w.T, err == nil, e.Caught > 0)
	return err
}

// Engine decodes what it is sent at once, and checks each chunk.
type Engine[R any] struct {
	Life Life
	Sent []leat.Chunk[R]
	Rows [][]R  // of each chunk
	Log  string // of the partition

	// Caught counts the times that the source said CaughtUp.
	Caught int

	w   *World[R]
	src Source[R]
}

var _ filesource.Intake[any] = (*Engine[any])(nil)

// Engine makes the engine of one life of src, for tests that drive it themselves.
func (w *World[R]) Engine(src Source[R], l Life) *Engine[R] {
	return &Engine[R]{w: w, src: src, Life: l}
}

// Env is the world's.
func (e *Engine[R]) Env() leat.Env { return e.w.Env() }

// Assign lets the source begin where the sinks stand.
func (e *Engine[R]) Assign(ps ...leat.Partition) (map[string]leat.Position, error) {
	require.Len(e.w.T, ps, 1)
	e.Log = ps[0].Log
	require.NotEmpty(e.w.T, e.Log)
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.Held.Known() {
		require.Equal(e.w.T, e.w.Held.Log, e.Log)
	}
	return map[string]leat.Position{"": e.w.Held}, nil
}

// Send checks a chunk: its place, that it can be decoded twice, that its rows are within
// it, and that they don't live in its memory.
func (e *Engine[R]) Send(c leat.Chunk[R]) error {
	t := e.w.T
	if e.Life.StopAfter > 0 && len(e.Sent) == e.Life.StopAfter {
		return ErrKilled
	}
	if e.Life.BeforeChunk != nil {
		e.Life.BeforeChunk(len(e.Sent))
	}
	if n := len(e.Sent); n > 0 {
		require.GreaterOrEqual(t, c.First, e.Sent[n-1].Next, "chunks in order")
	}
	out := new(leat.Batch[R])
	require.NoError(t, c.Decode(t.Context(), out))
	again := new(leat.Batch[R])
	require.NoError(t, c.Decode(t.Context(), again))
	require.Equal(t, out.Rows(), again.Rows(), "Decode may run more than once")
	for _, r := range out.Rows() {
		offset := e.w.describe(r).Offset
		require.GreaterOrEqual(t, offset, c.First)
		require.Less(t, offset, c.Next)
	}
	require.Equal(t, c.First, c.Locate([]int{0})[0].Offset, "First is the first record's")
	before := fmt.Sprint(out.Rows())
	c.Release()
	require.Equal(t, before, fmt.Sprint(out.Rows()), "rows stay what they were when the chunk's memory is used again")
	e.Sent = append(e.Sent, c)
	e.Rows = append(e.Rows, out.Rows())
	if e.Life.Early == len(e.Sent) {
		if err := e.Commit(len(e.Sent)); !e.Life.Dying {
			require.NoError(t, err)
		}
	}
	return nil
}

// Ahead is where the sink stands that is furthest.
func (e *Engine[R]) Ahead(string) leat.Offset {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	return max(e.w.Held.Next, e.w.Ahead)
}

// CaughtUp is the idle cut: everything becomes durable. Without a Life.CaughtUp the world
// does that at the end of the life.
func (e *Engine[R]) CaughtUp() {
	e.Caught++
	if e.Life.CaughtUp != nil {
		if len(e.Sent) > 0 {
			require.NoError(e.w.T, e.Commit(len(e.Sent)))
		}
		e.Life.CaughtUp(e.Caught)
	}
}

// RejectsFiles tells the life's policy.
func (e *Engine[R]) RejectsFiles() bool { return e.Life.RejectFile }

// Try finds rows with the text Bad.
func (e *Engine[R]) Try(ctx context.Context, c leat.Chunk[R]) (faults int, first, err error) {
	defer c.Release()
	out := new(leat.Batch[R])
	if err := c.Decode(ctx, out); err != nil {
		return 0, nil, err
	}
	for _, r := range out.Rows() {
		d := e.w.describe(r)
		if d.Text != Bad {
			continue
		}
		if faults++; first == nil {
			first = fmt.Errorf("line %d: a bad word", d.Line)
		}
	}
	return faults, first, nil
}

// Commit tells the source that the first n chunks are durable.
func (e *Engine[R]) Commit(n int) error {
	return e.src.Commit(e.w.T.Context(), leat.Checkpoint{Positions: map[string]leat.Position{"": e.at(n)}})
}

// Keep makes the first n chunks durable in the sinks. The source doesn't hear of it.
func (e *Engine[R]) Keep(n int) {
	if n == 0 {
		return
	}
	for _, rows := range e.Rows[:n] {
		e.w.Rows = append(e.w.Rows, rows...)
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.Held = e.at(n)
}

// at is the position behind the first n chunks.
func (e *Engine[R]) at(n int) leat.Position {
	last := e.Sent[n-1]
	return leat.Position{Next: last.Next, Resume: last.Resume, Log: e.Log}
}

// Log is a logger's output that can be searched.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Gzip compresses a text.
func Gzip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// Zstd compresses a text.
func Zstd(text string) string {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(z.EncodeAll([]byte(text), nil))
}
