package torture

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/files"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"pipeline": role})
}

// fila is a row of the input. Its number tells it from all others.
type fila struct {
	N     int64  `leat:"n" json:"n" parquet:"n"`
	Texto string `leat:"texto" json:"texto" parquet:"texto"`
}

// source is a line of the table of sources.
type source struct {
	name string
	ext  string
	// text is a file of these records. A record whose number is negative can't be decoded; the
	// letter that it becomes must hold "~<number without its sign>~" in its original bytes.
	text func(records []fila) []byte
	new  func(f folders, s settings) leat.Source[fila]
}

var sources = []source{{
	name: "csvsource", ext: ".csv",
	text: func(records []fila) []byte {
		b := []byte("n,texto\n")
		for _, r := range records {
			if r.N < 0 {
				b = fmt.Appendf(b, "no number,~%d~%s\n", -r.N, r.Texto)
			} else {
				b = fmt.Appendf(b, "%d,~%d~%s\n", r.N, r.N, r.Texto)
			}
		}
		return b
	},
	new: func(f folders, s settings) leat.Source[fila] {
		return csvsource.New(csvsource.Config[fila]{Name: "entrada", Dir: f.in, After: files.Move, ChunkBytes: s.ChunkBytes})
	},
}}

// sink is a line of the table of sinks.
type sink struct {
	name string
	bad  int // of ten rows, this many are bad
	new  func(dir string, s settings) leat.Sink[fila]
	read func(dir string) ([]int64, error) // the numbers of the rows that it holds
}

var sinks = []sink{
	{"sqlitesink", 2, func(dir string, s settings) leat.Sink[fila] {
		mode := sqlitesink.Full
		if s.Normal {
			mode = sqlitesink.Normal
		}
		return sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "v.db"), Table: "ventas", Synchronous: mode})
	}, readTable},
	{"parquetsink", 2, func(dir string, s settings) leat.Sink[fila] {
		return parquetsink.New(parquetsink.Config[fila]{Name: "lago", Dir: dir, Roll: parquetsink.Roll{Rows: s.RollRows}})
	}, readLake(".parquet", func(b []byte) ([]fila, error) { return parquet.Read[fila](bytes.NewReader(b), int64(len(b))) })},
	{"csvsink", 2, func(dir string, s settings) leat.Sink[fila] {
		return csvsink.New(csvsink.Config[fila]{Name: "lago", Dir: dir, Roll: csvsink.Roll{Rows: s.RollRows}})
	}, readLake(".csv", parseCSV)},
	{"jsonsink", 2, func(dir string, s settings) leat.Sink[fila] {
		return jsonsink.New(jsonsink.Config[fila]{Name: "lago", Dir: dir, Roll: jsonsink.Roll{Rows: s.RollRows}})
	}, readLake(".jsonl", parseJSON)},
	// What is tortured is the log: most rows end there.
	{"dead letters", 8, func(dir string, s settings) leat.Sink[fila] {
		return sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "v.db"), Table: "ventas"})
	}, readTable},
}

func sinkNamed(name string) sink {
	return sinks[slices.IndexFunc(sinks, func(s sink) bool { return s.name == name })]
}

func readTable(dir string) (out []int64, err error) {
	path := filepath.Join(dir, "v.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	tables := 0
	err = sqlitex.Execute(conn, "SELECT 1 FROM sqlite_master WHERE name = 'ventas'", &sqlitex.ExecOptions{ResultFunc: func(*sqlite.Stmt) error { tables++; return nil }})
	if err != nil || tables == 0 {
		return nil, err
	}
	for query, each := range map[string]func(stmt *sqlite.Stmt) error{
		"SELECT n, texto FROM ventas": func(stmt *sqlite.Stmt) error {
			r := fila{stmt.ColumnInt64(0), stmt.ColumnText(1)}
			out = append(out, r.N)
			return r.check()
		},
		"PRAGMA integrity_check": func(stmt *sqlite.Stmt) error {
			if text := stmt.ColumnText(0); text != "ok" {
				return errors.New(text)
			}
			return nil
		},
	} {
		if err := sqlitex.Execute(conn, query, &sqlitex.ExecOptions{ResultFunc: each}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readLake reads the files that the manifest names, and refuses any other.
func readLake(ext string, parse func([]byte) ([]fila, error)) func(dir string) ([]int64, error) {
	return func(dir string) (out []int64, err error) {
		files, err := lake.Files(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Path))
			if err != nil {
				return nil, err
			}
			rows, err := parse(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
			if int64(len(rows)) != f.Rows || int64(len(b)) != f.Bytes {
				return nil, fmt.Errorf("%s holds %d rows and %d bytes, the manifest says %d and %d", f.Path, len(rows), len(b), f.Rows, f.Bytes)
			}
			for _, r := range rows {
				if err := r.check(); err != nil {
					return nil, err
				}
				out = append(out, r.N)
			}
		}
		return out, nil
	}
}

func parseCSV(b []byte) (rows []fila, err error) {
	records, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("it has no header")
	}
	for _, r := range records[1:] {
		n, err := strconv.ParseInt(r[0], 10, 64)
		if err != nil {
			return nil, err
		}
		rows = append(rows, fila{n, r[1]})
	}
	return rows, nil
}

func parseJSON(b []byte) (rows []fila, err error) {
	for line := range bytes.Lines(b) {
		var r fila
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// check: the text says the number again.
func (r fila) check() error {
	if !strings.HasPrefix(r.Texto, fmt.Sprintf("~%d~", r.N)) {
		return fmt.Errorf("row %d has the text of another: %.20q", r.N, r.Texto)
	}
	return nil
}

// settings go to the process that runs the pipeline.
type settings struct {
	Source, Sink     string
	Normal           bool // sqlitesink.Normal
	ChunkBytes       int
	RollRows         int64
	Checkpoint       time.Duration
	RetryFirst       time.Duration
	Attempts         int // 0: for ever
	Out, State, Dead string
}

func (s settings) env() []string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return []string{"LEAT_TORTURE=" + string(b)}
}

// folders of one world.
type folders struct{ base, in, out, state, dead string }

func foldersIn(base string) folders {
	at := func(name string) string { return filepath.Join(base, name) }
	return folders{base, at("in"), at("out"), at("state"), at("dead")}
}

func (f folders) letters() string { return filepath.Join(f.dead, "letters.jsonl") }

// world is a set of folders with an input, and what must come out.
type world struct {
	folders
	settings
	sink       sink
	good, bad  []int64 // numbers, ascending
	filesThere int
}

// fill puts the input in place: files of rows, of which some can't be decoded and some
// are refused by the stage.
func fill(t *testing.T, base string, set settings, files, rows, textSize int) *world {
	t.Helper()
	w := &world{folders: foldersIn(base), settings: set, sink: sinkNamed(set.Sink), filesThere: files}
	src := sources[slices.IndexFunc(sources, func(s source) bool { return s.name == set.Source })]
	for _, dir := range []string{w.in, w.out, w.state, w.dead} {
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	n := int64(0)
	for i := range files {
		records := make([]fila, 0, rows)
		for range rows {
			n++
			r := fila{n, strings.Repeat("x", textSize)}
			switch {
			case n%10 >= int64(w.sink.bad):
				w.good = append(w.good, n)
			case n%2 == 0:
				r.N = -n
				w.bad = append(w.bad, n)
			default:
				r.Texto = refused + r.Texto
				w.bad = append(w.bad, n)
			}
			records = append(records, r)
		}
		require.NoError(t, os.WriteFile(filepath.Join(w.in, fmt.Sprintf("%05d%s", i, src.ext)), src.text(records), 0o644))
	}
	return w
}

const refused = "refused"

// life is one run of the pipeline.
func (w *world) life() killtest.Life {
	return killtest.Life{Role: "pipeline", Dir: w.base, Env: w.env()}
}

// role is the process: it runs the pipeline to its end.
func role(dir string) {
	var s settings
	killtest.Must(json.Unmarshal([]byte(os.Getenv("LEAT_TORTURE")), &s))
	f := foldersIn(dir)
	source := sources[slices.IndexFunc(sources, func(o source) bool { return o.name == s.Source })]
	said := &acks{}
	var p *leat.Pipeline
	p = leat.New("tortura", leat.Config{
		StateDir: f.state, CheckpointEvery: s.Checkpoint, DeadLetters: leat.DeadLetterFile(f.letters()),
		Retry: leat.Retry{First: s.RetryFirst, Max: 8 * s.RetryFirst, Attempts: s.Attempts}, Breaker: leat.Breaker{Share: -1},
		Require: leat.ExactlyOnce, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Observe: func(e leat.Event) {
			switch e.Kind {
			case leat.EventCheckpoint:
				said.upTo(p.Stats().Positions["entrada"])
			case leat.EventRetry, leat.EventRewind:
				fmt.Println(e.Kind)
			}
		},
	})
	rows := leat.Via(leat.From(p, source.new(f, s)), "mira", said)
	leat.To(rows, sinkNamed(s.Sink).new(f.out, s))
	fmt.Println("begun")
	if err := p.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "stopped:", err)
		os.Exit(1)
	}
	// Rule A8: counted over all lives, not one row is missing from the counters.
	st := p.Stats()
	for _, n := range st.Nodes {
		if n.In+n.Added != n.Out+n.Rejected+n.Filtered {
			killtest.Must(fmt.Errorf("rule A8: %+v", n))
		}
	}
	fmt.Println("counted", st.Nodes[0].In, st.Nodes[len(st.Nodes)-1].Out)
}

// acks is the stage: it refuses rows, and knows where each batch ends, so that it can be
// said up to which row all is durable (rule A3).
type acks struct {
	mu    sync.Mutex
	ends  map[leat.Offset]int64 // offset of the last row of a batch → its number
	began bool
}

func (a *acks) Process(_ context.Context, in, out *leat.Batch[fila]) error {
	rows := in.Rows()
	if len(rows) == 0 {
		return nil
	}
	last := in.Offset(len(rows) - 1)
	a.mu.Lock()
	if a.ends == nil {
		a.ends = map[leat.Offset]int64{}
	}
	a.ends[last] = rows[len(rows)-1].N
	if !a.began {
		a.began = true
		fmt.Println("reading")
	}
	a.mu.Unlock()
	for i := range rows {
		if strings.Contains(rows[i].Texto, refused) {
			out.Reject(i, leat.Transform, errors.New("the stage refuses it"))
		} else {
			out.Append(rows[i], i)
		}
	}
	return nil
}

func (a *acks) upTo(at leat.Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	done := int64(0)
	for offset, n := range a.ends {
		if offset < at.Next {
			done = max(done, n)
			delete(a.ends, offset)
		}
	}
	if done > 0 {
		killtest.Ack(done)
	}
}

// damage is what a comparison has found.
type damage struct {
	rows, lost, twice int // of rows and letters together
	strange           []string
	missing           []int64
}

func (d damage) none() bool { return d.lost == 0 && d.twice == 0 && len(d.strange) == 0 }

var marked = regexp.MustCompile(`~(\d+)~`)

// held is what lies in the sink and in the dead letters.
func (w *world) held() (rows, letters []int64, err error) {
	if rows, err = w.sink.read(w.out); err != nil {
		return nil, nil, fmt.Errorf("reading the sink: %w", err)
	}
	ids := map[string]bool{}
	err = leat.ReadDeadLetters(w.letters(), func(l leat.DeadLetter) error {
		m := marked.FindSubmatch(l.Raw)
		if m == nil {
			return fmt.Errorf("a letter without its original bytes: %q", l.Raw)
		}
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		letters = append(letters, n)
		if ids[l.ID] {
			return fmt.Errorf("rule B3-2: letter %s is there twice", l.ID)
		}
		ids[l.ID] = true
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the dead letters: %w", err)
	}
	return rows, letters, nil
}

// compare says what of the rows up to a number is missing, and what is there twice. With
// the largest number it also looks for things left behind.
func (w *world) compare(upTo int64) (d damage) {
	rows, letters, err := w.held()
	if err != nil {
		d.strange = append(d.strange, err.Error())
		return d
	}
	for _, side := range []struct{ want, got []int64 }{{w.good, rows}, {w.bad, letters}} {
		count := map[int64]int{}
		for _, n := range side.got {
			count[n]++
		}
		for _, n := range side.want {
			if n <= upTo {
				d.rows++
				if count[n] == 0 {
					d.lost++
					d.missing = append(d.missing, n)
				}
			}
			d.twice += max(0, count[n]-1)
			delete(count, n)
		}
		for _, n := range slices.Sorted(maps.Keys(count)) {
			d.strange = append(d.strange, fmt.Sprintf("row %d is where it does not belong", n))
		}
	}
	return d
}

// whole compares all, after a run that came to its end.
func (w *world) whole() damage {
	d := w.compare(1 << 62)
	strange := func(format string, args ...any) { d.strange = append(d.strange, fmt.Sprintf(format, args...)) }
	if left, err := os.ReadDir(w.in); err != nil || slices.ContainsFunc(left, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") }) {
		strange("rule D3: files are left in the incoming folder: %v %v", left, err)
	}
	moved, err := os.ReadDir(filepath.Join(w.base, "processed"))
	if n := len(slices.DeleteFunc(moved, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })); n != w.filesThere {
		strange("rule D3: %d of %d files are in the folder of processed ones: %v", n, w.filesThere, err)
	}
	ledger, err := files.Ledger(w.state, "entrada")
	if err != nil {
		strange("the ledger: %v", err)
	}
	rows, rejected := int64(0), int64(0)
	for _, e := range ledger {
		rows, rejected = rows+e.Rows, rejected+e.Rejected
		if e.Status != "ok" {
			strange("rule D3: the ledger says that %s is %s: %s", e.Name, e.Status, e.Error)
		}
	}
	undecoded := int64(0)
	for _, n := range w.bad {
		if n%2 == 0 {
			undecoded++
		}
	}
	if all := int64(len(w.good) + len(w.bad)); rows != all || rejected != undecoded {
		strange("rule D3: the ledger counts %d rows, %d of them undecodable; there are %d and %d", rows, rejected, all, undecoded)
	}
	_ = filepath.WalkDir(w.out, func(path string, e fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".pending")) {
			strange("rule F5: %s is left behind", path)
		}
		return nil
	})
	return d
}

// require fails the test if d is not what it must be.
func (d damage) require(t *testing.T, when string) {
	t.Helper()
	if !d.none() {
		t.Fatalf("%s: of %d rows %d are lost, %d are there twice; %s %v", when, d.rows, d.lost, d.twice, strings.Join(d.strange, "; "), d.missing)
	}
}

// finish runs the pipeline to its end without faults and compares.
func (w *world) finish(t *testing.T, when string) damage {
	t.Helper()
	e := w.life().Run(t)
	if e.Code != 0 {
		t.Fatalf("%s: the pipeline does not come to its end: %s", when, e.Stderr)
	}
	d := w.whole()
	if !d.none() {
		t.Logf("the last run: %s", e.Stderr)
	}
	d.require(t, when)
	return d
}

// copyTree copies a folder, as far as it can be read.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// inMemory is a folder whose files are not written to a disk, if there is such.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "leat")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
