//go:build unix

package stage_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/stage"
)

type purchase struct {
	id string
	at time.Time
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDedupe gives rows through Process, with keys of 36 characters as UUIDs have
// them. cpu-ns/row is right on a busy machine too.
func BenchmarkDedupe(b *testing.B) {
	const n, batch = 1_000_000, 2000
	rows := make([]purchase, n)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		rows[i] = purchase{fmt.Sprintf("%08x-aaaa-bbbb-cccc-%012x", uint32(i)*2654435761, i), start.Add(time.Duration(i) * time.Millisecond)}
	}
	var batches []*leat.Batch[purchase]
	for i := 0; i < n; i += batch {
		in := new(leat.Batch[purchase])
		for k, r := range rows[i : i+batch] {
			in.Append(r, i+k)
		}
		batches = append(batches, in)
	}
	for _, c := range []struct {
		name string
		ttl  time.Duration
		seen bool
	}{{"new", 0, false}, {"seen", 0, true}, {"new, TTL", 24 * time.Hour, false}, {"new, TTL of 100,000 rows", 100 * time.Second, false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			fresh := func() *stage.Dedupe[purchase, string] {
				d := &stage.Dedupe[purchase, string]{Key: func(p *purchase) string { return p.id }, TTL: c.ttl, MaxFutureSkew: -1}
				if c.ttl > 0 {
					d.Time = func(p *purchase) time.Time { return p.at }
				}
				return d
			}
			d := fresh()
			run := func(d *stage.Dedupe[purchase, string], from int) {
				in := batches[from/batch]
				if c.seen { // other offsets
					in = batches[(n-from-batch)/batch]
				}
				require.NoError(b, d.Process(b.Context(), in, new(leat.Batch[purchase])))
				if from/batch%50 == 0 {
					_, _ = d.Delta("")
				}
			}
			if c.seen {
				other := new(leat.Batch[purchase])
				for i := range rows {
					other.Append(rows[i], i+n)
				}
				require.NoError(b, d.Process(b.Context(), other, new(leat.Batch[purchase])))
				_, _ = d.Delta("")
			}
			b.ResetTimer()
			began := cpu()
			for i := 0; i < b.N; i += batch {
				if i%n == 0 && !c.seen {
					d = fresh()
				}
				run(d, i%n)
			}
			b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/row")
			keys, bytes := d.StateSize()
			b.ReportMetric(float64(bytes)/float64(max(keys, 1)), "B/key")
		})
	}
}
