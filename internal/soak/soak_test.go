// Package soak runs a pipeline for hours and looks for what grows.
//
//	LEAT_LONG=1 go test -run TestSoak -v -timeout 3h ./internal/soak
//
// LEAT_SOAK sets another duration, such as 10m. A line is printed every minute, a table
// of the first and last hours at the end.
package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/files"
	"github.com/leatgo/leat/source/jsonsource"
	"github.com/leatgo/leat/source/parquetsource"
	"github.com/leatgo/leat/stage"
)

type sale struct {
	ID     int64     `json:"id" parquet:"id" validate:"gt=0"`
	Units  int64     `json:"units" parquet:"units" validate:"gte=1"`
	Price  float64   `json:"price" parquet:"price" validate:"gte=0"`
	SoldAt time.Time `json:"sold_at" parquet:"sold_at,timestamp(microsecond)"`
	State  string    `json:"state" parquet:"state,dict" validate:"oneof=done open cancelled"`
	Note   *string   `json:"note" parquet:"note,optional"`
}

type rich struct {
	sale
	Total float64 `leat:"total"`
}

// duration is 10 s, 2 h with LEAT_LONG, or what LEAT_SOAK says.
func duration(t *testing.T) time.Duration {
	if text := os.Getenv("LEAT_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		require.NoError(t, err)
		return d
	}
	if os.Getenv("LEAT_LONG") != "" {
		return 2 * time.Hour
	}
	return 10 * time.Second
}

// sample is what may grow.
type sample struct {
	at                    time.Duration
	heap, rss             int64 // bytes; the heap after a collection
	goroutines, fds       int
	stateFiles, lakeTemp  int
	rows, files, rejected int64
}

// TestSoak keeps a watched folder busy: CSV, JSON lines and Parquet, plain and compressed
// files, bad rows, refused files, duplicates, sinks that abort (so that the pipeline rewinds) and that are not there
// for a while. All of it for four sinks. At the end nothing may have grown but what holds
// the data, and the data must be right.
func TestSoak(t *testing.T) {
	long := duration(t)
	root := t.TempDir()
	in := filepath.Join(root, "in")
	require.NoError(t, os.Mkdir(in, 0o755))
	state := filepath.Join(root, "state")

	every, pace := max(long/120, time.Second/2), 500*time.Millisecond
	if long < time.Minute {
		pace = 50 * time.Millisecond
	}
	var finished atomic.Int64
	p := leat.New("soak", leat.Config{
		StateDir: state, Logger: slog.New(slog.DiscardHandler), CheckpointEvery: pace,
		Retry: leat.Retry{First: 10 * time.Millisecond, Max: 100 * time.Millisecond}, Breaker: leat.Breaker{Share: -1},
	})
	trouble := &troubled{sink: sqlitesink.New(sqlitesink.Config[rich]{Path: filepath.Join(root, "soak.db"), Table: "sales"})}
	onFile := func(files.Event) { finished.Add(1) }
	const watch = 100 * time.Millisecond
	rows := leat.Merge(
		leat.From(p, csvsource.New(csvsource.Config[sale]{Dir: in, Name: "csv files", After: files.Move, Watch: watch, Settle: -1, OnFile: onFile})),
		leat.From(p, jsonsource.New(jsonsource.Config[sale]{Dir: in, Name: "json files", After: files.Move, Watch: watch, Settle: -1, OnFile: onFile})),
		leat.From(p, parquetsource.New(parquetsource.Config[sale]{Dir: in, Name: "parquet files", After: files.Move, Watch: watch, Settle: -1, OnFile: onFile})))
	good := leat.Via(rows, "contract", stage.Validate[sale]())
	full := leat.Via(good, "total", stage.Map(func(s sale) (rich, error) { return rich{s, s.Price * float64(s.Units)}, nil }))
	leat.To(full, trouble,
		parquetsink.New(parquetsink.Config[rich]{Dir: filepath.Join(root, "lake"),
			PartitionBy: []parquetsink.Partition[rich]{{Name: "state", Value: func(r rich) string { return r.State }}}}),
		csvsink.New(csvsink.Config[rich]{Dir: filepath.Join(root, "csv")}),
		jsonsink.New(jsonsink.Config[rich]{Dir: filepath.Join(root, "json")}))

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()

	g := &generator{dir: in, r: rand.New(rand.NewPCG(1, 2))}
	start := time.Now()
	var samples []sample
	for next := every; time.Since(start) < long; {
		select {
		case err := <-done:
			t.Fatalf("the pipeline ended: %v", err)
		case <-time.After(pace):
		}
		require.NoError(t, g.file())
		if time.Since(start) > next {
			next += every
			s := take(t, root, time.Since(start))
			s.rows, s.files = p.Stats().Run.In, finished.Load()
			for _, n := range p.Stats().Run.Rejected {
				s.rejected += n
			}
			samples = append(samples, s)
			t.Log(s)
		}
	}
	trouble.calm.Store(true)
	require.Eventually(t, func() bool { return finished.Load() >= g.files }, 2*time.Minute, 50*time.Millisecond)
	stop()
	require.NoError(t, <-done)

	stats := p.Stats()
	t.Logf("%d files, %d rows good, %d rejected, %d rewinds, %v", g.files, g.good, g.bad, stats.Run.Rewinds, long)
	for sink, n := range stats.Run.Out {
		require.Equal(t, g.good, n, "A8: each good row once in %s", sink)
	}
	require.Equal(t, g.good, count(t, filepath.Join(root, "soak.db")))
	require.NotZero(t, stats.Run.Rewinds)
	judge(t, samples)
}

// judge compares the quarter behind the warm-up with the last one.
func judge(t *testing.T, samples []sample) {
	n := len(samples)
	require.Greater(t, n, 8)
	early, late := samples[n/8:n/8+n/4], samples[n-n/4:]
	median := func(of []sample, f func(sample) int64) int64 {
		v := make([]int64, len(of))
		for i, s := range of {
			v[i] = f(s)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	a, z := early[len(early)/2], late[len(late)/2]
	known := 350*float64(z.files-a.files) + 150*float64(z.rejected-a.rejected)
	for _, c := range []struct {
		what  string
		of    func(sample) int64
		slack float64 // that is no growth
	}{
		// What is known on purpose: of each file its entry in the ledger, about 300 bytes, and of
		// each dead letter its id, of about 100, until the log of letters has rotated twice.
		{"heap, MiB", func(s sample) int64 { return s.heap >> 20 }, 4 + known/(1<<20)},
		{"resident, MiB", func(s sample) int64 { return s.rss >> 20 }, 32 + 2*known/(1<<20)},
		{"goroutines", func(s sample) int64 { return int64(s.goroutines) }, 10},
		{"open files", func(s sample) int64 { return int64(s.fds) }, 10},
		{"files in the state folder", func(s sample) int64 { return int64(s.stateFiles) }, 3},
		// Up to 2,048 entries of each manifest wait for the next snapshot, and as many for
		// their deletion.
		{"temporary and manifest files of the lakes", func(s sample) int64 { return int64(s.lakeTemp) }, 3 * 2 * 2100},
	} {
		a, b := median(early, c.of), median(late, c.of)
		t.Logf("%-44s %6d early, %6d late", c.what, a, b)
		require.LessOrEqual(t, float64(b), float64(a)+c.slack, "%s grow", c.what)
	}
}

func (s sample) String() string {
	return fmt.Sprintf("%8v  heap %4d MiB  resident %4d MiB  goroutines %3d  open files %3d  state files %d  lake meta files %4d  files %7d  rows %9d",
		s.at.Round(time.Second), s.heap>>20, s.rss>>20, s.goroutines, s.fds, s.stateFiles, s.lakeTemp, s.files, s.rows)
}

func take(t *testing.T, root string, at time.Duration) sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{at: at, heap: int64(m.HeapAlloc), goroutines: runtime.NumGoroutine()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.fds = len(fds)
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
		require.NoError(t, err)
		s.rss = pages * int64(os.Getpagesize())
	}
	for _, dir := range []string{"state", "lake", "csv", "json"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil || d.IsDir(): // a file may go while we look
			case dir == "state":
				s.stateFiles++
			case strings.HasPrefix(d.Name(), ".") || strings.Contains(path, "/_leat/"):
				s.lakeTemp++
			}
			return nil
		})
	}
	return s
}

// generator writes files and knows what must become of their rows.
type generator struct {
	dir              string
	r                *rand.Rand
	files, good, bad int64
	id               int64
	last             []byte
}

// file writes the next one: most are plain, some are compressed, a duplicate, without a
// header that can be used, or damaged in a row.
func (g *generator) file() error {
	g.files++
	k := g.r.IntN(40)
	switch {
	case k == 0 && g.last != nil: // a duplicate: skipped
		return g.put(".csv", g.last)
	case k == 1:
		return g.put(".csv", []byte("id;units\n1;2\n")) // refused
	}
	rows := make([]sale, 200+g.r.IntN(1500))
	for i := range rows {
		g.id++
		note := []string{"", "a note", `two "words", quoted`}[g.r.IntN(3)]
		rows[i] = sale{
			ID: g.id, Units: 3, Price: float64(g.r.IntN(500)) + 0.25, SoldAt: time.Date(2026, 1, 1+g.r.IntN(28), 10, 0, 0, 0, time.UTC),
			State: []string{"done", "open", "cancelled"}[g.r.IntN(3)],
		}
		if note != "" {
			rows[i].Note = &note
		}
		if g.r.IntN(200) == 0 {
			rows[i].Units = 0 // breaks the contract
			g.bad++
		} else {
			g.good++
		}
	}
	var b bytes.Buffer
	switch g.files % 3 {
	case 0:
		if err := parquet.Write(&b, rows); err != nil {
			return err
		}
		return g.put(".parquet", b.Bytes())
	case 1:
		for i := range rows {
			line, err := json.Marshal(&rows[i])
			if err != nil {
				return err
			}
			b.Write(append(line, '\n'))
		}
		b.WriteString("{\"id\":7,\"id\":8}\n") // a key twice
		g.bad++
		return g.compressed(k == 2, ".jsonl", b.Bytes())
	}
	b.WriteString("id,units,price,sold_at,state,note\n")
	for _, r := range rows {
		note := ""
		if r.Note != nil {
			note = `"` + strings.ReplaceAll(*r.Note, `"`, `""`) + `"`
		}
		fmt.Fprintf(&b, "%d,%d,%v,%s,%s,%s\n", r.ID, r.Units, r.Price, r.SoldAt.Format(time.RFC3339), r.State, note)
	}
	b.WriteString("x,1,1,2026-01-01T00:00:00Z,done,\n") // no number
	g.bad++
	g.last = bytes.Clone(b.Bytes())
	return g.compressed(k == 2, ".csv", b.Bytes())
}

func (g *generator) compressed(yes bool, ending string, text []byte) error {
	if !yes {
		return g.put(ending, text)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	g.last = nil // its text may come again, but these are other bytes
	return g.put(ending+".gz", z.Bytes())
}

func (g *generator) put(ending string, text []byte) error {
	name := fmt.Sprintf("%08d%s", g.files, ending)
	tmp := filepath.Join(g.dir, "."+name)
	return errors.Join(os.WriteFile(tmp, text, 0o644), os.Rename(tmp, filepath.Join(g.dir, name)))
}

// troubled is a sink that now and then loses its open rows, or is not there for a moment.
type troubled struct {
	sink            *sqlitesink.Sink[rich]
	writes, commits int
	calm            atomic.Bool // no more trouble
}

func (s *troubled) Name() string              { return s.sink.Name() }
func (s *troubled) Guarantee() leat.Guarantee { return s.sink.Guarantee() }
func (s *troubled) Validate() error           { return s.sink.Validate() }
func (s *troubled) Close() error              { return s.sink.Close() }

func (s *troubled) Open(ctx context.Context, env leat.Env) error { return s.sink.Open(ctx, env) }

func (s *troubled) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	return s.sink.Restore(ctx, partitions)
}

func (s *troubled) Write(ctx context.Context, b *leat.Batch[rich]) error {
	if s.writes++; s.writes%97 == 0 {
		return leat.Transient(errors.New("soak: not there"))
	}
	return s.sink.Write(ctx, b)
}

func (s *troubled) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	if s.commits++; s.commits%29 == 0 && !s.calm.Load() {
		return false, leat.ErrAborted
	}
	return s.sink.Commit(ctx, cp)
}

// count is the number of rows in the table.
func count(t *testing.T, path string) (n int64) {
	db, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, sqlitex.ExecuteTransient(db, "SELECT count(*), count(DISTINCT id) FROM sales", &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		n = row.ColumnInt64(0)
		require.Equal(t, n, row.ColumnInt64(1), "none twice")
		return nil
	}}))
	return n
}
