package leat_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/stage"
)

// benchRow is a typed row of 40 bytes.
type benchRow struct {
	ID, Client, Product int64
	Quantity            int64
	Price               float64
}

// benchSource sends the same rows again and again; decoding is a copy.
type benchSource struct {
	rows  []benchRow
	total int
}

func (s *benchSource) Name() string            { return "bench" }
func (s *benchSource) Replay() leat.ReplayKind { return leat.ReplayExact }
func (s *benchSource) Commit(context.Context, leat.Checkpoint) error {
	return nil
}

func (s *benchSource) Run(_ context.Context, in leat.Intake[benchRow]) error {
	if _, err := in.Assign(leat.Partition{Log: "bench"}); err != nil {
		return err
	}
	n := int64(len(s.rows))
	for at := int64(0); at < int64(s.total); at += n {
		err := in.Send(leat.Chunk[benchRow]{
			First: at, Next: at + n, Bytes: 40 * n,
			Decode: func(_ context.Context, out *leat.Batch[benchRow]) error {
				out.Grow(len(s.rows))
				for i := range s.rows {
					out.Append(s.rows[i], i)
				}
				return nil
			},
			Locate: func(records []int) []leat.Origin { return make([]leat.Origin, len(records)) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countSink counts rows.
type countSink struct {
	name string
	rows int
	sum  float64
}

func (s *countSink) Name() string                                          { return s.name }
func (s *countSink) Open(context.Context, leat.Env) error                  { return nil }
func (s *countSink) Close() error                                          { return nil }
func (s *countSink) Commit(context.Context, leat.Checkpoint) (bool, error) { return true, nil }
func (s *countSink) Write(_ context.Context, b *leat.Batch[benchRow]) error {
	for i := range b.Rows() {
		s.sum += b.Rows()[i].Price
	}
	s.rows += b.Len()
	return nil
}

// engineOnce runs total rows, in batches of a size, through two stages into two counting
// sinks.
func engineOnce(b *testing.B, batch, total int, m *metrics.Metrics) {
	rows := make([]benchRow, batch)
	for i := range rows {
		rows[i] = benchRow{int64(i), int64(i % 50), int64(i % 977), int64(i%5 + 1), float64(i) / 3}
	}
	one, two := &countSink{name: "one"}, &countSink{name: "two"}
	c := leat.Config{StateDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	if m != nil {
		c.Observe = m.Observe
	}
	p := leat.New("bench", c)
	raw := leat.From(p, &benchSource{rows, total})
	rich := leat.Via(raw, "enrich", stage.Map(func(r benchRow) (benchRow, error) {
		r.Price *= float64(r.Quantity)
		return r, nil
	}))
	leat.To(leat.Via(rich, "keep", stage.Filter(func(r benchRow) bool { return r.ID >= 0 })), one, two)
	if m != nil {
		m.Watch(p)
	}
	b.StartTimer()
	if err := p.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if one.rows != total || two.rows != total {
		b.Fatalf("sinks got %d and %d of %d rows", one.rows, two.rows, total)
	}
}

// BenchmarkEngine is the engine alone: typed rows through two stages into two
// counting sinks. One op is one row.
func BenchmarkEngine(b *testing.B) {
	for _, batch := range []int{64, 512, 4096} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			total := (b.N + batch - 1) / batch * batch
			b.ReportAllocs()
			b.StopTimer()
			b.ResetTimer()
			engineOnce(b, batch, total, nil)
			b.ReportMetric(float64(total)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

// BenchmarkMetrics is what package metrics costs the engine: runs without it and with it in
// turn, so that what else the machine does meets both, and the median of the pairs' ratios of processor
// time. One op is one row of each. A scraper asks every second, 15 times as often as Prometheus.
func BenchmarkMetrics(b *testing.B) {
	const round = 1 << 18
	for _, batch := range []int{64, 512, 4096} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			m := metrics.New(metrics.Config{})
			watch := m.Handler()
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for tick := time.NewTicker(time.Second); ; {
					select {
					case <-tick.C:
						watch.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
					case <-done:
						tick.Stop()
						return
					}
				}
			})
			took := func(total int, m *metrics.Metrics) float64 {
				before := cpuTime()
				engineOnce(b, batch, total, m)
				return (cpuTime() - before).Seconds()
			}
			b.StopTimer()
			b.ResetTimer()
			var ratios []float64
			for left := b.N; left > 0; left -= round {
				total := (min(left, round) + batch - 1) / batch * batch
				var with, without float64
				if len(ratios)%2 == 0 {
					without = took(total, nil)
					with = took(total, m)
				} else {
					with = took(total, m)
					without = took(total, nil)
				}
				ratios = append(ratios, with/without)
			}
			close(done)
			wg.Wait()
			slices.Sort(ratios)
			b.ReportMetric((ratios[len(ratios)/2]-1)*100, "%cpu")
		})
	}
}
