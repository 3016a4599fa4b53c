package parquetread_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// small has the columns of testdata/*.parquet, in forms that some of their values do not
// fit.
type small struct {
	I *int32
	J int8
	S string
	F float64
	B bool
	T *time.Time
	D decimal.Decimal
	L []*int64
	X map[string]any `leat:"x,extra"`
}

// outcome is what reading a file came to.
type outcome struct {
	rows []string // as JSON, or why it was refused
	err  string
}

// tight are limits that a fuzzer reaches quickly.
var tight = parquetread.Limits{Footer: 1 << 20, Page: 1 << 20, Ratio: 100, Free: 4 << 20}

// readAll reads a file from a row on, in pieces of step rows.
func readAll(t testing.TB, data []byte, from int64, step int) (out outcome) {
	f, err := parquetread.Open(bytes.NewReader(data), int64(len(data)), tight)
	if err != nil {
		require.True(t, parquetread.IsDamage(err), "%v", err)
		return outcome{err: err.Error()}
	}
	typ, err := row.Of[small]()
	require.NoError(t, err)
	plan, err := f.Plan(typ, parquetread.Drift{Missing: parquetread.ZeroMissing})
	if err != nil {
		require.True(t, parquetread.IsDamage(err), "%v", err)
		return outcome{err: err.Error()}
	}
	if from > f.Rows {
		return outcome{}
	}
	r := f.Reader(plan.Columns, from, step)
	for {
		p, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			require.True(t, parquetread.IsDamage(err), "%v", err)
			out.err = err.Error()
			return out
		}
		require.Equal(t, from+int64(len(out.rows)), p.First)
		rows := make([]small, p.Rows)
		refused := make([]error, p.Rows)
		plan.Fill(p, unsafe.Pointer(&rows[0]), unsafe.Sizeof(rows[0]), func(i int, err error) {
			require.NoError(t, refused[i], "once")
			refused[i] = err
		})
		for i := range rows {
			letter := plan.AppendJSON(nil, p, i)
			var again small
			err := parquetread.SetJSON(typ, parquetread.Drift{Missing: parquetread.ZeroMissing}, letter, unsafe.Pointer(&again))
			if refused[i] != nil {
				require.Error(t, err, "%v: a letter's row is refused as the file's was: %s", refused[i], letter)
				out.rows = append(out.rows, refused[i].Error())
				continue
			}
			require.NoError(t, err, "a letter makes the same row: %s", letter)
			one, two := show(t, typ, &rows[i]), show(t, typ, &again)
			require.Equal(t, one, two, "%s", letter)
			out.rows = append(out.rows, one)
		}
	}
}

func show(t testing.TB, typ *row.Type, s *small) string {
	b, err := typ.AppendJSON(nil, unsafe.Pointer(s))
	if err != nil { // NaN
		return fmt.Sprintf("%v %v", err, s.F)
	}
	return string(b)
}

// checkFile asserts what must hold for any bytes: no panic, bounded memory, and the same
// rows and the same end, however they are read.
func checkFile(t testing.TB, data []byte) outcome {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	whole := readAll(t, data, 0, 0)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "memory")
	if len(whole.rows) > 10_000 {
		return whole
	}
	for _, step := range []int{1, 5} {
		parts := readAll(t, data, 0, step)
		require.Equal(t, whole, parts, "D6: pieces of %d rows", step)
	}
	for from := range int64(len(whole.rows)) {
		if from%7 == 3 {
			rest := readAll(t, data, from, 4)
			require.Equal(t, whole.rows[from:], rest.rows, "D6: from row %d", from)
			require.Equal(t, whole.err, rest.err, "D6: from row %d", from)
		}
	}
	return whole
}

func seeds(t testing.TB) map[string][]byte {
	names, err := filepath.Glob("testdata/*.parquet")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	out := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		out[filepath.Base(name)] = b
	}
	return out
}

// TestSeeds: the files that the fuzz target begins with are good, and all the same.
func TestSeeds(t *testing.T) {
	all := seeds(t)
	want := checkFile(t, all["none.parquet"])
	require.Len(t, want.rows, 24)
	for name, b := range all {
		got := checkFile(t, b)
		require.Equal(t, want, got, name)
	}
}

// TestMutations is the fuzz target's bar on mutations that need no luck: every byte of
// the small files changed, every truncation.
func TestMutations(t *testing.T) {
	for name, b := range seeds(t) {
		step := 97
		if os.Getenv("LEAT_LONG") == "1" {
			step = 1
		}
		for i := 0; i < len(b); i += step {
			for _, x := range []byte{0x01, 0x80, 0xff, byte(i)} {
				m := bytes.Clone(b)
				m[i] ^= x
				func() {
					defer func() {
						if v := recover(); v != nil {
							t.Fatalf("%s: byte %d ^ %#x panics: %v", name, i, x, v)
						}
					}()
					checkFile(t, m)
				}()
			}
			require.NotEmpty(t, checkFile(t, b[:i]).err, "%s cut at %d", name, i)
		}
	}
}

//fuzz:slow
func FuzzParquet(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := readAll(t, b, 0, 0)
		if n := len(whole.rows); n > 0 && n < 1000 {
			rest := readAll(t, b, int64(n/2), 5)
			require.Equal(t, whole.rows[n/2:], rest.rows, "D6: from row %d", n/2)
			require.Equal(t, whole.err, rest.err, "D6")
		}
	})
}
