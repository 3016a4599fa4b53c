package parquetsink_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
	"github.com/leatgo/leat/sink/parquetsink/parquetgoengine"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

// types are the columns without null and list.
var types = []parquetsink.Column{
	{Type: parquetsink.Bool}, {Type: parquetsink.Int, Bits: 8}, {Type: parquetsink.Int, Bits: 32}, {Type: parquetsink.Int, Bits: 64},
	{Type: parquetsink.Uint, Bits: 8}, {Type: parquetsink.Uint, Bits: 32}, {Type: parquetsink.Uint, Bits: 64},
	{Type: parquetsink.Float}, {Type: parquetsink.Double}, {Type: parquetsink.String}, {Type: parquetsink.Bytes}, {Type: parquetsink.Timestamp},
	{Type: parquetsink.Decimal, Precision: 9, Scale: 2}, {Type: parquetsink.Decimal, Precision: 18, Scale: 4}, {Type: parquetsink.Decimal, Precision: 38, Scale: 10},
}

func everyColumn() []parquetsink.Column {
	var out []parquetsink.Column
	for i, c := range types {
		for kind := range 4 {
			c.Name, c.Null, c.List = fmt.Sprintf("c%d_%d", i, kind), kind%2 == 1, kind >= 2
			out = append(out, c)
		}
	}
	return out
}

// distribution gives the numbers of a column: each way of writing them has one that
// leads to it, and there are those at the edges.
func distribution(r *rand.Rand) func(i int) int64 {
	base, span := int64(r.Uint64()), int64(1+r.IntN(5000))
	switch r.IntN(7) {
	case 0:
		return func(int) int64 { return base }
	case 1: // a dictionary
		return func(int) int64 { return base + r.Int64N(span) }
	case 2: // differences
		return func(i int) int64 { return base + int64(i)*span + r.Int64N(9) }
	case 3:
		return func(i int) int64 { return -int64(i) }
	case 4:
		return func(int) int64 {
			return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt32, math.MinInt32}[r.IntN(7)]
		}
	case 5: // far beyond what the samples at the start show
		return func(i int) int64 {
			if r.IntN(500) == 0 {
				return int64(r.Uint64())
			}
			return int64(i)
		}
	}
	return func(int) int64 { return int64(r.Uint64()) }
}

// vectors makes rows of random columns.
func vectors(r *rand.Rand, columns []parquetsink.Column, rows int) []parquetsink.Vector {
	out := make([]parquetsink.Vector, len(columns))
	for i, c := range columns {
		v := &out[i]
		n := rows
		if c.Null {
			nulls := r.IntN(4)
			v.Valid = make([]bool, rows)
			for k := range v.Valid {
				v.Valid[k] = nulls > 0 && r.IntN(nulls) == 0
			}
		}
		if c.List {
			v.Ends = []int32{0}
			n = 0
			longest := 1 + r.IntN(5)
			for k := range rows {
				if v.Valid == nil || v.Valid[k] {
					n += r.IntN(longest)
				}
				v.Ends = append(v.Ends, int32(n))
			}
		}
		number, special := distribution(r), r.IntN(3) == 0
		for k := range n {
			x := number(k)
			f := float64(x)
			if special {
				f = []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), 1}[uint64(x)%6]
			}
			switch c.Physical() {
			case parquetsink.Boolean:
				v.Bools = append(v.Bools, x&1 == 1)
			case parquetsink.Int32:
				switch {
				case c.Type == parquetsink.Decimal:
					x %= 1_000_000_000
				case c.Bits == 8 && c.Type == parquetsink.Int:
					x = int64(int8(x))
				case c.Bits == 8:
					x = int64(uint8(x))
				}
				v.Int32s = append(v.Int32s, int32(x))
			case parquetsink.Int64:
				switch c.Type {
				case parquetsink.Decimal:
					x %= 1_000_000_000_000_000_000
				case parquetsink.Timestamp:
					x %= 1e15
				}
				v.Int64s = append(v.Int64s, x)
			case parquetsink.Float32:
				v.Floats = append(v.Floats, float32(f))
			case parquetsink.Float64:
				v.Doubles = append(v.Doubles, f)
			case parquetsink.ByteArray:
				text := fmt.Sprint(x % 3000)
				if special {
					text = strings.Repeat("ñ", int(uint64(x)%700)) // too long for a dictionary, some
				}
				v.Strings = append(v.Strings, text)
			case parquetsink.FixedLenByteArray:
				v.Strings = append(v.Strings, strings.Repeat("\x00", 8)+fmt.Sprintf("%08d", uint64(x)%1e8))
			}
		}
		if n == 0 { // which slice it is, its being there tells
			v.Bools, v.Int32s, v.Int64s, v.Floats, v.Doubles, v.Strings = []bool{}, []int32{}, []int64{}, []float32{}, []float64{}, []string{}
		}
	}
	return out
}

// cut gives rows of a vector, as the sink does.
func cut(v parquetsink.Vector, i, j int) parquetsink.Vector {
	if v.Valid != nil {
		v.Valid = v.Valid[i:j]
	}
	switch {
	case v.Ends != nil:
		v.Ends = v.Ends[i : j+1]
	case v.Bools != nil:
		v.Bools = v.Bools[i:j]
	case v.Int32s != nil:
		v.Int32s = v.Int32s[i:j]
	case v.Int64s != nil:
		v.Int64s = v.Int64s[i:j]
	case v.Floats != nil:
		v.Floats = v.Floats[i:j]
	case v.Doubles != nil:
		v.Doubles = v.Doubles[i:j]
	case v.Strings != nil:
		v.Strings = v.Strings[i:j]
	}
	return v
}

// write encodes rows in pieces that an engine's callers make.
func write(t testing.TB, e parquetsink.Engine, columns []parquetsink.Column, o parquetsink.FileOptions, all []parquetsink.Vector, rows, piece, group int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, e.Check(columns, o))
	w, err := e.Create(&b, columns, o)
	require.NoError(t, err)
	for at := 0; at < rows; {
		end := min(rows, at+piece, (at/group+1)*group)
		part := make([]parquetsink.Vector, len(all))
		for i := range all {
			part[i] = cut(all[i], at, end)
		}
		require.NoError(t, w.Write(end-at, part))
		if end%group == 0 {
			require.NoError(t, w.Flush())
			require.Zero(t, w.Buffered(), "F8: Flush gives all back")
		}
		at = end
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// oracle writes the same rows with the default engine and with a slow one, and
// compares what parquet-go reads.
func oracle(t testing.TB, seed uint64, other parquetsink.Engine) {
	r := rand.New(rand.NewPCG(seed, 7))
	columns := everyColumn()
	r.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
	columns = columns[:1+r.IntN(12)]
	rows := []int{1, 9, 300, 3000, 9000}[r.IntN(5)]
	o := parquetsink.FileOptions{Compression: parquetsink.Compression(r.IntN(3)), PageBytes: []int{300, 8 << 10, 1 << 20}[r.IntN(3)]}
	all := vectors(r, columns, rows)
	piece, group := 1+r.IntN(1024), 50+r.IntN(5000)
	got := write(t, parquetsink.NewEngine(), columns, o, all, rows, piece, group)
	want := write(t, other, columns, o, all, rows, piece, group)
	a, b := typetest.Read(t, want), typetest.Read(t, got)
	require.Len(t, b, len(a))
	for i := range a {
		for j := range a[i] {
			require.Equal(t, a[i][j], b[i][j], "seed %d: row %d, column %s", seed, i, columns[j])
		}
	}
	sameSchema(t, want, got)
}

// sameSchema: readers see the same columns, and the same statistics of row groups
// where both have them.
func sameSchema(t testing.TB, want, got []byte) {
	t.Helper()
	a, err := parquet.OpenFile(bytes.NewReader(want), int64(len(want)))
	require.NoError(t, err)
	b, err := parquet.OpenFile(bytes.NewReader(got), int64(len(got)))
	require.NoError(t, err)
	require.Equal(t, a.Schema().String(), b.Schema().String())
	require.Equal(t, len(a.Metadata().RowGroups), len(b.Metadata().RowGroups))
	for i := range a.Metadata().RowGroups {
		for j := range a.Metadata().RowGroups[i].Columns {
			x, y := a.Metadata().RowGroups[i].Columns[j].MetaData, b.Metadata().RowGroups[i].Columns[j].MetaData
			require.Equal(t, x.NumValues, y.NumValues)
			require.Equal(t, x.PathInSchema, y.PathInSchema)
			require.Equal(t, x.Codec, y.Codec)
			if x.Statistics.MinValue == nil {
				continue
			}
			leaf, ok := b.Schema().Lookup(y.PathInSchema...)
			require.True(t, ok)
			typ := leaf.Node.Type()
			require.Equal(t, x.Statistics.NullCount, y.Statistics.NullCount)
			require.Zero(t, typ.Compare(typ.Kind().Value(x.Statistics.MinValue), typ.Kind().Value(y.Statistics.MinValue)), y.PathInSchema)
			require.Zero(t, typ.Compare(typ.Kind().Value(x.Statistics.MaxValue), typ.Kind().Value(y.Statistics.MaxValue)), y.PathInSchema)
		}
	}
}

// TestOracle: the files of the default engine hold what those of the engines on
// libraries hold, for random columns of every type.
func TestOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		oracle(t, seed, parquetgoengine.New())
	}
	for seed := range uint64(10) {
		oracle(t, 1000+seed, xitongsysengine.New())
	}
}

// FuzzOracle: any seed's rows, by both engines, read back equal.
//
//fuzz:slow
func FuzzOracle(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { oracle(t, seed, parquetgoengine.New()) })
}

// TestOraclePython: DuckDB and pyarrow read the same from the files of both
// engines, in every encoding.
func TestOraclePython(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 8))
		columns := everyColumn()
		const rows = 3000
		o := parquetsink.FileOptions{Compression: parquetsink.Compression(seed % 3), PageBytes: 8 << 10}
		all := vectors(r, columns, rows)
		read := func(e parquetsink.Engine) map[string]typetest.Table {
			path := filepath.Join(t.TempDir(), "a.parquet")
			require.NoError(t, os.WriteFile(path, write(t, e, columns, o, all, rows, 1000, 1500), 0o600))
			return typetest.Python(t, path, "")
		}
		want, got := read(parquetgoengine.New()), read(parquetsink.NewEngine())
		for tool := range want {
			require.Equal(t, want[tool].Columns, got[tool].Columns, tool)
			for i := range want[tool].Rows {
				require.Equal(t, want[tool].Rows[i], got[tool].Rows[i], "%s: row %d", tool, i)
			}
		}
	}
}
