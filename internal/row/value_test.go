package row

import (
	"database/sql"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func checkValue[T any](t *testing.T, v T, want Value) {
	t.Helper()
	read := func(c *Column, p unsafe.Pointer) Value {
		t.Helper()
		got, err := c.Value(p)
		require.NoError(t, err)
		return got
	}
	assert.Equal(t, want, read(mustCol[one[T]](t), unsafe.Pointer(&one[T]{v})))
	assert.Equal(t, want, read(mustCol[one[*T]](t), unsafe.Pointer(&one[*T]{&v})))
	assert.Equal(t, want, read(mustCol[one[sql.Null[T]]](t), unsafe.Pointer(&one[sql.Null[T]]{sql.Null[T]{V: v, Valid: true}})))
	null := Value{Kind: want.Kind, Null: true}
	assert.Equal(t, null, read(mustCol[one[*T]](t), unsafe.Pointer(&one[*T]{})))
	assert.Equal(t, null, read(mustCol[one[sql.Null[T]]](t), unsafe.Pointer(&one[sql.Null[T]]{sql.Null[T]{V: v}})))
}

func TestValue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	checkValue(t, true, Value{Kind: Bool, Int: 1})
	checkValue(t, false, Value{Kind: Bool})
	checkValue(t, int8(-128), Value{Kind: Int, Int: -128})
	checkValue(t, int16(-300), Value{Kind: Int, Int: -300})
	checkValue(t, int32(math.MinInt32), Value{Kind: Int, Int: math.MinInt32})
	checkValue(t, int64(math.MinInt64), Value{Kind: Int, Int: math.MinInt64})
	checkValue(t, uint8(255), Value{Kind: Uint, Uint: 255})
	checkValue(t, uint16(65535), Value{Kind: Uint, Uint: 65535})
	checkValue(t, uint32(math.MaxUint32), Value{Kind: Uint, Uint: math.MaxUint32})
	checkValue(t, uint64(math.MaxUint64), Value{Kind: Uint, Uint: math.MaxUint64})
	checkValue(t, float32(0.5), Value{Kind: Float, Float: 0.5})
	checkValue(t, 0.1, Value{Kind: Float, Float: 0.1})
	checkValue(t, "x", Value{Kind: String, Str: "x"})
	checkValue(t, []byte("x"), Value{Kind: Bytes, Bytes: []byte("x")})
	checkValue(t, []byte(nil), Value{Kind: Bytes, Bytes: []byte{}})
	checkValue(t, now, Value{Kind: Time, Time: now})
	checkValue(t, Fecha(now), Value{Kind: Time, Time: now})
	checkValue(t, time.Second, Value{Kind: Duration, Int: 1e9})
	checkValue(t, decimal.RequireFromString("1.50"), Value{Kind: String, Str: "1.5"})
	checkValue(t, Nivel(3), Value{Kind: String, Str: "n"})
	checkValue(t, json.RawMessage("{}"), Value{Kind: Bytes, Bytes: []byte("{}")})

	_, err := mustCol[one[[]string]](t).Value(unsafe.Pointer(&one[[]string]{}))
	assert.EqualError(t, err, "column v: a []string has no column form, only JSON")
	assert.Equal(t, RuleType, ruleOf(t, err))
	_, err = mustCol[one[roto]](t).Value(unsafe.Pointer(&one[roto]{}))
	assert.EqualError(t, err, `column v: the row.roto cannot be written: se\nrompió`)
	_, err = mustCol[one[SoloLee]](t).Value(unsafe.Pointer(&one[SoloLee]{}))
	assert.EqualError(t, err, `column v: a row.SoloLee cannot be written, it has no MarshalText`)
}

// TestAlignment reads and writes fields that a wrong offset or width would smear over their neighbours.
func TestAlignment(t *testing.T) {
	t.Parallel()
	type anidada struct {
		Y int16
		Z sql.Null[int16]
	}
	type fila struct {
		A int8
		B int64
		C uint8
		D sql.Null[bool]
		E *int8
		F float32
		anidada
		G bool
	}
	rt := mustOf[fila](t)
	rows := make([]fila, 3)
	p := unsafe.Pointer(&rows[1])
	for name, text := range map[string]string{"a": "-1", "b": "-1", "c": "255", "d": "true", "e": "-1", "f": "-1", "y": "-1", "z": "-1", "g": "true"} {
		require.NoError(t, rt.Column(name).Parse(p, text))
	}
	minus := int8(-1)
	assert.Equal(t, fila{-1, -1, 255, sql.Null[bool]{V: true, Valid: true}, &minus, -1, anidada{-1, sql.Null[int16]{V: -1, Valid: true}}, true}, rows[1])
	assert.Zero(t, rows[0])
	assert.Zero(t, rows[2])
}

// TestPlaces reads values the way that adapters do which take whole columns.
func TestPlaces(t *testing.T) {
	t.Parallel()
	type fila struct {
		A int64
		B *int32
		C sql.Null[string]
	}
	rt := mustOf[fila](t)
	b := int32(7)
	row := fila{5, &b, sql.Null[string]{V: "x", Valid: true}}
	p := unsafe.Pointer(&row)
	offset, ok := rt.Column("a").Fixed()
	require.True(t, ok)
	assert.Equal(t, int64(5), *(*int64)(unsafe.Add(p, offset)))
	for _, name := range []string{"b", "c"} {
		_, ok := rt.Column(name).Fixed()
		assert.False(t, ok, name)
		assert.Nil(t, rt.Column(name).At(unsafe.Pointer(&fila{})), name)
	}
	assert.Equal(t, int32(7), *(*int32)(rt.Column("b").At(p)))
	assert.Equal(t, "x", *(*string)(rt.Column("c").At(p)))
	assert.Equal(t, reflect.TypeFor[string](), rt.Column("c").Elem())
	k, bits := KindOf(rt.Column("b").Elem())
	assert.Equal(t, Int, k)
	assert.Equal(t, 32, bits)
}
