package avrocodec

import (
	"context"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/leatgo/leat/codec"
)

// FuzzDecode feeds bytes to the decoder of the widest row. There must be no panic, and what
// is read must be writable, and then read as the same.
func FuzzDecode(f *testing.F) {
	schema, err := Derive[ancha]("")
	if err != nil {
		f.Fatal(err)
	}
	k := New(Config[ancha]{Schema: schema})
	row := full()
	seed, err := k.Encode(context.Background(), "", nil, &row)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Add([]byte{0xfe, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, in []byte) {
		var got ancha
		if k.Decode(t.Context(), "", in, &got) != nil {
			return
		}
		if !utf8.ValidString(got.Nombre) {
			t.Fatalf("a string that is no text: %q", got.Nombre)
		}
		out, err := k.Encode(t.Context(), "", nil, &got)
		if err != nil {
			t.Skip() // a time beyond what Avro's text forms have
		}
		var again ancha
		if err := k.Decode(t.Context(), "", out, &again); err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
	})
}

// FuzzSchema feeds schemas, as a registry may hold anything, with a value.
func FuzzSchema(f *testing.F) {
	derived, err := Derive[ancha]("")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(derived, []byte{0})
	f.Add(`{"type":"record","name":"R","fields":[{"name":"id","type":["null","long"]},{"name":"x","type":"R"}]}`, []byte{2, 2})
	f.Add(`{"type":"record","name":"R","fields":[{"name":"id","type":{"type":"array","items":"null"}}]}`, []byte{2, 2})
	f.Fuzz(func(t *testing.T, schema string, in []byte) {
		var got ancha
		_ = New(Config[ancha]{Schema: schema}).Decode(t.Context(), "", in, &got)
		var id Base
		_ = New(Config[Base]{Schema: schema}).Decode(t.Context(), "", in, &id)
		_, _ = New(Config[ancha]{Schema: schema}).Encode(t.Context(), "", nil, &got)
	})
}

func benchRow(b *testing.B) (*Codec[evento], []byte, *evento) {
	fake := srfake.New()
	b.Cleanup(fake.Close)
	k := New(Config[evento]{Registry: codec.NewRegistry(sr.URLs(fake.URL())), Register: true})
	monto := 12.5
	row := &evento{EventID: "0191e2a0-1111-7222-8333-444455556666", TS: 1767323045678, UsuarioID: 42, Accion: "purchase", Monto: &monto}
	v, err := k.Encode(b.Context(), "t", nil, row)
	require.NoError(b, err)
	return k, v, row
}

type evento struct {
	EventID   string `leat:"event_id"`
	TS        int64  `leat:"ts"`
	UsuarioID int64
	Accion    string
	Monto     *float64
}

func BenchmarkDecode(b *testing.B) {
	k, v, _ := benchRow(b)
	b.SetBytes(int64(len(v)))
	b.ReportAllocs()
	for b.Loop() {
		var got evento
		if err := k.Decode(b.Context(), "t", v, &got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	k, v, row := benchRow(b)
	b.SetBytes(int64(len(v)))
	b.ReportAllocs()
	dst := make([]byte, 0, 1024)
	for b.Loop() {
		if _, err := k.Encode(b.Context(), "t", dst, row); err != nil {
			b.Fatal(err)
		}
	}
}
