package sqlitesource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
)

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "v.db") }

// connect opens a connection of somebody else.
func connect(t testing.TB, path string) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	require.NoError(t, err)
	c.SetBusyTimeout(5 * time.Second)
	require.NoError(t, sqlitex.ExecuteTransient(c, "PRAGMA synchronous=OFF", nil))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exec runs statements on a connection of its own.
func exec(t testing.TB, path string, statements ...string) {
	t.Helper()
	c := connect(t, path)
	for _, q := range statements {
		require.NoError(t, sqlitex.ExecuteTransient(c, q, nil), q)
	}
	require.NoError(t, c.Close())
}

// made is a new database in WAL mode, after some statements.
func made(t testing.TB, statements ...string) (path string) {
	t.Helper()
	path = dbPath(t)
	exec(t, path, append([]string{"PRAGMA journal_mode=WAL"}, statements...)...)
	return path
}

// item is a row that knows its offset.
type item struct {
	ID     int64
	Name   string
	Offset int64 `leat:"@offset"`
}

func ids(rows []item) []int64 {
	out := []int64{}
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

// feed is an engine of one partition that decodes what it is sent at once. It is what
// outlives a process: rows and position.
type feed[T any] struct {
	t     *testing.T
	held  map[string]leat.Position
	rows  []T
	ahead int64
	log   lockedBuffer

	logName string

	stopAfter int // chunks of this life; 0: never
	sent      int
	caught    func(n int) // the n-th time
	caughtN   int
	onSend    func(c leat.Chunk[T])
	chunks    []leat.Chunk[T]
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var errStop = errors.New("stop")

func newFeed[T any](t *testing.T) *feed[T] {
	return &feed[T]{t: t, held: map[string]leat.Position{}}
}

func (f *feed[T]) Env() leat.Env {
	return leat.Env{Pipeline: "p", Node: "src", Logger: slog.New(slog.NewTextHandler(&f.log, nil))}
}

func (f *feed[T]) Assign(ps ...leat.Partition) (map[string]leat.Position, error) {
	require.Len(f.t, ps, 1)
	require.NotEmpty(f.t, ps[0].Log)
	at := f.held[ps[0].Name]
	if at.Known() && at.Log != ps[0].Log {
		return nil, fmt.Errorf("rule A2-1: another log: %s, %s", at.Log, ps[0].Log)
	}
	f.logName = ps[0].Log
	return map[string]leat.Position{ps[0].Name: at}, nil
}

func (f *feed[T]) Ahead(string) leat.Offset { return f.ahead }

func (f *feed[T]) CaughtUp() {
	f.caughtN++
	if f.caught != nil {
		f.caught(f.caughtN)
	}
}

func (f *feed[T]) Send(c leat.Chunk[T]) error {
	if f.stopAfter > 0 && f.sent == f.stopAfter {
		return errStop
	}
	f.sent++
	at := f.held[c.Partition]
	if at.Resume != "" {
		require.GreaterOrEqual(f.t, c.First, at.Next, "A2: offsets grow")
	}
	require.Greater(f.t, c.Next, c.First)
	require.Positive(f.t, c.Bytes)
	if f.onSend != nil {
		f.onSend(c)
	}
	out, again := new(leat.Batch[T]), new(leat.Batch[T])
	require.NoError(f.t, c.Decode(f.t.Context(), out))
	require.NoError(f.t, c.Decode(f.t.Context(), again))
	require.Equal(f.t, out.Rows(), again.Rows(), "Decode may run more than once")
	f.rows = append(f.rows, out.Rows()...)
	f.held[c.Partition] = leat.Position{Next: c.Next, Resume: c.Resume, Log: f.logName}
	f.chunks = append(f.chunks, c)
	return nil
}

// life is one run of a source that the feed outlives. It is stopped at the first
// CaughtUp, if it polls.
func (f *feed[T]) life(c Config[T]) error {
	f.t.Helper()
	return f.lifeOf(New(c))
}

func (f *feed[T]) lifeOf(s *Source[T]) error {
	f.t.Helper()
	f.sent, f.caughtN = 0, 0
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	if s.config.Every > 0 && f.caught == nil {
		f.caught = func(int) { cancel() }
		defer func() { f.caught = nil }()
	}
	err := s.run(ctx, f)
	if errors.Is(err, errStop) || s.config.Every > 0 && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func sorted(v []int64) []int64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v
}

func upTo(n int64) []int64 {
	out := []int64{}
	for i := int64(1); i <= n; i++ {
		out = append(out, i)
	}
	return out
}

func quietEnv() leat.Env {
	return leat.Env{Pipeline: "p", Node: "src", Logger: slog.New(slog.DiscardHandler)}
}
