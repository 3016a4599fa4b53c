package avrocodec

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

// registry is a fake one that counts the requests it gets.
func registry(t testing.TB) (*srfake.Registry, *codec.Registry, *atomic.Int64) {
	t.Helper()
	fake, asked := srfake.New(), new(atomic.Int64)
	t.Cleanup(fake.Close)
	fake.Intercept(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	return fake, codec.NewRegistry(sr.URLs(fake.URL())), asked
}

func avroSchema(text string, refs ...sr.SchemaReference) sr.Schema {
	return sr.Schema{Schema: text, Type: sr.TypeAvro, References: refs}
}

// value is the header of id 1, then bytes in hexadecimal.
func value(t testing.TB, body string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	require.NoError(t, err)
	return append([]byte{0, 0, 0, 0, 1}, b...)
}

func decodeOne[T any](t testing.TB, schema, body string) (T, error) {
	t.Helper()
	fake, reg, _ := registry(t)
	fake.SeedSchema("t-value", 1, 1, avroSchema(schema))
	var row T
	err := New(Config[T]{Registry: reg}).Decode(t.Context(), "t", value(t, body), &row)
	return row, err
}

type Base struct {
	ID int64 `leat:"id,key"`
}

type Linea struct {
	Producto string
	Cantidad int32
}

type fecha time.Time

type ancha struct {
	Topic string `leat:"@topic"`
	Base
	privado   int
	Nombre    string `json:"nombre_json"`
	Activa    bool
	Ratio     float32
	Total     float64
	Cuerpo    []byte
	Cuando    time.Time
	Dia       fecha
	Dura      time.Duration
	Precio    decimal.Decimal `leat:"precio,decimal=18.2"`
	UUID      uuid.UUID       `leat:"uid"`
	Nota      *string
	Edad      sql.Null[int32]
	Monto     *decimal.Decimal `leat:"monto,decimal=10.4"`
	Lineas    []Linea
	Primera   *Linea
	PorNombre map[string]Linea
	Etiquetas map[string]string
	Hash      [4]byte
	Interno   string `leat:"-"`
}

func full() ancha {
	nota, monto := "nota", decimal.RequireFromString("-12.3456")
	return ancha{
		Base: Base{ID: math.MinInt64}, Nombre: "José", Activa: true, Ratio: 0.5, Total: 1e300, Cuerpo: []byte{0, 255},
		Cuando: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), Dia: fecha(time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)),
		Dura: -time.Second, Precio: decimal.RequireFromString("9999999999999999.99"), UUID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"),
		Nota: &nota, Edad: sql.Null[int32]{V: 7, Valid: true}, Monto: &monto,
		Lineas: []Linea{{"a", 1}, {"b", 2}}, Primera: &Linea{"p", 3}, PorNombre: map[string]Linea{"x": {"y", 4}},
		Etiquetas: map[string]string{"k": "v"}, Hash: [4]byte{1, 2, 3, 4},
	}
}

// Every type goes there and back, through a schema that is derived and registered.
func TestRoundTrip(t *testing.T) {
	_, reg, asked := registry(t)
	k := New(Config[ancha]{Registry: reg, Register: true, Record: "com.acme.Ancha"})
	require.NoError(t, k.ValidateEncode())
	for name, want := range map[string]ancha{"full": full(), "empty": {
		Cuando: time.UnixMicro(0).UTC(), Dia: fecha(time.UnixMicro(0).UTC()), Cuerpo: []byte{}, Lineas: []Linea{}, PorNombre: map[string]Linea{}, Etiquetas: map[string]string{},
	}} {
		t.Run(name, func(t *testing.T) {
			for range 3 { // frames come from a pool
				b, err := k.Encode(t.Context(), "ventas", []byte("before"), &want)
				require.NoError(t, err)
				require.Equal(t, "before\x00", string(b[:7]))
				got := ancha{Topic: "kept", Interno: "kept", privado: 7}
				require.NoError(t, k.Decode(t.Context(), "ventas", b[6:], &got))
				require.Equal(t, "kept", got.Topic)
				require.Equal(t, "kept", got.Interno)
				require.True(t, want.Precio.Equal(got.Precio), got.Precio)
				require.Equal(t, want.Monto == nil, got.Monto == nil)
				if want.Monto != nil {
					require.True(t, want.Monto.Equal(*got.Monto))
				}
				got.Topic, got.Interno, got.privado, got.Precio, got.Monto = "", "", 0, want.Precio, want.Monto
				require.Equal(t, want, got)
			}
		})
	}
	require.LessOrEqual(t, asked.Load(), int64(3)) // register, look up, fetch
	text, err := Derive[ancha]("com.acme.Ancha")
	require.NoError(t, err)
	require.Contains(t, text, `{"name":"precio","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}}`)
	require.Contains(t, text, `{"name":"nota","type":["null","string"],"default":null}`)
}

// A row must not share memory with the pooled frame: what one row got, the next must not change.
func TestRowsShareNothing(t *testing.T) {
	type Row struct{ Cuerpo []byte }
	fake, reg, _ := registry(t)
	fake.SeedSchema("t-value", 1, 1, avroSchema(`{"type":"record","name":"R","fields":[{"name":"cuerpo","type":["null","bytes"]}]}`))
	k := New(Config[Row]{Registry: reg})
	in := value(t, "02 06 616161")
	var a, b Row
	require.NoError(t, k.Decode(t.Context(), "", in, &a))
	require.NoError(t, k.Decode(t.Context(), "", value(t, "02 06 626262"), &b))
	clear(in)
	require.Equal(t, "aaa", string(a.Cuerpo))
	require.Equal(t, "bbb", string(b.Cuerpo))
}

// The bytes of Avro's specification: 64 is 80 01, "foo" is 06 66 6f 6f.
func TestVectorsOfTheSpecification(t *testing.T) {
	type Row struct {
		A int64
		B string
	}
	const schema = `{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}`
	got, err := decodeOne[Row](t, schema, "36 06 666f6f")
	require.NoError(t, err)
	require.Equal(t, Row{27, "foo"}, got)
	k := New(Config[Row]{Schema: schema})
	require.NoError(t, k.ValidateEncode())
	for n, want := range map[int64]string{0: "00", -1: "01", 1: "02", -2: "03", -64: "7f", 64: "8001"} {
		b, err := k.Encode(t.Context(), "", nil, &Row{A: n})
		require.NoError(t, err)
		require.Equal(t, want+"00", hex.EncodeToString(b))
	}
}

func TestSchemaChanges(t *testing.T) {
	const rec = `{"type":"record","name":"com.acme.Venta","fields":[`
	type Row struct {
		ID    int64
		Total float64
		Nota  *string
	}
	t.Run("int is promoted, removed fields are skipped, added ones are null", func(t *testing.T) {
		got, err := decodeOne[Row](t, rec+`{"name":"viejo","type":{"type":"array","items":"string"}},{"name":"id","type":"int"},{"name":"total","type":"float"}]}`,
			"02 02 78 00 0e 0000003f")
		require.NoError(t, err)
		require.Equal(t, Row{ID: 7, Total: 0.5}, got)
	})
	t.Run("a column without a field", func(t *testing.T) {
		_, err := decodeOne[Row](t, rec+`{"name":"id","type":"int"}]}`, "0e")
		require.ErrorContains(t, err, "column total: the record com.acme.Venta has no such field")
		require.False(t, leat.IsTransient(err))
	})
	t.Run("defaults and aliases of the reader's schema", func(t *testing.T) {
		fake, reg, _ := registry(t)
		fake.SeedSchema("t-value", 1, 1, avroSchema(rec+`{"name":"viejo_id","type":"int"}]}`))
		k := New(Config[Row]{Registry: reg, Schema: rec + `{"name":"id","type":"long","aliases":["viejo_id"]},{"name":"total","type":"double","default":1.5},{"name":"nota","type":["string","null"],"default":"n"}]}`})
		require.NoError(t, k.Validate())
		var got Row
		require.NoError(t, k.Decode(t.Context(), "", value(t, "0e"), &got))
		require.Equal(t, int64(7), got.ID)
		require.Equal(t, 1.5, got.Total)
		require.Equal(t, "n", *got.Nota)
	})
	t.Run("not compatible", func(t *testing.T) {
		fake, reg, _ := registry(t)
		fake.SeedSchema("t-value", 1, 1, avroSchema(rec+`{"name":"id","type":"string"}]}`))
		k := New(Config[Row]{Registry: reg, Schema: rec + `{"name":"id","type":"long"},{"name":"total","type":"double","default":1.5}]}`})
		err := k.Decode(t.Context(), "", value(t, "0e"), new(Row))
		require.ErrorContains(t, err, "the schema 1 does not fit the row")
		require.False(t, leat.IsTransient(err))
	})
	t.Run("null for what can't be null", func(t *testing.T) {
		const schema = rec + `{"name":"id","type":["null","long"]},{"name":"total","type":["double","null"]}]}`
		got, err := decodeOne[Row](t, schema, "02 0e 00 0000000000000440")
		require.NoError(t, err)
		require.Equal(t, Row{ID: 7, Total: 2.5}, got)
		_, err = decodeOne[Row](t, schema, "00 00 0000000000000440")
		require.ErrorContains(t, err, "column id: null")
		var fe *leat.FieldError
		require.ErrorAs(t, err, &fe)
		require.Equal(t, "null", fe.Rule)
	})
	t.Run("null inside a record", func(t *testing.T) {
		type In struct{ N int64 }
		type Out struct{ In In }
		_, err := decodeOne[Out](t, `{"type":"record","name":"R","fields":[{"name":"in","type":{"type":"record","name":"I","fields":[{"name":"n","type":["null","long"]}]}}]}`, "00")
		require.ErrorContains(t, err, "column in.n: null is possible")
	})
}

func TestLogicalTypes(t *testing.T) {
	type Row struct{ V time.Time }
	when := time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)
	for logical, unit := range map[string]time.Duration{"timestamp-millis": time.Millisecond, "timestamp-micros": time.Microsecond, "timestamp-nanos": 1} {
		schema := `{"type":"record","name":"R","fields":[{"name":"v","type":{"type":"long","logicalType":"` + logical + `"}}]}`
		k := New(Config[Row]{Schema: schema})
		b, err := k.Encode(t.Context(), "", nil, &Row{when})
		require.NoError(t, err)
		var got Row
		require.NoError(t, k.Decode(t.Context(), "", b, &got))
		require.Equal(t, when, got.V)
		type Number struct{ V int64 }
		var n Number
		require.NoError(t, New(Config[Number]{Schema: schema}).Decode(t.Context(), "", b, &n))
		require.Equal(t, when.UnixNano()/int64(unit), n.V)
	}
	t.Run("date", func(t *testing.T) {
		k := New(Config[Row]{Schema: `{"type":"record","name":"R","fields":[{"name":"v","type":{"type":"int","logicalType":"date"}}]}`})
		var got Row
		require.NoError(t, k.Decode(t.Context(), "", []byte{0x01}, &got))
		require.Equal(t, time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), got.V)
	})
	t.Run("text with the column's layout", func(t *testing.T) {
		type Dia struct {
			V time.Time `leat:"v,time=02/01/2006"`
		}
		k := New(Config[Dia]{Schema: `{"type":"record","name":"R","fields":[{"name":"v","type":"string"}]}`})
		b, err := k.Encode(t.Context(), "", nil, &Dia{when})
		require.NoError(t, err)
		require.Equal(t, "\x1402/01/2026", string(b))
		var got Dia
		require.NoError(t, k.Decode(t.Context(), "", b, &got))
		require.Equal(t, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), got.V)
		require.ErrorContains(t, k.Decode(t.Context(), "", []byte("\x02x"), &got), "column v")
	})
	t.Run("decimal of a fixed", func(t *testing.T) {
		type Row struct{ V decimal.Decimal }
		k := New(Config[Row]{Schema: `{"type":"record","name":"R","fields":[{"name":"v","type":["null",{"type":"fixed","name":"f","size":2,"logicalType":"decimal","precision":4,"scale":2}]}]}`})
		var got Row
		require.NoError(t, k.Decode(t.Context(), "", []byte{2, 0xff, 0x85}, &got))
		require.Equal(t, "-1.23", got.V.String())
		b, err := k.Encode(t.Context(), "", nil, &got)
		require.NoError(t, err)
		require.Equal(t, []byte{2, 0xff, 0x85}, b)
		_, err = k.Encode(t.Context(), "", nil, &Row{decimal.RequireFromString("1000.00")})
		require.Error(t, err)
	})
}

func TestReferences(t *testing.T) {
	fake, reg, asked := registry(t)
	fake.SeedSchema("pais", 1, 10, avroSchema(`{"type":"record","name":"com.acme.Pais","fields":[{"name":"iso","type":"string"}]}`))
	pais := sr.SchemaReference{Name: "com.acme.Pais", Subject: "pais", Version: 1}
	fake.SeedSchema("dir", 1, 11, avroSchema(`{"type":"record","name":"com.acme.Dir","fields":[{"name":"calle","type":"string"},{"name":"pais","type":"com.acme.Pais"}]}`, pais))
	fake.SeedSchema("t-value", 1, 1, avroSchema(`{"type":"record","name":"com.acme.Cli","fields":[{"name":"dir","type":"com.acme.Dir"},{"name":"pais","type":["null","com.acme.Pais"]}]}`,
		sr.SchemaReference{Name: "com.acme.Dir", Subject: "dir", Version: 1}, pais))
	type Pais struct {
		ISO string `leat:"iso"`
	}
	type Dir struct {
		Calle string
		Pais  Pais
	}
	type Cli struct {
		Dir  Dir
		Pais *Pais
	}
	k := New(Config[Cli]{Registry: reg})
	for range 3 {
		var got Cli
		require.NoError(t, k.Decode(t.Context(), "", value(t, "02 61 04 5559 02 04 4152"), &got))
		require.Equal(t, Cli{Dir{"a", Pais{"UY"}}, &Pais{"AR"}}, got)
	}
	require.EqualValues(t, 3, asked.Load()) // each schema once
}

// One fetch for each id, however many rows ask for it at once.
func TestOneFetch(t *testing.T) {
	fake, reg, asked := registry(t)
	fake.SeedSchema("t-value", 1, 1, avroSchema(`{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`))
	k := New(Config[Base]{Registry: reg})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 100 {
				var got Base
				if err := k.Decode(t.Context(), "t", value(t, "0e"), &got); err != nil || got.ID != 7 {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, asked.Load())
}

// Whose fault it is (rule B8): an unknown id is the row's, the registry's trouble is not.
func TestFaults(t *testing.T) {
	fake, reg, asked := registry(t)
	k := New(Config[Base]{Registry: reg})
	for range 3 {
		err := k.Decode(t.Context(), "t", value(t, "0e"), new(Base))
		require.ErrorContains(t, err, "no schema with the id 1")
		require.False(t, leat.IsTransient(err))
	}
	require.EqualValues(t, 1, asked.Load(), "an id that is not known is not asked for with each row")

	for name, answer := range map[string]http.HandlerFunc{
		"503":                      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"401":                      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"429":                      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"a proxy's 404":            func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
		"not JSON":                 func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"the connection is closed": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			fake.ClearInterceptors()
			fake.Intercept(func(w http.ResponseWriter, r *http.Request) bool { answer(w, r); return true })
			v := append([]byte{0, 0, 0, 0, 2}, 0x0e)
			err := k.Decode(t.Context(), "t", v, new(Base))
			require.Error(t, err)
			require.True(t, leat.IsTransient(err), err)
		})
	}
	t.Run("it comes back", func(t *testing.T) {
		fake.ClearInterceptors()
		fake.SeedSchema("t-value", 1, 2, avroSchema(`{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`))
		var got Base
		require.NoError(t, k.Decode(t.Context(), "t", []byte{0, 0, 0, 0, 2, 0x0e}, &got))
		require.Equal(t, int64(7), got.ID)
	})
	t.Run("a caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := k.Decode(ctx, "t", []byte{0, 0, 0, 0, 9, 0x0e}, new(Base))
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("too many references", func(t *testing.T) {
		n := 0
		fake.ClearInterceptors()
		fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			n++
			_, _ = fmt.Fprintf(w, `{"schema":"\"long\"","references":[{"name":"a","subject":"a","version":%d}]}`, n)
			return true
		})
		defer fake.ClearInterceptors()
		for range 10 {
			err := k.Decode(t.Context(), "t", []byte{0, 0, 0, 0, 8, 0x0e}, new(Base))
			require.ErrorContains(t, err, "more than 256 others")
			require.False(t, leat.IsTransient(err))
		}
		require.Less(t, n, 300, "asked for once, not with each row")
	})
	t.Run("another type", func(t *testing.T) {
		fake.SeedSchema("p-value", 1, 3, sr.Schema{Schema: `{"type":"object"}`, Type: sr.TypeJSON})
		err := k.Decode(t.Context(), "t", []byte{0, 0, 0, 0, 3, 0x0e}, new(Base))
		require.ErrorContains(t, err, "not Avro")
		require.False(t, leat.IsTransient(err))
	})
}

func TestNoSecretsInErrors(t *testing.T) {
	const secret = "s3cret"
	for name, url := range map[string]string{
		"no such host": "http://user:" + secret + "@127.0.0.1:1", "no URL": "http://user:" + secret + "@127.0.0.1:1:2/%zz",
		"a # in the password": "http://user:" + secret + "#x@127.0.0.1:1", "a / in the password": "http://user:" + secret + "/x@127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			reg := codec.NewRegistry(sr.URLs(url), sr.BasicAuth("u", secret), sr.BearerToken(secret))
			err := New(Config[Base]{Registry: reg}).Decode(t.Context(), "t", value(t, "0e"), new(Base))
			require.Error(t, err)
			require.True(t, leat.IsTransient(err))
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestEncodeSubjects(t *testing.T) {
	fake, reg, _ := registry(t)
	ctx := t.Context()
	row := &Base{ID: 7}
	t.Run("not registered: rows wait", func(t *testing.T) {
		_, err := New(Config[Base]{Registry: reg}).Encode(ctx, "t", nil, row)
		require.ErrorContains(t, err, `the subject "t-value" has not got the schema`)
		require.True(t, leat.IsTransient(err))
	})
	for want, subject := range map[string]codec.Subject{"t-value": nil, "com.acme.B": codec.RecordName, "t-com.acme.B": codec.TopicRecordName} {
		k := New(Config[Base]{Registry: reg, Register: true, Record: "com.acme.B", Subject: subject})
		b, err := k.Encode(ctx, "t", nil, row)
		require.NoError(t, err)
		require.True(t, fake.SubjectExists(want), want)
		// Now that it is there, others find it.
		found, err := New(Config[Base]{Registry: reg, Record: "com.acme.B", Subject: subject}).Encode(ctx, "t", nil, row)
		require.NoError(t, err)
		require.Equal(t, b, found)
	}
	t.Run("the latest, with fields of its own", func(t *testing.T) {
		fake.SeedSchema("l-value", 1, 77, avroSchema(`{"type":"record","name":"B","fields":[{"name":"otro","type":"string","default":"x"},{"name":"id","type":"long"},{"name":"n","type":["null","long"]}]}`))
		b, err := New(Config[Base]{Registry: reg, Latest: true}).Encode(ctx, "l", nil, row)
		require.NoError(t, err)
		require.Equal(t, "000000004d"+"0278"+"0e"+"00", hex.EncodeToString(b))
	})
	t.Run("the latest lacks a column", func(t *testing.T) {
		_, err := New(Config[Linea]{Registry: reg, Latest: true}).Encode(ctx, "l", nil, &Linea{})
		require.ErrorContains(t, err, "column producto: the schema has no such field")
		require.True(t, leat.IsTransient(err))
	})
	t.Run("a null that the schema has not", func(t *testing.T) {
		type Row struct{ ID *int64 }
		k := New(Config[Row]{Schema: `{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`})
		dst := []byte("kept")
		dst, err := k.Encode(ctx, "", dst, &Row{})
		require.Error(t, err)
		require.False(t, leat.IsTransient(err))
		require.Equal(t, "kept", string(dst))
	})
}

func TestTombstones(t *testing.T) {
	require.ErrorIs(t, New(Config[Base]{Schema: `{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`}).Decode(t.Context(), "", nil, new(Base)), codec.ErrTombstone)
}

func TestSingleObjects(t *testing.T) {
	const schema = `{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`
	k := New(Config[Base]{Schema: schema, Single: true})
	b, err := k.Encode(t.Context(), "", nil, &Base{7})
	require.NoError(t, err)
	require.Equal(t, "c301", hex.EncodeToString(b[:2]))
	var got Base
	require.NoError(t, k.Decode(t.Context(), "", b, &got))
	require.Equal(t, int64(7), got.ID)
	b[5]++
	require.ErrorContains(t, k.Decode(t.Context(), "", b, &got), "fingerprint")
	require.Error(t, k.Decode(t.Context(), "", b[:4], &got))
}

type nodo struct {
	Valor int64
	Hijos []nodo
}

func TestValidate(t *testing.T) {
	_, reg, _ := registry(t)
	for want, err := range map[string]error{
		"set Registry":                        New(Config[Base]{}).Validate(),
		"not understood":                      New(Config[Base]{Schema: "{"}).Validate(),
		"Register and Latest need one":        New(Config[Base]{Schema: `{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}`, Register: true}).Validate(),
		"not both":                            New(Config[Base]{Registry: reg, Register: true, Latest: true}).Validate(),
		"leave out Single":                    New(Config[Base]{Registry: reg, Single: true}).Validate(),
		"is not a struct":                     New(Config[int]{Registry: reg}).Validate(),
		"holds itself":                        New(Config[nodo]{Registry: reg}).Validate(),
		"column id: the record R has no such": New(Config[Base]{Schema: `{"type":"record","name":"R","fields":[]}`}).Validate(),
		"rows are records":                    New(Config[Base]{Schema: `"string"`}).Validate(),
		"a interface {} has no Avro type":     New(Config[struct{ A any }]{Registry: reg}).ValidateEncode(),
		"Avro has names of the letters":       New(Config[struct{ Año int }]{Registry: reg}).ValidateEncode(),
	} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, New(Config[struct{ A any }]{Registry: reg}).Validate(), "it can be read")
	require.ErrorContains(t, New(Config[Base]{}).Decode(t.Context(), "", []byte{}, new(Base)), "set Registry")
	_, err := New(Config[Base]{}).Encode(t.Context(), "", nil, new(Base))
	require.Error(t, err)
}

// A schema may hold itself, as long as the row does not follow it.
func TestSchemasThatHoldThemselves(t *testing.T) {
	const schema = `{"type":"record","name":"N","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","N"]}]}`
	type One struct{ V int64 }
	got, err := decodeOne[One](t, schema, "0e 02 10 00")
	require.NoError(t, err)
	require.Equal(t, One{7}, got)
	type Two struct {
		V    int64
		Next *One
	}
	_, err = decodeOne[Two](t, schema, "0e 02 10 00")
	require.ErrorContains(t, err, "in a way that is not followed")
	_, err = decodeOne[One](t, schema, "0e"+strings.Repeat("020e", 2000)+"00")
	require.Error(t, err, "too deep")
}

// Values that lie about their lengths give errors, and cost no more than their own size.
func TestHostileValues(t *testing.T) {
	type Row struct {
		S string
		B []byte
		A []int64
		M map[string]string
		N []struct{ X *int64 }
	}
	const schema = `{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"b","type":"bytes"},{"name":"a","type":{"type":"array","items":"long"}},
		{"name":"m","type":{"type":"map","values":"string"}},{"name":"n","type":{"type":"array","items":{"type":"record","name":"E","fields":[{"name":"x","type":["null","long"]}]}}}]}`
	const huge = "feffffff0f" // 2 GiB - 1
	for name, body := range map[string]string{
		"empty": "", "a string of 2 GiB": huge + "61", "bytes of 2 GiB": "00" + huge, "an array of 2 Gi": "0000" + huge + "00", "a map of 2 Gi": "000000" + huge,
		"records of 2 Gi": "00000000" + huge, "a negative length": "01", "a varint without an end": "ffffffffffffffffffffff", "a block of negative count": "0000" + "01" + huge,
		"the least count": "0000" + "ffffffffffffffffff01", "a branch that is not": "00000000" + "02" + "04" + "00", "left over": "0000000000" + "00", "no text": "02ff00000000",
	} {
		t.Run(name, func(t *testing.T) {
			n := testing.AllocsPerRun(1, func() {
				_, err := decodeBytes[Row](schema, body)
				require.Error(t, err)
				require.False(t, leat.IsTransient(err))
				require.NotContains(t, err.Error(), "F0", "the shadow is nobody's business")
			})
			require.Less(t, n, 10_000.0)
		})
	}
}

func decodeBytes[T any](schema, body string) (T, error) {
	b, _ := hex.DecodeString(body)
	var row T
	return row, New(Config[T]{Schema: schema}).Decode(context.Background(), "", b, &row)
}
