package stage_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

var errBad = errors.New("bad row")

func TestMap(t *testing.T) {
	t.Parallel()
	got := pass(t, stage.Map(func(n int) (string, error) {
		if n%10 == 3 {
			return "ignored", errBad
		}
		return strconv.Itoa(2 * n), nil
	}), count(250)...)
	require.NoError(t, got.err)
	assert.Len(t, got.rows, 225)
	assert.Equal(t, []string{"0", "2", "4", "8"}, got.rows[:4], "an error rejects that row alone")
	assert.Equal(t, []leat.Offset{0, 1, 2, 4}, got.at[:4], "rows keep where they came from")
	require.Len(t, got.letters, 25)
	l := got.letters[0]
	assert.EqualValues(t, 3, l.Offset)
	assert.Equal(t, leat.Transform, l.Class)
	assert.Equal(t, "bad row", l.Error)
	assert.JSONEq(t, "3", string(l.Row))
	assert.EqualValues(t, 25, got.stats.Rejected["Transform/-/-"])
}

func TestFilter(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(int) bool{
		"all":   func(int) bool { return true },
		"none":  func(int) bool { return false },
		"some":  func(n int) bool { return n%7 == 0 },
		"first": func(n int) bool { return n == 0 },
		"last":  func(n int) bool { return n == 249 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []int
			for _, n := range count(250) {
				if keep(n) {
					want = append(want, n)
				}
			}
			got := pass(t, stage.Filter(keep), count(250)...)
			require.NoError(t, got.err)
			assert.Equal(t, want, got.rows)
			assert.Empty(t, got.letters)
			assert.EqualValues(t, 250-len(want), got.stage.Filtered)
			for i, n := range want {
				assert.EqualValues(t, n, got.at[i])
			}
		})
	}
}

func TestFilterMap(t *testing.T) {
	t.Parallel()
	got := pass(t, stage.FilterMap(func(n int) (string, bool, error) {
		switch n {
		case 5:
			return "", true, errBad // the error counts more than the true
		case 6:
			return "", false, errBad
		}
		return strconv.Itoa(n), n%2 == 1, nil
	}), count(8)...)
	require.NoError(t, got.err)
	assert.Equal(t, []string{"1", "3", "7"}, got.rows)
	assert.Equal(t, []leat.Offset{5, 6}, got.rejected())
	assert.EqualValues(t, 3, got.stage.Filtered)
}

func TestFlatMap(t *testing.T) {
	t.Parallel()
	table := []int{10, 20, 30, 40}
	got := pass(t, stage.FlatMap(func(n int) ([]int, error) {
		if n == 2 {
			return table, errBad // the slice is ignored
		}
		return table[:n], nil
	}), 2, 0, 3, 1, 4)
	require.NoError(t, got.err)
	assert.Equal(t, []int{10, 20, 30, 10, 10, 20, 30, 40}, got.rows)
	assert.Equal(t, []leat.Offset{2, 2, 2, 3, 4, 4, 4, 4}, got.at)
	assert.Equal(t, []leat.Offset{0}, got.rejected())
	assert.Equal(t, leat.NodeStats{Name: "stage", Kind: "stage", In: 5, Out: 8, Rejected: 1, Filtered: 1, Added: 5}, got.stage)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	got := pass(t, stage.Check(func(n int) error {
		switch n {
		case 1:
			return errBad
		case 2:
			return fmt.Errorf("row: %w", &leat.FieldError{Column: "total", Rule: "sum", Msg: "total is not the sum"})
		}
		return nil
	}), count(4)...)
	require.NoError(t, got.err)
	assert.Equal(t, []int{0, 3}, got.rows)
	require.Len(t, got.letters, 2)
	assert.Equal(t, leat.Contract, got.letters[0].Class)
	assert.Equal(t, map[string]int64{"Contract/-/-": 1, "Contract/total/sum": 1}, got.stats.Rejected)
}

// Rule A9: a panic is one bad row; the rest of the batch is not asked again.
func TestPanicIsOneBadRow(t *testing.T) {
	t.Parallel()
	const n = 250 // batches of 100, 100 and 50 rows
	for name, bad := range map[string][]int{
		"none":                   {},
		"first row of a batch":   {0, 100},
		"last row of a batch":    {99, 249},
		"neighbours":             {40, 41, 42},
		"several":                {0, 1, 17, 50, 98, 99, 100, 199, 200, 249},
		"every row":              count(n),
		"every row of one batch": count(n)[100:200],
	} {
		for _, kind := range []string{"Map", "Filter", "FilterMap", "FlatMap", "Check"} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				calls := make([]int, n)
				visit := func(i int) int {
					mu.Lock()
					calls[i]++
					mu.Unlock()
					if slices.Contains(bad, i) {
						var nowhere *int
						return *nowhere
					}
					return i
				}
				got := pass(t, map[string]leat.Stage[int, int]{
					"Map":       stage.Map(func(i int) (int, error) { return visit(i), nil }),
					"Filter":    stage.Filter(func(i int) bool { return visit(i) >= 0 }),
					"FilterMap": stage.FilterMap(func(i int) (int, bool, error) { return visit(i), true, nil }),
					"FlatMap":   stage.FlatMap(func(i int) ([]int, error) { return []int{visit(i)}, nil }),
					"Check":     stage.Check(func(i int) error { visit(i); return nil }),
				}[kind], count(n)...)
				require.NoError(t, got.err)
				want, wantBad := []int{}, []leat.Offset{}
				for _, i := range count(n) {
					if slices.Contains(bad, i) {
						wantBad = append(wantBad, leat.Offset(i))
					} else {
						want = append(want, i)
					}
				}
				assert.Equal(t, want, append([]int{}, got.rows...), "rule A9: the batch goes on after the row")
				assert.Equal(t, wantBad, got.rejected())
				for i, c := range calls {
					assert.Equal(t, 1, c, "row %d: a panic is not looked for by halving", i)
				}
				for _, l := range got.letters {
					assert.Equal(t, leat.Transform, l.Class)
					assert.Contains(t, l.Error, "panic: runtime error: invalid memory address")
					assert.Contains(t, l.Stack, "map_test.go", "rule A9: with its stack")
				}
			})
		}
	}
}

// Rule B8: what may go away is tried again and never dead-letters a row.
func TestTransientInPureFunction(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Map", "FilterMap", "FlatMap", "Check"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			failures := 2
			again := func() error {
				mu.Lock()
				defer mu.Unlock()
				if failures--; failures >= 0 {
					return fmt.Errorf("lookup: %w", leat.Transient(errBad))
				}
				return nil
			}
			got := pass(t, map[string]leat.Stage[int, int]{
				"Map":       stage.Map(func(i int) (int, error) { return i, again() }),
				"FilterMap": stage.FilterMap(func(i int) (int, bool, error) { return i, true, again() }),
				"FlatMap":   stage.FlatMap(func(i int) ([]int, error) { return []int{i}, again() }),
				"Check":     stage.Check(func(int) error { return again() }),
			}[kind], count(10)...)
			require.NoError(t, got.err)
			assert.Equal(t, count(10), got.rows, "rule B8")
			assert.Empty(t, got.letters, "rule B8")
			assert.Equal(t, 2, got.retries, "rule B8")
		})
	}
}

func TestNilFunctionIsAFault(t *testing.T) {
	t.Parallel()
	for name, st := range map[string]leat.Stage[int, int]{
		"Map":       stage.Map[int, int](nil),
		"Filter":    stage.Filter[int](nil),
		"FilterMap": stage.FilterMap[int, int](nil),
		"FlatMap":   stage.FlatMap[int, int](nil),
		"Check":     stage.Check[int](nil),
		"Call":      stage.Call[int, int](1, nil),
		"CallBatch": stage.CallBatch[int, int](nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leat.New("test", leat.Config{})
			leat.To(leat.Via(leat.From(p, leattest.Rows(1)), "stage", st), leattest.Collect[int]())
			require.ErrorContains(t, p.Check(), "stage: stage."+name+": the function is nil")
		})
	}
}

// venta is as wide as a row usually is.
type venta struct {
	ID, Cliente, Tienda, Cantidad int64
	Precio                        float64
	Estado, Metodo                string
}

func ventas(n int) []venta {
	rows := make([]venta, n)
	for i := range rows {
		rows[i] = venta{ID: int64(i), Cantidad: int64(i % 3), Estado: "completada"}
	}
	return rows
}

var pureStages = map[string]leat.Stage[venta, venta]{
	"Map":        stage.Map(func(v venta) (venta, error) { v.Precio *= 2; return v, nil }),
	"Filter":     stage.Filter(func(v venta) bool { return v.Cantidad > 0 }),
	"FilterAll":  stage.Filter(func(v venta) bool { return v.Estado != "" }),
	"FilterNone": stage.Filter(func(v venta) bool { return v.Estado == "" }),
	"FilterMap":  stage.FilterMap(func(v venta) (venta, bool, error) { return v, v.Cantidad > 0, nil }),
	"FlatMap":    stage.FlatMap(func(v venta) ([]venta, error) { return twoVentas, nil }),
	"Check":      stage.Check(func(v venta) error { return nil }),
}

var twoVentas = make([]venta, 2)

// Rule A1: nothing costs an allocation per row.
func TestAllocationsPerBatch(t *testing.T) {
	const n = 4096
	onEngine(t, ventas(n), func(in *leat.Batch[venta], out func() *leat.Batch[venta]) {
		for name, st := range pureStages {
			got := testing.AllocsPerRun(10, func() { assert.NoError(t, st.Process(t.Context(), in, out())) })
			assert.LessOrEqual(t, got, 8.0, "rule A1: %s allocates %v times for a batch of %d rows", name, got, n)
		}
	})
}

func BenchmarkPure(b *testing.B) {
	for name, st := range pureStages {
		b.Run(name, func(b *testing.B) { benchmark(b, st, ventas(4096)) })
	}
}

// benchmark measures a stage with one batch of rows.
func benchmark[T any](b *testing.B, st leat.Stage[T, T], rows []T) {
	b.ReportAllocs()
	onEngine(b, rows, func(in *leat.Batch[T], out func() *leat.Batch[T]) {
		for b.Loop() {
			if err := st.Process(b.Context(), in, out()); err != nil {
				b.Error(err)
			}
		}
	})
	n := float64(b.N) * float64(len(rows))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/row")
	b.ReportMetric(n/b.Elapsed().Seconds(), "rows/s")
}
