package protocodec

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/leatgo/leat/codec"
)

func FuzzDecode(f *testing.F) {
	fake := srfake.New()
	f.Cleanup(fake.Close)
	k := New[structpb.Value](Config{Registry: codec.NewRegistry(sr.URLs(fake.URL())), Register: true})
	v, err := structpb.NewValue(map[string]any{"a": []any{1, "x", nil, true}})
	if err != nil {
		f.Fatal(err)
	}
	seed, err := k.Encode(context.Background(), "t", nil, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:7])
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 5 {
			copy(in, seed[:5]) // what is behind the header is of interest
		}
		var got structpb.Value
		if k.Decode(t.Context(), "t", in, &got) == nil {
			if _, err := k.Encode(t.Context(), "t", nil, &got); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add(timestampFile)
	f.Add(`message A { oneof o { group B = 1 { } } map<string, A> m = 2; }`)
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseFile(text)
		if err != nil {
			return
		}
		for _, index := range [][]int{{0}, {0, 0}, {1, 1}} {
			for _, name := range file.at(index) {
				file.find(name)
			}
		}
	})
}

func benchCodec(b *testing.B) (*Codec[envelope], []byte, *envelope) {
	fake := srfake.New()
	b.Cleanup(fake.Close)
	k := Within(Config{Registry: codec.NewRegistry(sr.URLs(fake.URL())), Register: true}, func(r *envelope) **timestamppb.Timestamp { return &r.When })
	row := &envelope{When: &timestamppb.Timestamp{Seconds: 1767323045, Nanos: 678}}
	v, err := k.Encode(b.Context(), "t", nil, row)
	require.NoError(b, err)
	return k, v, row
}

func BenchmarkDecode(b *testing.B) {
	k, v, _ := benchCodec(b)
	b.ReportAllocs()
	for b.Loop() {
		var got envelope
		if err := k.Decode(b.Context(), "t", v, &got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	k, _, row := benchCodec(b)
	b.ReportAllocs()
	dst := make([]byte, 0, 1024)
	for b.Loop() {
		if _, err := k.Encode(b.Context(), "t", dst, row); err != nil {
			b.Fatal(err)
		}
	}
}
