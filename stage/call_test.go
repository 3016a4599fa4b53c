package stage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// batch makes a batch outside of a pipeline.
func batch[T any](rows ...T) *leat.Batch[T] {
	b := new(leat.Batch[T])
	for i, r := range rows {
		b.Append(r, i)
	}
	return b
}

// Rule A4: order is kept, though calls end in any order.
func TestCallKeepsOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 64, 1000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got := pass(t, stage.Call(n, func(ctx context.Context, i int) (string, error) {
					time.Sleep(rand.N(100 * time.Millisecond))
					return strconv.Itoa(i), nil
				}), count(350)...)
				require.NoError(t, got.err)
				require.Len(t, got.rows, 350)
				for i, r := range got.rows {
					require.Equal(t, strconv.Itoa(i), r, "rule A4")
					require.EqualValues(t, i, got.at[i])
				}
			})
		})
	}
}

// The bound is the stage's, whatever the number of batches and partitions.
func TestCallBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 7
		var now, most atomic.Int64
		got := passFrom(t, stage.Call(n, func(_ context.Context, i int) (int, error) {
			c := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); c > m && !most.CompareAndSwap(m, c); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			return i, nil
		}), leattest.Rows(count(500)...).Partitions(3).Batches(9))
		require.NoError(t, got.err)
		assert.Len(t, got.rows, 500)
		assert.EqualValues(t, n, most.Load(), "never more than n calls at once, and all n are used")
	})
}

func TestCallRejectsOneRow(t *testing.T) {
	t.Parallel()
	got := pass(t, stage.Call(4, func(_ context.Context, i int) (int, error) {
		switch i % 50 {
		case 7:
			return -1, errBad
		case 8:
			panic(fmt.Sprintf("row %d", i))
		}
		return i, nil
	}), count(120)...)
	require.NoError(t, got.err)
	assert.Len(t, got.rows, 114)
	require.Len(t, got.letters, 6)
	assert.Equal(t, []leat.Offset{7, 8, 57, 58, 107, 108}, got.rejected())
	assert.Equal(t, "bad row", got.letters[0].Error)
	assert.Empty(t, got.letters[0].Stack)
	assert.Equal(t, "panic: row 8", got.letters[1].Error)
	assert.Contains(t, got.letters[1].Stack, "call_test.go", "rule A9: with its stack, from the worker's goroutine")
	for _, l := range got.letters {
		assert.Equal(t, leat.Transform, l.Class)
	}
}

// Rule B8: the batch is tried again as a whole, after the calls that run.
func TestCallTransient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 5
		var calls, running atomic.Int64
		var down atomic.Bool
		down.Store(true)
		st := stage.Call(n, func(_ context.Context, i int) (int, error) {
			calls.Add(1)
			running.Add(1)
			defer running.Add(-1)
			time.Sleep(time.Duration(i+1) * time.Second)
			switch {
			case down.Load() && i == 2:
				return 0, leat.Transient(errors.New("429"))
			case down.Load() && i == 4:
				return 0, fmt.Errorf("api: %w", leat.Transient(errors.New("503")))
			case i == 3:
				return 0, errBad
			}
			return i, nil
		})
		err := st.Process(t.Context(), batch(count(100)...), new(leat.Batch[int]))
		require.Error(t, err)
		assert.True(t, leat.IsTransient(err), "rule B8: %v", err)
		assert.Equal(t, "429\napi: 503", err.Error(), "all that failed is told")
		assert.Zero(t, running.Load(), "running calls are waited for")
		assert.Less(t, calls.Load(), int64(10), "no more calls are started")

		down.Store(false)
		out := new(leat.Batch[int])
		require.NoError(t, st.Process(t.Context(), batch(count(10)...), out))
		assert.Equal(t, []int{0, 1, 2, 4, 5, 6, 7, 8, 9}, out.Rows())
	})
}

func TestCallTransientThroughTheEngine(t *testing.T) {
	t.Parallel()
	var failures atomic.Int64
	failures.Store(3)
	got := pass(t, stage.Call(2, func(_ context.Context, i int) (int, error) {
		if i == 150 && failures.Add(-1) >= 0 {
			return 0, leat.Transient(errors.New("503"))
		}
		return i, nil
	}), count(250)...)
	require.NoError(t, got.err)
	assert.Equal(t, count(250), got.rows)
	assert.Empty(t, got.letters, "rule B8: never dead-lettered")
	assert.Equal(t, 3, got.retries)
}

func TestCallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, obedient := range map[string]bool{"calls that see the context": true, "calls that do not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stop := errors.New("revoked")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(stop) })
				var running atomic.Int64
				st := stage.Call(3, func(ctx context.Context, i int) (int, error) {
					running.Add(1)
					defer running.Add(-1)
					done := ctx.Done()
					if !obedient {
						done = nil
					}
					select {
					case <-done:
						return 0, ctx.Err()
					case <-time.After(time.Hour):
						return i, nil
					}
				})
				start := time.Now()
				err := st.Process(ctx, batch(count(10)...), new(leat.Batch[int]))
				require.ErrorIs(t, err, stop)
				assert.Equal(t, time.Minute, time.Since(start), "Process returns when the context ends")

				synctest.Wait()
				if !obedient {
					assert.EqualValues(t, 3, running.Load())
					// They hold their slots; then the stage works as before.
					out := new(leat.Batch[int])
					require.NoError(t, st.Process(t.Context(), batch(1, 2), out))
					assert.Equal(t, []int{1, 2}, out.Rows())
				}
				assert.Zero(t, running.Load())
			})
		})
	}
}

// A context that has ended rejects no row, whatever its calls return.
func TestCallContextEndsBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	called := false
	st := stage.Call(3, func(context.Context, int) (int, error) { called = true; return 0, nil })
	require.ErrorIs(t, st.Process(ctx, batch(1, 2, 3), new(leat.Batch[int])), context.Canceled)
	assert.False(t, called)
}

func TestCallFaults(t *testing.T) {
	t.Parallel()
	ok := func(context.Context, int) (int, error) { return 0, nil }
	for _, n := range []int{0, -3} {
		err := stage.Call(n, ok).(leat.Validator).Validate()
		require.ErrorContains(t, err, fmt.Sprintf("n is %d", n))
	}
	require.NoError(t, stage.Call(1, ok).(leat.Validator).Validate())
	assert.True(t, stage.Call(1, ok).(leat.Blocking).Blocking(), "rule A5: no slot while waiting")
	assert.True(t, stage.CallBatch(func(context.Context, []int) ([]int, error) { return nil, nil }).(leat.Blocking).Blocking(), "rule A5")
}

func TestCallBatch(t *testing.T) {
	t.Parallel()
	double := func(rows []int) []int {
		for i := range rows {
			rows[i] *= 2 // the slice is the function's own
		}
		return rows
	}
	var mu sync.Mutex
	var sizes []int
	counted := func(rows []int) []int {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(rows))
		return rows
	}
	failures := 2

	for name, c := range map[string]struct {
		f    func([]int) ([]int, error)
		bad  []leat.Offset
		msg  string
		then func(t *testing.T, got outcome[int])
	}{
		"one call per batch": {
			f: func(rows []int) ([]int, error) { return double(counted(rows)), nil },
			then: func(t *testing.T, _ outcome[int]) {
				slices.Sort(sizes)
				assert.Equal(t, []int{50, 100, 100}, sizes)
			},
		},
		"an error is pinned on its row": {
			f: func(rows []int) ([]int, error) {
				if slices.Contains(rows, 42) {
					return nil, errBad
				}
				return double(rows), nil
			},
			bad: []leat.Offset{42}, msg: "bad row",
		},
		"a panic is pinned on its row (rule A9)": {
			f: func(rows []int) ([]int, error) {
				if slices.Contains(rows, 42) {
					panic("at 42")
				}
				return double(rows), nil
			},
			bad: []leat.Offset{42}, msg: "panic: at 42",
		},
		"a result too few": {
			f: func(rows []int) ([]int, error) {
				return double(slices.DeleteFunc(rows, func(n int) bool { return n == 42 })), nil
			},
			bad: []leat.Offset{42}, msg: "stage.CallBatch: the function returned 0 results for 1 rows: it must return one per row, in the same order",
		},
		"a result too many": {
			f: func(rows []int) ([]int, error) {
				if slices.Contains(rows, 42) {
					rows = append(rows, 43)
				}
				return double(rows), nil
			},
			bad: []leat.Offset{42}, msg: "stage.CallBatch: the function returned 2 results for 1 rows: it must return one per row, in the same order",
		},
		"RowErrors name the rows at fault": {
			f: func(rows []int) ([]int, error) {
				n := len(counted(rows))
				if rows[0] != 100 {
					return double(rows), nil
				}
				return double(rows), fmt.Errorf("api: %w", &leat.RowErrors{Rows: []leat.RowError{{Row: n - 1, Err: errBad}, {Row: 0, Err: errBad}, {Row: 3, Err: errBad}}})
			},
			bad: []leat.Offset{100, 103, 199}, msg: "bad row",
		},
		"Transient is tried again (rule B8)": {
			f: func(rows []int) ([]int, error) {
				mu.Lock()
				defer mu.Unlock()
				if failures--; failures >= 0 {
					return nil, &leat.RowErrors{Rows: []leat.RowError{{Row: 0, Err: leat.Transient(errBad)}}}
				}
				return double(rows), nil
			},
			then: func(t *testing.T, got outcome[int]) { assert.Equal(t, 2, got.retries) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			sizes = nil
			got := pass(t, stage.CallBatch(func(_ context.Context, rows []int) ([]int, error) { return c.f(rows) }), count(250)...)
			require.NoError(t, got.err)
			var want []int
			for i := range 250 {
				if !slices.Contains(c.bad, leat.Offset(i)) {
					want = append(want, 2*i)
				}
			}
			assert.Equal(t, want, got.rows)
			assert.Equal(t, append([]leat.Offset{}, c.bad...), got.rejected())
			for _, l := range got.letters {
				assert.Equal(t, leat.Transform, l.Class)
				assert.Equal(t, c.msg, l.Error)
			}
			if c.then != nil {
				c.then(t, got)
			}
		})
	}
}

func TestCallBatchWrongRowErrors(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]leat.RowError{
		"before the first": {Row: -1, Err: errBad},
		"behind the last":  {Row: 3, Err: errBad},
		"without an error": {Row: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := stage.CallBatch(func(_ context.Context, rows []int) ([]int, error) {
				return rows, &leat.RowErrors{Rows: []leat.RowError{bad}}
			})
			err := st.Process(t.Context(), batch(1, 2, 3), new(leat.Batch[int]))
			require.ErrorContains(t, err, fmt.Sprintf("RowErrors name row %d", bad.Row))
		})
	}
}

func TestCallBatchBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		got := passFrom(t, stage.CallBatch(func(_ context.Context, rows []int) ([]int, error) {
			c := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); c > m && !most.CompareAndSwap(m, c); m = most.Load() {
			}
			time.Sleep(time.Second)
			return rows, nil
		}), leattest.Rows(count(300)...).Batches(3))
		require.NoError(t, got.err)
		assert.Equal(t, count(300), got.rows)
		assert.EqualValues(t, 16, most.Load())
	})
}

func TestCallBatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st := stage.CallBatch(func(ctx context.Context, rows []int) ([]int, error) {
			<-ctx.Done()
			return nil, errors.New("the driver's own error")
		})
		err := st.Process(ctx, batch(1), new(leat.Batch[int]))
		require.ErrorIs(t, err, context.DeadlineExceeded, "no row is rejected for it")
		require.ErrorIs(t, st.Process(ctx, batch(1), new(leat.Batch[int])), context.DeadlineExceeded)
	})
}

func BenchmarkCall(b *testing.B) {
	benchmark(b, stage.Call(8, func(_ context.Context, v venta) (venta, error) { return v, nil }), ventas(4096))
}
