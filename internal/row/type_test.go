package row

import (
	"database/sql"
	"encoding/json"
	"math/big"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSnake(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"VentaID": "venta_id", "HTTPServer": "http_server", "Anio": "anio", "ID": "id", "A": "a",
		"FechaVenta": "fecha_venta", "IDVenta": "id_venta", "Anio2024": "anio2024", "X2Y": "x2_y",
		"Venta_ID": "venta_id", "VentaX": "venta_x", "URLDeLaWEB": "url_de_la_web", "AñoÑu": "año_ñu", "MD5Hash": "md5_hash",
	} {
		assert.Equal(t, want, snake(in), in)
	}
}

type Base struct {
	ID     int64 `leat:",key"`
	Origen string
}

type inner struct{ Dentro int }

type Momento struct{ time.Time }

type Fecha time.Time

type Nivel int

func (n Nivel) MarshalText() ([]byte, error) { return []byte("n"), nil }

type SoloLee int

func (n *SoloLee) UnmarshalText([]byte) error { *n = 7; return nil }

type Blob []byte

type nothing struct{}

func TestColumns(t *testing.T) {
	t.Parallel()
	type fila struct {
		Base
		inner
		Momento
		VentaID  int32           `json:"venta,omitempty"`
		Precio   decimal.Decimal `leat:"precio" json:"price"`
		Cuando   time.Time       `leat:"cuando,time=Mon, 02 Jan 2006 15:04:05,key"`
		Nombrado Base            `leat:"base"`
		privado  int
		Fuera    int `leat:"-"`
		Fuera2   int `json:"-"`
		//lint:ignore SA5008 encoding/json reads this as a column named -
		Guion    int       `json:"-,"`
		Dentro2  int       `leat:"" json:"-"`
		Elastic  string    `json:"@timestamp"`
		Archivo  string    `leat:"@file"`
		Linea    int       `leat:"@line"`
		Part     string    `leat:"@partition"`
		Off      int64     `leat:"@offset"`
		Tema     string    `leat:"@topic"`
		Llave    string    `leat:"@key"`
		TS       time.Time `leat:"@timestamp"`
		Traza    string    `leat:"@header.Trace-ID"`
		PD       *decimal.Decimal
		ND       sql.Null[decimal.Decimal]
		NS       sql.NullString
		Any      any
		Trailing int `leat:"trailing,"`
	}
	_ = fila{}.privado
	rt := mustOf[fila](t)
	var names, origins []string
	for _, c := range rt.Columns {
		names = append(names, c.Name)
	}
	for _, c := range rt.Origins {
		origins = append(origins, c.Name)
	}
	assert.Equal(t, strings.Fields("id origen dentro momento venta precio cuando base - dentro2 @timestamp pd nd ns any trailing"), names)
	assert.Equal(t, strings.Fields("@file @line @partition @offset @topic @key @timestamp @header.Trace-ID"), origins)
	assert.Equal(t, []*Column{rt.Column("id"), rt.Column("cuando")}, rt.Keys())
	assert.Equal(t, "Mon, 02 Jan 2006 15:04:05", rt.Column("cuando").Layout)
	assert.Equal(t, Text, rt.Column("momento").Kind)
	assert.Equal(t, Other, rt.Column("base").Kind)
	assert.Equal(t, String, rt.Column("@timestamp").Kind)
	assert.Equal(t, reflect.TypeFor[*decimal.Decimal](), rt.Column("pd").Type)
	assert.Nil(t, rt.Column("@file"), "origins are no columns")
	assert.Nil(t, rt.Column("ID"), "by exact name")
	assert.Equal(t, "row.fila", rt.String())
	assert.Empty(t, mustOf[nothing](t).Columns)
}

func TestKinds(t *testing.T) {
	t.Parallel()
	type (
		miBool   bool
		miInt    int16
		miStr    string
		miF      float32
		miByte   byte
		miDur    time.Duration
		miStruct struct{ A int }
	)
	type fila struct {
		B      bool
		MB     miBool
		I      int
		I8     int8
		MI     miInt
		U      uint
		U64    uint64
		F32    float32
		MF     miF
		F      float64
		S      string
		MS     miStr
		Bs     []byte
		Bl     Blob
		Raw    []miByte
		T      time.Time
		TF     Fecha
		D      time.Duration
		MD     miDur
		Dec    decimal.Decimal
		Big    big.Int
		IP     net.IP
		Niv    Nivel
		Solo   SoloLee
		Sl     []string
		M      map[string]int
		St     miStruct
		PP     **int
		PI     *int32
		NT     sql.Null[time.Time]
		NI     sql.NullInt16
		PBs    *[]byte
		PSl    *[]string
		NSt    sql.Null[miStruct]
		Func   func()
		Puntos *big.Int
	}
	want := map[string]struct {
		k    Kind
		bits int
		null bool
	}{
		"b": {Bool, 0, false}, "mb": {Bool, 0, false}, "i": {Int, reflect.TypeFor[int]().Bits(), false}, "i8": {Int, 8, false},
		"mi": {Int, 16, false}, "u": {Uint, reflect.TypeFor[uint]().Bits(), false}, "u64": {Uint, 64, false},
		"f32": {Float, 32, false}, "mf": {Float, 32, false}, "f": {Float, 64, false}, "s": {String, 0, false}, "ms": {String, 0, false},
		"bs": {Bytes, 0, false}, "bl": {Bytes, 0, false}, "raw": {Other, 0, false}, "t": {Time, 0, false}, "tf": {Time, 0, false},
		"d": {Duration, 0, false}, "md": {Int, 64, false}, "dec": {Text, 0, false}, "big": {Text, 0, false}, "ip": {Text, 0, false},
		"niv": {Text, 0, false}, "solo": {Text, 0, false}, "sl": {Other, 0, false}, "m": {Other, 0, false}, "st": {Other, 0, false},
		"pp": {Other, 0, true}, "pi": {Int, 32, true}, "nt": {Time, 0, true}, "ni": {Int, 16, true}, "p_bs": {Bytes, 0, true},
		"p_sl": {Other, 0, true}, "n_st": {Other, 0, true}, "func": {Other, 0, false}, "puntos": {Text, 0, true},
	}
	rt := mustOf[fila](t)
	for _, c := range rt.Columns {
		w, ok := want[c.Name]
		if !assert.True(t, ok, "a column %s of kind %v", c.Name, c.Kind) {
			continue
		}
		assert.Equal(t, w.k, c.Kind, c.Name)
		assert.Equal(t, w.bits, c.Bits, c.Name)
		assert.Equal(t, w.null, c.Null, c.Name)
		assert.Equal(t, w.k != Other && c.Name != "niv", c.CanParse(), c.Name)
		assert.Equal(t, w.k != Other && c.Name != "solo", c.CanValue(), c.Name)
		if c.Kind == Time {
			assert.Equal(t, time.RFC3339Nano, c.Layout)
		} else {
			assert.Empty(t, c.Layout)
		}
	}
	assert.Len(t, rt.Columns, len(want))
	assert.Equal(t, "duration", Duration.String())
	assert.Equal(t, "kind(99)", Kind(99).String())
}

func TestFaults(t *testing.T) {
	t.Parallel()
	type dup struct {
		A int `leat:"x"`
		B int `json:"x"`
	}
	type dupEmbedded struct {
		Base
		ID int
	}
	type embedPointer struct{ *Base }
	type embedPrivatePointer struct{ *inner }
	type embedOptions struct {
		Base `leat:",key"`
	}
	type option struct {
		A int `leat:"a,kye"`
	}
	type spaced struct {
		A int `leat:"a, key"`
	}
	type twice struct {
		A int `leat:"a,key,key"`
	}
	type dash struct {
		A int `leat:"-,key"`
	}
	type layoutOnInt struct {
		A int `leat:"a,time=2006-01-02"`
	}
	type layoutEmpty struct {
		A time.Time `leat:"a,time="`
	}
	type layoutBad struct {
		A time.Time `leat:"a,time=YYYY-MM-DD"`
	}
	type decimalOnInt struct {
		A int `leat:"a,decimal=18.2"`
	}
	type decimalBad struct {
		A string `leat:"a,decimal=39.2"`
		B string `leat:"b,decimal=18"`
		C string `leat:"c,decimal=4.5"`
	}
	type decimalTwice struct {
		A string `leat:"a,decimal=4.2,decimal=4.2"`
	}
	type origin struct {
		A string `leat:"@fiel"`
	}
	type originType struct {
		A int `leat:"@file"`
	}
	type originNull struct {
		A *int64 `leat:"@offset"`
	}
	type originTime struct {
		A string `leat:"@timestamp"`
	}
	type originOption struct {
		A string `leat:"@file,key"`
	}
	type originHeader struct {
		A string `leat:"@header."`
	}
	type originTwice struct {
		A string `leat:"@file"`
		B string `leat:"@file"`
	}
	type spaceName struct {
		A int `leat:" a"`
	}
	type controlName struct {
		A int `leat:"a\tb"`
	}
	type hidden struct{ a int }
	_ = hidden{}.a
	many := reflect.StructOf([]reflect.StructField{
		{Name: "A", Type: reflect.TypeFor[int](), Tag: `leat:"a,zz"`},
		{Name: "B", Type: reflect.TypeFor[int](), Tag: `leat:b`},
	})
	for name, tc := range map[string]struct {
		t    reflect.Type
		want []string
	}{
		"duplicate":              {reflect.TypeFor[dup](), []string{"row.dup.B (column x)", "already the field A"}},
		"duplicate in embedded":  {reflect.TypeFor[dupEmbedded](), []string{"dupEmbedded.ID (column id)", "already the field Base.ID"}},
		"embedded pointer":       {reflect.TypeFor[embedPointer](), []string{"embedPointer.Base", "embed row.Base by value"}},
		"embedded hidden":        {reflect.TypeFor[embedPrivatePointer](), []string{"embed row.inner by value"}},
		"options on embedded":    {reflect.TypeFor[embedOptions](), []string{"options on an embedded struct"}},
		"unknown option":         {reflect.TypeFor[option](), []string{"option.A (column a)", `unknown option "kye"`}},
		"option with space":      {reflect.TypeFor[spaced](), []string{`unknown option " key"`}},
		"option twice":           {reflect.TypeFor[twice](), []string{"given twice"}},
		"options on -":           {reflect.TypeFor[dash](), []string{"takes no options"}},
		"layout on int":          {reflect.TypeFor[layoutOnInt](), []string{"time= is for time.Time, not for int"}},
		"layout empty":           {reflect.TypeFor[layoutEmpty](), []string{"time= needs a layout"}},
		"layout of another tool": {reflect.TypeFor[layoutBad](), []string{"time=YYYY-MM-DD is no Go time layout"}},
		"decimal on int":         {reflect.TypeFor[decimalOnInt](), []string{"decimal= is for strings and types with a text form, not for int"}},
		"decimal out of range":   {reflect.TypeFor[decimalBad](), []string{"column a", "decimal=39.2 is no decimal", "decimal=18 is no decimal", "decimal=4.5 is no decimal"}},
		"decimal twice":          {reflect.TypeFor[decimalTwice](), []string{"given twice"}},
		"unknown origin":         {reflect.TypeFor[origin](), []string{"column @fiel", "there are @file, @line"}},
		"origin of wrong type":   {reflect.TypeFor[originType](), []string{"column @file", "must be a string, not int"}},
		"origin with null":       {reflect.TypeFor[originNull](), []string{"must be an integer, not *int64"}},
		"origin time as string":  {reflect.TypeFor[originTime](), []string{"must be a time.Time, not string"}},
		"origin with option":     {reflect.TypeFor[originOption](), []string{"@file takes no options"}},
		"header without name":    {reflect.TypeFor[originHeader](), []string{"@header.NAME"}},
		"origin twice":           {reflect.TypeFor[originTwice](), []string{"already the field A"}},
		"name with space":        {reflect.TypeFor[spaceName](), []string{"spaces around it"}},
		"name with tab":          {reflect.TypeFor[controlName](), []string{"control character"}},
		"nothing exported":       {reflect.TypeFor[hidden](), []string{"has no columns"}},
		"pointer":                {reflect.TypeFor[*Base](), []string{"use row.Base itself"}},
		"no struct":              {reflect.TypeFor[int](), []string{"int is not a struct"}},
		"nil":                    {nil, []string{"is not a struct"}},
		"all at once":            {many, []string{`unknown option "zz"`, "malformed struct tag"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, err := OfType(tc.t)
			require.Error(t, err)
			assert.Nil(t, rt)
			for _, w := range tc.want {
				assert.Contains(t, err.Error(), w)
			}
			_, again := OfType(tc.t)
			assert.Equal(t, err, again)
		})
	}
}

func TestDecimalOption(t *testing.T) {
	t.Parallel()
	type fila struct {
		D  decimal.Decimal           `leat:"d,decimal=18.2"`
		P  *decimal.Decimal          `leat:"p,decimal=38.38"`
		N  sql.Null[decimal.Decimal] `leat:"n,decimal=1.0,key"`
		S  string                    `leat:"s,key,decimal=9.4"`
		No decimal.Decimal
	}
	rt := mustOf[fila](t)
	for name, want := range map[string][2]int{"d": {18, 2}, "p": {38, 38}, "n": {1, 0}, "s": {9, 4}, "no": {0, 0}} {
		c := rt.Column(name)
		assert.Equal(t, want, [2]int{c.Precision, c.Scale}, name)
	}
	assert.Len(t, rt.Keys(), 2)
}

func TestOfIsCached(t *testing.T) {
	t.Parallel()
	type fila struct{ A, B int }
	var wg sync.WaitGroup
	got := make([]*Type, 8)
	for i := range got {
		wg.Go(func() { got[i], _ = Of[fila]() })
	}
	wg.Wait()
	for _, g := range got {
		assert.Same(t, got[0], g)
	}
}

// A column with the option extra is a text to sinks and an object to JSON, whatever its
// map's type; what is wrong with one is told.
func TestExtra(t *testing.T) {
	t.Parallel()
	type texts struct {
		ID    int64
		Otros map[string]string `leat:"otros,extra"`
	}
	type anys struct {
		Otros map[string]any `leat:",extra"`
	}
	rt, err := Of[texts]()
	require.NoError(t, err)
	col := rt.Extra()
	require.Same(t, rt.Column("otros"), col)
	require.Equal(t, Text, col.Kind)
	require.False(t, col.CanParse())
	require.True(t, col.CanValue())
	for want, r := range map[string]texts{
		`{}`:                   {ID: 1},
		`{"a":"<x>","b":"\n"}`: {ID: 1, Otros: map[string]string{"b": "\n", "a": "<x>"}},
		`{"":"","z":"\ufffd"}`: {ID: 1, Otros: map[string]string{"": "", "z": "\xff"}},
	} {
		v, err := col.Value(unsafe.Pointer(&r))
		require.NoError(t, err)
		require.Equal(t, Value{Kind: String, Str: want}, v)
		js, err := rt.AppendJSON(nil, unsafe.Pointer(&r))
		require.NoError(t, err)
		require.Equal(t, `{"id":1,"otros":`+want+`}`, string(js))
	}
	at, err := Of[anys]()
	require.NoError(t, err)
	js, err := at.AppendJSON(nil, unsafe.Pointer(&anys{map[string]any{"n": json.Number("18446744073709551615")}}))
	require.NoError(t, err)
	require.Equal(t, `{"otros":{"n":18446744073709551615}}`, string(js))

	_, err = Of[struct {
		A map[string]string `leat:",extra"`
		B map[string]any    `leat:",extra"`
		C []string          `leat:",extra"`
		D map[string]any    `leat:",extra,key"`
		E map[string]int    `leat:",extra"`
	}]()
	require.ErrorContains(t, err, "B (column b): a row type has one column with the option extra at most")
	require.ErrorContains(t, err, "C (column c): the option extra is for a map[string]string, map[string]any or map[string]json.RawMessage, not for []string")
	require.ErrorContains(t, err, "D (column d): a column with the option extra takes no other option")
	require.ErrorContains(t, err, "not for map[string]int")
	plain, err := Of[struct{ A int }]()
	require.NoError(t, err)
	require.Nil(t, plain.Extra())
}
