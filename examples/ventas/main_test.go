package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/sink/parquetsink"
)

// With asProgram in its environment the test binary is the program.
const (
	asProgram      = "VENTAS_TEST_MAIN"
	withCheckpoint = "VENTAS_TEST_CHECKPOINT" // Config.CheckpointEvery; batches and budget are small then
	withKill       = "VENTAS_TEST_KILL"       // name:n kills the process at the n-th hit of a failpoint
	withPoints     = "VENTAS_TEST_POINTS"     // file that gets each failpoint and its hits
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asProgram) == "":
		os.Exit(m.Run())
	case os.Getenv(withCheckpoint) == "":
		main()
	default:
		os.Exit(programUnderTest())
	}
}

func programUnderTest() int {
	every, err := time.ParseDuration(os.Getenv(withCheckpoint))
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	hits := map[string]int{}
	name, nth, _ := strings.Cut(os.Getenv(withKill), ":")
	n, _ := strconv.Atoi(nth)
	failpoint.Set(func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if hits[at]++; at == name && hits[at] == n {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err != nil {
				panic(err)
			}
			select {}
		}
		return nil
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := program(ctx, os.Args[1:], os.Stdout, os.Stderr, tuning{
		Config:     leat.Config{CheckpointEvery: every, BudgetBytes: 1 << 20},
		chunkBytes: 8 << 10, // a file is many batches
		settle:     20 * time.Millisecond,
	})
	if path := os.Getenv(withPoints); path != "" {
		failpoint.Set(nil)
		text, err := json.Marshal(hits)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
	return code
}

// child is the program, not yet started, in dir.
func child(t *testing.T, dir string, env []string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it hangs: say where
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// ended is how a run of the program ended.
type ended struct {
	code           int
	stdout, stderr string
}

func (e ended) String() string {
	return fmt.Sprintf("exit code %d\n-- stdout\n%s\n-- stderr\n%s", e.code, e.stdout, e.stderr)
}

// summary is the last line of stdout.
func (e ended) summary(t *testing.T) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(e.stdout), "\n")
	dec := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	dec.DisallowUnknownFields()
	var s summary
	require.NoError(t, dec.Decode(&s), "%v", e)
	return s
}

func runChild(t *testing.T, dir string, args ...string) ended {
	t.Helper()
	cmd, stdout, stderr := child(t, dir, nil, args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want is what generated files must come to.
type want struct {
	files int
	good  []string          // lines
	bad   map[string]string // line → fault
}

func wanted(files, rows int) want {
	w := want{files: files, bad: map[string]string{}}
	for n := 1; n <= files; n++ {
		i := 0
		for line, fault := range lines(n, rows) {
			switch {
			case i == 0: // the header
			case fault == noFault:
				w.good = append(w.good, string(line))
			default:
				w.bad[string(line)] = fault
			}
			i++
		}
	}
	return w
}

// check compares what the program has left below base with what it must be.
func (w want) check(t *testing.T, base string, files int) {
	t.Helper()
	out := filepath.Join(base, "out")
	d := foldersOf(filepath.Join(base, "incoming"))

	db, err := sqlite.OpenConn(filepath.Join(out, "ventas.db"), sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer db.Close()
	var got []string
	require.NoError(t, each(db, `SELECT printf('%d,%d,%d,%d,%.2f,%.2f,%s,%s,%s', venta_id, cliente_id, producto_id, cantidad,
			precio_unitario, total, fecha_venta, metodo_pago, estado),
			anio = 2025 AND mes = substr(fecha_venta, 1, 7) AND ticket_unitario = total / cantidad FROM ventas`, func(q *sqlite.Stmt) {
		got = append(got, q.ColumnText(0))
		assert.True(t, q.ColumnBool(1), "enrichment of %s", q.ColumnText(0))
	}))
	good := slices.Clone(w.good)
	slices.Sort(good)
	slices.Sort(got)
	requireSame(t, "rows in the table", good, got)

	lake := lakeRows(t, filepath.Join(out, "lake"))
	slices.Sort(lake)
	requireSame(t, "rows in the lake", good, lake)

	bad := map[string]string{}
	var letters []string
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(out, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		line := strings.TrimRight(string(l.Raw), "\r\n")
		letters = append(letters, line)
		bad[line] = faultOf(l)
		assert.NotEmpty(t, l.File)
		assert.Positive(t, l.Line)
		assert.Equal(t, header, strings.TrimRight(l.Header, "\r\n"))
		return nil
	}))
	slices.Sort(letters)
	var all []string
	for line := range w.bad {
		all = append(all, line)
	}
	slices.Sort(all)
	requireSame(t, "dead letters", all, letters)
	require.Equal(t, w.bad, bad, "reasons of the dead letters")

	// No file is lost, none is left.
	assert.Equal(t, 0, filesIn(t, d.incoming), "incoming")
	assert.Equal(t, files, filesIn(t, d.processed), "processed")
	assert.Equal(t, 0, filesIn(t, d.failed), "failed")

	// The sums per file survive crashes as rows do.
	s, err := readSums(filepath.Join(out, "state", sumsFile))
	require.NoError(t, err)
	require.Equal(t, sumsOf(w), s.Archivos)
}

// lakeRow is a row as another program reads it.
type lakeRow struct {
	VentaID        int64     `parquet:"venta_id"`
	ClienteID      int64     `parquet:"cliente_id"`
	ProductoID     int64     `parquet:"producto_id"`
	Cantidad       int64     `parquet:"cantidad"`
	PrecioUnitario float64   `parquet:"precio_unitario"`
	Total          float64   `parquet:"total"`
	FechaVenta     time.Time `parquet:"fecha_venta,timestamp(microsecond)"`
	MetodoPago     string    `parquet:"metodo_pago"`
	Estado         string    `parquet:"estado"`
	Anio           int64     `parquet:"anio"`
	TicketUnitario float64   `parquet:"ticket_unitario"`
}

// lakeRows reads all files that a reader finds, with another library's means, as
// lines of the input. They must be the ones that the manifest names.
func lakeRows(t *testing.T, dir string) (rows []string) {
	t.Helper()
	var found, named []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".parquet") && !strings.HasPrefix(d.Name(), ".") {
			found = append(found, path)
		}
		return err
	}))
	files, err := parquetsink.Files(dir)
	require.NoError(t, err)
	for _, f := range files {
		named = append(named, filepath.Join(dir, filepath.FromSlash(f.Path)))
	}
	require.ElementsMatch(t, named, found, "F1: files of the manifest and files in the folder")
	for _, path := range found {
		part, err := parquet.ReadFile[lakeRow](path)
		require.NoError(t, err, path)
		for _, r := range part {
			rows = append(rows, fmt.Sprintf("%d,%d,%d,%d,%.2f,%.2f,%s,%s,%s", r.VentaID, r.ClienteID, r.ProductoID, r.Cantidad,
				r.PrecioUnitario, r.Total, r.FechaVenta.UTC().Format(time.DateTime), r.MetodoPago, r.Estado))
			assert.EqualValues(t, 2025, r.Anio)
			assert.Equal(t, r.Total/float64(r.Cantidad), r.TicketUnitario)
			if month := filepath.Base(filepath.Dir(path)); month != filepath.Base(dir) {
				assert.Equal(t, "mes="+r.FechaVenta.Format("2006-01"), month)
			}
		}
	}
	return rows
}

// requireSame is require.Equal that names the difference only.
func requireSame(t *testing.T, what string, want, got []string) {
	t.Helper()
	times := map[string]int{}
	for _, s := range want {
		times[s]--
	}
	for _, s := range got {
		times[s]++
	}
	missing, extra := 0, 0
	var examples []string
	for s, n := range times {
		if n < 0 {
			missing -= n
		} else {
			extra += n
		}
		if n != 0 && len(examples) < 5 {
			examples = append(examples, fmt.Sprintf("%+d %s", n, s))
		}
	}
	if missing+extra > 0 {
		require.Failf(t, what, "%d missing, %d too many: %s", missing, extra, strings.Join(examples, "; "))
	}
}

func faultOf(l leat.DeadLetter) string {
	switch {
	case l.Class == leat.Contract && l.Column == "cantidad":
		return negativeQuantity
	case l.Class == leat.Contract && l.Column == "estado":
		return unknownState
	case l.Class == leat.Decode && l.Column == "fecha_venta":
		return brokenDate
	case l.Class == leat.Decode && l.Column == "":
		return raggedLine
	}
	return fmt.Sprintf("%s/%s/%s: %s", l.Class, l.Column, l.Rule, l.Error)
}

func filesIn(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "[^.]*")) // a kill may leave a hidden .tmp
	require.NoError(t, err)
	return len(found)
}

// sumsOf adds up the good lines in their order.
func sumsOf(w want) []Resumen {
	var out []Resumen
	rows := (len(w.good) + len(w.bad)) / w.files
	seen := map[string]bool{}
	for _, line := range w.good {
		f := strings.Split(line, ",")
		id, _ := strconv.Atoi(f[0])
		total, _ := strconv.ParseFloat(f[5], 64)
		if name := fileName(id/rows + 1); len(out) == 0 || out[len(out)-1].Archivo != name {
			out = append(out, Resumen{Archivo: name})
			clear(seen)
		}
		seen[f[1]] = true
		sum := &out[len(out)-1]
		sum.Filas++
		sum.Total += total
		sum.Clientes = len(seen)
	}
	return out
}

func TestWithoutFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := runChild(t, dir, "-json")
	require.Equal(t, 0, first.code, "%v", first)
	w := wanted(3, 1000)
	require.Len(t, w.good, 2700)
	s := first.summary(t)
	assert.Equal(t, 3, s.Files)
	assert.EqualValues(t, 3000, s.In)
	assert.EqualValues(t, 2700, s.Loaded)
	assert.EqualValues(t, 300, s.Rejected)
	assert.Positive(t, s.Seconds)
	assert.Positive(t, s.RowsPerS)
	assert.Len(t, s.RejectedBy, 4)
	for why, n := range s.RejectedBy {
		assert.EqualValues(t, 75, n, why)
		assert.Len(t, strings.Split(why, "/"), 3, why)
	}
	assert.Contains(t, s.RejectedBy, "Contract/estado/oneof")

	left, err := filepath.Glob(filepath.Join(dir, "ventas-data", "out", "*"))
	require.NoError(t, err)
	require.Len(t, left, 4, "no other file stays: %v", left)
	w.check(t, filepath.Join(dir, "ventas-data"), 3)

	for _, text := range []string{
		"rows in", "loaded", "rejected", "Last 20 rows by date", "Sales by product", "Laptop", "Electrónica", "Auriculares", "Accesorios",
		"mean ticket", "distinct customers", "ventas-0001.csv", "Ledger", "processed", "dead-letters.jsonl", "ventas.db",
	} {
		assert.Contains(t, first.stdout, text)
	}

	// Again: all was done before.
	again := runChild(t, dir, "-json")
	require.Equal(t, 0, again.code, "%v", again)
	assert.Contains(t, again.stdout, "all 3 files were done before")
	s = again.summary(t)
	assert.Equal(t, summary{RejectedBy: map[string]int64{}, Seconds: s.Seconds}, s)
	assert.Contains(t, again.stdout, `"rejected_by":{}`)
	w.check(t, filepath.Join(dir, "ventas-data"), 3)
}

func TestInAndOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out, log := filepath.Join(dir, "a", "entra"), filepath.Join(dir, "b"), filepath.Join(dir, "ventas.log")
	require.NoError(t, os.MkdirAll(in, 0o755))

	empty := runChild(t, dir, "-in", in, "-out", out, "-json")
	require.Equal(t, 0, empty.code, "%v", empty)
	require.EqualValues(t, 0, empty.summary(t).In, "nothing is generated unless asked")

	r := runChild(t, dir, "-in", in, "-out", out, "-generate", "2", "-rows", "50", "-log", log, "-json")
	require.Equal(t, 0, r.code, "%v", r)
	require.EqualValues(t, 100, r.summary(t).In)
	require.Equal(t, 2, filesIn(t, filepath.Join(dir, "a", "processed")))
	require.FileExists(t, filepath.Join(out, "ventas.db"))
	require.FileExists(t, filepath.Join(out, "dead-letters.jsonl"))
	require.DirExists(t, filepath.Join(out, "state"))
	require.NoDirExists(t, filepath.Join(dir, "ventas-data"))
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NotEmpty(t, text)
	require.Contains(t, r.stderr, string(text[:20]))

	// A third file comes; the same command makes only what is missing.
	r = runChild(t, dir, "-in", in, "-out", out, "-generate", "3", "-rows", "50", "-json")
	require.Equal(t, 0, r.code, "%v", r)
	s := r.summary(t)
	require.Equal(t, 1, s.Files)
	require.EqualValues(t, 50, s.In)
	require.EqualValues(t, 45, s.Loaded)
}

// With -watch it goes on as files come, and tells people.
func TestWatch(t *testing.T) {
	t.Parallel()
	const files, rows = 3, 200
	dir := t.TempDir()
	base := filepath.Join(dir, "d")
	in := filepath.Join(base, "incoming")
	require.NoError(t, os.MkdirAll(in, 0o755))
	var mu sync.Mutex
	var told []string
	people := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Text string }
		if assert.NoError(t, json.NewDecoder(r.Body).Decode(&m)) {
			mu.Lock()
			told = append(told, m.Text)
			mu.Unlock()
		}
	}))
	defer people.Close()

	cmd, stdout, stderr := child(t, dir, []string{withCheckpoint + "=10ms"}, "-in", in, "-watch", "10ms", "-partition", "-notify", people.URL, "-json")
	require.NoError(t, cmd.Start())
	made := foldersOf(filepath.Join(dir, "made"))
	require.NoError(t, os.MkdirAll(made.incoming, 0o755))
	_, err := generate(t.Context(), made, files, rows)
	require.NoError(t, err)
	processed := foldersOf(in).processed
	for n := 1; n <= files; n++ {
		require.NoError(t, os.Rename(filepath.Join(made.incoming, fileName(n)), filepath.Join(in, fileName(n))))
		require.Eventually(t, func() bool { return filesIn(t, processed) == n }, time.Minute, time.Millisecond)
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	err = cmd.Wait()
	r := ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	require.NoError(t, err, "%v", r)
	s := r.summary(t)
	require.Equal(t, files, s.Files)
	require.EqualValues(t, files*rows, s.In)
	wanted(files, rows).check(t, base, files)
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(told, "\n")
	require.Contains(t, all, fileName(1))
	require.Contains(t, all, "stopped; all that was read is committed")
}

// With -metrics it answers while it runs, at the address that the log says.
func TestMetrics(t *testing.T) {
	t.Parallel()
	const rows = 500
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	cmd, stdout, stderr := child(t, dir, []string{withCheckpoint + "=10ms"}, "-generate", "2", "-rows", strconv.Itoa(rows), "-watch", "10ms", "-metrics", "127.0.0.1:0", "-log", log)
	require.NoError(t, cmd.Start())
	url := ""
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(log)
		_, rest, found := strings.Cut(string(text), "msg=metrics url=")
		url, _, _ = strings.Cut(rest, "\n")
		return found && url != ""
	}, time.Minute, time.Millisecond)
	get := func(url string) string {
		answer, err := http.Get(url)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return string(body)
	}
	good := len(wanted(2, rows).good)
	require.Eventually(t, func() bool {
		return strings.Contains(get(url), fmt.Sprintf("leat_rows_total{kind=\"sink\",node=\"ventas\",outcome=\"out\",pipeline=\"ventas\"} %d\n", good))
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "ventas: ok\n", get(strings.TrimSuffix(url, "/metrics")+"/healthz"))
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	err := cmd.Wait()
	require.NoError(t, err, "%v", ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()})
	require.Contains(t, stderr.String(), url, "stderr has it too")
}

// With -every it makes a pass at each time.
func TestEvery(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, stdout, stderr := child(t, dir, nil, "-every", "1s", "-json")
	require.NoError(t, cmd.Start())
	letters := filepath.Join(dir, "ventas-data", "processed", fileName(3))
	require.Eventually(t, func() bool { _, err := os.Stat(letters); return err == nil }, time.Minute, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	err := cmd.Wait()
	r := ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	require.NoError(t, err, "%v", r)
	require.Contains(t, r.stderr, "waiting for the next pass")
	wanted(3, 1000).check(t, filepath.Join(dir, "ventas-data"), 3)
}

// With -replay letters go through again: the mended ones are loaded, once.
func TestReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Equal(t, 0, runChild(t, dir).code)
	letters := filepath.Join(dir, "ventas-data", "out", "dead-letters.jsonl")
	mended := filepath.Join(dir, "mended.jsonl")
	log, err := os.Create(mended)
	require.NoError(t, err)
	require.NoError(t, leat.ReadDeadLetters(letters, func(l leat.DeadLetter) error {
		if faultOf(l) == unknownState {
			l.Raw = bytes.Replace(l.Raw, []byte("devuelta"), []byte("cancelada"), 1)
		}
		return json.NewEncoder(log).Encode(l)
	}))
	require.NoError(t, log.Close())
	for _, want := range []summary{{In: 300, Loaded: 75, Rejected: 225}, {}} {
		r := runChild(t, dir, "-replay", mended, "-json")
		require.Equal(t, 0, r.code, "%v", r)
		s := r.summary(t)
		require.Equal(t, want, summary{In: s.In, Loaded: s.Loaded, Rejected: s.Rejected})
		require.Len(t, lakeRows(t, filepath.Join(dir, "ventas-data", "out", "lake")), 2775)
		sums, err := readSums(filepath.Join(dir, "ventas-data", "out", "state", sumsFile))
		require.NoError(t, err)
		require.Len(t, sums.Archivos, 3)
		require.EqualValues(t, 925, sums.Archivos[0].Filas)
	}
}

func TestMissingColumn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base := filepath.Join(dir, "d")
	in := filepath.Join(base, "incoming")
	require.NoError(t, os.MkdirAll(in, 0o755))
	short := strings.TrimSuffix(header, ",estado") + "\n0,1,1,1,10.00,10.00,2025-01-01 00:00:00,tarjeta\n"
	require.NoError(t, os.WriteFile(filepath.Join(in, "a-corta.csv"), []byte(short), 0o644))

	r := runChild(t, dir, "-in", in, "-generate", "1", "-rows", "100", "-json")
	require.Equal(t, 0, r.code, "a refused file is no failure of the program: %v", r)
	s := r.summary(t)
	require.Equal(t, 2, s.Files)
	require.EqualValues(t, 100, s.In, "no row of the refused file is read")
	require.EqualValues(t, 90, s.Loaded)
	require.FileExists(t, filepath.Join(base, "failed", "a-corta.csv"))
	require.FileExists(t, filepath.Join(base, "processed", fileName(1)))
	require.Regexp(t, `a-corta\.csv.*failed.*estado`, r.stdout, "the ledger names file and column")
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	bad := filepath.Join(dir, "bad", "incoming")
	require.NoError(t, os.MkdirAll(bad, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bad, "x.csv"), []byte(header+"\n"+strings.Repeat("a,b\n", 200)), 0o600))

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()

	tests := []struct {
		name string
		args []string
		code int
		says string // on stderr
	}{
		{"help", []string{"-h"}, 0, "-generate"},
		{"unknown flag", []string{"-speed", "9"}, 2, "-speed"},
		{"not a number", []string{"-rows", "many"}, 2, "many"},
		{"no rows", []string{"-rows", "0"}, 2, "-rows 0"},
		{"negative files", []string{"-generate", "-1"}, 2, "-generate -1"},
		{"an argument", []string{"data"}, 2, `"data"`},
		{"negative interval", []string{"-watch", "-1s"}, 2, "-watch -1s"},
		{"scans without watching", []string{"-max-scans", "3"}, 2, "-watch"},
		{"watching by the clock", []string{"-watch", "1s", "-every", "@daily"}, 2, "choose one"},
		{"not a time", []string{"-every", "61 * * * *"}, 2, "61 * * * *"},
		{"not a receiver", []string{"-notify", "smoke://hill"}, 2, "-notify"},
		{"no address", []string{"-metrics", "9100"}, 2, "-metrics 9100"},
		{"no port", []string{"-metrics", "127.0.0.1:many"}, 2, "-metrics 127.0.0.1:many"},
		{"a port that is taken", []string{"-metrics", taken.Addr().String()}, 1, taken.Addr().String()},
		{"no such letters", []string{"-replay", "none.jsonl"}, 2, "none.jsonl"},
		{"letters and files", []string{"-replay", file, "-generate", "3"}, 2, "-replay"},
		{"no such folder", []string{"-in", filepath.Join(dir, "none")}, 2, "none"},
		{"out is a file", []string{"-in", dir, "-out", file}, 1, file},
		{"log is a folder", []string{"-in", bad, "-log", dir}, 1, dir},
		{"breaker", []string{"-in", bad}, 1, "rule B7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runChild(t, dir, tt.args...)
			assert.Equal(t, tt.code, r.code, "%v", r)
			assert.Contains(t, r.stderr, tt.says)
			assert.Empty(t, r.stdout, "stdout is for the result")
		})
	}
}

// Rule D5: the second of two processes waits for the first and loads nothing twice.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, aOut, aErr := child(t, dir, nil, "-json")
	b, bOut, bErr := child(t, dir, nil, "-json")
	require.NoError(t, a.Start())
	require.NoError(t, b.Start())
	errA, errB := a.Wait(), b.Wait()
	one, two := ended{a.ProcessState.ExitCode(), aOut.String(), aErr.String()}, ended{b.ProcessState.ExitCode(), bOut.String(), bErr.String()}
	require.NoError(t, errA, "%v", one)
	require.NoError(t, errB, "%v", two)
	require.EqualValues(t, 3000, one.summary(t).In+two.summary(t).In, "%v\n%v", one, two)
	wanted(3, 1000).check(t, filepath.Join(dir, "ventas-data"), filesIn(t, filepath.Join(dir, "ventas-data", "processed")))
}

func TestSignalDrains(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGTERM")
	}
	t.Parallel()
	const files, rows = 4, 20_000
	dir := t.TempDir()
	base := filepath.Join(dir, "d")
	in := filepath.Join(base, "incoming")
	require.NoError(t, os.MkdirAll(in, 0o755))
	_, err := generate(t.Context(), foldersOf(in), files, rows)
	require.NoError(t, err)

	cmd, stdout, stderr := child(t, dir, []string{withCheckpoint + "=10ms"}, "-in", in, "-json")
	require.NoError(t, cmd.Start())
	began := filepath.Join(base, "out", "state", sumsFile)
	require.Eventually(t, func() bool { _, err := os.Stat(began); return err == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Process.Signal(os.Interrupt) // timeout(1) sends two, too
	err = cmd.Wait()
	first := ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	require.NoError(t, err, "%v", first)
	s := first.summary(t)
	require.Equal(t, s.In, s.Loaded+s.Rejected, "what was read is delivered")
	require.Positive(t, s.In)
	require.Less(t, s.In, int64(files*rows), "the signal came too late to stop anything")
	require.Contains(t, first.stdout, "Stopped by a signal")

	r := runChild(t, dir, "-in", in, "-json")
	require.Equal(t, 0, r.code, "%v", r)
	require.EqualValues(t, files*rows, s.In+r.summary(t).In, "the second run reads the rest and no more")
	wanted(files, rows).check(t, base, files)
}
