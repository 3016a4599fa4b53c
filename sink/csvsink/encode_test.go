package csvsink

import (
	"bytes"
	"database/sql"
	"encoding/csv"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/row"
)

func encode[T any](t testing.TB, delim rune, crlf, guard bool, rows ...T) (string, error) {
	t.Helper()
	rt, err := row.Of[T]()
	require.NoError(t, err)
	e := newEncoder(rt, delim, crlf, guard)
	out := e.header()
	for i := range rows {
		before := string(out)
		if out, err = e.row(out, unsafe.Pointer(&rows[i])); err != nil {
			require.Equal(t, before, string(out), "a refused row leaves nothing")
			return "", err
		}
	}
	return string(out), nil
}

func TestFields(t *testing.T) {
	t.Parallel()
	type one[T any] struct {
		A int
		V T
	}
	word := "x"
	at := time.Date(2025, 3, 1, 12, 30, 0, 5, time.FixedZone("", -3600))
	line := func(got string, err error) string {
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(got, "a,v\n0,"), got)
		require.True(t, strings.HasSuffix(got, "\n"))
		return strings.TrimSuffix(strings.TrimPrefix(got, "a,v\n0,"), "\n")
	}
	assert.Equal(t, `true`, line(encode(t, ',', false, false, one[bool]{V: true})))
	assert.Equal(t, `-128`, line(encode(t, ',', false, false, one[int8]{V: -128})))
	assert.Equal(t, `18446744073709551615`, line(encode(t, ',', false, false, one[uint64]{V: math.MaxUint64})))
	assert.Equal(t, `90000000000`, line(encode(t, ',', false, false, one[time.Duration]{V: 90 * time.Second})))
	assert.Equal(t, `0.1`, line(encode(t, ',', false, false, one[float32]{V: 0.1})))
	assert.Equal(t, `1000000`, line(encode(t, ',', false, false, one[float64]{V: 1e6})))
	assert.Equal(t, `1e-09`, line(encode(t, ',', false, false, one[float64]{V: 1e-9})))
	assert.Equal(t, `2025-03-01T13:30:00.000000005Z`, line(encode(t, ',', false, false, one[time.Time]{V: at})))
	assert.Equal(t, `12345678901234567890.1`, line(encode(t, ',', false, false, one[decimal.Decimal]{V: decimal.RequireFromString("12345678901234567890.10")})))
	assert.Equal(t, `ñ'x`, line(encode(t, ',', false, false, one[string]{V: "ñ'x"})))
	assert.Equal(t, `""`, line(encode(t, ',', false, false, one[string]{})))
	assert.Equal(t, `""`, line(encode(t, ',', false, false, one[[]byte]{})))
	assert.Equal(t, ``, line(encode(t, ',', false, false, one[*string]{})))
	assert.Equal(t, `x`, line(encode(t, ',', false, false, one[*string]{V: &word})))
	assert.Equal(t, ``, line(encode(t, ',', false, false, one[sql.Null[int]]{})))
	assert.Equal(t, `0`, line(encode(t, ',', false, false, one[sql.Null[int]]{V: sql.Null[int]{Valid: true}})))
	for in, want := range map[string]string{
		"a,b": `"a,b"`, `a"b`: `"a""b"`, `"`: `""""`, "a\nb": "\"a\nb\"", "a\rb": "\"a\rb\"", " a": `" a"`, "a ": `"a "`, "\ta": "\"\ta\"", `\.`: `"\."`, "#a": "#a", "a;b": "a;b",
	} {
		assert.Equal(t, want, line(encode(t, ',', false, false, one[string]{V: in})), in)
		assert.Equal(t, want, line(encode(t, ',', false, false, one[[]byte]{V: []byte(in)})), in)
	}

	type layouts struct {
		A time.Time `leat:"a,time=Jan 2, 2006"`
		B time.Time `leat:"b,time=2006-01-02 15:04:05"`
	}
	got, err := encode(t, ',', true, false, layouts{at, at})
	require.NoError(t, err)
	assert.Equal(t, "a,b\r\n\"Mar 1, 2025\",2025-03-01 13:30:00\r\n", got)
	got, err = encode(t, ';', false, false, layouts{at, at})
	require.NoError(t, err)
	assert.Equal(t, "a;b\nMar 1, 2025;2025-03-01 13:30:00\n", got)

	type lone struct{ S *string }
	got, err = encode(t, ',', false, false, lone{}, lone{&word})
	require.NoError(t, err)
	assert.Equal(t, "s\n\"\"\nx\n", got, "an empty line would be no record")
	type hash struct{ S string }
	got, err = encode(t, ',', false, false, hash{"#1"})
	require.NoError(t, err)
	assert.Equal(t, "s\n\"#1\"\n", got, "no comment")
}

type fails struct{}

func (fails) MarshalText() ([]byte, error) { return nil, errors.New("no text") }

func TestRefused(t *testing.T) {
	t.Parallel()
	type fila struct {
		F float64
		G float32
		T time.Time
	}
	for name, r := range map[string]fila{
		"f range": {F: math.NaN()}, "g range": {G: float32(math.Inf(1))}, "t range": {T: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := encode(t, ',', false, false, r)
		var f interface{ Field() (string, string) }
		require.ErrorAs(t, err, &f)
		column, rule := f.Field()
		assert.Equal(t, name, column+" "+rule)
	}
	_, err := encode(t, ',', false, false, struct{ F fails }{})
	assert.ErrorContains(t, err, "no text")
}

func TestGuardFormulas(t *testing.T) {
	t.Parallel()
	type fila struct {
		S string
		B []byte
		D decimal.Decimal
		X shout
		I int
		F float64
	}
	for in, want := range map[string]string{
		"=1+1": `"'=1+1"`, "+1": `"'+1"`, "-1": `"'-1"`, "@x": `"'@x"`, "\tx": "\"'\tx\"", "\rx": "\"'\rx\"", "＝1": `"'＝1"`,
		`=a"b`: `"'=a""b"`, "a=1": "a=1", "": `""`, "1-1": "1-1",
	} {
		got, err := encode(t, ',', false, true, fila{S: in, B: []byte(in), X: "+5x", D: decimal.RequireFromString("-1.5"), I: -1, F: -2e-9})
		require.NoError(t, err)
		assert.Equal(t, "s,b,d,x,i,f\n"+want+","+want+",-1.5,\"'+5x\",-1,-2e-09\n", got)
	}
	got, err := encode(t, ',', false, false, fila{S: "=1", X: "-"})
	require.NoError(t, err)
	assert.Equal(t, "s,b,d,x,i,f\n=1,\"\",0,-,0,0\n", got, "off by default")
	for s, want := range map[string]bool{"-1": true, "+1.5e-7": true, "-1e5": true, "-": false, "--1": false, "-1+1": false, "-e5": false, "-1x": false} {
		assert.Equal(t, want, number(s), s)
	}
}

type shout string

func (s shout) MarshalText() ([]byte, error) { return []byte(s), nil }

func FuzzEncode(f *testing.F) {
	f.Add("a", "b", "c", false, false)
	f.Add("", "\"", "\r\n", true, true)
	f.Add(" ", "#", `\.`, false, true)
	f.Add("a,b;c", "\n\r", "\xff\x00", true, false)
	f.Fuzz(func(t *testing.T, a, b, c string, crlf, semicolon bool) {
		type fila struct {
			A string
			B []byte
			C *string
		}
		delim := ','
		if semicolon {
			delim = ';'
		}
		text, err := encode(t, delim, crlf, false, fila{a, []byte(b), &c}, fila{b, []byte(c), &a})
		require.NoError(t, err)
		r := csv.NewReader(strings.NewReader(text))
		r.Comma = delim
		got, err := r.ReadAll()
		require.NoError(t, err)
		fold := func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
		require.Equal(t, [][]string{{"a", "b", "c"}, {fold(a), fold(b), fold(c)}, {fold(b), fold(c), fold(a)}}, got)
		one, err := encode(t, delim, crlf, false, struct{ A string }{a})
		require.NoError(t, err)
		got, err = csv.NewReader(strings.NewReader(one)).ReadAll()
		if !semicolon {
			require.NoError(t, err)
			require.Equal(t, [][]string{{"a"}, {fold(a)}}, got)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	type fila struct {
		A string
		B int64
		C float64
		D time.Time `leat:"d,time=2006-01-02 15:04:05"`
		E *string
	}
	rt, err := row.Of[fila]()
	require.NoError(t, err)
	e := newEncoder(rt, ',', false, true)
	r := fila{"a,\"b", 1, 1.5, time.Now(), nil}
	buf := bytes.NewBuffer(make([]byte, 0, 1024)).AvailableBuffer()
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = e.row(buf, unsafe.Pointer(&r)) }), "A1")
}

func BenchmarkRow(b *testing.B) {
	type fila struct {
		ID     int64
		Nombre string
		Precio float64
		Hora   time.Time
		Nota   *string
	}
	rt, err := row.Of[fila]()
	require.NoError(b, err)
	e := newEncoder(rt, ',', false, false)
	r := fila{123456, "Ñuñoa del Mar", 12.75, time.Now(), nil}
	var buf []byte
	for b.Loop() {
		buf, _ = e.row(buf[:0], unsafe.Pointer(&r))
	}
}
