package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/parquetsink"
)

func TestWithoutFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "datasets", "processed", "pi2")
	w := wanted(generated(20_000)...)
	require.Len(t, w.rows, 19_700)
	require.Equal(t, 200, w.duplicates, "1 %")
	require.Len(t, w.bad, 100, "0.5 %")

	first := runChild(t, dir, "-json")
	require.Equal(t, 0, first.code, "%v", first)
	s := first.summary(t)
	require.Equal(t, w.told(s), s)
	require.Equal(t, 3, s.Files)
	require.Positive(t, s.Seconds)
	require.Positive(t, s.RowsPerS)
	w.check(t, out)
	require.Equal(t, "total 20000\nvalidos 19700\ninvalidos 100\n", read(t, out, "metrics.txt"))
	require.Contains(t, first.stderr, "an embedded broker (franz-go's kfake) runs in this process")
	for _, text := range []string{
		`in +20,000`, `valid +19,900`, `duplicates +200`, `rejected +100`, `Contract +accion +oneof +20 +20`, `Decode +ts +syntax +20`,
		`2025-10-30 +1 +8,5\d\d `, `2025-10-31 +1 `, `2025-11-01 +1 `, `dead-letters\.jsonl`, `metrics\.txt`,
	} {
		require.Regexp(t, text, first.stdout)
	}

	// The date is in the folder, not in the files.
	files, err := parquetsink.Files(out)
	require.NoError(t, err)
	f, err := os.Open(filepath.Join(out, filepath.FromSlash(files[0].Path)))
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	pf, err := parquet.OpenFile(f, info.Size())
	require.NoError(t, err)
	var columns []string
	for _, c := range pf.Schema().Fields() {
		columns = append(columns, c.Name())
	}
	require.Equal(t, []string{"event_id", "ts", "usuario_id", "accion", "monto", "processing_ts", "otros"}, columns)

	// Again: 20,000 more, numbered on. And once more, with nothing new.
	again := runChild(t, dir, "-json")
	require.Equal(t, 0, again.code, "%v", again)
	s = again.summary(t)
	require.EqualValues(t, 20_000, s.In)
	require.EqualValues(t, 19_700, s.Out)
	wanted(generated(40_000)...).check(t, out)
	require.Regexp(t, `Contract +accion +oneof +20 +40`, again.stdout)

	idle := runChild(t, dir, "-events", "0", "-json")
	require.Equal(t, 0, idle.code, "%v", idle)
	s = idle.summary(t)
	require.Equal(t, summary{RejectedBy: map[string]int64{}, Seconds: s.Seconds}, s)
	require.Contains(t, idle.stdout, `"rejected_by":{}`)
	require.Equal(t, "total 0\nvalidos 0\ninvalidos 0\n", read(t, out, "metrics.txt"))
}

func TestNumbersOfEvents(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 57, 58, 99, 100, 999, 3001} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			r := inProcess(t, "-out", out, "-events", fmt.Sprint(n), "-batch", "100", "-json")
			require.Equal(t, 0, r.code, "%v", r)
			w, s := wanted(generated(n)...), r.summary(t)
			require.Equal(t, w.told(s), s)
			w.check(t, out)
			require.Equal(t, fmt.Sprintf("total %d\nvalidos %d\ninvalidos %d\n", n, len(w.rows), s.Rejected), read(t, out, "metrics.txt"))
		})
	}
}

// fields is a value with some fields changed; "-" leaves one out.
func fields(id string, change ...string) []byte {
	f := map[string]string{"event_id": `"` + id + `"`, "ts": `"2025-10-30T12:00:00Z"`, "usuario_id": "1", "accion": `"click"`, "monto": "null"}
	for i := 0; i < len(change); i += 2 {
		f[change[i]] = change[i+1]
	}
	var parts []string
	for _, name := range append([]string{"event_id", "ts", "usuario_id", "accion", "monto"}, change...) {
		if v, left := f[name]; left && v != "-" {
			parts = append(parts, fmt.Sprintf("%q:%s", name, v))
		}
		delete(f, name)
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// TestContract has what the schema allows and what not, each with an oracle's and a person's verdict.
func TestContract(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change []string
		why    string // "": it is good
	}{
		{"as in the notebook", nil, ""},
		{"isoformat", []string{"ts", `"2025-10-30T12:00:00.123456+00:00"`}, ""},
		{"isoformat without a fraction", []string{"ts", `"2025-10-30T12:00:00+00:00"`}, ""},
		{"a zone, and another day in UTC", []string{"ts", `"2025-10-30T23:30:00-05:00"`}, ""},
		{"isoformat of a naive time", []string{"ts", `"2025-10-30T12:00:00"`}, ""},
		{"no time of day", []string{"ts", `"2025-10-30"`}, ""},
		{"before 1970", []string{"ts", `"1965-02-03T04:05:06.7Z"`}, ""},
		{"user 0", []string{"usuario_id", "0"}, ""},
		{"a negative user", []string{"usuario_id", "-7"}, ""},
		{"the largest user", []string{"usuario_id", "9223372036854775807"}, ""},
		{"view", []string{"accion", `"view"`}, ""},
		{"purchase", []string{"accion", `"purchase"`, "monto", "12.34"}, ""},
		{"a whole amount", []string{"monto", "12"}, ""},
		{"nothing paid", []string{"monto", "0"}, ""},
		{"an amount with an exponent", []string{"monto", "1.5e3"}, ""},
		{"no amount", []string{"monto", "-"}, ""},
		{"unknown fields", []string{"canal", `"web"`, "n", "1.50", "deep", `{"a":[1,null]}`}, ""},
		{"unknown fields named as columns of the lake", []string{"processing_ts", `"x"`, "date", `"y"`, "otros", "5"}, ""},
		{"names are exact", []string{"Monto", "-1"}, ""},
		{"text of all kinds", []string{"event_id", `"ñ\u00e9\n😀|\"x\""`}, ""},

		{"no id", []string{"event_id", "-"}, "Contract/event_id/required"},
		{"id null", []string{"event_id", "null"}, "Decode/event_id/null"},
		{"id empty", []string{"event_id", `""`}, "Contract/event_id/required"},
		{"id a number", []string{"event_id", "12"}, "Decode/event_id/type"},
		{"no time", []string{"ts", "-"}, "Contract/ts/required"},
		{"time null", []string{"ts", "null"}, "Decode/ts/null"},
		{"time a number", []string{"ts", "1761825600"}, "Decode/ts/type"},
		{"time of another kind", []string{"ts", `"30/10/2025"`}, "Decode/ts/syntax"},
		{"no such day", []string{"ts", `"2025-02-30T12:00:00Z"`}, "Decode/ts/range"},
		{"no user", []string{"usuario_id", "-"}, "Contract/usuario_id/required"},
		{"user null", []string{"usuario_id", "null"}, "Contract/usuario_id/required"},
		{"user a fraction", []string{"usuario_id", "1.5"}, "Decode/usuario_id/type"},
		{"user a text", []string{"usuario_id", `"1"`}, "Decode/usuario_id/type"},
		{"user true", []string{"usuario_id", "true"}, "Decode/usuario_id/type"},
		{"no action", []string{"accion", "-"}, "Contract/accion/required"},
		{"action null", []string{"accion", "null"}, "Decode/accion/null"},
		{"another action", []string{"accion", `"Click"`}, "Contract/accion/oneof"},
		{"a negative amount", []string{"monto", "-0.01"}, "Contract/monto/gte"},
		{"amount a text", []string{"monto", `"12.34"`}, "Decode/monto/type"},
		{"too large an amount", []string{"monto", "1e999"}, "Decode/monto/range"},
		{"not JSON", []string{"monto", "NaN"}, "Decode/-/syntax"},
	}
	w := newWorld(t)
	var values [][]byte
	want := map[string]string{}
	for i, tt := range tests {
		v := fields(fmt.Sprintf("c%d", i), tt.change...)
		values = append(values, v)
		if tt.why != "" {
			want[string(v)] = tt.why
		}
		_, why := judge(v)
		assert.Equal(t, tt.why, why, "the oracle on %s", tt.name)
	}
	more := map[string]string{"": "Decode/-/syntax", "[]": "Decode/-/type", "12": "Decode/-/type", `{"event_id":"x"`: "Decode/-/syntax",
		`{"event_id":"a","event_id":"b"}`: "Decode/-/duplicate", "\xff": "Decode/-/syntax"}
	w.put(t, values...)
	good := len(values) - len(want)
	for v, why := range more {
		w.put(t, []byte(v))
		want[v] = why
	}
	w.put(t, nil) // a tombstone

	out := t.TempDir()
	r := inProcess(t, w.args("-out", out, "-drain")...)
	require.Equal(t, 0, r.code, "%v", r)
	require.EqualValues(t, good, r.summary(t).Out, "%v", r)
	requireSame(t, "rows", rowsOf(wanted(values...)), lakeRows(t, out))
	got := map[string]string{}
	tombstones := 0
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(out, "_state", "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		if l.Rule == "null" && l.Column == "" {
			tombstones++
			return nil
		}
		got[string(l.Raw)] = reason(l)
		return nil
	}))
	require.Equal(t, 1, tombstones)
	require.Equal(t, want, got)
}

func rowsOf(w want) (out []string) {
	for _, r := range w.rows {
		out = append(out, r)
	}
	return out
}

// Fields of events never come into the log, but for the ids of duplicates with -debug.
func TestLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := []byte(`{"event_id":"id-seen-twice","ts":"2031-05-06T07:08:09Z","usuario_id":777666555,"accion":"purchase","monto":313.1313,"iban":"ES9121000418450200051332"}`)
	w.put(t, good, good, bytes.Replace(good, []byte("313.1313"), []byte("-313.1313"), 1),
		bytes.Replace(bytes.Replace(good, []byte("id-seen-twice"), []byte("id-of-another"), 1), []byte("purchase"), []byte("robo-777"), 1),
		bytes.Replace(good, []byte("777666555"), []byte(`"u777666555"`), 1), bytes.Replace(good, []byte("2031-05-06"), []byte("2031-77-06"), 1), good[:len(good)-9])
	secret := regexp.MustCompile(`2031-|777666|purchase|robo|313\.1313|iban|ES91|id-of-another|usuario"`)

	for _, flags := range [][]string{{"-debug"}, nil} {
		out := t.TempDir()
		r := inProcess(t, w.args(append(flags, "-drain", "-out", out)...)...)
		require.Equal(t, 0, r.code, "%v", r)
		s := r.summary(t)
		require.EqualValues(t, 1, s.Duplicates)
		require.EqualValues(t, 5, s.Rejected)
		if len(flags) > 0 {
			require.Regexp(t, `level=DEBUG msg="duplicate skipped" event_id=id-seen-twice`, r.stderr)
			require.Equal(t, 1, strings.Count(r.stderr, "id-seen-twice"))
		} else {
			require.NotContains(t, r.stderr, "id-seen-twice")
			require.NotContains(t, r.stderr, "DEBUG")
		}
		again := inProcess(t, append(slices.Clone(flags), "-out", out, "-replay-dead-letters", "-json")...)
		require.Equal(t, 0, again.code, "%v", again)
		require.EqualValues(t, 5, again.summary(t).Rejected)
		for _, line := range strings.Split(r.stderr+again.stderr, "\n") {
			_, line, _ = strings.Cut(line, " ") // the log's own time
			require.NotRegexp(t, secret, line)
		}
	}
}

// Without -drain it goes on until a signal; events are visible in time, several in one file.
func TestMaxLatency(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGTERM")
	}
	t.Parallel()
	const latency = 3 * time.Second
	w, dir := newWorld(t), t.TempDir()
	cmd, stdout, stderr := child(t, dir, nil, w.args("-out", "o", "-max-latency", latency.String())...)
	require.NoError(t, cmd.Start())
	out := filepath.Join(dir, "o")
	w.put(t, fields("x0"))
	require.Eventually(t, func() bool { return visible(out) == 1 }, 30*time.Second, 5*time.Millisecond, "%v", stderr)

	const n = 80 // one every 50 ms: there is no idle time in longer than the latency
	began := time.Now()
	var puts []time.Time
	for i := range n {
		w.put(t, fields(fmt.Sprint("y", i)))
		puts = append(puts, time.Now())
		for seen := visible(out); time.Since(puts[i]) < 50*time.Millisecond; seen = visible(out) {
			for k := int(seen) - 1; k <= i; k++ {
				require.Less(t, time.Since(puts[k]), latency, "y%d is not visible", k)
			}
		}
	}
	require.Eventually(t, func() bool { return visible(out) == n+1 }, latency-time.Since(puts[n-1]), 5*time.Millisecond, "%v", stderr)
	files, err := parquetsink.Files(out)
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 3+int(time.Since(began)/(latency/2)), "not a file for each event")

	// What is read when the signal comes is delivered first.
	w.put(t, fields("z"))
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "partitions are read") }, 10*time.Second, time.Millisecond)
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Process.Signal(os.Interrupt) // timeout(1) sends two, too
	r := wait(t, cmd, stdout, stderr)
	require.Equal(t, 0, r.code, "%v", r)
	require.Contains(t, r.stdout, "Stopped by a signal")
	require.EqualValues(t, r.summary(t).Out, visible(out))
	rest := inProcess(t, w.args("-out", out, "-drain")...)
	require.EqualValues(t, n+2, r.summary(t).In+rest.summary(t).In, "%v", rest)
}

// A signal before anything is read is an orderly end too, and the next run goes on.
func TestEarlySignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGTERM")
	}
	t.Parallel()
	dir := t.TempDir()
	stop := func(says string, args ...string) {
		cmd, stdout, stderr := child(t, dir, nil, append(args, "-out", "o", "-json")...)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { return strings.Contains(stderr.String(), says) }, 30*time.Second, time.Millisecond, "%v", stderr)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		r := wait(t, cmd, stdout, stderr)
		require.Equal(t, 0, r.code, "%v", r)
		require.Contains(t, r.stdout, "Stopped by a signal")
		s := r.summary(t)
		require.Equal(t, summary{RejectedBy: map[string]int64{}, Seconds: s.Seconds}, s)
	}
	stop("an embedded broker", "-events", "10000000") // while it makes them
	lock, err := alone(t.Context(), filepath.Join(dir, "o", "_state", "broker.lock"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	stop("another process has the embedded broker's data")
	require.NoError(t, lock.Close())

	r := runChild(t, dir, "-out", "o", "-events", "100", "-json")
	require.Equal(t, 0, r.code, "%v", r)
	require.GreaterOrEqual(t, r.summary(t).In, int64(100))
}

// visible is the number of rows that a reader sees.
func visible(out string) (n int64) {
	files, _ := parquetsink.Files(out)
	for _, f := range files {
		n += f.Rows
	}
	return n
}

func TestMaxMessages(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	sum := int64(0)
	for i, flags := range []string{"-events 1000 -max-messages 300", "-events 0 -max-messages 600 -batch 7", "-events 0 -max-messages 600"} {
		r := inProcess(t, append(strings.Fields(flags), "-out", out, "-json")...)
		require.Equal(t, 0, r.code, "%v", r)
		s := r.summary(t)
		require.EqualValues(t, []int{300, 600, 100}[i], s.In)
		sum += s.Out
	}
	w := wanted(generated(1000)...)
	require.EqualValues(t, len(w.rows), sum)
	w.check(t, out)
}

// Letters go through again: the mended ones are loaded, once; the others are refused again.
func TestReplayDeadLetters(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	require.Equal(t, 0, inProcess(t, "-out", out, "-events", "2000").code)
	w := wanted(generated(2000)...)
	require.Equal(t, 2, w.why["Contract/accion/oneof"])
	w.check(t, out)

	// Somebody mends the action, by hand.
	file := filepath.Join(out, "_state", "dead-letters.jsonl")
	var mended bytes.Buffer
	require.NoError(t, leat.ReadDeadLetters(file, func(l leat.DeadLetter) error {
		l.Raw = bytes.Replace(l.Raw, []byte(`"scroll"`), []byte(`"view"`), 1)
		return json.NewEncoder(&mended).Encode(l)
	}))
	require.NoError(t, os.WriteFile(file, mended.Bytes(), 0o600))
	values := generated(2000)
	for i := range values {
		values[i] = bytes.Replace(values[i], []byte(`"scroll"`), []byte(`"view"`), 1)
	}
	for i, want := range []summary{{In: 10, Out: 2, Rejected: 8}, {In: 8, Rejected: 8}} { // a refused row has a newer letter
		r := inProcess(t, "-out", out, "-replay-dead-letters", "-json")
		require.Equal(t, 0, r.code, "%v", r)
		s := r.summary(t)
		require.Equal(t, want, summary{In: s.In, Out: s.Out, Rejected: s.Rejected}, "run %d: %v", i, r)
		requireSame(t, "rows", rowsOf(wanted(values...)), lakeRows(t, out))
	}
	// And the topic is read on as ever; ids from letters count as seen.
	r := inProcess(t, "-out", out, "-events", "100", "-json")
	require.Equal(t, 0, r.code, "%v", r)
	require.EqualValues(t, 100, r.summary(t).In)
}

// With -metrics it answers while it runs, at the address that the log says.
func TestMetrics(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGTERM")
	}
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.put(t, generated(500)...)
	cmd, stdout, stderr := child(t, dir, nil, w.args("-out", "o", "-max-latency", "100ms", "-batch", "10", "-metrics", "127.0.0.1:0")...)
	require.NoError(t, cmd.Start())
	address := regexp.MustCompile(`url=(http://[^ \n]+)/metrics`)
	var base string
	require.Eventually(t, func() bool {
		if m := address.FindStringSubmatch(stderr.String()); m != nil {
			base = m[1]
		}
		return base != ""
	}, 30*time.Second, 5*time.Millisecond, "%v", stderr)
	get := func(path string) string {
		resp, err := http.Get(base + path)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	want := wanted(generated(500)...)
	rows := fmt.Sprintf(`(?m)^leat_rows_total\{.*node="lake".*\} %d$`, len(want.rows))
	if !assert.Eventually(t, func() bool { return regexp.MustCompile(rows).MatchString(get("/metrics")) }, 30*time.Second, 20*time.Millisecond) {
		t.Log(get("/metrics"))
	}
	batches := regexp.MustCompile(`(?m)^leat_batches_total\{.*node="kafka".*\} (\d+)$`).FindStringSubmatch(get("/metrics"))
	require.NotNil(t, batches)
	n, err := strconv.Atoi(batches[1])
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 50, "-batch 10: 500 events")
	require.True(t, json.Valid([]byte(get("/metrics.json"))))
	require.NotEmpty(t, get("/healthz"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	r := wait(t, cmd, stdout, stderr)
	require.Equal(t, 0, r.code, "%v", r)
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	other := connect(t, w.brokers, "otros_eventos")
	_, err := kadm.NewClient(w.cl).CreateTopics(t.Context(), 1, 1, nil, other.topic)
	require.NoError(t, err)
	w.put(t, fields("a"))
	other.put(t, fields("a"), fields("b"))
	env := []string{"KAFKA_BOOTSTRAP_SERVERS=" + w.brokers, "KAFKA_TOPIC=otros_eventos", "OUT_DIR=lago"}
	for _, tt := range []struct {
		flags []string
		out   string
		in    int
	}{{nil, "lago", 2}, {[]string{"-topic", "pi2_events", "-out", "x"}, "x", 1}} { // a flag goes over the environment
		cmd, stdout, stderr := child(t, dir, env, append(tt.flags, "-drain", "-json", "-group", tt.out)...)
		require.NoError(t, cmd.Start())
		r := wait(t, cmd, stdout, stderr)
		require.Equal(t, 0, r.code, "%v", r)
		require.EqualValues(t, tt.in, r.summary(t).In)
		require.EqualValues(t, tt.in, visible(filepath.Join(dir, tt.out)))
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	w := newWorld(t)
	for i := range 200 {
		w.put(t, fields(fmt.Sprint(i), "accion", `"robo"`))
	}

	tests := []struct {
		name string
		args []string
		code int
		says string // on stderr
	}{
		{"help", []string{"-h"}, 0, "-max-latency"},
		{"unknown flag", []string{"-speed", "9"}, 2, "-speed"},
		{"not a number", []string{"-events", "many"}, 2, "many"},
		{"negative events", []string{"-events", "-1"}, 2, "-events -1"},
		{"an argument", []string{"data"}, 2, `"data"`},
		{"no topic", []string{"-topic", ""}, 2, "-topic"},
		{"no group", []string{"-group", ""}, 2, "-group"},
		{"no folder", []string{"-out", ""}, 2, "-out"},
		{"negative messages", []string{"-max-messages", "-1"}, 2, "-max-messages -1"},
		{"no batch", []string{"-batch", "0"}, 2, "-batch 0"},
		{"too large a batch", []string{"-batch", "1048577"}, 2, "-batch 1048577"},
		{"no latency", []string{"-max-latency", "9ms"}, 2, "-max-latency 9ms"},
		{"negative memory", []string{"-remember", "-1s"}, 2, "-remember -1s"},
		{"letters and events", []string{"-replay-dead-letters", "-events", "3"}, 2, "-events"},
		{"letters and drain", []string{"-replay-dead-letters", "-drain"}, 2, "-drain"},
		{"no letters", []string{"-out", filepath.Join(dir, "none"), "-replay-dead-letters"}, 2, "dead-letters.jsonl"},
		{"no address", []string{"-metrics", "9100"}, 2, "-metrics 9100"},
		{"no port", []string{"-metrics", "127.0.0.1:many"}, 2, "-metrics 127.0.0.1:many"},
		{"a port that is taken", []string{"-metrics", taken.Addr().String()}, 1, taken.Addr().String()},
		{"out is a file", []string{"-out", file}, 1, file},
		{"breaker", []string{"-brokers", w.brokers, "-drain", "-out", filepath.Join(dir, "bad")}, 1, "rule B7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.code == 1 {
				tt.args = append([]string{"-out", filepath.Join(dir, "o")}, tt.args...)
			}
			r := inProcess(t, tt.args...)
			assert.Equal(t, tt.code, r.code, "%v", r)
			assert.Contains(t, r.stderr, tt.says)
			assert.Empty(t, r.stdout, "stdout is for the result")
		})
	}
	require.NoDirExists(t, filepath.Join(dir, "none"), "wrong flags leave nothing behind")
}

// Two processes on one folder: the second waits for the first, and nothing is there twice.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, aOut, aErr := child(t, dir, nil, "-json", "-events", "5000")
	b, bOut, bErr := child(t, dir, nil, "-json", "-events", "5000")
	require.NoError(t, a.Start())
	require.NoError(t, b.Start())
	one, two := wait(t, a, aOut, aErr), wait(t, b, bOut, bErr)
	require.Equal(t, 0, one.code, "%v", one)
	require.Equal(t, 0, two.code, "%v", two)
	require.EqualValues(t, 10_000, one.summary(t).In+two.summary(t).In, "%v\n%v", one, two)
	wanted(generated(10_000)...).check(t, filepath.Join(dir, "datasets", "processed", "pi2"))
}

// Rule H1: what was seen is in one process, so a second member of the group with another folder is refused,
// with a reason, and the first one is not disturbed.
func TestSecondMember(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no SIGTERM")
	}
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.put(t, generated(300)...)
	session := []string{withSession + "=2s"}
	a, aOut, aErr := child(t, dir, session, w.args("-out", "a", "-max-latency", "100ms")...)
	require.NoError(t, a.Start())
	want := wanted(generated(300)...)
	require.Eventually(t, func() bool { return visible(filepath.Join(dir, "a")) == int64(len(want.rows)) }, 30*time.Second, 10*time.Millisecond, "%v", aErr)

	// One on the same folder waits, and its end does not touch the first one.
	c, cOut, cErr := child(t, dir, session, w.args("-out", "a")...)
	require.NoError(t, c.Start())
	require.Eventually(t, func() bool { return strings.Contains(cErr.String(), "waiting for it to end") }, 30*time.Second, 5*time.Millisecond, "%v", cErr)
	w.put(t, fields("meanwhile"))
	require.Eventually(t, func() bool { return visible(filepath.Join(dir, "a")) == int64(len(want.rows)+1) }, 30*time.Second, 10*time.Millisecond, "%v", aErr)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	waited := wait(t, c, cOut, cErr)
	require.Equal(t, 0, waited.code)
	require.Zero(t, waited.summary(t).Files, "the first one's are not its own")
	w.put(t, fields("soon"))
	require.Eventually(t, func() bool { return visible(filepath.Join(dir, "a")) == int64(len(want.rows)+2) }, 30*time.Second, 10*time.Millisecond, "%v", aErr)
	require.NotContains(t, aErr.String(), "WARN")

	b, bOut, bErr := child(t, dir, session, w.args("-out", "b", "-drain")...)
	require.NoError(t, b.Start())
	second := wait(t, b, bOut, bErr)
	assert.Equal(t, 1, second.code, "%v", second)
	assert.Contains(t, second.stderr, "run one process only")
	assert.Contains(t, second.stderr, duplicates)
	assert.EqualValues(t, 0, visible(filepath.Join(dir, "b")), "%v", second)

	w.put(t, fields("later"))
	require.Eventually(t, func() bool { return visible(filepath.Join(dir, "a")) == int64(len(want.rows)+3) }, 30*time.Second, 10*time.Millisecond, "%v", aErr)

	// One that waits until the first one has ended goes on, and tells of its own files alone.
	d, dOut, dErr := child(t, dir, session, w.args("-out", "a", "-drain")...)
	require.NoError(t, d.Start())
	require.Eventually(t, func() bool { return strings.Contains(dErr.String(), "waiting for it to end") }, 30*time.Second, 5*time.Millisecond, "%v", dErr)
	w.put(t, fields("last"))
	require.Eventually(t, func() bool { return visible(filepath.Join(dir, "a")) == int64(len(want.rows)+4) }, 30*time.Second, 10*time.Millisecond, "%v", aErr)
	require.NoError(t, a.Process.Signal(syscall.SIGTERM))
	first := wait(t, a, aOut, aErr)
	require.Equal(t, 0, first.code, "%v", first)
	require.EqualValues(t, 304, first.summary(t).In)
	next := wait(t, d, dOut, dErr)
	require.Equal(t, 0, next.code, "%v", next)
	require.Zero(t, next.summary(t).In)
	require.Zero(t, next.summary(t).Files)
}

// An OUT is of one broker (rule A2-1): who tries the embedded one and goes on with his own is told what to do. He
// was told to delete positions.
func TestAnotherBroker(t *testing.T) {
	t.Parallel()
	w, out := newWorld(t), t.TempDir()
	w.put(t, generated(100)...)
	require.Equal(t, 0, inProcess(t, "-out", out, "-events", "100").code)
	r := inProcess(t, w.args("-out", out, "-drain")...)
	require.Equal(t, 1, r.code, "%v", r)
	require.Contains(t, r.stderr, "A2-1")
	require.Contains(t, r.stderr, "give this one an -out of its own")
	require.Equal(t, 0, inProcess(t, w.args("-out", t.TempDir(), "-drain")...).code)
	require.Equal(t, 0, inProcess(t, "-out", out, "-events", "100").code, "and the other goes on")
}

// With -remember an id is forgotten by the clock of the events, and what comes too late to be judged is rejected.
func TestRemember(t *testing.T) {
	t.Parallel()
	w, out := newWorld(t), t.TempDir()
	at := func(id, clock string) []byte { return fields(id, "ts", `"2025-10-30T`+clock+`Z"`) }
	one := func(v []byte) { // all in one partition
		r := &kgo.Record{Key: []byte("k"), Value: v}
		require.NoError(t, w.cl.ProduceSync(t.Context(), r).FirstErr())
	}
	one(at("a", "10:00:00"))
	one(at("a", "10:59:59")) // a duplicate
	one(at("b", "11:00:01")) // forgets a
	one(at("a", "11:00:02")) // passes
	one(at("c", "09:00:00")) // too late
	r := inProcess(t, w.args("-out", out, "-drain", "-remember", "1h")...)
	require.Equal(t, 0, r.code, "%v", r)
	s := r.summary(t)
	require.Equal(t, summary{In: 5, Out: 3, Duplicates: 1, Rejected: 1}, summary{In: s.In, Out: s.Out, Duplicates: s.Duplicates, Rejected: s.Rejected}, "%v", r)
	require.Contains(t, fmt.Sprint(s.RejectedBy), "Late/")

	// What it knows is of that time: with another one it would not know what it says it does (rule E7-4).
	r = inProcess(t, w.args("-out", out, "-drain", "-remember", "2h")...)
	require.Equal(t, 1, r.code, "%v", r)
	require.Contains(t, r.stderr, "E7-4")
	require.Contains(t, inProcess(t, "-h").stderr, "it stays as it is for all runs with one -out")
}

// TestRealBroker is the program against a broker that is one.
func TestRealBroker(t *testing.T) {
	t.Parallel()
	brokers := os.Getenv("LEAT_KAFKA")
	if brokers == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_KAFKA is not set: the brokers to test with")
		}
		t.Skip("LEAT_KAFKA is not set: the brokers to test with")
	}
	name := fmt.Sprintf("eventos-test-%d", time.Now().UnixNano())
	w, out := connect(t, brokers, name), t.TempDir()
	adm := kadm.NewClient(w.cl)
	t.Cleanup(func() {
		_, _ = adm.DeleteTopics(t.Context(), name)
		_, _ = adm.DeleteGroups(t.Context(), name)
	})
	flags := w.args("-group", name, "-out", out, "-drain")
	for i, more := range [][]string{{"-events", "3000"}, {"-events", "2000"}, nil, {"-replay-dead-letters"}} {
		if i == 3 {
			flags = w.args("-group", name, "-out", out)
		}
		r := inProcess(t, append(flags, more...)...)
		require.Equal(t, 0, r.code, "%v", r)
		require.EqualValues(t, []int{3000, 2000, 0, 25}[i], r.summary(t).In, "%v", r)
	}
	requireSame(t, "rows", rowsOf(wanted(generated(5000)...)), lakeRows(t, out))

	// After a crash it goes on at once: the group gives the partitions back to the same member.
	cmd, _, stderr := child(t, t.TempDir(), nil, w.args("-group", name, "-out", out, "-max-latency", "100ms")...)
	require.NoError(t, cmd.Start())
	w.put(t, fields("before"))
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(lakeRows(t, out), func(r string) bool { return strings.HasPrefix(r, "before|") })
	},
		30*time.Second, 50*time.Millisecond, "%v", stderr)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	w.put(t, fields("after"), fields("before"))
	began := time.Now()
	r := inProcess(t, w.args("-group", name, "-out", out, "-drain")...)
	require.Equal(t, 0, r.code, "%v", r)
	require.EqualValues(t, 1, r.summary(t).Out, "%v", r)
	require.EqualValues(t, 1, r.summary(t).Duplicates, "%v", r)
	require.Less(t, time.Since(began), 20*time.Second, "the session times out after 45 s: %v", r)

	lag, err := adm.Lag(t.Context(), name)
	require.NoError(t, err)
	require.EqualValues(t, 0, lag[name].Lag.Total(), "offsets are committed to the group, for dashboards (rule E2)")
}

// records reads all of the topic.
func (w *world) records(t *testing.T) (values [][]byte) {
	t.Helper()
	ends, err := kadm.NewClient(w.cl).ListEndOffsets(t.Context(), w.topic)
	require.NoError(t, err)
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(w.brokers, ",")...), kgo.ConsumeTopics(w.topic))
	require.NoError(t, err)
	defer cl.Close()
	for int64(len(values)) < total {
		cl.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) { values = append(values, r.Value) })
	}
	return values
}
