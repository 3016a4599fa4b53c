package protocodec

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

func registry(t testing.TB) (*srfake.Registry, *codec.Registry, *atomic.Int64) {
	t.Helper()
	fake, asked := srfake.New(), new(atomic.Int64)
	t.Cleanup(fake.Close)
	fake.Intercept(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	return fake, codec.NewRegistry(sr.URLs(fake.URL())), asked
}

func protoSchema(text string) sr.Schema { return sr.Schema{Schema: text, Type: sr.TypeProtobuf} }

// ts is {seconds: 7, nanos: 1} as a Timestamp.
const ts = "0807" + "1001"

func value(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

const timestampFile = `syntax = "proto3"; package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }`

type envelope struct {
	When   *timestamppb.Timestamp
	Offset int64 `leat:"@offset"`
}

func TestWithin(t *testing.T) {
	fake, reg, asked := registry(t)
	fake.SeedSchema("t-value", 1, 1, protoSchema(timestampFile))
	k := Within(Config{Registry: reg}, func(r *envelope) **timestamppb.Timestamp { return &r.When })
	require.NoError(t, k.Validate())
	for _, in := range []string{"00 00000001 00" + ts, "00 00000001 02 00" + ts} { // both forms of the first message
		got := envelope{Offset: 3}
		v := value(t, in)
		require.NoError(t, k.Decode(t.Context(), "t", v, &got))
		require.EqualValues(t, 7, got.When.Seconds)
		require.EqualValues(t, 1, got.When.Nanos)
		require.EqualValues(t, 3, got.Offset)
	}
	require.EqualValues(t, 1, asked.Load())
	_, err := k.Encode(t.Context(), "t", nil, &envelope{})
	require.ErrorContains(t, err, "no message")
}

// What is unknown here is kept for others.
func TestUnknownFieldsAreKept(t *testing.T) {
	k := New[timestamppb.Timestamp](Config{})
	in := value(t, ts+"7a 03 616263")
	var got timestamppb.Timestamp
	require.NoError(t, k.Decode(t.Context(), "", in, &got))
	clear(in[4:]) // the row keeps no part of the value
	out, err := k.Encode(t.Context(), "", []byte("x"), &got)
	require.NoError(t, err)
	require.Equal(t, "78"+ts+"7a03616263", hex.EncodeToString(out))
}

func TestIndexes(t *testing.T) {
	const text = `syntax = "proto2";
/* message Comment { */ // message Comment {
package google.protobuf; import "x.proto"; option (o) = { a: 1 b { c: "message No {" } };
enum E { option allow_alias = true; A = 0; }
service S { rpc R(Timestamp) returns (stream Timestamp) { option (http) = { get: "/v1" }; } }
extend Other { optional group Ext = 200 { message Within { } } }
message First { map<string, First> m = 1 [(o) = { x: '}' }]; message Timestamp { int64 seconds = 1; } oneof o { string a = 2; group G = 3 { } } message Last {} reserved 4, 5; }
message Timestamp { optional int64 seconds = 1 [default = 1, (o).x = "message"]; extensions 100 to max; }
`
	f, err := parseFile(text)
	require.NoError(t, err)
	for name, index := range map[string][]int{"google.protobuf.First": {0}, "google.protobuf.First.Timestamp": {0, 0}, "google.protobuf.First.Last": {0, 1}, "google.protobuf.Timestamp": {1}} {
		require.Equal(t, index, f.find(name))
		require.Equal(t, name, f.at(index)[0])
	}
	// As those count who count all: Ext is the first message, m's entry First's first.
	require.Contains(t, f.at([]int{1, 1}), "google.protobuf.First.Timestamp")
	require.Contains(t, f.at([]int{2}), "google.protobuf.Timestamp")
	require.Empty(t, f.at([]int{9}))
	require.Empty(t, f.at([]int{0, 0, 5}))

	fake, reg, _ := registry(t)
	fake.SeedSchema("t-value", 1, 1, protoSchema(text))
	k := New[timestamppb.Timestamp](Config{Registry: reg})
	var got timestamppb.Timestamp
	for range 2 {
		require.NoError(t, k.Decode(t.Context(), "t", value(t, "00 00000001 02 02"+ts), &got))
	}
	for in, want := range map[string]string{
		"00 00000001 00" + ts:             "of the message google.protobuf.First (schema 1), not google.protobuf.Timestamp",
		"00 00000001 04 00 00" + ts:       "google.protobuf.First.Timestamp",
		"00 00000001 02 12" + ts:          "no such message",
		"00 00000001 02 01":               "is no such list", // -1
		"00 00000001 01":                  "is no such list",
		"00 00000001":                     "is no such list",
		"00 00000001 feffffffff0f":        "is no such list", // 2 Gi of them
		"00 00000001 04 00":               "is no such list",
		"00 00000001 02 8200":             "is no such list", // not the shortest form
		"01 00000001 02 02":               "begins with the byte 0x1",
		"00 000001":                       "shorter than the 5 bytes",
		"00 00000001 02 02 0a feffffff0f": "the value is no google.protobuf.Timestamp",
	} {
		err := k.Decode(t.Context(), "t", value(t, in), &got)
		require.ErrorContains(t, err, want, in)
		require.False(t, leat.IsTransient(err))
	}
	t.Run("also", func(t *testing.T) {
		k := New[timestamppb.Timestamp](Config{Registry: reg, Also: []string{"google.protobuf.First.Timestamp"}})
		require.NoError(t, k.Decode(t.Context(), "t", value(t, "00 00000001 04 00 00"+ts), &got))
	})
}

// The text and the descriptor of one file must give the same places.
func TestTextAndDescriptorAgree(t *testing.T) {
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto))
	require.NoError(t, err)
	f, err := parseFile(base64.StdEncoding.EncodeToString(raw))
	require.NoError(t, err)
	require.Equal(t, []int{2, 0}, f.find("google.protobuf.DescriptorProto.ExtensionRange"))
	require.Equal(t, []int{2, 1}, f.find("google.protobuf.DescriptorProto.ReservedRange"))
	s, err := parseFile(base64.StdEncoding.EncodeToString(mustMarshal(t, protodesc.ToFileDescriptorProto(structpb.File_google_protobuf_struct_proto))))
	require.NoError(t, err)
	require.True(t, s.messages[0].nested[0].hidden, "the entry of a map")
	_, err = parseFile("no schema at all")
	require.Error(t, err)
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

func TestEncode(t *testing.T) {
	fake, reg, _ := registry(t)
	ctx := t.Context()
	m := &descriptorpb.DescriptorProto_ExtensionRange{Start: proto.Int32(1)}
	t.Run("not registered: rows wait", func(t *testing.T) {
		_, err := New[descriptorpb.DescriptorProto_ExtensionRange](Config{Registry: reg}).Encode(ctx, "t", nil, m)
		require.ErrorContains(t, err, "has not got the schema")
		require.True(t, leat.IsTransient(err))
	})
	k := New[descriptorpb.DescriptorProto_ExtensionRange](Config{Registry: reg, Register: true, Subject: codec.TopicRecordName})
	b, err := k.Encode(ctx, "t", nil, m)
	require.NoError(t, err)
	require.True(t, fake.SubjectExists("t-google.protobuf.DescriptorProto.ExtensionRange"))
	require.Equal(t, "040400"+"0801", hex.EncodeToString(b[5:])) // 2 indexes, 2 and 0
	var got descriptorpb.DescriptorProto_ExtensionRange
	require.NoError(t, k.Decode(ctx, "t", b, &got))
	require.True(t, proto.Equal(m, &got))
	found, err := New[descriptorpb.DescriptorProto_ExtensionRange](Config{Registry: reg, Subject: codec.TopicRecordName}).Encode(ctx, "t", nil, m)
	require.NoError(t, err)
	require.Equal(t, b, found)

	t.Run("the first message has the short form", func(t *testing.T) {
		b, err := New[timestamppb.Timestamp](Config{Registry: reg, Register: true}).Encode(ctx, "ts", nil, &timestamppb.Timestamp{Seconds: 7, Nanos: 1})
		require.NoError(t, err)
		require.Equal(t, "00"+ts, hex.EncodeToString(b[5:]))
	})
	t.Run("the latest", func(t *testing.T) {
		fake.SeedSchema("l-value", 1, 99, protoSchema(`package google.protobuf; message Otro {} message Timestamp {}`))
		b, err := New[timestamppb.Timestamp](Config{Registry: reg, Latest: true}).Encode(ctx, "l", nil, &timestamppb.Timestamp{Seconds: 7, Nanos: 1})
		require.NoError(t, err)
		require.Equal(t, "0000000063"+"0202"+ts, hex.EncodeToString(b))
		_, err = New[structpb.Value](Config{Registry: reg, Latest: true}).Encode(ctx, "l", nil, structpb.NewNullValue())
		require.ErrorContains(t, err, "no message google.protobuf.Value")
		require.True(t, leat.IsTransient(err))
	})
	t.Run("text that is not UTF-8", func(t *testing.T) {
		_, err := New[structpb.Value](Config{}).Encode(ctx, "", nil, structpb.NewStringValue("\xff"))
		require.Error(t, err)
		require.Error(t, New[structpb.Value](Config{}).Decode(ctx, "", []byte{0x1a, 1, 0xff}, new(structpb.Value)))
	})
}

// A file that imports others refers to them by subject and version; Google's own it need not.
func TestImportsAreRegistered(t *testing.T) {
	fake, reg, _ := registry(t)
	files := new(protoregistry.Files)
	add := func(d *descriptorpb.FileDescriptorProto) {
		fd, err := protodesc.NewFile(d, chained{files, protoregistry.GlobalFiles})
		require.NoError(t, err)
		require.NoError(t, files.RegisterFile(fd))
	}
	msg := func(n string) []*descriptorpb.DescriptorProto { return []*descriptorpb.DescriptorProto{{Name: &n}} }
	add(&descriptorpb.FileDescriptorProto{Name: proto.String("acme/base.proto"), Package: proto.String("acme"), MessageType: msg("Base")})
	add(&descriptorpb.FileDescriptorProto{Name: proto.String("acme/mid.proto"), Package: proto.String("acme"), MessageType: msg("Mid"), Dependency: []string{"acme/base.proto", "google/protobuf/timestamp.proto"}})
	add(&descriptorpb.FileDescriptorProto{Name: proto.String("acme/top.proto"), Package: proto.String("acme"), MessageType: msg("Top"), Dependency: []string{"acme/mid.proto"}})
	top, err := files.FindFileByPath("acme/top.proto")
	require.NoError(t, err)

	k := New[timestamppb.Timestamp](Config{Registry: reg, Register: true})
	s, err := k.schema(t.Context(), top)
	require.NoError(t, err)
	require.Equal(t, []sr.SchemaReference{{Name: "acme/mid.proto", Subject: "acme/mid.proto", Version: 1}}, s.References)
	mid, ok := fake.GetSchema("acme/mid.proto", 1)
	require.True(t, ok)
	require.Equal(t, []sr.SchemaReference{{Name: "acme/base.proto", Subject: "acme/base.proto", Version: 1}}, mid.References)
	require.False(t, fake.SubjectExists("google/protobuf/timestamp.proto"))
}

type chained [2]protodesc.Resolver

func TestHostileValues(t *testing.T) {
	k := New[structpb.Value](Config{})
	deep := []byte{0x08, 0x00}
	for range 200 { // a list in a list in a list
		inner := append(lengthed(0x0a, deep), []byte(nil)...)
		deep = lengthed(0x32, inner)
	}
	for name, in := range map[string][]byte{
		"too deep": deep, "a string of 2 GiB": {0x1a, 0xff, 0xff, 0xff, 0xff, 0x07, 'a'}, "cut": {0x1a}, "field 0": {0x00, 0x00},
		"a varint without an end": {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, k.Decode(t.Context(), "", in, new(structpb.Value)))
		})
	}
	for _, text := range []string{"message A {", "message A { /*", `message A { x = "`, strings.Repeat("message A {", 1000), "}", strings.Repeat("{", 10000), "message A { ( }"} {
		_, err := parseFile(text)
		require.Error(t, err, text[:min(len(text), 20)])
	}
}

func lengthed(tag byte, b []byte) []byte {
	out := []byte{tag}
	for n := len(b); ; n >>= 7 {
		if n < 0x80 {
			return append(append(out, byte(n)), b...)
		}
		out = append(out, byte(n)|0x80)
	}
}

func TestTombstones(t *testing.T) {
	k := New[timestamppb.Timestamp](Config{})
	require.ErrorIs(t, k.Decode(t.Context(), "", nil, new(timestamppb.Timestamp)), codec.ErrTombstone)
	require.NoError(t, k.Decode(t.Context(), "", []byte{}, new(timestamppb.Timestamp)), "an empty message is one")
}

func TestFaults(t *testing.T) {
	fake, reg, asked := registry(t)
	k := New[timestamppb.Timestamp](Config{Registry: reg})
	var got timestamppb.Timestamp
	for range 3 {
		err := k.Decode(t.Context(), "t", value(t, "00 00000001 00"), &got)
		require.ErrorContains(t, err, "no schema with the id 1")
		require.False(t, leat.IsTransient(err))
	}
	require.EqualValues(t, 1, asked.Load())
	fake.SeedSchema("a-value", 1, 2, sr.Schema{Schema: `"string"`, Type: sr.TypeAvro})
	require.ErrorContains(t, k.Decode(t.Context(), "t", value(t, "00 00000002 00"), &got), "not Protobuf")
	fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
	require.True(t, leat.IsTransient(k.Decode(t.Context(), "t", value(t, "00 00000003 00"), &got)))

	require.ErrorContains(t, New[timestamppb.Timestamp](Config{Latest: true}).Validate(), "need one")
	require.ErrorContains(t, New[timestamppb.Timestamp](Config{Also: []string{"x"}}).Validate(), "leave out Also")
	require.ErrorContains(t, New[timestamppb.Timestamp](Config{Registry: reg, Latest: true, Register: true}).Validate(), "not both")
}

func (c chained) FindFileByPath(p string) (protoreflect.FileDescriptor, error) {
	if f, err := c[0].FindFileByPath(p); err == nil {
		return f, nil
	}
	return c[1].FindFileByPath(p)
}

func (c chained) FindDescriptorByName(n protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := c[0].FindDescriptorByName(n); err == nil {
		return d, nil
	}
	return c[1].FindDescriptorByName(n)
}
