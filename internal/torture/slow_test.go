package torture

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/stage"
)

// slowSink keeps no rows, takes its time for each batch, or never has a reason to commit
// before it must.
type slowSink struct {
	each   time.Duration
	notYet bool
	rows   int64
	held   map[string]leat.Position
}

func (s *slowSink) Name() string                         { return "lento" }
func (s *slowSink) Guarantee() leat.Guarantee            { return leat.ExactlyOnce }
func (s *slowSink) Open(context.Context, leat.Env) error { return nil }
func (s *slowSink) Close() error                         { return nil }
func (s *slowSink) Restore(context.Context, []string) (map[string]leat.Position, error) {
	return s.held, nil
}

func (s *slowSink) Write(ctx context.Context, b *leat.Batch[fila]) error {
	s.rows += int64(b.Len())
	if s.each > 0 {
		select {
		case <-time.After(s.each):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *slowSink) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if s.notYet && !cp.Force {
		return false, nil
	}
	s.held = cp.Positions
	return true, nil
}

// rules A5, E9, F8: a source that could read hundreds of megabytes a second, before a sink that
// takes 50 ms for each batch, or one that answers "not yet" all the time: memory stays
// where it was, and so do goroutines, and never is more in flight than the budget says.
func TestSlowSink(t *testing.T) {
	length := 3 * time.Second
	switch {
	case os.Getenv("LEAT_LONG") == "1":
		length = 3 * time.Minute
	case testing.Short():
		t.Skip("runs without -short")
	}
	const budget, chunk = 4 << 20, 64 << 10
	out := newTable("sink", "seconds", "rows", "MB read", "budget MB", "in flight MB", "used %", "heap MB first half", "second half", "goroutines", "second half ")
	for _, c := range []struct {
		name   string
		sink   *slowSink
		repeat int // passes over one file's text: files of it
	}{
		{"50 ms a batch", &slowSink{each: 50 * time.Millisecond}, 1 + int(length/time.Second)/4},
		{"not yet", &slowSink{each: 5 * time.Millisecond, notYet: true}, 2 + 2*int(length/time.Second)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := inMemory(t)
			var text strings.Builder // 8 MB
			text.WriteString("n,texto\n")
			for n := range 80_000 {
				fmt.Fprintf(&text, "%d,%s\n", n, strings.Repeat("x", 90))
			}
			in := filepath.Join(dir, "in")
			require.NoError(t, os.Mkdir(in, 0o700))
			for i := range min(c.repeat, 400) {
				require.NoError(t, os.WriteFile(filepath.Join(in, fmt.Sprintf("%05d.csv", i)), fmt.Appendf(nil, "%s%d,the last one\n", text.String(), i), 0o600))
			}
			p := leat.New("lento", leat.Config{StateDir: filepath.Join(dir, "state"), BudgetBytes: budget, CheckpointEvery: 50 * time.Millisecond,
				Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			rows := leat.From(p, csvsource.New(csvsource.Config[fila]{Name: "entrada", Dir: in, ChunkBytes: chunk}))
			leat.To(leat.Via(rows, "igual", stage.Map(func(r fila) (fila, error) { r.N++; return r, nil })), c.sink)

			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			var heap, goroutines [2]int64 // the most of each half, the warm-up left out
			var flight int64
			used, samples := 0, 0
			began := time.Now()
			over := false
			for time.Since(began) < length && !over {
				select {
				case err := <-ended:
					require.NoError(t, err)
					over = true
					continue
				case <-time.After(length / 120):
				}
				at := time.Since(began)
				s := p.Stats()
				flight = max(flight, s.InFlight)
				if at < length/6 {
					continue
				}
				samples++
				if s.InFlight > budget/2 {
					used++
				}
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				half := 0
				if at > length*7/12 {
					half = 1
				}
				heap[half] = max(heap[half], int64(m.HeapAlloc))
				goroutines[half] = max(goroutines[half], int64(runtime.NumGoroutine()-before))
			}
			took := time.Since(began)
			cancel()
			if !over {
				require.NoError(t, <-ended)
			}
			mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
			out.add(c.name, int(took.Seconds()+0.5), c.sink.rows, c.sink.rows*100>>20, mb(budget), mb(flight), 100*used/max(samples, 1), mb(heap[0]), mb(heap[1]), goroutines[0], goroutines[1])

			require.False(t, over, "the input was too small for this test: %d rows in %v", c.sink.rows, took)
			require.LessOrEqual(t, flight, int64(budget+chunk), "rule A5: in flight at once")
			require.LessOrEqual(t, heap[1], heap[0]*11/10+1<<20, "the heap grows: the most of the first half, of the second half")
			require.LessOrEqual(t, heap[1], int64(3*budget+16<<20), "the heap")
			require.LessOrEqual(t, goroutines[1], goroutines[0]+8, "goroutines")
			if c.sink.each > 0 {
				require.Greater(t, used, samples/2, "the source was not faster than the sink")
			}
		})
	}
	out.log(t, "slow sinks")
}
