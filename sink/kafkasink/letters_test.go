package kafkasink_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
)

func readLetters(t *testing.T, c kafkasink.LettersConfig) (out []leat.DeadLetter) {
	t.Helper()
	for d, err := range kafkasink.ReadDeadLetters(t.Context(), c) {
		require.NoError(t, err)
		out = append(out, d)
	}
	return out
}

// Rule B4: a letter comes back from the topic as it was, and a reader sees why without knowing leat.
func TestLetters(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "bad"))
	c := kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"}
	full := leat.DeadLetter{
		ID: "id1", Time: time.UnixMilli(1_700_000_000_123).UTC(), Pipeline: "p", Version: "v1", Node: "check", Class: leat.Contract,
		Error: "total: must be > 0", Column: "total", Rule: "gt", Stack: "goroutine 1", Attempt: 2, Source: "pedidos",
		Partition: "pedidos/t/3", Offset: 77, Ordinal: 1, Without: []leat.LetterStep{{Node: "x", Ordinal: 2}}, Topic: "t",
		Key: []byte{0, 255, 'k'}, Headers: map[string]string{"traza": "\xff1", "leat.id": "a letter's own", "vacía": ""},
		Raw: []byte("{\"total\":-1}\x00\xff"), Sink: "s", Row: json.RawMessage(`{"total":-1}`), Arrived: time.UnixMilli(1_600_000_000_000).UTC(),
		FirstPartition: "pedidos/t/1", FirstOffset: 5, Path: []leat.LetterStep{{Node: "y"}},
	}
	bare := leat.DeadLetter{ID: "id2", Offset: 1}
	empty := leat.DeadLetter{ID: "id3", Raw: []byte{}, Key: []byte{}}
	l := kafkasink.DeadLetters(c)
	require.NoError(t, l.Open(t.Context(), env(t)))
	require.NoError(t, l.Sync(t.Context()))
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{full, bare}))
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{full, empty}))
	require.NoError(t, l.Sync(t.Context()))
	require.NoError(t, l.Close())
	require.NoError(t, l.Open(t.Context(), env(t)), "again after a Close")
	require.NoError(t, l.Close())

	assert.Equal(t, []leat.DeadLetter{full, bare, empty}, readLetters(t, c))

	r := readAll(t, brokers, "bad")[0]
	assert.Equal(t, full.Raw, r.Value)
	assert.Equal(t, full.Key, r.Key)
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	assert.Equal(t, "\xff1", headers["traza"])
	delete(headers, "leat.letter")
	delete(headers, "traza")
	assert.Equal(t, map[string]string{
		"vacía": "", "leat.id": "id1", "leat.class": "Contract", "leat.error": "total: must be > 0", "leat.node": "check",
		"leat.pipeline": "p", "leat.partition": "pedidos/t/3", "leat.offset": "77",
	}, headers)
}

// A letter is made lighter where the topic does not take it; else it stops the pipeline
// (rule B3).
func TestLargeLetter(t *testing.T) {
	_, brokers := fake(t)
	c := kafkasink.LettersConfig{Brokers: brokers, Topic: newTopic(t, brokers, 1, map[string]string{"max.message.bytes": "4000"})}
	l := kafkasink.DeadLetters(c)
	require.NoError(t, l.Open(t.Context(), env(t)))
	defer l.Close()
	d := leat.DeadLetter{ID: "1", Raw: []byte(strings.Repeat("r", 1000)), Error: strings.Repeat("é", 1500), Stack: strings.Repeat("s", 3000), Row: json.RawMessage(`"` + strings.Repeat("w", 3000) + `"`)}
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{d}))
	require.NoError(t, l.Sync(t.Context()))
	got := readLetters(t, c)
	require.Len(t, got, 1)
	assert.Equal(t, d.Raw, got[0].Raw)
	assert.Equal(t, strings.Repeat("é", 500)+"…", got[0].Error)

	d.Raw = []byte(strings.Repeat("r", 4000))
	err := l.Append(t.Context(), []leat.DeadLetter{d})
	require.ErrorContains(t, err, "takes 4000 (max.message.bytes); raise that")
	assert.False(t, leat.IsTransient(err))
}

// Rule B3: where the topic's limit is not known, a batch of letters may be too large for it, and none of them is.
func TestLettersOfUnknownLimit(t *testing.T) {
	brokers := unknownLimit(t)
	c := kafkasink.LettersConfig{Brokers: brokers, Topic: newTopic(t, brokers, 1, nil)}
	l := kafkasink.DeadLetters(c)
	require.NoError(t, l.Open(t.Context(), env(t)))
	defer l.Close()
	var want []string
	for range 20 {
		want = append(want, noise(300))
		require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: want[len(want)-1], Raw: []byte(want[len(want)-1])}}))
	}
	require.NoError(t, l.Sync(t.Context()))
	var got []string
	for _, d := range readLetters(t, c) {
		got = append(got, d.ID)
	}
	require.ElementsMatch(t, want, got)

	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "x"}, {ID: "large", Raw: []byte(noise(4000))}}))
	err := l.Sync(t.Context())
	require.ErrorContains(t, err, "MESSAGE_TOO_LARGE")
	assert.False(t, leat.IsTransient(err))
}

// Letters that the broker lost are written again at the next Sync; they are durable when it is done.
func TestLostLetters(t *testing.T) {
	cluster, brokers := fake(t, kfake.SeedTopics(1, "bad"))
	c := kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"}
	l := kafkasink.DeadLetters(c)
	require.NoError(t, l.Open(t.Context(), env(t)))
	defer l.Close()
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "1"}}))
	require.NoError(t, l.Sync(t.Context()))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError})
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "2"}}))
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "3"}}))
	err := l.Sync(t.Context())
	require.True(t, leat.IsTransient(err), "%v", err)
	require.NoError(t, l.Sync(t.Context()))
	var ids []string
	for _, d := range readLetters(t, c) {
		ids = append(ids, d.ID)
	}
	assert.ElementsMatch(t, []string{"1", "2", "3"}, ids)

	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "4"}}))
	err = l.Sync(t.Context())
	require.ErrorContains(t, err, "TOPIC_AUTHORIZATION_FAILED")
	assert.False(t, leat.IsTransient(err))
}

// H2: what was aborted in front of a transaction that is still open, a killed member's say, is not
// shown before that ends. Reading waits for it, and takes it for no silence of the broker.
func TestReadBehindAnOpenTransaction(t *testing.T) {
	defer func(before time.Duration) { *kafkasink.ReadPatience = before }(*kafkasink.ReadPatience)
	*kafkasink.ReadPatience = 300 * time.Millisecond
	inBoth(t, func(t *testing.T, brokers []string) {
		topic := newTopic(t, brokers, 1, nil)
		open := func(id string) *kgo.Client {
			cl := client(t, brokers, kgo.TransactionalID(topic+id))
			require.NoError(t, cl.BeginTransaction())
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(id)}).FirstErr())
			return cl
		}
		aborted, killed := open("aborted"), open("killed")
		require.NoError(t, aborted.EndTransaction(t.Context(), kgo.TryAbort))
		end := time.AfterFunc(time.Second, func() { assert.NoError(t, killed.EndTransaction(context.Background(), kgo.TryAbort)) })
		defer end.Stop()
		for d, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: brokers, Topic: topic}) {
			t.Error(d.ID, err)
		}
	})
}

func TestForeignRecord(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "bad"))
	require.NoError(t, client(t, brokers).ProduceSync(t.Context(), &kgo.Record{Topic: "bad", Value: []byte("x")}).FirstErr())
	for _, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"}) {
		require.ErrorContains(t, err, "topic bad, partition 0, offset 0, is no dead letter")
	}
	for _, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: brokers, Topic: "missing"}) {
		require.ErrorContains(t, err, "topic missing")
	}
}

// The log works in a pipeline.
func TestLettersOfPipeline(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "out", "bad"))
	type row struct {
		N int `leat:"n"`
	}
	p := leat.New("prueba", leat.Config{
		StateDir: t.TempDir(), DeadLetters: kafkasink.DeadLetters(kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"}),
		Breaker: leat.Breaker{Share: -1},
	})
	leat.To(leat.From(p, leattest.Rows(row{1}, row{2}, row{3})), kafkasink.New(kafkasink.Config[row]{
		Brokers: brokers, Topic: "out",
		Encode: func(dst []byte, r *row) ([]byte, error) {
			if r.N == 2 {
				panic("two")
			}
			return append(dst, byte('0'+r.N)), nil
		},
	}))
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, []string{"1", "3"}, values(readAll(t, brokers, "out")))
	got := readLetters(t, kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"})
	require.Len(t, got, 1)
	assert.Equal(t, "out", got[0].Sink)
	assert.Equal(t, "panic: two", got[0].Error)
	assert.JSONEq(t, `{"n":2}`, string(got[0].Row))
}

// Rule B3: members that have one log would forget each other's letters: the first to close it drops what the other
// has not synced. It is refused, as that of a file is.
func TestLettersOfTwoPipelines(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "bad"))
	l := kafkasink.DeadLetters(kafkasink.LettersConfig{Brokers: brokers, Topic: "bad"})
	require.NoError(t, l.Open(t.Context(), env(t)))
	require.NoError(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "1", Raw: []byte("x"), Time: time.Now()}}))
	require.ErrorContains(t, l.Open(t.Context(), env(t)), "make a log for each")
	require.NoError(t, l.Sync(t.Context()))
	require.NoError(t, l.Close())
	require.Equal(t, []string{"x"}, values(readAll(t, brokers, "bad")))
	require.NoError(t, l.Open(t.Context(), env(t)), "one after the other is fine")
	require.NoError(t, l.Close())
}
