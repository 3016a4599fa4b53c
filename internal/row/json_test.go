package row

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stdJSON is encoding/json without HTML escapes.
func stdJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(v))
	return strings.TrimSuffix(b.String(), "\n")
}

func rowJSON[T any](t testing.TB, v *T) string {
	t.Helper()
	b, err := mustOf[T](t).AppendJSON(nil, unsafe.Pointer(v))
	require.NoError(t, err)
	require.True(t, json.Valid(b), "%s", b)
	return string(b)
}

type dinero int64

func (d dinero) MarshalJSON() ([]byte, error) { return []byte(`{"c": 1}`), nil }

type roto struct{}

func (roto) MarshalText() ([]byte, error) { return nil, errors.New("se\nrompió") }

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	five, text, now := 5, "hola", time.Date(2025, 1, 2, 3, 4, 5, 6000, time.FixedZone("", -5*3600))
	type dentro struct{ X []string }
	type fila struct {
		B      bool
		I      int64
		U      uint64
		F      float64
		F32    float32
		S      string
		Bs     []byte
		Nil    []byte
		D      time.Duration
		T      time.Time
		TL     time.Time `leat:"tl,time=2006-01-02 15:04:05"`
		Quote  time.Time `leat:"quote,time=\"02\" <Jan>"`
		P      *int
		PN     *int
		NS     sql.Null[string]
		NN     sql.Null[string]
		NT     sql.Null[time.Time]
		Dec    decimal.Decimal
		Big    big.Int
		Niv    Nivel
		Solo   SoloLee
		Din    dinero
		Raw    json.RawMessage
		Sl     []string
		M      map[string]int
		Any    any
		St     dentro
		NSt    sql.Null[dentro]
		Old    sql.NullInt64
		Tramo  string `leat:"<a\"b>"`
		Origen string `leat:"@file"`
	}
	f := fila{true, math.MinInt64, math.MaxUint64, 1e21, 0.1, "<a href=\"x\">\u2028\xff\x01\t", []byte("hola"), nil, time.Second,
		now, now, now, &five, nil, sql.Null[string]{V: text, Valid: true}, sql.Null[string]{V: "stale"}, sql.Null[time.Time]{V: now, Valid: true},
		decimal.RequireFromString("1.50"), *mustBig("123456789012345678901234567890"), 1, 2, 3, json.RawMessage(`{ "z" : 1 }`),
		[]string{"<x>"}, map[string]int{"b": 1, "a": 2}, nil, dentro{}, sql.Null[dentro]{V: dentro{[]string{"y"}}, Valid: true}, sql.NullInt64{Int64: 9, Valid: true}, "x", "nunca.csv"}
	want := `{"b":true,"i":-9223372036854775808,"u":18446744073709551615,"f":1e+21,"f32":0.1,"s":"<a href=\"x\">\u2028\ufffd\u0001\t",` +
		`"bs":"aG9sYQ==","nil":"","d":1000000000,"t":"2025-01-02T08:04:05.000006Z","tl":"2025-01-02 08:04:05","quote":"\"02\" <Jan>",` +
		`"p":5,"pn":null,"ns":"hola","nn":null,"nt":"2025-01-02T08:04:05.000006Z","dec":"1.5","big":123456789012345678901234567890,` +
		`"niv":"n","solo":2,"din":{"c":1},"raw":{"z":1},"sl":["<x>"],"m":{"a":2,"b":1},"any":null,"st":{"X":null},"n_st":{"X":["y"]},"old":9,"<a\"b>":"x"}`
	assert.Equal(t, want, rowJSON(t, &f))

	got, err := mustOf[fila](t).AppendJSON([]byte("prefix "), unsafe.Pointer(&f))
	require.NoError(t, err)
	assert.Equal(t, "prefix "+want, string(got))
	assert.Equal(t, "{}", rowJSON(t, &nothing{}))
}

func TestAppendJSONErrors(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, rt *Type, p unsafe.Pointer, want string) {
		t.Helper()
		got, err := rt.AppendJSON([]byte("kept"), p)
		require.EqualError(t, err, want)
		assert.Equal(t, "kept", string(got))
		ruleOf(t, err)
	}
	type floats struct {
		A int
		F float32
		P *float64
	}
	inf := math.Inf(-1)
	check(t, mustOf[floats](t), unsafe.Pointer(&floats{F: float32(math.NaN())}), `column f: "NaN" cannot be written as JSON`)
	check(t, mustOf[floats](t), unsafe.Pointer(&floats{P: &inf}), `column p: "-Inf" cannot be written as JSON`)
	check(t, mustOf[one[time.Time]](t), unsafe.Pointer(&one[time.Time]{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}),
		`column v: "10000-01-01 00:00:00 +0000 UTC" cannot be written: its year is outside 0 to 9999`)
	check(t, mustOf[one[roto]](t), unsafe.Pointer(&one[roto]{}), `column v: the row.roto cannot be written: se\nrompió`)
	check(t, mustOf[one[any]](t), unsafe.Pointer(&one[any]{func() {}}), `column v: the interface {} cannot be written as JSON: json: unsupported type: func()`)
	check(t, mustOf[one[json.RawMessage]](t), unsafe.Pointer(&one[json.RawMessage]{[]byte("{")}),
		`column v: the json.RawMessage cannot be written as JSON: json: error calling MarshalJSON for type *json.RawMessage: unexpected end of JSON input`)
}

func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "hola", "a\"b\\c", "\x00\x1f\x7f", "ñ€😀", "\xff\xfe", "\u2028\u2029", "<&>", "\xed\xa0\x80", "\xf0\x9f\x98"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := string(appendString(nil, s)), stdJSON(t, s); got != want {
			t.Fatalf("%q: %s, encoding/json: %s", s, got, want)
		}
	})
}

func TestJSONFloats(t *testing.T) {
	t.Parallel()
	type fila struct {
		F float64 `json:"f"`
		G float32 `json:"g"`
	}
	check := func(f float64, g float32) {
		r := fila{f, g}
		if got, want := rowJSON(t, &r), stdJSON(t, r); got != want {
			t.Fatalf("%s, encoding/json: %s", got, want)
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, 1e-6, 9.9e-7, 1e20, 1e21, 1e-7, 1e-10, math.MaxFloat64, math.SmallestNonzeroFloat64, 1.0 / 3} {
		check(f, 1)
		check(-f, 1)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		f, g := math.Float64frombits(r.Uint64()), math.Float32frombits(r.Uint32())
		if finite(f) && finite(float64(g)) {
			check(f, g)
		}
	}
}

// TestJSONReadsBack: what is written, encoding/json reads into the same row.
func TestJSONReadsBack(t *testing.T) {
	t.Parallel()
	type fila struct {
		I   int64            `json:"i"`
		U   *uint64          `json:"u"`
		F   float32          `json:"f"`
		S   string           `json:"s"`
		B   []byte           `json:"b"`
		T   time.Time        `json:"t"`
		D   time.Duration    `json:"d"`
		Dec *decimal.Decimal `json:"dec"`
		Sl  []int            `json:"sl"`
	}
	u, dec := uint64(math.MaxUint64), decimal.RequireFromString("-3.25")
	f := fila{math.MaxInt64, &u, math.MaxFloat32, "a\n\"ñ\"", []byte{0, 255}, time.Date(2025, 1, 2, 3, 4, 5, 678, time.UTC), -5, &dec, []int{1}}
	var back fila
	require.NoError(t, json.Unmarshal([]byte(rowJSON(t, &f)), &back))
	assert.Equal(t, f, back)
}
