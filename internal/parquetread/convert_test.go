package parquetread_test

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// convert writes rows of F and reads them as T: the rows, or "column/rule" of those that
// are rejected.
func convert[F, T any](t *testing.T, rows ...F) (out []any) {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[F](&b)
	_, err := w.Write(rows)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	f, err := parquetread.Open(bytes.NewReader(b.Bytes()), int64(b.Len()), parquetread.Limits{})
	require.NoError(t, err)
	typ, err := row.Of[T]()
	require.NoError(t, err)
	plan, err := f.Plan(typ, parquetread.Drift{})
	if err != nil {
		require.True(t, parquetread.IsDamage(err))
		return []any{err.Error()}
	}
	p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
	require.NoError(t, err)
	got := make([]T, p.Rows)
	out = make([]any, p.Rows)
	plan.Fill(p, unsafe.Pointer(&got[0]), unsafe.Sizeof(got[0]), func(i int, err error) {
		var e interface{ Field() (column, rule string) }
		require.True(t, errors.As(err, &e), "%v", err)
		column, rule := e.Field()
		out[i] = column + "/" + rule
	})
	for i := range got {
		if out[i] == nil {
			out[i] = got[i]
			var again T
			letter := plan.AppendJSON(nil, p, i)
			require.NoError(t, parquetread.SetJSON(typ, parquetread.Drift{}, letter, unsafe.Pointer(&again)), "%s", letter)
			require.Equal(t, got[i], again, "a letter makes the same row: %s", letter)
		}
	}
	return out
}

type (
	i64 struct {
		A int64 `parquet:"a"`
	}
	u64 struct {
		A uint64 `parquet:"a"`
	}
	f64 struct {
		A float64 `parquet:"a"`
	}
	f32 struct {
		A float32 `parquet:"a"`
	}
	tod struct {
		A int64 `parquet:"a,time(microsecond)"`
	}
	str struct {
		A string `parquet:"a"`
	}
	opt struct {
		A *int64 `parquet:"a,optional"`
	}
	dec0 struct {
		A int64 `parquet:"a,decimal(0:18)"`
	}
	dec2 struct {
		A int64 `parquet:"a,decimal(2:18)"`
	}
	ms struct {
		A int64 `parquet:"a,timestamp(millisecond)"`
	}
	raw struct {
		A []byte `parquet:"a"`
	}
	lst struct {
		A []int64 `parquet:"a,list"`
	}
	gritos struct {
		A []string `parquet:"a,list"`
	}
)

// grita panics on its own name.
type grita string

func (g *grita) UnmarshalText(b []byte) error {
	switch string(b) {
	case "panic":
		panic("aaah")
	case "error":
		return errors.New("no voice")
	}
	*g = grita("¡" + string(b) + "!")
	return nil
}

// TestConversions: explicit, checked for each value, and a row at fault costs no other.
func TestConversions(t *testing.T) {
	t.Parallel()
	type a[T any] struct{ A T }
	seven := int64(7)
	eq := func(want []any, got []any) {
		t.Helper()
		assert.Equal(t, want, got)
	}
	eq([]any{a[int32]{7}, "a/range", a[int32]{-1 << 31}, "a/range"}, convert[i64, a[int32]](t, i64{7}, i64{1 << 31}, i64{-1 << 31}, i64{math.MinInt64}))
	eq([]any{a[int8]{-128}, "a/range"}, convert[i64, a[int8]](t, i64{-128}, i64{128}))
	eq([]any{a[uint64]{7}, "a/range"}, convert[i64, a[uint64]](t, i64{7}, i64{-7}))
	eq([]any{a[uint16]{65535}, "a/range"}, convert[u64, a[uint16]](t, u64{65535}, u64{65536}))
	eq([]any{a[int64]{math.MaxInt64}, "a/range"}, convert[u64, a[int64]](t, u64{math.MaxInt64}, u64{1 << 63}))
	eq([]any{a[float64]{1 << 53}, "a/range"}, convert[i64, a[float64]](t, i64{1 << 53}, i64{1<<53 + 1}))
	eq([]any{a[float32]{1 << 24}, "a/range"}, convert[i64, a[float32]](t, i64{1 << 24}, i64{1<<24 + 1}))
	eq([]any{a[int64]{-3}, "a/range", "a/range", "a/range"}, convert[f64, a[int64]](t, f64{-3}, f64{3.5}, f64{math.NaN()}, f64{1e300}))
	eq([]any{a[float32]{0.1}, "a/range", a[float32]{float32(math.Inf(1))}}, convert[f64, a[float32]](t, f64{0.1}, f64{1e39}, f64{math.Inf(1)}))
	tenth := float32(0.1)
	eq([]any{a[float64]{float64(tenth)}, a[float64]{0.5}, a[float64]{math.Inf(-1)}}, convert[f32, a[float64]](t, f32{tenth}, f32{0.5}, f32{float32(math.Inf(-1))}))
	eq([]any{a[float32]{tenth}}, convert[f32, a[float32]](t, f32{tenth}))
	eq([]any{a[grita]{"¡0.1!"}}, convert[f32, a[grita]](t, f32{tenth}))
	eq([]any{a[time.Duration]{24 * time.Hour}, a[time.Duration]{time.Microsecond}, "a/range"}, convert[tod, a[time.Duration]](t, tod{86400e6}, tod{1}, tod{-1}))
	eq([]any{"a/null", a[int64]{7}}, convert[opt, a[int64]](t, opt{nil}, opt{&seven}))
	eq([]any{a[*int64]{nil}, a[*int64]{&seven}}, convert[opt, a[*int64]](t, opt{nil}, opt{&seven}))
	eq([]any{a[int16]{-5}, "a/range"}, convert[dec0, a[int16]](t, dec0{-5}, dec0{1 << 40}))
	eq([]any{a[string]{"-0.05"}, a[string]{"123.45"}}, convert[dec2, a[string]](t, dec2{-5}, dec2{12345}))
	eq([]any{a[float64]{-0.05}}, convert[dec2, a[float64]](t, dec2{-5}))
	eq([]any{a[decimal.Decimal]{decimal.New(12345, -2)}}, convert[dec2, a[decimal.Decimal]](t, dec2{12345}))
	eq([]any{a[grita]{"¡7!"}}, convert[i64, a[grita]](t, i64{7}))
	eq([]any{a[grita]{"¡0.1!"}}, convert[f64, a[grita]](t, f64{0.1}))
	eq([]any{"a/panic", a[grita]{"¡x!"}, "a/syntax"}, convert[str, a[grita]](t, str{"panic"}, str{"x"}, str{"error"}))
	eq([]any{"a/syntax", a[string]{"ñ"}, "a/syntax"}, convert[str, a[string]](t, str{"a\xff"}, str{"ñ"}, str{"largo, muy largo\xc3"}))
	eq([]any{a[[]byte]{[]byte("a\xff")}, a[[]byte]{[]byte{}}}, convert[str, a[[]byte]](t, str{"a\xff"}, str{""}))
	eq([]any{a[string]{"ñ"}, "a/syntax"}, convert[raw, a[string]](t, raw{[]byte("ñ")}, raw{[]byte("\xff")}))
	eq([]any{a[time.Time]{time.Unix(-1, 999e6).UTC()}, "a/range", "a/range", a[time.Time]{time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)}},
		convert[ms, a[time.Time]](t, ms{-1}, ms{math.MaxInt64}, ms{253402300800000}, ms{-62135596800000}))
	eq([]any{a[[]int32]{[]int32{1, 2}}, "a/range", a[[]int32]{[]int32{}}}, convert[lst, a[[]int32]](t, lst{[]int64{1, 2}}, lst{[]int64{1, 1 << 40}}, lst{}))
	eq([]any{a[[]string]{[]string{"a"}}, "a/syntax"}, convert[gritos, a[[]string]](t, gritos{[]string{"a"}}, gritos{[]string{"b", "\xff"}}))
	eq([]any{a[time.Duration]{7}}, convert[i64, a[time.Duration]](t, i64{7}))

	for _, refused := range [][]any{
		convert[str, a[int64]](t), convert[i64, a[string]](t), convert[i64, a[bool]](t), convert[i64, a[time.Time]](t),
		convert[lst, a[int64]](t), convert[i64, a[[]int64]](t), convert[dec2, a[int64]](t), convert[str, a[float64]](t), convert[ms, a[int64]](t),
	} {
		require.Len(t, refused, 1)
		assert.Contains(t, refused[0], `the file's columns are refused: column "a" is `)
		assert.Contains(t, refused[0], "which can't be read into ")
	}
}
