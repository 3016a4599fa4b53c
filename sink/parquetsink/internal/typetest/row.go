// Package typetest holds what the tests of parquetsink and of its engines share:
// a row of every type, what must be read back for it, and readers.
package typetest

import (
	"database/sql"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Row has a column of every type that a file can hold.
type Row struct {
	B   bool
	I   int
	I8  int8
	I16 int16
	I32 int32
	I64 int64
	U   uint
	U8  uint8
	U16 uint16
	U32 uint32
	U64 uint64
	F32 float32
	F64 float64
	S   string
	By  []byte
	T   time.Time
	Dur time.Duration
	Txt netip.Addr
	D9  decimal.Decimal `leat:"d9,decimal=9.2"`
	D18 decimal.Decimal `leat:"d18,decimal=18.4"`
	D38 decimal.Decimal `leat:"d38,decimal=38.10"`
	DS  string          `leat:"ds,decimal=12.3"`
	DT  decimal.Decimal `leat:"dt"` // without the option: text
	Nulls
	Lists
}

// Nulls are the columns that can be null.
type Nulls struct {
	PB   *bool
	PI8  *int8
	PU64 *uint64
	PF32 *float32
	PF64 *float64
	PS   *string
	PBy  *[]byte
	PT   *time.Time
	PDur *time.Duration
	PTxt *netip.Addr
	PD9  *decimal.Decimal          `leat:"p_d9,decimal=9.0"`
	PD38 *decimal.Decimal          `leat:"p_d38,decimal=38.38"`
	ND18 sql.Null[decimal.Decimal] `leat:"n_d18,decimal=18.18"`
	NI   sql.Null[int32]           `leat:"n i"`
	NS   sql.NullString            `leat:"ñ.s"`
	NT   sql.NullTime
}

// Lists are the columns of lists.
type Lists struct {
	LB   []bool
	LI8  []int8
	LI   []int64
	LU16 []uint16
	LU64 []uint64
	LF32 []float32
	LF64 []float64
	LS   []string
	LBy  [][]byte
	LT   []time.Time
	LDur []time.Duration
	PLI  *[]int64
	PLS  *[]string
	NLF  sql.Null[[]float64]
}

// Random makes a row of any values that a file can hold.
func Random(r *rand.Rand) Row {
	out := Row{
		B: r.IntN(2) == 0, I: int(anyInt(r)), I8: int8(anyInt(r)), I16: int16(anyInt(r)), I32: int32(anyInt(r)), I64: anyInt(r),
		U: uint(anyInt(r)), U8: uint8(anyInt(r)), U16: uint16(anyInt(r)), U32: uint32(anyInt(r)), U64: uint64(anyInt(r)),
		F32: float32(anyFloat(r)), F64: anyFloat(r), S: anyString(r), By: anyBytes(r), T: anyTime(r), Dur: time.Duration(anyInt(r)),
		Txt: netip.AddrFrom4([4]byte{1, 2, byte(r.IntN(3)), 4}),
		D9:  anyDecimal(r, 9, 2), D18: anyDecimal(r, 18, 4), D38: anyDecimal(r, 38, 10), DS: anyDecimal(r, 12, 3).String(), DT: anyDecimal(r, 20, 5),
	}
	n := &out.Nulls
	n.PB, n.PI8, n.PU64 = maybe(r, out.B), maybe(r, out.I8), maybe(r, out.U64)
	n.PF32, n.PF64, n.PS, n.PBy = maybe(r, out.F32), maybe(r, out.F64), maybe(r, out.S), maybe(r, out.By)
	n.PT, n.PDur, n.PTxt = maybe(r, anyTime(r)), maybe(r, out.Dur), maybe(r, out.Txt)
	n.PD9, n.PD38 = maybe(r, anyDecimal(r, 9, 0)), maybe(r, anyDecimal(r, 38, 38))
	n.ND18 = sql.Null[decimal.Decimal]{V: anyDecimal(r, 18, 18), Valid: r.IntN(3) > 0}
	n.NI, n.NS, n.NT = sql.Null[int32]{V: out.I32, Valid: r.IntN(3) > 0}, sql.NullString{String: out.S, Valid: r.IntN(3) > 0}, sql.NullTime{Time: anyTime(r), Valid: r.IntN(3) > 0}
	l := &out.Lists
	l.LB = some(r, func() bool { return r.IntN(2) == 0 })
	l.LI8, l.LI = some(r, func() int8 { return int8(anyInt(r)) }), some(r, func() int64 { return anyInt(r) })
	l.LU16, l.LU64 = some(r, func() uint16 { return uint16(anyInt(r)) }), some(r, func() uint64 { return uint64(anyInt(r)) })
	l.LF32, l.LF64 = some(r, func() float32 { return float32(anyFloat(r)) }), some(r, func() float64 { return anyFloat(r) })
	l.LS, l.LBy = some(r, func() string { return anyString(r) }), some(r, func() []byte { return anyBytes(r) })
	l.LT, l.LDur = some(r, func() time.Time { return anyTime(r) }), some(r, func() time.Duration { return time.Duration(anyInt(r)) })
	l.PLI, l.PLS = maybe(r, some(r, func() int64 { return anyInt(r) })), maybe(r, some(r, func() string { return anyString(r) }))
	l.NLF = sql.Null[[]float64]{V: some(r, func() float64 { return anyFloat(r) }), Valid: r.IntN(3) > 0}
	return out
}

// Numbered is a Row with a number, for Prune.
type Numbered struct {
	ID int64
	Row
}

// Close makes n rows, numbered, whose values are close to those of their
// neighbours in many columns, so that row groups can be told apart by them; there are
// runs of nulls, of zeros and of NaN.
func Close(n int, seed uint64) []Numbered {
	r := rand.New(rand.NewPCG(seed, 2))
	rows := make([]Numbered, n)
	var like Row
	for i := range rows {
		if i%40 == 0 {
			like = Random(r)
		}
		v := Random(r)
		mixed := r.IntN(20) == 0
		if !mixed {
			at := i / 40
			v.I64, v.U64, v.I8, v.U8 = like.I64^int64(r.IntN(9)), like.U64^uint64(r.IntN(9)), like.I8, like.U8
			v.F64, v.F32 = float64(at)+r.Float64(), -float32(at)
			v.S, v.T, v.DS = like.S, like.T.Truncate(time.Millisecond).Add(time.Duration(r.IntN(1000))), like.DS
			v.D9, v.D18, v.D38 = like.D9, like.D18, like.D38
			v.Nulls = like.Nulls
			switch at % 5 {
			case 1: // all null
				v.Nulls = Nulls{}
			case 2:
				v.F64, v.F32 = math.Copysign(0, float64(r.IntN(2))-0.5), 0
			case 3:
				if r.IntN(8) == 0 {
					v.F64, v.F32 = math.NaN(), float32(math.NaN())
					v.PF64 = &v.F64
				}
			}
		}
		rows[i] = Numbered{int64(i), v}
	}
	return rows
}

// Rows makes n rows, the same for the same seed. The first has only zeros and
// nulls.
func Rows(n int, seed uint64) []Row {
	r := rand.New(rand.NewPCG(seed, 1))
	rows := make([]Row, n)
	for i := range rows {
		if i == 0 {
			rows[i] = Row{DS: "0"}
			continue
		}
		rows[i] = Random(r)
	}
	return rows
}

func maybe[E any](r *rand.Rand, v E) *E {
	if r.IntN(3) == 0 {
		return nil
	}
	return &v
}

func some[E any](r *rand.Rand, one func() E) []E {
	if r.IntN(6) == 0 {
		return nil
	}
	out := make([]E, r.IntN(4))
	for i := range out {
		out[i] = one()
	}
	return out
}

func anyInt(r *rand.Rand) int64 {
	edges := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt32, math.MinInt32, 127, -128, 255}
	if r.IntN(3) == 0 {
		return edges[r.IntN(len(edges))]
	}
	return int64(r.Uint64())
}

func anyFloat(r *rand.Rand) float64 {
	edges := []float64{0, math.Copysign(0, -1), 1.5, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat32, math.SmallestNonzeroFloat64}
	if r.IntN(3) == 0 {
		return edges[r.IntN(len(edges))]
	}
	return r.NormFloat64() * 1000
}

func anyString(r *rand.Rand) string {
	return []string{"", "a", "ñandú", "日本\x00語", strings.Repeat("largo ", 30), "Montevideo", "\"'\n\\"}[r.IntN(7)] + []string{"", strconv.Itoa(r.IntN(100000))}[r.IntN(2)]
}

func anyBytes(r *rand.Rand) []byte {
	return [][]byte{nil, {}, {0xff, 0xfe}, []byte("x"), []byte("\x00\x80")}[r.IntN(5)]
}

// anyTime covers the years 1 to 9999, in any zone, with parts of a microsecond.
func anyTime(r *rand.Rand) time.Time {
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	var t time.Time
	switch r.IntN(4) {
	case 0:
		t = []time.Time{first, last, time.Unix(0, 0), time.Unix(0, -1), time.Unix(-1, 999_999_999), time.Unix(1, 999)}[r.IntN(6)]
	case 1:
		t = time.Unix(r.Int64N(2_000_000_000), r.Int64N(1e9))
	default:
		t = time.Unix(first.Unix()+r.Int64N(last.Unix()-first.Unix()), r.Int64N(1e9))
	}
	return t.In([]*time.Location{time.UTC, time.FixedZone("", -3*3600)}[r.IntN(2)])
}

func anyDecimal(r *rand.Rand, precision, scale int) decimal.Decimal {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	n := new(big.Int)
	switch r.IntN(4) {
	case 0:
	case 1:
		n.Sub(limit, big.NewInt(1))
	default:
		for range precision {
			n.Mul(n, big.NewInt(10)).Add(n, big.NewInt(r.Int64N(10)))
		}
		n.Rem(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(r.Int64N(int64(precision))+1), nil))
	}
	if r.IntN(2) == 0 {
		n.Neg(n)
	}
	return decimal.NewFromBigInt(n, int32(-scale))
}

// Want gives what readers must find for a row, in the form of the readers here:
// nil for null, text for values, []any for lists.
func (r Row) Want() []any {
	n, l := r.Nulls, r.Lists
	return []any{
		Bool(r.B), Int(r.I), Int(r.I8), Int(r.I16), Int(r.I32), Int(r.I64), Uint(r.U), Uint(r.U8), Uint(r.U16), Uint(r.U32), Uint(r.U64),
		Float(r.F32), Float(r.F64), r.S, Bytes(r.By), Micros(r.T), Int(r.Dur), addr(r.Txt),
		r.D9.StringFixed(2), r.D18.StringFixed(4), r.D38.StringFixed(10), decimal.RequireFromString(r.DS).StringFixed(3), r.DT.String(),
		or(n.PB, Bool), or(n.PI8, Int), or(n.PU64, Uint), or(n.PF32, Float), or(n.PF64, Float), or(n.PS, same), or(n.PBy, Bytes),
		or(n.PT, Micros), or(n.PDur, Int), or(n.PTxt, addr), or(n.PD9, fixed(0)), or(n.PD38, fixed(38)),
		null(n.ND18.V, n.ND18.Valid, fixed(18)), null(n.NI.V, n.NI.Valid, Int), null(n.NS.String, n.NS.Valid, same), null(n.NT.Time, n.NT.Valid, Micros),
		all(l.LB, Bool), all(l.LI8, Int), all(l.LI, Int), all(l.LU16, Uint), all(l.LU64, Uint), all(l.LF32, Float), all(l.LF64, Float),
		all(l.LS, same), all(l.LBy, Bytes), all(l.LT, Micros), all(l.LDur, Int),
		orAll(l.PLI, true, Int), orAll(l.PLS, true, same), orAll(&l.NLF.V, l.NLF.Valid, Float),
	}
}

type signed interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64
}
type unsigned interface {
	~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

func same(s string) string        { return s }
func addr(a netip.Addr) string    { b, _ := a.MarshalText(); return string(b) }
func Bool(b bool) string          { return strconv.FormatBool(b) }
func Int[E signed](v E) string    { return strconv.FormatInt(int64(v), 10) }
func Uint[E unsigned](v E) string { return strconv.FormatUint(uint64(v), 10) }
func Bytes(b []byte) string       { return hex.EncodeToString(b) }
func Micros(t time.Time) string   { return strconv.FormatInt(t.UnixMicro(), 10) }

// Float gives the bits of a number, so that -0 is not 0; all NaN are one.
func Float[E float32 | float64](v E) string {
	if v != v {
		return "nan"
	}
	return strconv.FormatUint(math.Float64bits(float64(v)), 16)
}

func fixed(scale int32) func(decimal.Decimal) string {
	return func(d decimal.Decimal) string { return d.StringFixed(scale) }
}

func null[E any](v E, valid bool, text func(E) string) any {
	if !valid {
		return nil
	}
	return text(v)
}

func or[E any](p *E, text func(E) string) any {
	if p == nil {
		return nil
	}
	return text(*p)
}

func all[E any](list []E, text func(E) string) any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

func orAll[E any](p *[]E, valid bool, text func(E) string) any {
	if p == nil || !valid {
		return nil
	}
	return all(*p, text)
}

// Columns are the columns in order, each as readers see its type: the names of
// DuckDB and of pyarrow.
var Columns = [][3]string{
	{"b", "BOOLEAN", "bool not null"},
	{"i", "BIGINT", "int64 not null"}, {"i8", "TINYINT", "int8 not null"}, {"i16", "SMALLINT", "int16 not null"}, {"i32", "INTEGER", "int32 not null"}, {"i64", "BIGINT", "int64 not null"},
	{"u", "UBIGINT", "uint64 not null"}, {"u8", "UTINYINT", "uint8 not null"}, {"u16", "USMALLINT", "uint16 not null"}, {"u32", "UINTEGER", "uint32 not null"}, {"u64", "UBIGINT", "uint64 not null"},
	{"f32", "FLOAT", "float not null"}, {"f64", "DOUBLE", "double not null"}, {"s", "VARCHAR", "string not null"}, {"by", "BLOB", "binary not null"},
	{"t", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC] not null"}, {"dur", "BIGINT", "int64 not null"}, {"txt", "VARCHAR", "string not null"},
	{"d9", "DECIMAL(9,2)", "decimal128(9, 2) not null"}, {"d18", "DECIMAL(18,4)", "decimal128(18, 4) not null"}, {"d38", "DECIMAL(38,10)", "decimal128(38, 10) not null"},
	{"ds", "DECIMAL(12,3)", "decimal128(12, 3) not null"}, {"dt", "VARCHAR", "string not null"},
	{"pb", "BOOLEAN", "bool"}, {"pi8", "TINYINT", "int8"}, {"pu64", "UBIGINT", "uint64"}, {"pf32", "FLOAT", "float"}, {"pf64", "DOUBLE", "double"},
	{"ps", "VARCHAR", "string"}, {"p_by", "BLOB", "binary"}, {"pt", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"}, {"p_dur", "BIGINT", "int64"}, {"p_txt", "VARCHAR", "string"},
	{"p_d9", "DECIMAL(9,0)", "decimal128(9, 0)"}, {"p_d38", "DECIMAL(38,38)", "decimal128(38, 38)"}, {"n_d18", "DECIMAL(18,18)", "decimal128(18, 18)"},
	{"n i", "INTEGER", "int32"}, {"ñ.s", "VARCHAR", "string"}, {"nt", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"},
	{"lb", "BOOLEAN[]", "list<element: bool not null> not null"}, {"li8", "TINYINT[]", "list<element: int8 not null> not null"}, {"li", "BIGINT[]", "list<element: int64 not null> not null"},
	{"lu16", "USMALLINT[]", "list<element: uint16 not null> not null"}, {"lu64", "UBIGINT[]", "list<element: uint64 not null> not null"},
	{"lf32", "FLOAT[]", "list<element: float not null> not null"}, {"lf64", "DOUBLE[]", "list<element: double not null> not null"},
	{"ls", "VARCHAR[]", "list<element: string not null> not null"}, {"l_by", "BLOB[]", "list<element: binary not null> not null"},
	{"lt", "TIMESTAMP WITH TIME ZONE[]", "list<element: timestamp[us, tz=UTC] not null> not null"}, {"l_dur", "BIGINT[]", "list<element: int64 not null> not null"},
	{"pli", "BIGINT[]", "list<element: int64 not null>"}, {"pls", "VARCHAR[]", "list<element: string not null>"}, {"nlf", "DOUBLE[]", "list<element: double not null>"},
}
