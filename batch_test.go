package leat

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
)

// stageOutput is a batch as Via gives it to a stage that reads in.
func stageOutput(p *rowPool[int], in *Batch[int]) *Batch[int] {
	out := p.batch()
	out.in = &in.trace
	return out
}

// records are where the rows of a batch came from.
func records(b *Batch[int]) []int {
	out := make([]int, b.Len())
	for i := range out {
		out[i] = b.trace.Record(i)
	}
	return out
}

// What AppendRows does is what Append does row by row, whatever the batch before it
// looks like and however the two are mixed.
func TestAppendRowsIsAppendOfEach(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 5))
		pool, slow := new(rowPool[int]), new(rowPool[int])
		in := pool.batch()
		for from, n := rng.IntN(3), 0; n < rng.IntN(30); n++ {
			in.Append(n*10, from)
			if rng.IntN(4) > 0 {
				from += 1 + rng.IntN(4)/3
			}
		}
		in.made()
		for range 3 { // a chain of stages
			a, b := stageOutput(pool, in), stageOutput(slow, in)
			for i := 0; i < in.Len(); {
				j := i + rng.IntN(in.Len()-i+1)
				if rng.IntN(3) == 0 {
					j = in.Len()
				}
				a.AppendRows(in, i, j)
				for k := i; k < j; k++ {
					b.Append(in.rows[k], k)
				}
				if i = j; i < in.Len() && rng.IntN(2) == 0 { // several of one
					for range rng.IntN(3) {
						a.Append(-i, i)
						b.Append(-i, i)
					}
					i++
				}
			}
			a.made()
			b.made()
			msg := fmt.Sprintf("seed %d", seed)
			require.Equal(t, append([]int{}, b.rows...), append([]int{}, a.rows...), msg)
			require.Equal(t, records(b), records(a), msg)
			require.Equal(t, b.inputs, a.inputs, msg)
			(*erased[int])(in).Release()
			(*erased[int])(b).Release()
			in = a
		}
	}
}

// Rows that are shared are given back when the last batch that has them is.
func TestSharedRowsOutliveTheBatchTheyCameFrom(t *testing.T) {
	t.Parallel()
	pool := new(rowPool[int])
	in := pool.batch()
	for i := range 10 {
		in.Append(i+1, i)
	}
	in.made()
	out := stageOutput(pool, in)
	out.AppendRows(in, 0, 10)
	out.made()
	require.Same(t, &in.rows[0], &out.rows[0], "nothing is copied")
	merged := mergeBatches[int]([]engine.Batch{(*erased[int])(out)}).(*erased[int])
	(*erased[int])(in).Release()
	(*erased[int])(out).Release()
	require.Empty(t, out.rows)
	require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, merged.rows)
	kept := merged.rows
	merged.Release()
	require.Equal(t, make([]int, 10), kept, "scrubbed, as in all tests")
}

// A row that is added to shared rows does not show in the batch they are shared with.
func TestAppendToSharedRows(t *testing.T) {
	t.Parallel()
	pool := new(rowPool[int])
	in := pool.batch()
	in.Grow(10)
	in.Append(1, 0)
	in.made()
	out := stageOutput(pool, in)
	out.AppendRows(in, 0, 1)
	out.Append(2, 0)
	in.Append(3, 1)
	require.Equal(t, []int{1, 2}, out.rows)
	require.Equal(t, []int{1, 3}, in.rows)
}

// Who calls Process in a test of their own gives it batches without a pipeline.
func TestAppendRowsOutsideAPipeline(t *testing.T) {
	t.Parallel()
	in, out := &Batch[int]{}, &Batch[int]{}
	for i := range 5 {
		in.Append(i*10, i)
	}
	out.AppendRows(in, 1, 3)
	out.AppendRows(in, 4, 5)
	require.Equal(t, []int{10, 20, 40}, out.Rows())
	require.Equal(t, []int{1, 2, 4}, records(out))
	all := &Batch[int]{}
	all.AppendRows(in, 0, 5)
	require.Equal(t, []int{0, 10, 20, 30, 40}, all.Rows())
}

func TestAppendRowsOfAnotherBatch(t *testing.T) {
	t.Parallel()
	pool := new(rowPool[int])
	in, other := pool.batch(), pool.batch()
	other.Append(1, 0)
	require.PanicsWithValue(t, "leat: AppendRows takes rows of the batch that the stage was given, of no other",
		func() { stageOutput(pool, in).AppendRows(other, 0, 1) })
}

// Extend and Drop leave what Append of the rows that stay would have left.
func TestExtendAndDrop(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 6))
		pool := new(rowPool[int])
		used := pool.batch()
		for i := range 8 {
			used.Append(99, i)
		}
		used.made()
		(*erased[int])(used).Release()

		a, b := pool.batch(), &Batch[int]{}
		for from := range 12 {
			row := a.Extend(from)
			require.Zero(t, *row, "whatever lay there before")
			*row = from
			if rng.IntN(3) == 0 {
				a.Drop()
				continue
			}
			b.Append(from, from)
		}
		require.Equal(t, append([]int{}, b.rows...), append([]int{}, a.rows...))
		require.Equal(t, records(b), records(a))
		require.Equal(t, b.inputs, a.inputs)
	}
}

// A decoder of columns fills many rows at once, and takes all back if some are bad.
func TestDropMany(t *testing.T) {
	t.Parallel()
	a, b := &Batch[int]{}, &Batch[int]{}
	for from := range 10 {
		*a.Extend(from) = from
	}
	for range 10 {
		a.Drop()
	}
	for _, from := range []int{1, 2, 5, 9} {
		*a.Extend(from) = from
		b.Append(from, from)
	}
	require.Equal(t, b.rows, a.rows)
	require.Equal(t, records(b), records(a))
	require.Equal(t, b.inputs, a.inputs)
}

// Batches cost no memory of their own once some have come and gone.
func TestBatchesReuseTheirMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	type row [16]int64
	pool := new(rowPool[row])
	chunk := func() {
		b := pool.batch()
		for i := range 1000 {
			b.Extend(i)[0] = 1
		}
		b.made()
		out := pool.batch()
		out.in = &b.trace
		out.AppendRows(b, 0, b.Len())
		out.made()
		(*erased[row])(b).Release()
		(*erased[row])(out).Release()
	}
	chunk()
	require.LessOrEqual(t, testing.AllocsPerRun(100, chunk), 3.0, "two batches, and now and then memory that the collector took")
}

// rule A5: one large batch now and then does not make all memory large, of which the
// budget would know nothing.
func TestMemoryIsAsLargeAsItsRows(t *testing.T) {
	t.Parallel()
	pool := new(rowPool[int])
	flight := func(sizes ...int) (room int) {
		var all []*Batch[int]
		for _, n := range sizes {
			b := pool.batch()
			b.Grow(n)
			for i := range min(n, 10) {
				b.Append(1, i)
			}
			b.made()
			all = append(all, b)
			room += cap(b.rows)
		}
		for _, b := range all {
			(*erased[int])(b).Release()
		}
		return room
	}
	small := []int{10, 10, 10, 10, 10, 10, 10, 10}
	for i := range 40 {
		flight(slices.Insert(slices.Clone(small), i%len(small), 100_000)...)
	}
	require.LessOrEqual(t, flight(small...), 8*fewRows)
}

// trials tries a chunk of 1,000 rows again and again.
type trials struct{ allocated uint64 }

func (*trials) Name() string                             { return "trials" }
func (*trials) Commit(context.Context, Checkpoint) error { return nil }
func (*trials) CanRejectFiles() bool                     { return true }

func (s *trials) Run(ctx context.Context, in Intake[[16]int64]) error {
	if _, err := in.Assign(Partition{Log: "log"}); err != nil {
		return err
	}
	var before, after runtime.MemStats
	for i := range 210 {
		if i == 10 {
			runtime.ReadMemStats(&before)
		}
		if _, _, err := in.Try(ctx, Chunk[[16]int64]{Next: 1000, Decode: func(_ context.Context, out *Batch[[16]int64]) error {
			for i := range 1000 {
				out.Extend(i)
			}
			return nil
		}}); err != nil {
			return err
		}
	}
	runtime.ReadMemStats(&after)
	s.allocated = after.TotalAlloc - before.TotalAlloc
	return nil
}

// nowhere is a sink.
type nowhere struct{}

func (nowhere) Open(context.Context, Env) error                  { return nil }
func (nowhere) Write(context.Context, *Batch[[16]int64]) error   { return nil }
func (nowhere) Commit(context.Context, Checkpoint) (bool, error) { return true, nil }
func (nowhere) Close() error                                     { return nil }

// Nor does a pass over a file before it is read (rule B2) cost memory of its own.
func TestTrialsReuseTheirMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	p := New("trials", Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), OnReject: map[Class]Policy{Decode: RejectFile}})
	src := new(trials)
	To(From(p, Source[[16]int64](src)), Sink[[16]int64](nowhere{}))
	require.NoError(t, p.Run(t.Context()))
	require.Less(t, src.allocated, uint64(200*1000*128/10))
}

func TestOffsetsAndOrdinals(t *testing.T) {
	t.Parallel()
	b := new(Batch[int])
	for i, record := range []int{3, 4, 4, 4, 7, 9, 9} {
		b.Append(i, record)
	}
	require.Equal(t, []Offset{3, 4, 4, 4, 7, 9, 9}, b.Offsets(), "outside a pipeline rows are named by their own numbers")
	require.Equal(t, Origin{Offset: 7}, b.Origin(4))
	require.False(t, b.Repeated())
	var ordinals []int
	for i := range b.Len() {
		ordinals = append(ordinals, b.Ordinal(i))
	}
	require.Equal(t, []int{0, 0, 1, 2, 0, 0, 1}, ordinals)
	require.Empty(t, new(Batch[int]).Offsets())
}
