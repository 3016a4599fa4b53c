package parquetsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/source/files"
)

// rec is a row that knows where it came from.
type rec struct {
	ID     int32
	Text   string
	File   string `leat:"@file"`
	Line   int64  `leat:"@line"`
	Offset int64  `leat:"@offset"`
}

// stored is a row as files here have it: an ID may be too large, a text null.
type stored struct {
	Text  *string `parquet:"text,optional"`
	Other float64 `parquet:"other"`
	ID    int64   `parquet:"id"`
}

// pq makes a file of rows first, first+1 …, whose row groups have group rows and whose
// pages few. Every tenth ID is too large, every 25th text null.
func pq(t testing.TB, first, rows, group int, codec compress.Codec) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[stored](&b, parquet.MaxRowsPerRowGroup(int64(group)), parquet.PageBufferSize(256), parquet.Compression(codec))
	for i := range rows {
		s := stored{ID: int64(first + i), Other: 1}
		if i%10 == 9 {
			s.ID = 1 << 40
		}
		text := "texto " + strconv.Itoa(i%40)
		if i%25 != 24 {
			s.Text = &text
		}
		_, err := w.Write([]stored{s})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// good are the IDs of the rows of pq that become rows.
func good(first, rows int) []int64 {
	out := []int64{}
	for i := range rows {
		if i%10 != 9 && i%25 != 24 {
			out = append(out, int64(first+i))
		}
	}
	return out
}

// logBook is a logger whose text can be searched.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is what outlives a process: folders, and what the sinks hold.
type world struct {
	t     *testing.T
	dir   string // the folder that is read
	state string
	held  leat.Position
	ahead int64 // where a second sink stands
	rows  []rec // durable
	log   logBook
	stats files.Stats // of the last life

	mu     sync.Mutex
	events []files.Event
}

func newWorld(t *testing.T) *world {
	root := t.TempDir()
	w := &world{t: t, dir: filepath.Join(root, "in"), state: filepath.Join(root, "state")}
	require.NoError(t, os.Mkdir(w.dir, 0o755))
	require.NoError(t, os.Mkdir(w.state, 0o755))
	return w
}

// put writes a file into the folder, complete at once.
func (w *world) put(name string, content []byte) {
	w.t.Helper()
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(w.t, os.WriteFile(path+".tmp", content, 0o644))
	require.NoError(w.t, os.Rename(path+".tmp", path))
}

func (w *world) config() Config[rec] {
	return Config[rec]{Dir: w.dir, Name: "src", OnFile: func(e files.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		require.Equal(w.t, "src", e.Source)
		require.False(w.t, e.Finished.IsZero())
		w.events = append(w.events, e)
	}}
}

func (w *world) beside(name string) string { return filepath.Join(filepath.Dir(w.dir), name) }

// ledger gives the history.
func (w *world) ledger() []files.Entry {
	w.t.Helper()
	entries, err := files.Ledger(w.state, "src")
	require.NoError(w.t, err)
	return entries
}

// statuses are name, status and error of each entry, short.
func (w *world) statuses() []string {
	w.t.Helper()
	var out []string
	for _, e := range w.ledger() {
		s := e.Name + " " + e.Status
		if e.MovedTo != "" {
			s += " " + e.MovedTo
		}
		out = append(out, s)
	}
	return out
}

// life is one process: how long it lives and what it gets done.
type life struct {
	stopAfter   int  // chunks; 0: to the end
	commit      int  // chunks that become durable in the sinks, of those sent; -1: all
	hear        bool // the source hears of it before the process ends
	early       int  // after so many chunks, one checkpoint of everything so far
	beforeChunk func(i int)
	caughtUp    func(n int) // the n-th time, after a commit of everything
	rejectFile  bool        // the policy is to refuse a file with the text bad
	dying       bool        // a failpoint may end it anywhere
}

func whole() life { return life{commit: -1, hear: true} }

var errKilled = errors.New("killed")

// fake is an engine that decodes what it is sent at once.
type fake struct {
	w      *world
	src    *Source[rec]
	l      life
	sent   []leat.Chunk[rec]
	rows   [][]rec
	caught int
	log    string
	tried  int // chunks
}

func (f *fake) Env() leat.Env {
	return leat.Env{Pipeline: "p", Node: "src", StateDir: f.w.state, Logger: slog.New(slog.NewTextHandler(&f.w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func (f *fake) Assign(ps ...leat.Partition) (map[string]leat.Position, error) {
	require.Len(f.w.t, ps, 1)
	f.log = ps[0].Log
	require.NotEmpty(f.w.t, f.log)
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.held.Known() {
		require.Equal(f.w.t, f.w.held.Log, f.log)
	}
	return map[string]leat.Position{"": f.w.held}, nil
}

func (f *fake) Send(c leat.Chunk[rec]) error {
	t := f.w.t
	if f.l.stopAfter > 0 && len(f.sent) == f.l.stopAfter {
		return errKilled
	}
	if f.l.beforeChunk != nil {
		f.l.beforeChunk(len(f.sent))
	}
	if n := len(f.sent); n > 0 {
		require.GreaterOrEqual(t, c.First, f.sent[n-1].Next, "chunks in order")
	}
	out := new(leat.Batch[rec])
	require.NoError(t, c.Decode(t.Context(), out))
	again := new(leat.Batch[rec])
	require.NoError(t, c.Decode(t.Context(), again))
	require.Equal(t, out.Rows(), again.Rows(), "Decode may run more than once")
	for _, r := range out.Rows() {
		require.GreaterOrEqual(t, r.Offset, c.First)
		require.Less(t, r.Offset, c.Next)
	}
	require.Equal(t, c.First, c.Locate([]int{0})[0].Offset, "First is the first record's")
	before := fmt.Sprint(out.Rows())
	c.Release()
	require.Equal(t, before, fmt.Sprint(out.Rows()), "rows stay what they were when the chunk's memory is used again")
	f.sent = append(f.sent, c)
	f.rows = append(f.rows, out.Rows())
	if f.l.early == len(f.sent) {
		if err := f.commit(len(f.sent)); !f.l.dying {
			require.NoError(t, err)
		}
	}
	return nil
}

func (f *fake) Ahead(string) leat.Offset {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return max(f.w.held.Next, f.w.ahead)
}

// CaughtUp is the idle cut: everything becomes durable. Without a caughtUp the world
// does that at the end of the life.
func (f *fake) CaughtUp() {
	f.caught++
	if f.l.caughtUp != nil {
		if len(f.sent) > 0 {
			require.NoError(f.w.t, f.commit(len(f.sent)))
		}
		f.l.caughtUp(f.caught)
	}
}

func (f *fake) RejectsFiles() bool { return f.l.rejectFile }

// Try finds rows with the text bad.
func (f *fake) Try(ctx context.Context, c leat.Chunk[rec]) (faults int, first, err error) {
	f.tried++
	defer c.Release()
	out := new(leat.Batch[rec])
	if err := c.Decode(ctx, out); err != nil {
		return 0, nil, err
	}
	for _, r := range out.Rows() {
		if r.Text != "bad" {
			continue
		}
		if faults++; first == nil {
			first = fmt.Errorf("line %d: a bad word", r.Line)
		}
	}
	return faults, first, nil
}

// commit tells the source that the first n chunks are durable.
func (f *fake) commit(n int) error {
	return f.src.Commit(f.w.t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{
		"": {Next: f.sent[n-1].Next, Resume: f.sent[n-1].Resume, Log: f.log},
	}})
}

// live runs one life and gives what Run returned.
func (w *world) live(c Config[rec], l life) error {
	w.t.Helper()
	return w.liveCtx(w.t.Context(), c, l)
}

func (w *world) liveCtx(ctx context.Context, c Config[rec], l life) error {
	w.t.Helper()
	src := New(c)
	require.NoError(w.t, src.Validate())
	f := &fake{w: w, src: src, l: l}
	err := src.Drive(ctx, f)
	n := l.commit
	if n < 0 || n > len(f.sent) {
		n = len(f.sent)
	}
	if n > 0 {
		last := f.sent[n-1]
		for _, rows := range f.rows[:n] {
			w.rows = append(w.rows, rows...)
		}
		w.held = leat.Position{Next: last.Next, Resume: last.Resume, Log: f.log}
	}
	if l.hear && n > 0 {
		if err := f.commit(n); !l.dying {
			require.NoError(w.t, err)
			require.NoError(w.t, f.commit(n), "Commit may be repeated")
		}
	}
	w.stats = src.Stats()
	require.NoError(w.t, src.Close())
	require.Equal(w.t, err == nil, f.caught > 0)
	return err
}

// must is a life without trouble.
func (w *world) must(c Config[rec]) {
	w.t.Helper()
	require.NoError(w.t, w.live(c, whole()))
}

func (w *world) ids() []int64 {
	out := []int64{}
	for _, r := range w.rows {
		out = append(out, int64(r.ID))
	}
	return out
}
