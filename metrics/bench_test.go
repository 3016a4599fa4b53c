package metrics_test

import (
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/metrics"
)

// BenchmarkObserve is one event. A batch has one of its own and one per sink.
func BenchmarkObserve(b *testing.B) {
	m := metrics.New(metrics.Config{})
	for _, kind := range []string{leat.EventBatch, leat.EventWrite} {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			e := leat.Event{Kind: kind, Pipeline: "ventas", Node: "archivos", Rows: 512, Duration: time.Millisecond}
			for b.Loop() {
				m.Observe(e)
			}
		})
	}
}
