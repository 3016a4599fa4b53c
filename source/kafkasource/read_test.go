package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/drift"
)

func ids(rows []rec) (out []int64) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func drain(c Config[rec]) Config[rec] { c.Drain = true; return c }

func TestStart(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	old := time.Now().Add(-time.Hour)
	w.produce(
		&kgo.Record{Topic: "in", Value: []byte(`{"id":1,"text":""}`), Timestamp: old},
		&kgo.Record{Topic: "in", Value: []byte(`{"id":2,"text":""}`), Timestamp: old.Add(time.Minute)},
		&kgo.Record{Topic: "in", Value: []byte(`{"id":3,"text":""}`), Timestamp: old.Add(2 * time.Minute)})
	for name, tc := range map[string]struct {
		config      func(c *Config[rec])
		first, next []int64 // rows of a first life, and after another record
	}{
		"earliest":      {func(*Config[rec]) {}, []int64{1, 2, 3}, []int64{1, 2, 3, 4}},
		"latest":        {func(c *Config[rec]) { c.Start = Latest }, nil, []int64{4}},
		"at a time":     {func(c *Config[rec]) { c.StartAt = old.Add(30 * time.Second) }, []int64{2, 3}, []int64{2, 3, 4}},
		"before 1970":   {func(c *Config[rec]) { c.StartAt = time.UnixMilli(-1) }, []int64{1, 2, 3}, []int64{1, 2, 3, 4}},
		"at the end":    {func(c *Config[rec]) { c.StartAt = time.Now().Add(time.Hour) }, nil, []int64{4}},
		"latest, group": {func(c *Config[rec]) { c.Start, c.Group = Latest, "latest" }, nil, []int64{4}},
	} {
		dir := t.TempDir()
		c := drain(w.config("in"))
		tc.config(&c)
		rows, _ := life(t, dir, c)
		assert.Equal(t, tc.first, ids(rows), name)
		defer func() {
			rows, _ := life(t, dir, c)
			assert.Equal(t, tc.next, ids(rows), "%s: what comes after the first start is read, however late", name)
		}()
	}
	w.put("in", 0, `{"id":4,"text":""}`)
}

// Rule J1: out of range is an error that tells the gap, or an explicit policy.
func TestOutOfRange(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 5)
	lives := map[OutOfRange]string{}
	for _, policy := range []OutOfRange{RefuseGap, SkipToEarliest, SkipToLatest} {
		lives[policy] = t.TempDir()
		rows, _ := life(t, lives[policy], drain(w.config("in")))
		require.Len(t, rows, 5)
	}
	w.fill("in", 1, 5, 20)
	w.trim("in", 0, 12)

	_, _, err := lifeErr(t, lives[RefuseGap], drain(w.config("in")))
	require.ErrorContains(t, err, "rule J1")
	assert.ErrorContains(t, err, "reading was to go on at offset 5, but the log begins at 12 (and ends at 20)")
	assert.ErrorContains(t, err, "SkipToEarliest")

	c := drain(w.config("in"))
	c.OutOfRange = SkipToEarliest
	rows, _ := life(t, lives[SkipToEarliest], c)
	assert.Equal(t, []int64{0, 1, 2, 3, 4, 12, 13, 14, 15, 16, 17, 18, 19}, ids(rows))

	c.OutOfRange = SkipToLatest
	rows, _ = life(t, lives[SkipToLatest], c)
	assert.Equal(t, []int64{0, 1, 2, 3, 4}, ids(rows))
	w.fill("in", 1, 20, 21)
	rows, _ = life(t, lives[SkipToLatest], c)
	assert.Equal(t, []int64{0, 1, 2, 3, 4, 20}, ids(rows))
}

// trim deletes records, as retention does.
func (w *world) trim(topic string, partition int32, before int64) {
	w.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = partition, before
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(w.t.Context(), w.cl)
	require.NoError(w.t, err)
	require.Zero(w.t, resp.Topics[0].Partitions[0].ErrorCode)
}

// Rule J1: also when records are deleted while they wait to be read.
func TestDeletedWhileReading(t *testing.T) {
	t.Parallel()
	for _, policy := range []OutOfRange{RefuseGap, SkipToEarliest} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in")
			w.fill("in", 1, 0, 5)
			c := w.config("in")
			c.OutOfRange = policy
			on := new(atomic.Bool)
			deaf := w.deaf(on)
			sink := leattest.Collect[rec]().In(t.TempDir())
			r := start(t, c, sink)
			await(t, func() bool { return len(sink.Committed()) == 5 })
			on.Store(true)
			// A fetch that waited at the broker already is answered with records; only when the next one came is it over.
			await(t, func() bool { return deaf.Load() > 0 })
			w.fill("in", 1, 5, 20)
			w.trim("in", 0, 12)
			on.Store(false)
			if policy == SkipToEarliest {
				await(t, func() bool { return len(sink.Committed()) == 13 })
				require.NoError(t, r.stop())
				return
			}
			assert.ErrorContains(t, r.wait(), "rule J1: reading was to go on at offset 5, but the log begins at 12")
		})
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in-a", "in-b", "xin-a", "other")
	for i, topic := range []string{"in-a", "in-b", "xin-a", "other"} {
		w.put(topic, 0, fmt.Sprintf(`{"id":%d,"text":""}`, i))
	}
	for _, group := range []string{"", "g"} {
		c := drain(w.config())
		c.Pattern, c.Group = "in-.*", group
		rows, _ := life(t, t.TempDir(), c)
		assert.ElementsMatch(t, []int64{0, 1}, ids(rows), "the pattern is of whole names")
	}
	c := drain(w.config())
	c.Pattern = "no.*"
	_, _, err := lifeErr(t, t.TempDir(), c)
	assert.ErrorContains(t, err, `no topic on `+w.brokers[0]+` matches the pattern "no.*"`)
}

func TestColumns(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	at := time.Date(2025, 3, 4, 5, 6, 7, 8e6, time.UTC)
	w.produce(
		&kgo.Record{Topic: "in", Partition: 1, Value: []byte(`{"id":7}`), Key: []byte("k\x00"), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("first")}, {Key: "x"}, {Key: "trace", Value: []byte("last")}}},
		&kgo.Record{Topic: "in", Partition: 1, Value: []byte(`{"id":8}`), Timestamp: at})
	rows, _ := life(t, t.TempDir(), Config[placed]{Brokers: w.brokers, Topics: []string{"in"}, Drain: true})
	assert.Equal(t, []placed{
		{ID: 7, Topic: "in", Partition: 1, Offset: 0, Key: "k\x00", Time: at, Trace: "last"},
		{ID: 8, Topic: "in", Partition: 1, Offset: 1, Time: at},
	}, rows)
}

// A record without a time has none.
func TestNoTimestamp(t *testing.T) {
	f, err := (&Config[placed]{}).format()
	require.NoError(t, err)
	var out leat.Batch[placed]
	recs := []*kgo.Record{{Value: []byte(`{"id":1}`), Timestamp: time.UnixMilli(-1)}, {Value: []byte(`{"id":2}`), Timestamp: time.UnixMilli(0)}}
	require.NoError(t, f.decode(t.Context(), recs, &out, 0))
	require.Len(t, out.Rows(), 2)
	assert.True(t, out.Rows()[0].Time.IsZero())
	assert.Equal(t, time.UnixMilli(0).UTC(), out.Rows()[1].Time)
	c := chunk[placed]{format: f, records: recs}
	assert.True(t, c.locate([]int{0})[0].Time.IsZero())
}

func TestJSON(t *testing.T) {
	t.Parallel()
	type open struct {
		ID   int64
		More map[string]string `leat:",extra"`
	}
	w := broker(t, 1, "in")
	values := []string{`{"id":1,"a":"b"}`, `{"id":1,"id":2}`, `{"a":1}`, " {\n \"id\" : 3 }\n", "{\"id\":4}\n{\"id\":5}", `{"id":6,"a":"` + "\xff" + `"}`, ``, `{"id":8}`}
	w.put("in", 0, values...)
	w.produce(&kgo.Record{Topic: "in"}) // a tombstone
	c := Config[open]{Brokers: w.brokers, Topics: []string{"in"}, Drain: true}
	rows, rep := life(t, t.TempDir(), c)
	assert.Equal(t, []open{{1, map[string]string{"a": "b"}}, {ID: 3}, {ID: 8}}, rows)
	assert.EqualValues(t, 6, rep.Stats.Nodes[0].Rejected)

	c.Extra, c.Missing, c.RepeatedKeys = drift.IgnoreExtra, drift.ZeroMissing, drift.LastRepeated
	rows, _ = life(t, t.TempDir(), c)
	assert.Equal(t, []int64{1, 2, 0, 3, 8}, func() (out []int64) {
		for _, r := range rows {
			out = append(out, r.ID)
		}
		return out
	}())
}

func TestRaw(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.put("in", 0, "a", "")
	w.produce(&kgo.Record{Topic: "in"})
	common := func() (brokers, topics []string) { return w.brokers, []string{"in"} }
	b, topics := common()

	rows, _ := life(t, t.TempDir(), Config[[]byte]{Brokers: b, Topics: topics, Drain: true, Raw: true})
	assert.Equal(t, [][]byte{[]byte("a"), {}, nil}, rows)

	texts, rep := life(t, t.TempDir(), Config[string]{Brokers: b, Topics: topics, Drain: true, Raw: true})
	assert.Equal(t, []string{"a", ""}, texts)
	assert.EqualValues(t, 1, rep.Stats.Nodes[0].Rejected, "a string has no null")

	type value struct {
		Value  *string
		Offset int64 `leat:"@offset"`
	}
	some, _ := life(t, t.TempDir(), Config[value]{Brokers: b, Topics: topics, Drain: true, Raw: true})
	require.Len(t, some, 3)
	assert.Equal(t, "a", *some[0].Value)
	assert.Equal(t, value{Offset: 2}, some[2])
}

type failing struct{ calls *int }

func (f failing) Decode(_ context.Context, topic string, value []byte, into *rec) error {
	if *f.calls++; *f.calls == 2 {
		return leat.Transient(errors.New("the registry is away"))
	}
	switch {
	case value == nil:
		return errors.New("null")
	case string(value) == "panic":
		panic("oh")
	}
	into.Text = topic + ":" + string(value)
	return nil
}

func TestCodec(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.put("in", 0, "a", "panic", "c")
	w.produce(&kgo.Record{Topic: "in"})
	c := drain(w.config("in"))
	c.Codec = failing{new(int)}
	rows, rep := life(t, t.TempDir(), c)
	assert.Equal(t, []rec{{Text: "in:a"}, {Text: "in:c"}}, rows)
	assert.EqualValues(t, 2, rep.Stats.Nodes[0].Rejected)

	c.Codec = nil
	c.Decode = func(rec_ *kgo.Record, into *rec) error {
		into.ID, into.Text = rec_.Offset, string(rec_.Value)
		return nil
	}
	rows, _ = life(t, t.TempDir(), c)
	assert.Equal(t, []rec{{0, "a"}, {1, "panic"}, {2, "c"}, {3, ""}}, rows)
}

// Rule H2: the end is reached when the position is, though there is no record before it.
func TestDrainBehindTransactions(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	tx := w.client(kgo.TransactionalID("tx"))
	put := func(id int, commit kgo.TransactionEndTry) {
		require.NoError(t, tx.BeginTransaction())
		require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: fmt.Appendf(nil, `{"id":%d,"text":""}`, id)}).FirstErr())
		require.NoError(t, tx.EndTransaction(t.Context(), commit))
	}
	put(1, kgo.TryCommit)
	put(2, kgo.TryAbort)
	put(3, kgo.TryCommit)
	put(4, kgo.TryAbort)
	put(5, kgo.TryAbort)
	dir := t.TempDir()
	for range 2 {
		rows, rep := life(t, dir, drain(w.config("in")))
		assert.Equal(t, []int64{1, 3}, ids(rows))
		assert.EqualValues(t, 2, rep.Stats.Nodes[0].In)
	}
	c := drain(w.config("in"))
	c.ReadUncommitted = true
	rows, _ := life(t, t.TempDir(), c)
	assert.Equal(t, []int64{1, 2, 3, 4, 5}, ids(rows))
}

func TestMaxMessages(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 50)
	dir := t.TempDir()
	c := w.config("in")
	c.MaxMessages, c.ChunkRows = 13, 3
	for _, want := range []int{13, 26, 39, 50} {
		if want == 50 {
			c.MaxMessages = 11
		}
		rows, _ := life(t, dir, c)
		assert.Len(t, rows, want)
	}
}

func TestMaxMessagesAcrossRewinds(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 50)
	c := w.config("in")
	c.MaxMessages, c.ChunkRows = 30, 3
	sink := leattest.Collect[rec]().FailCommit(2, leat.ErrAborted).FailCommit(4, leat.ErrAborted)
	sink.FailWrite(5, leat.ErrAborted)
	r := start(t, c, sink)
	require.NoError(t, r.wait())
	assert.Len(t, sink.Committed(), 30)
}

// Fixed partitions are those that are read, and no others.
func TestFixedPartitions(t *testing.T) {
	t.Parallel()
	w := broker(t, 3, "a", "b")
	for i, topic := range []string{"a", "b"} {
		for p := range int32(3) {
			w.put(topic, p, fmt.Sprintf(`{"id":%d,"text":""}`, 10*i+int(p)))
		}
	}
	c := drain(w.config())
	c.Partitions = map[string][]int32{"a": {2, 0}, "b": {1}}
	rows, _ := life(t, t.TempDir(), c)
	assert.ElementsMatch(t, []int64{0, 2, 11}, ids(rows))
}

// The end that Drain goes to is that of the start: records that keep coming do not keep it.
func TestDrainWhileRecordsCome(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 100)
	ctx, stop := context.WithCancel(t.Context())
	fed := make(chan int)
	go func() {
		n := 100
		defer func() { fed <- n }()
		for ; ctx.Err() == nil; n += 20 {
			w.fill("in", 2, n, n+20)
		}
	}()
	rows, _ := life(t, t.TempDir(), drain(w.config("in"))) // at most 20 s
	stop()
	t.Logf("%d of %d rows", len(rows), <-fed)
	for id := range int64(100) {
		assert.Contains(t, ids(rows), id)
	}
}

// JSON is strict where the policies say so.
func TestStrictJSON(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.put("in", 0, `{"id":1,"text":"a"}`, `{"id":2,"text":"a","more":0}`, `{"id":3}`, `{"id":4,"text":"a","text":"b"}`, `{"ID":5,"text":"a"}`)
	for name, tc := range map[string]struct {
		change func(c *Config[rec])
		want   []int64
	}{
		"default": {func(*Config[rec]) {}, []int64{1, 2}},
		"strict": {func(c *Config[rec]) {
			c.Extra, c.Missing = drift.RefuseExtra, drift.RefuseMissing
		}, []int64{1}},
		"lenient": {func(c *Config[rec]) {
			c.Missing, c.RepeatedKeys = drift.ZeroMissing, drift.LastRepeated
		}, []int64{1, 2, 3, 4, 0}},
	} {
		c := drain(w.config("in"))
		tc.change(&c)
		rows, _ := life(t, t.TempDir(), c)
		assert.Equal(t, tc.want, ids(rows), name)
	}
}

func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	_, _, err := lifeErr(t, t.TempDir(), drain(w.config("in", "gone")))
	assert.ErrorContains(t, err, w.brokers[0]+" has no gone")
	c := drain(w.config())
	c.Partitions = map[string][]int32{"in": {0, 3}}
	_, _, err = lifeErr(t, t.TempDir(), c)
	assert.ErrorContains(t, err, "has no in/3")
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	s := New(Config[rec]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"in"}})
	defer s.Close()
	err := s.connect(t.Context())
	require.Error(t, err)
	assert.True(t, leat.IsTransient(err))
	assert.ErrorContains(t, err, "127.0.0.1:1")
	assert.ErrorContains(t, err, "refused")
}

// Rule B8: a batch that is larger than the client may take stays so: that is no error to be tried again.
func TestBatchTooLarge(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.put("in", 0, `{"id":1,"text":"`+strings.Repeat("x", 10_000)+`"}`)
	c := drain(w.config("in"))
	c.Opts = append(c.Opts, kgo.MaxDecompressBatchBytes(1000))
	_, rep, err := lifeErr(t, t.TempDir(), c)
	assert.ErrorContains(t, err, "topic in, partition 0, offset 0")
	assert.ErrorContains(t, err, "kgo.MaxDecompressBatchBytes in Opts")
	assert.Zero(t, rep.Stats.Run.Rewinds)
}

// A drain does not wait for partitions that have no more, in fetches that others wait for.
func TestDrainDoesNotWaitForWhatHasNoMore(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 10)
	var longest atomic.Int32
	w.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		longest.Store(max(longest.Load(), req.(*kmsg.FetchRequest).MaxWaitMillis))
		return nil, nil, false
	})
	c := w.config("in")
	c.Drain, c.Opts = true, nil
	rows, _ := life(t, t.TempDir(), c)
	require.Len(t, rows, 10)
	require.Positive(t, longest.Load())
	require.LessOrEqual(t, longest.Load(), int32(100))
}
