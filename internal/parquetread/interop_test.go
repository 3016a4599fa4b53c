package parquetread_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

//go:embed testdata/write.py
var write string

// foreign has a field for each column that testdata/write.py writes.
type foreign struct {
	B             bool
	I8            int8
	I16           int16
	I32           int32
	I64           int64
	U8            uint8
	U16           uint16
	U32           uint32
	U64           uint64
	F32           float32
	F64           float64
	F16           float32
	S             string
	K             string
	By            []byte
	Fx            []byte
	D             time.Time
	Tms, Tus, Tns time.Time
	Tl            time.Time
	T32, T64      time.Duration
	D9            string
	D18           decimal.Decimal
	D38           string
	U             string
	Nb            *bool
	Ni            *int64
	Nf            *float64
	Ns            *string
	Nt            *time.Time
	Nd            *decimal.Decimal
	N0            *int32
	Li            []int64
	Ls            []*string
	Nl            []float64
}

func (f *foreign) show() map[string]any {
	text := func(v int64) any { return strconv.FormatInt(v, 10) }
	unsigned := func(v uint64) any { return strconv.FormatUint(v, 10) }
	bits := func(v float64) any {
		var b [8]byte
		for i := range b {
			b[i] = byte(math.Float64bits(v) >> (56 - 8*i))
		}
		return hex.EncodeToString(b[:])
	}
	fixed := func(d decimal.Decimal, scale int32) any { return d.StringFixed(scale) }
	m := map[string]any{
		"b": strconv.FormatBool(f.B), "i8": text(int64(f.I8)), "i16": text(int64(f.I16)), "i32": text(int64(f.I32)), "i64": text(f.I64),
		"u8": unsigned(uint64(f.U8)), "u16": unsigned(uint64(f.U16)), "u32": unsigned(uint64(f.U32)), "u64": unsigned(f.U64),
		"f32": bits(float64(f.F32)), "f64": bits(f.F64), "f16": bits(float64(f.F16)), "s": f.S, "k": f.K, "by": hex.EncodeToString(f.By), "fx": hex.EncodeToString(f.Fx),
		"d": text(f.D.Unix() / 86400), "tms": text(f.Tms.UnixMicro()), "tus": text(f.Tus.UnixMicro()), "tns": text(f.Tns.UnixMicro()), "tl": text(f.Tl.UnixMicro()),
		"t32": text(f.T32.Milliseconds()), "t64": text(f.T64.Microseconds()), "d9": f.D9, "d18": fixed(f.D18, 4), "d38": f.D38, "u": f.U,
		"nb": nil, "ni": nil, "nf": nil, "ns": nil, "nt": nil, "nd": nil, "n0": nil, "nl": nil,
	}
	if f.Nb != nil {
		m["nb"] = strconv.FormatBool(*f.Nb)
	}
	if f.Ni != nil {
		m["ni"] = text(*f.Ni)
	}
	if f.Nf != nil {
		m["nf"] = bits(*f.Nf)
	}
	if f.Ns != nil {
		m["ns"] = *f.Ns
	}
	if f.Nt != nil {
		m["nt"] = text(f.Nt.UnixMicro())
	}
	if f.Nd != nil {
		m["nd"] = fixed(*f.Nd, 3)
	}
	li, ls := []any{}, []any{}
	for _, v := range f.Li {
		li = append(li, text(v))
	}
	for _, v := range f.Ls {
		if v == nil {
			ls = append(ls, nil)
		} else {
			ls = append(ls, *v)
		}
	}
	m["li"], m["ls"] = li, ls
	if f.Nl != nil {
		nl := []any{}
		for _, v := range f.Nl {
			nl = append(nl, bits(v))
		}
		m["nl"] = nl
	}
	return m
}

// TestForeignFiles reads what pyarrow, DuckDB, polars and pandas write, in all encodings
// and codecs.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	python := os.Getenv("LEAT_PYTHON")
	if python == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PYTHON is not set: it is a Python with duckdb, pyarrow, polars and pandas")
		}
		t.Skip("LEAT_PYTHON is not set: set it to a Python with duckdb, pyarrow, polars and pandas (bench/rivals/setup.sh makes one)")
	}
	dir := t.TempDir()
	cmd := exec.Command(python, "-c", write, dir)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	require.NoError(t, err)
	var out struct {
		Rows  []map[string]any
		Files []string
	}
	require.NoError(t, json.Unmarshal(b, &out))
	typ, err := row.Of[foreign]()
	require.NoError(t, err)
	for _, name := range out.Files {
		t.Run(strings.TrimSuffix(name, ".parquet"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			f, err := parquetread.Open(bytes.NewReader(b), int64(len(b)), parquetread.Limits{})
			require.NoError(t, err)
			plan, err := f.Plan(typ, parquetread.Drift{Missing: parquetread.ZeroMissing})
			require.NoError(t, err)
			has := map[string]bool{}
			for _, c := range f.Columns {
				has[c.Name] = true
			}
			for _, from := range []int64{0, 1299, 2999} {
				rows := readRows[foreign](t, f, plan, from, 700)
				require.Len(t, rows, len(out.Rows)-int(from))
				for i := range rows {
					got, want := rows[i].show(), out.Rows[int(from)+i]
					require.Len(t, got, len(want))
					for column := range want {
						if has[column] && !reflect.DeepEqual(want[column], got[column]) {
							require.Equal(t, want[column], got[column], "row %d, column %s", int(from)+i, column)
						}
					}
				}
			}
		})
	}
}
