package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/stage"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sized is a stage that says how much it remembers.
type sized struct{ leat.Stage[int, int] }

func (sized) StateSize() (keys, bytes int64) { return 7, 4096 }

// lagging is a source that knows what is left to read.
type lagging struct{ *leattest.MemSource[int] }

func (lagging) Lag() map[string]int64 { return map[string]int64{"0": 40, "1": 2} }

type fault struct{}

func (fault) Error() string                { return "quantity: must be positive" }
func (fault) Field() (column, rule string) { return "quantity", "gte=1" }
func config(t *testing.T, m *metrics.Metrics) leat.Config {
	return leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Observe: m.Observe}
}

func ints(from, to int) (rows []int) {
	for i := from; i < to; i++ {
		rows = append(rows, i)
	}
	return rows
}

// orders is a pipeline with one of everything: of 100 rows 10 are filtered, 9 have no
// quantity, and one is refused by the sink.
func orders(name string, c leat.Config, src leat.Source[int], sink *leattest.Collector[int]) *leat.Pipeline {
	p := leat.New(name, c)
	keep := leat.Via(leat.From(p, src), "keep", stage.Filter(func(n int) bool { return n%10 != 9 }))
	check := leat.Via(keep, "check", leat.Stage[int, int](sized{stage.Check(func(n int) error {
		if n%10 == 5 && n != 5 {
			return fault{}
		}
		return nil
	})}))
	leat.To(check, sink.RejectIf(func(n int) error {
		if n == 42 {
			return errors.New("42 again")
		}
		return nil
	}))
	return p
}

// get serves a page without a network, so that it also works in a bubble.
func get(t *testing.T, h http.Handler, path string, header ...string) (code int, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// scrape gives the samples of a page by name and labels, as Prometheus writes them.
func scrape(t *testing.T, h http.Handler) map[string]float64 {
	t.Helper()
	code, body := get(t, h, "/metrics")
	require.Equal(t, http.StatusOK, code, body)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	out := map[string]float64{}
	for name, f := range families {
		for _, sample := range f.GetMetric() {
			at := name + "{"
			for i, l := range sample.GetLabel() {
				if i > 0 {
					at += ","
				}
				at += l.GetName() + "=" + l.GetValue()
			}
			at += "}"
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out[at] = sample.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				out[at] = sample.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				out[at+"_count"] = float64(sample.GetHistogram().GetSampleCount())
				out[at+"_sum"] = sample.GetHistogram().GetSampleSum()
			}
		}
	}
	return out
}

func TestOneOfEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{})
		h := m.Handler()
		sink := leattest.Collect[int]().Slow(20*time.Millisecond).FailWrite(2, leat.Transient(errors.New("busy"))).FailCommit(2, leat.ErrAborted)
		p := orders("orders", config(t, m), lagging{leattest.Rows(ints(0, 100)...).Batches(10).Slow(time.Second).Endless()}, sink)
		m.Watch(p)
		m.Watch(p) // the same
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()

		s := scrape(t, h)
		for at, want := range map[string]float64{
			"leat_up{pipeline=orders}":                                                            1,
			"leat_rewinds_total{pipeline=orders}":                                                 1,
			"leat_stops_total{outcome=ok,pipeline=orders}":                                        0,
			"leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}":                   100,
			"leat_rows_total{kind=stage,node=keep,outcome=filtered,pipeline=orders}":              10,
			"leat_rows_total{kind=stage,node=check,outcome=in,pipeline=orders}":                   90,
			"leat_rows_total{kind=stage,node=check,outcome=rejected,pipeline=orders}":             9,
			"leat_rows_total{kind=sink,node=collect,outcome=in,pipeline=orders}":                  81,
			"leat_rows_total{kind=sink,node=collect,outcome=out,pipeline=orders}":                 80,
			"leat_rows_total{kind=sink,node=collect,outcome=rejected,pipeline=orders}":            1,
			"leat_rejected_rows_total{class=Contract,column=quantity,pipeline=orders,rule=gte=1}": 9,
			"leat_rejected_rows_total{class=SinkReject,column=-,pipeline=orders,rule=-}":          1,
			"leat_dead_letters_total{class=Contract,pipeline=orders}":                             9,
			"leat_dead_letters_total{class=SinkReject,pipeline=orders}":                           1,
			"leat_dead_letters_total{class=Decode,pipeline=orders}":                               0,
			"leat_retries_total{node=collect,pipeline=orders}":                                    1,
			"leat_lag_records{partition=rows/0,pipeline=orders}":                                  40,
			"leat_lag_records{partition=rows/1,pipeline=orders}":                                  2,
			"leat_state_keys{pipeline=orders,stage=check}":                                        7,
			"leat_state_bytes{pipeline=orders,stage=check}":                                       4096,
			"leat_in_flight_bytes{pipeline=orders}":                                               0,
			"leat_in_flight_batches{pipeline=orders}":                                             0,
			"leat_uncommitted_seconds{pipeline=orders}":                                           0,
		} {
			got, there := s[at]
			assert.True(t, there, at)
			assert.InDelta(t, want, got, 0, at)
		}
		assert.Positive(t, s["leat_batches_total{node=rows,pipeline=orders}"])
		assert.Positive(t, s["leat_checkpoint_duration_seconds{pipeline=orders}_count"])
		assert.Positive(t, s["leat_sink_commit_duration_seconds{node=collect,pipeline=orders}_count"])
		assert.GreaterOrEqual(t, s["leat_sink_write_duration_seconds{node=collect,pipeline=orders}_sum"], 0.2)
		assert.Greater(t, s["leat_checkpoint_age_seconds{pipeline=orders}"], 30.0, "idle: only this one grows")
		assert.NotZero(t, s["leat_last_checkpoint_timestamp_seconds{pipeline=orders}"])

		code, body := get(t, h, "/healthz")
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, "orders: ok\n", body)

		stop()
		require.NoError(t, <-done)
		s = scrape(t, h)
		assert.Zero(t, s["leat_up{pipeline=orders}"])
		assert.InDelta(t, 1, s["leat_stops_total{outcome=ok,pipeline=orders}"], 0)
		assert.InDelta(t, 100, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}"], 0, "counts stay")
		assert.NotContains(t, s, "leat_lag_records{partition=rows/0,pipeline=orders}")
	})
}

// The JSON page, to the byte: time is virtual and nothing in it is random.
func TestJSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{})
		sink := leattest.Collect[int]().Slow(20*time.Millisecond).FailWrite(2, leat.Transient(errors.New("busy")))
		c := config(t, m)
		c.Retry = leat.Retry{First: time.Nanosecond} // no jitter to speak of
		c.CheckpointEvery = 930 * time.Millisecond   // never at the instant of a row
		p := orders("orders", c, lagging{leattest.Rows(ints(0, 100)...).Batches(10).Slow(time.Second).Endless()}, sink)
		m.Watch(p)
		m.Watch(leat.New("not started", leat.Config{}))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		code, got := get(t, m.Handler(), "/metrics.json")
		require.Equal(t, http.StatusOK, code)
		stop()
		require.NoError(t, <-done)

		golden := filepath.Join("testdata", "metrics.json")
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), got, "go test ./metrics -update writes it anew")
	})
}

// What waits behind a slow sink is in flight, on both pages.
func TestInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{})
		p := leat.New("slow", config(t, m))
		leat.To(leat.From(p, leattest.Rows(ints(0, 100)...).Batches(10)), leattest.Collect[int]().Slow(time.Minute))
		m.Watch(p)
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		time.Sleep(90 * time.Second) // one batch is through, nothing is committed
		synctest.Wait()
		s, now := scrape(t, m.Handler()), p.Stats()
		assert.Positive(t, now.InFlight)
		assert.InDelta(t, float64(now.InFlight), s["leat_in_flight_bytes{pipeline=slow}"], 0)
		assert.InDelta(t, 9, s["leat_in_flight_batches{pipeline=slow}"], 0)
		assert.InDelta(t, 90, s["leat_uncommitted_seconds{pipeline=slow}"], 1)
		_, body := get(t, m.Handler(), "/metrics.json")
		var page struct {
			Pipelines []struct {
				InFlight struct{ Bytes, Batches int64 } `json:"in_flight"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		assert.Equal(t, now.InFlight, page.Pipelines[0].InFlight.Bytes)
		assert.EqualValues(t, 9, page.Pipelines[0].InFlight.Batches)
		require.NoError(t, <-done)
	})
}

// Counters go up only, whatever the pipeline takes back.
func TestCountersNeverStepBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{})
		h := m.Handler()
		sink := leattest.Collect[int]().Slow(10 * time.Millisecond)
		for n := 2; n < 30; n += 3 {
			sink.FailCommit(n, leat.ErrAborted)
		}
		c := config(t, m)
		c.Retry.First = time.Millisecond
		p := orders("orders", c, leattest.Rows(ints(0, 2000)...).Batches(20).Slow(200*time.Millisecond), sink)
		m.Watch(p)
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		last, stood := map[string]float64{}, 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			now := scrape(t, h)
			for at, v := range last {
				if strings.Contains(at, "_total{") || strings.HasSuffix(at, "_count") || strings.HasSuffix(at, "_sum") {
					require.GreaterOrEqual(t, now[at], v, at)
				}
			}
			if now["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}"] > float64(p.Stats().Run.In) {
				stood++
			}
			last = now
		}
		require.NoError(t, <-done)
		s := scrape(t, h)
		assert.Positive(t, stood, "no rewind took anything back: the test shows nothing")
		assert.Greater(t, s["leat_rewinds_total{pipeline=orders}"], 3.0)
		assert.InDelta(t, 2000, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}"], 0, "each row once")
		assert.InDelta(t, float64(len(sink.Committed())), s["leat_rows_total{kind=sink,node=collect,outcome=out,pipeline=orders}"], 0)
	})
}

// A program that builds its pipeline anew for each pass has counters that go on, and
// keeps no pipeline that has ended.
func TestPassesOfOneName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{})
		h := m.Handler()
		c := config(t, m)
		sink := leattest.Collect[int]()
		for pass := 1; pass <= 3; pass++ {
			p := orders("orders", c, leattest.Rows(ints(0, 100*pass)...), sink)
			m.Watch(p)
			code, body := get(t, h, "/healthz")
			assert.Equal(t, pass > 1, code == http.StatusOK, body)
			require.NoError(t, p.Run(t.Context()))
			s := scrape(t, h)
			assert.InDelta(t, 100*pass, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}"], 0)
			assert.InDelta(t, pass, s["leat_stops_total{outcome=ok,pipeline=orders}"], 0)
			code, body = get(t, h, "/healthz")
			assert.Equal(t, http.StatusOK, code)
			assert.Equal(t, "orders: ok: ended, all that was read is committed\n", body)
			sink = sink.Successor()
		}
		failing := orders("orders", c, leattest.Rows(ints(0, 400)...).FailAt(350, errors.New("no more")), sink)
		m.Watch(failing)
		require.Error(t, failing.Run(t.Context()))
		s := scrape(t, h)
		assert.InDelta(t, 350, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=orders}"], 0)
		assert.InDelta(t, 1, s["leat_stops_total{outcome=failed,pipeline=orders}"], 0)
		code, body := get(t, h, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "orders: stopped with an error; the log has it\n", body)
		m.Watch(orders("orders", c, leattest.Rows(ints(0, 500)...), sink.Successor()))
		code, body = get(t, h, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code, "the next one has not begun")
		assert.Equal(t, "orders: stopped with an error; the log has it\n", body)
	})
}

// Of members that run side by side one fails and the others are drained, in whatever order
// they were watched.
func TestAMemberFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			m := metrics.New(metrics.Config{})
			var members []*leat.Pipeline
			for i := range 2 {
				src := leattest.Rows(ints(0, 400)...).Endless()
				if i == failing {
					src = leattest.Rows(ints(0, 400)...).FailAt(350, errors.New("no more"))
				}
				members = append(members, orders("orders", config(t, m), src, leattest.Collect[int]()))
				m.Watch(members[i])
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- members[1-failing].Run(ctx) }()
			time.Sleep(time.Second)
			require.Error(t, members[failing].Run(ctx))
			time.Sleep(time.Second)
			stop()
			require.NoError(t, <-done)
			code, body := get(t, m.Handler(), "/healthz")
			assert.Equal(t, http.StatusServiceUnavailable, code)
			assert.Equal(t, "orders: stopped with an error; the log has it\n", body)
		})
	}
}

// deaf is a state store that can't be reached.
type deaf struct{ leat.StateStore }

func (deaf) Open(context.Context, string) error {
	return leat.Transient(errors.New("no route to host"))
}
func (deaf) Close() error { return nil }

// A pipeline that never comes to open its sinks, since its state can't be had, is stuck too; one that waits
// for the process that runs it is not.
func TestHealthBeforeTheSinksAreOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{Patience: time.Minute})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 3)
		run := func(name string, c leat.Config) {
			p := orders(name, c, leattest.Rows(ints(0, 10)...).Endless(), leattest.Collect[int]())
			m.Watch(p)
			go func() { done <- p.Run(ctx) }()
		}
		c := config(t, m)
		c.State = deaf{}
		run("a", c)
		c = config(t, m)
		run("b", c)
		time.Sleep(time.Second)
		run("c", c) // in the folder of b
		time.Sleep(2 * time.Minute)
		code, body := get(t, m.Handler(), "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "a: stuck: nothing could be committed for 2m1s; the log has the reason\nb: ok\nc: ok\n", body)
		stop()
		for range 3 {
			<-done
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New(metrics.Config{Patience: time.Minute})
		h := m.Handler()
		code, body := get(t, h, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "no pipeline is watched\n", body)

		var down atomic.Bool
		down.Store(true)
		sink := leattest.Collect[int]().OnCall(func(call string) error {
			if call == "Write" && down.Load() {
				return leat.Transient(errors.New("secret row"))
			}
			return nil
		})
		p := leat.New("orders", config(t, m))
		leat.To(leat.From(p, leattest.Rows(ints(0, 10)...).Endless()), sink)
		m.Watch(p)
		code, body = get(t, h, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "orders: not started\n", body)

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute - time.Second)
		code, _ = get(t, h, "/healthz")
		assert.Equal(t, http.StatusOK, code)
		time.Sleep(2 * time.Second)
		code, body = get(t, h, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "orders: stuck: nothing could be committed for 1m1s; the log has the reason\n", body)

		down.Store(false)
		time.Sleep(time.Hour) // all is committed, and nothing comes any more
		code, body = get(t, h, "/healthz")
		assert.Equal(t, http.StatusOK, code, body)
		stop()
		require.NoError(t, <-done)

		code, _ = get(t, h, "/")
		assert.Equal(t, http.StatusNotFound, code)
	})
}

// Names and help texts are as Prometheus wants them, in a registry that is not ours.
func TestLint(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Config{})
	c := config(t, m)
	c.OnReject = map[leat.Class]leat.Policy{leat.Contract: leat.SkipRow}
	p := orders("bad \xff name", c, lagging{leattest.Rows(ints(0, 100)...)}, leattest.Collect[int]())
	q := orders("orders", config(t, m), lagging{leattest.Rows(ints(0, 100)...)}, leattest.Collect[int]())
	m.Watch(p)
	m.Watch(q)
	require.NoError(t, leat.Run(t.Context(), p, q))
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m.Collector()))
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	assert.Empty(t, problems)
	s := scrape(t, m.Handler())
	assert.InDelta(t, 9, s["leat_dead_letters_total{class=Contract,pipeline=orders}"], 0)
	assert.Zero(t, s["leat_dead_letters_total{class=Contract,pipeline=bad \uFFFD name}"], "skipped rows have no letter")
	assert.InDelta(t, 9, s["leat_rejected_rows_total{class=Contract,column=quantity,pipeline=bad \uFFFD name,rule=gte=1}"], 0)

	families, err := prometheus.DefaultGatherer.Gather()
	require.NoError(t, err)
	for _, f := range families {
		assert.NotContains(t, f.GetName(), "leat_", "in the global registry")
	}
	_, open := get(t, m.Handler(), "/metrics", "Accept", "application/openmetrics-text;version=1.0.0")
	assert.True(t, strings.HasSuffix(open, "# EOF\n"), "OpenMetrics")
}

// Several pipelines report while several clients read.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Config{})
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	done := make(chan struct{})
	var readers, runs sync.WaitGroup
	for _, path := range []string{"/metrics", "/metrics.json", "/healthz"} {
		readers.Go(func() {
			for {
				answer, err := server.Client().Get(server.URL + path)
				if !assert.NoError(t, err) {
					return
				}
				body, err := io.ReadAll(answer.Body)
				assert.NoError(t, err)
				assert.NoError(t, answer.Body.Close())
				if path == "/metrics.json" {
					assert.True(t, json.Valid(body))
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for _, name := range []string{"a", "b", "b"} {
		runs.Go(func() {
			for range 5 {
				p := orders(name, config(t, m), leattest.Rows(ints(0, 5000)...).Batches(50), leattest.Collect[int]())
				m.Watch(p)
				assert.NoError(t, p.Run(t.Context()))
			}
		})
	}
	runs.Wait()
	close(done)
	readers.Wait()
	s := scrape(t, m.Handler())
	assert.InDelta(t, 25000, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=a}"], 0)
	assert.InDelta(t, 50000, s["leat_rows_total{kind=source,node=rows,outcome=in,pipeline=b}"], 0)
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := metrics.New(metrics.Config{})
	e := leat.Event{Kind: leat.EventWrite, Pipeline: "p", Node: "n", Duration: time.Second}
	m.Observe(e)
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.Observe(e) }))
}
