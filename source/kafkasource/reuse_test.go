package kafkasource

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec/avrocodec"
)

// kinds has a column of each kind that could point into a record.
type kinds struct {
	ID    int64
	Text  string
	Maybe *string
	Bytes []byte
	Key   string `leat:"@key"`
	Trace string `leat:"@header.trace"`
}

type jsonKinds struct {
	ID    int64
	Text  string
	Maybe *string
	Raw   json.RawMessage
	Extra map[string]any `leat:",extra"`
	Key   string         `leat:"@key"`
	Trace string         `leat:"@header.trace"`
}

// Rows keep nothing of a record's memory, which is used again: also where the slow way
// through JSON is taken, and by a codec.
func TestRowsKeepNothing(t *testing.T) {
	decode := func(t *testing.T, f func(recs []*kgo.Record), values ...[]byte) {
		var recs []*kgo.Record
		for _, v := range values {
			recs = append(recs, &kgo.Record{Topic: "t", Value: v, Key: []byte("the key"), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("the trace")}}})
		}
		f(recs)
	}
	scrub := func(recs []*kgo.Record) {
		for _, r := range recs {
			for _, b := range [][]byte{r.Value, r.Key, r.Headers[0].Value} {
				for i := range b {
					b[i] = '#'
				}
			}
		}
	}
	maybe := "perhaps"
	t.Run("json", func(t *testing.T) {
		f, err := (&Config[jsonKinds]{}).format()
		require.NoError(t, err)
		line := `{"id":1,"text":"some text","maybe":"perhaps","raw":{"a":"b"},"more":"of it"}`
		lines := "{\"id\":1,\n\"text\":\"some text\",\"maybe\":\"perhaps\",\r\n\"raw\":{\"a\":\"b\"},\"more\":\"of it\"}\n"
		decode(t, func(recs []*kgo.Record) {
			var out leat.Batch[jsonKinds]
			require.NoError(t, f.decode(t.Context(), recs, &out, 0))
			require.Len(t, out.Rows(), 3)
			scrub(recs)
			for _, r := range out.Rows() {
				assert.Equal(t, jsonKinds{ID: 1, Text: "some text", Maybe: &maybe, Raw: json.RawMessage(`{"a":"b"}`), Extra: map[string]any{"more": "of it"}, Key: "the key", Trace: "the trace"}, r)
			}
		}, []byte(line), []byte(lines), []byte(line))
	})
	t.Run("avro", func(t *testing.T) {
		schema, err := avrocodec.Derive[kinds]("k")
		require.NoError(t, err)
		c := avrocodec.New(avrocodec.Config[kinds]{Schema: schema})
		value, err := c.Encode(t.Context(), "t", nil, &kinds{ID: 1, Text: "some text", Maybe: &maybe, Bytes: []byte("bytes")})
		require.NoError(t, err)
		f, err := (&Config[kinds]{Codec: c}).format()
		require.NoError(t, err)
		decode(t, func(recs []*kgo.Record) {
			var out leat.Batch[kinds]
			require.NoError(t, f.decode(t.Context(), recs, &out, 0))
			require.Len(t, out.Rows(), 1)
			scrub(recs)
			assert.Equal(t, kinds{ID: 1, Text: "some text", Maybe: &maybe, Bytes: []byte("bytes"), Key: "the key", Trace: "the trace"}, out.Rows()[0])
		}, value)
	})
}
