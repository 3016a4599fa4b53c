package kafkasink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/avrocodec"
	"github.com/leatgo/leat/codec/protocodec"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
)

// written gives the records that rows become.
func written[T any](t *testing.T, c kafkasink.Config[T], rows ...T) []*kgo.Record {
	t.Helper()
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	c.Brokers, c.Topic = brokers, "t"
	s := kafkasink.New(c)
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	require.NoError(t, s.Write(t.Context(), batch(rows...)))
	done, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)
	require.True(t, done)
	return readAll(t, brokers, "t")
}

// Rule J2: what kafkasource puts into a row's fields becomes the record's again.
func TestHop(t *testing.T) {
	type row struct {
		ID    int       `leat:"id"`
		Key   string    `leat:"@key"`
		At    time.Time `leat:"@timestamp"`
		Trace string    `leat:"@header.trace"`
		Other string    `leat:"@header.other"`
		Topic string    `leat:"@topic"`
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	got := written(t, kafkasink.Config[row]{}, row{1, "k", at, "tr", "", "elsewhere"}, row{ID: 2})
	require.Len(t, got, 2)
	assert.Equal(t, `{"id":1}`, string(got[0].Value))
	assert.Equal(t, "k", string(got[0].Key))
	assert.Equal(t, at, got[0].Timestamp.UTC())
	assert.Equal(t, []kgo.RecordHeader{{Key: "trace", Value: []byte("tr")}}, got[0].Headers)
	assert.Nil(t, got[1].Key)
	assert.Empty(t, got[1].Headers)
	assert.WithinDuration(t, time.Now(), got[1].Timestamp, time.Minute)
}

func TestFunctions(t *testing.T) {
	type row struct{ K, V string }
	at := time.UnixMilli(1_700_000_000_123).UTC()
	var own []byte
	got := written(t, kafkasink.Config[row]{
		Key: func(r *row) []byte {
			if r.K == "" {
				return nil
			}
			return []byte(r.K)
		},
		Timestamp: func(*row) time.Time { return at },
		Headers: func(r *row) []kgo.RecordHeader {
			return []kgo.RecordHeader{{Key: "a", Value: []byte(r.V)}, {Key: "nil"}, {Key: "b", Value: []byte("b" + r.K)}}
		},
		Encode: func(dst []byte, r *row) ([]byte, error) {
			switch r.V {
			case "":
				return nil, nil // a tombstone
			case "empty":
				return dst, nil
			case "own":
				own = append(own[:0], "of its own"...)
				return own, nil
			}
			return append(dst, strings.Repeat(r.V, 3)...), nil
		},
	}, row{"k1", "x"}, row{"k2", ""}, row{"", "own"}, row{"k4", "y"}, row{"k5", "empty"}, row{"", "own"})
	require.Len(t, got, 6)
	assert.Equal(t, []string{"xxx", "", "of its own", "yyy", "", "of its own"}, values(got))
	assert.Nil(t, got[1].Value)
	assert.NotNil(t, got[4].Value)
	assert.Equal(t, "k2", string(got[1].Key))
	assert.Nil(t, got[2].Key)
	assert.Equal(t, at, got[3].Timestamp.UTC())
	assert.Equal(t, []kgo.RecordHeader{{Key: "a", Value: []byte("y")}, {Key: "nil"}, {Key: "b", Value: []byte("bk4")}}, got[3].Headers)
}

// Rule J2: a time that the client can't write is refused, not written as another one.
func TestTimestampsOutOfReach(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	s := kafkasink.New(kafkasink.Config[time.Time]{Brokers: brokers, Topic: "t",
		Encode:    func(dst []byte, at *time.Time) ([]byte, error) { return append(dst, "x"...), nil },
		Timestamp: func(at *time.Time) time.Time { return *at },
	})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	year := func(y int) time.Time { return time.Date(y, 12, 31, 0, 0, 0, 0, time.UTC) }
	assert.Equal(t, []int{1, 2, 3}, rowErrors(t, s.Write(t.Context(), batch(year(2261), year(9999), year(1600), year(58000)))))
	require.NoError(t, s.Write(t.Context(), batch(year(2261), year(1969))))
	_, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)
	got := readAll(t, brokers, "t")
	assert.Equal(t, year(2261), got[0].Timestamp.UTC())
	assert.Equal(t, year(1969), got[1].Timestamp.UTC())
}

// encoder encodes for the topic.
type encoder struct{ fail error }

func (e *encoder) Encode(_ context.Context, topic string, dst []byte, row *string) ([]byte, error) {
	return append(append(dst, topic...), *row...), e.fail
}

func TestCodec(t *testing.T) {
	got := written(t, kafkasink.Config[string]{Codec: &encoder{}}, "x")
	assert.Equal(t, []string{"tx"}, values(got))

	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	e := &encoder{}
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t", Codec: e})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	e.fail = leat.Transient(errors.New("the registry does not answer"))
	err := s.Write(t.Context(), batch("x"))
	assert.True(t, leat.IsTransient(err))
	e.fail = errors.New("no such schema")
	assert.Equal(t, []int{0, 1}, rowErrors(t, s.Write(t.Context(), batch("x", "y"))))
}

func TestRawRows(t *testing.T) {
	type raw struct {
		Body []byte `leat:"body"`
		Key  string `leat:"@key"`
	}
	rows := written(t, kafkasink.Config[raw]{Raw: true}, raw{[]byte("a"), "k"}, raw{nil, "k"}, raw{[]byte{}, ""})
	assert.Equal(t, []string{"a", "", ""}, values(rows))
	assert.Nil(t, rows[1].Value)
	assert.NotNil(t, rows[2].Value)
	assert.Equal(t, "k", string(rows[1].Key))
	assert.Equal(t, []string{"a", "", ""}, values(written(t, kafkasink.Config[[]byte]{}, []byte("a"), []byte{}, nil)))
	got := written(t, kafkasink.Config[[]byte]{}, []byte{}, nil)
	assert.NotNil(t, got[0].Value)
	assert.Nil(t, got[1].Value)
	assert.Equal(t, []string{"a", ""}, values(written(t, kafkasink.Config[string]{}, "a", "")))
}

// Rule J2: an encoder that has nothing to append makes an empty value, which is no tombstone, of the first
// row of a batch too.
func TestEmptyValues(t *testing.T) {
	got := written(t, kafkasink.Config[string]{Encode: func(dst []byte, s *string) ([]byte, error) { return append(dst, *s...), nil }}, "", "a", "")
	require.Equal(t, []string{"", "a", ""}, values(got))
	for _, r := range got {
		assert.NotNil(t, r.Value, "it deletes its key")
	}
	got = written(t, kafkasink.Config[emptypb.Empty]{Codec: protocodec.New[emptypb.Empty](protocodec.Config{})}, emptypb.Empty{})
	require.NoError(t, protocodec.New[emptypb.Empty](protocodec.Config{}).Decode(t.Context(), "t", got[0].Value, &emptypb.Empty{}))
}

// The key's partition is the Java client's (murmur2); Partition chooses another one, also in a client that serves both.
func TestPartition(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(4, "t"))
	partitions := func(c kafkasink.Config[string], rows ...string) map[string]int32 {
		c.Brokers, c.Topic = brokers, "t"
		s := kafkasink.New(c)
		require.NoError(t, s.Open(t.Context(), env(t)))
		defer s.Close()
		require.NoError(t, s.Write(t.Context(), batch(rows...)))
		_, err := s.Commit(t.Context(), leat.Checkpoint{})
		require.NoError(t, err)
		out := map[string]int32{}
		for _, r := range readAll(t, brokers, "t") {
			out[string(r.Value)] = r.Partition
		}
		return out
	}
	key := func(s *string) []byte { return []byte(strings.Fields(*s)[0]) }
	// (murmur2(key) & 0x7fffffff) % 4, of the values in Kafka's own UtilsTest.
	got := partitions(kafkasink.Config[string]{Key: key}, "21 a", "foobar a", "a-little-bit-long-string a")
	assert.Equal(t, map[string]int32{
		"21 a": (-973932308 & 0x7fffffff) % 4, "foobar a": (-790332482 & 0x7fffffff) % 4, "a-little-bit-long-string a": (-985981536 & 0x7fffffff) % 4,
	}, got)
	got = partitions(kafkasink.Config[string]{Key: key, Partition: func(s *string, n int) int { return len(*s) % n }}, "x bb", "x bbb", "x b")
	assert.Equal(t, []int32{0, 1, 3}, []int32{got["x bb"], got["x bbb"], got["x b"]})

	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t", Partition: func(s *string, n int) int {
		if *s == "panic" {
			panic("no")
		}
		return n - 4 + len(*s)
	}})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	assert.Equal(t, []int{1, 2}, rowErrors(t, s.Write(t.Context(), batch("abc", "abcd", "panic"))))
}

// Records that are too large, rows that can't be encoded and topics that do not exist cost
// single rows, before anything is sent (rules B5, A9).
func TestRejected(t *testing.T) {
	for name, brokers := range map[string]func(t *testing.T) []string{
		"kfake": func(t *testing.T) []string { _, b := fake(t); return b },
		"Kafka": func(t *testing.T) []string { return realBrokers(t) },
	} {
		t.Run(name, func(t *testing.T) {
			brokers := brokers(t)
			small := newTopic(t, brokers, 1, map[string]string{"max.message.bytes": "2000"})
			large := newTopic(t, brokers, 2, map[string]string{"max.message.bytes": "3000000"})
			topics := map[byte]string{'s': small, 'l': large, 'm': small + "-missing", 'b': "a bad name"}
			s := kafkasink.New(kafkasink.Config[string]{
				Brokers: brokers,
				TopicOf: func(s *string) string { return topics[(*s)[0]] },
				Encode: func(dst []byte, s *string) ([]byte, error) {
					switch (*s)[1] {
					case 'p':
						panic("no")
					case 'e':
						return nil, errors.New("can't be encoded")
					}
					return append(dst, *s...), nil
				},
			})
			require.NoError(t, s.Open(t.Context(), env(t)))
			defer s.Close()
			big := strings.Repeat("x", 2_500_000)
			rows := []string{"sx", "sp", "s" + big[:1800], "s" + big[:2000], "mx", "l" + big, "lx", "se", "bx", "lp", "z", "l" + big + big}
			rows[10] = "zx" // TopicOf gives none
			start := time.Now()
			err := s.Write(t.Context(), batch(rows...))
			assert.Equal(t, []int{1, 3, 4, 7, 8, 9, 10, 11}, rowErrors(t, err))
			assert.Less(t, time.Since(start), 10*time.Second)
			var re *leat.RowErrors
			require.ErrorAs(t, err, &re)
			assert.ErrorContains(t, re.Rows[1].Err, "topic "+small+" takes 2000 (max.message.bytes)")
			assert.ErrorContains(t, re.Rows[2].Err, "does not exist on this cluster")
			assert.ErrorContains(t, re.Rows[0].Err, "panic: no")

			var rest []string
			for i, r := range rows {
				if i == 0 || i == 2 || i == 5 || i == 6 {
					rest = append(rest, r)
				}
			}
			require.NoError(t, s.Write(t.Context(), batch(rest...)))
			_, err = s.Commit(t.Context(), leat.Checkpoint{})
			require.NoError(t, err)
			sees(t, brokers, small, rest[0], rest[1])
			sees(t, brokers, large, rest[2], rest[3])
		})
	}
}

// What the client does not take is not said to be the topic's limit.
func TestLimitsOfTheClient(t *testing.T) {
	_, brokers := fake(t)
	topic := newTopic(t, brokers, 1, map[string]string{"max.message.bytes": "100000000"})
	for want, opts := range map[string][]kgo.Opt{
		"the client takes 33554432 (kgo.MaxBufferedBytes in Opts)":  nil,
		"the client takes 5000 (kgo.ProducerBatchMaxBytes in Opts)": {kgo.ProducerBatchMaxBytes(5000)},
		"the client takes 5000000 (kgo.MaxBufferedBytes in Opts)":   {kgo.MaxBufferedBytes(5_000_000)},
	} {
		row := strings.Repeat("x", 40_000_000)
		s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: topic, Opts: opts})
		require.NoError(t, s.Open(t.Context(), env(t)))
		err := s.Write(t.Context(), batch(row))
		require.Equal(t, []int{0}, rowErrors(t, err))
		var re *leat.RowErrors
		require.ErrorAs(t, err, &re)
		assert.ErrorContains(t, re.Rows[0].Err, want)
		require.NoError(t, s.Close())

		l := kafkasink.DeadLetters(kafkasink.LettersConfig{Brokers: brokers, Topic: topic, Opts: opts})
		require.NoError(t, l.Open(t.Context(), env(t)))
		assert.ErrorContains(t, l.Append(t.Context(), []leat.DeadLetter{{ID: "1", Raw: []byte(row)}}), want+"; raise that")
		require.NoError(t, l.Close())
	}
}

// Nor is Kafka's default, where the topic's own limit is not known.
func TestAssumedLimit(t *testing.T) {
	brokers := unknownLimit(t)
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: newTopic(t, brokers, 1, nil)})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	err := s.Write(t.Context(), batch(noise(1_100_000)))
	var re *leat.RowErrors
	require.ErrorAs(t, err, &re)
	require.ErrorContains(t, re.Rows[0].Err, "1000012 is taken for its limit, since its configuration can't be read: allow DescribeConfigs on it")
}

func TestNoTopic(t *testing.T) {
	_, brokers := fake(t)
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "missing"})
	err := s.Open(t.Context(), env(t))
	require.ErrorContains(t, err, "topic missing does not exist on this cluster: create it, or mend the name")
	assert.False(t, leat.IsTransient(err))
}

// Who may not write ends the pipeline; no row is rejected for it (rule B8).
func TestDenied(t *testing.T) {
	c, brokers := fake(t, kfake.SeedTopics(1, "t"))
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t"})
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return produceError(req, kerr.TopicAuthorizationFailed), nil, true
	})
	p := leat.New("prueba", leat.Config{StateDir: t.TempDir(), Retry: leat.Retry{First: time.Millisecond}})
	leat.To(leat.From(p, leattest.Rows("a", "b")), s)
	err := p.Run(t.Context())
	require.ErrorContains(t, err, "topic t: TOPIC_AUTHORIZATION_FAILED")
	assert.ErrorContains(t, err, "No row was rejected for it")
	assert.Empty(t, p.Stats().Run.Rejected)
}

func produceError(req kmsg.Request, err *kerr.Error) kmsg.Response {
	preq := req.(*kmsg.ProduceRequest)
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range preq.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, err.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// Trouble that passes is waited for: the records come, in order (rule B8).
func TestTrouble(t *testing.T) {
	c, brokers := fake(t, kfake.SeedTopics(1, "t"))
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend} {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: 2})
	}
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t"})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
		require.NoError(t, s.Write(t.Context(), batch(want[i])))
	}
	_, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)
	assert.Equal(t, want, values(readAll(t, brokers, "t")))
}

// What only the broker knows is named after a rewind (rule B5), and nothing else is
// rejected: here, timestamps too far ahead, and records without a key in a compacted topic.
func TestRefusedByBroker(t *testing.T) {
	for name, c := range map[string]struct {
		configs map[string]string
		bad     func(c *kafkasink.Config[string])
	}{
		"timestamp": {map[string]string{"message.timestamp.after.max.ms": "3600000"}, func(c *kafkasink.Config[string]) {
			c.Timestamp = func(s *string) time.Time {
				if strings.HasPrefix(*s, "bad") {
					return time.Now().Add(2 * time.Hour)
				}
				return time.Now()
			}
		}},
		"no key": {map[string]string{"cleanup.policy": "compact"}, func(c *kafkasink.Config[string]) {
			c.Key = func(s *string) []byte {
				if strings.HasPrefix(*s, "bad") {
					return nil
				}
				return []byte(*s)
			}
		}},
	} {
		for _, size := range []int{1, 7, 100} {
			t.Run(fmt.Sprint(name, ", batches of ", size), func(t *testing.T) {
				brokers := realBrokers(t)
				config := kafkasink.Config[string]{Brokers: brokers, Topic: newTopic(t, brokers, 2, c.configs)}
				c.bad(&config)
				var rows, good, bad []string
				for i := range 100 {
					if i == 0 || i%31 == 5 || i == 99 {
						rows = append(rows, fmt.Sprint("bad", i))
						bad = append(bad, rows[i])
					} else {
						rows = append(rows, fmt.Sprint("good", i))
						good = append(good, rows[i])
					}
				}
				p := leat.New("prueba", leat.Config{StateDir: t.TempDir(), Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
				leat.To(leat.From(p, leattest.Rows(rows...).Batches(size)), kafkasink.New(config))
				report := leattest.Runner{RealTime: true}.Run(t, p)
				var refused []string
				for _, r := range report.Rejects {
					refused = append(refused, rows[r.Offset])
					assert.Equal(t, leat.SinkReject, r.Class)
				}
				assert.Equal(t, bad, refused)
				got := map[string]bool{}
				for _, v := range values(readAll(t, brokers, config.Topic)) {
					got[v] = true
				}
				assert.Len(t, got, len(good))
				for _, g := range good {
					assert.True(t, got[g], g)
				}
			})
		}
	}
}

// refuseBad has the broker refuse batches that hold "bad".
func refuseBad(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range rt.Partitions {
				if bytes.Contains(p.Records, []byte("bad")) {
					return produceError(req, kerr.InvalidRecord), nil, true
				}
			}
		}
		return nil, nil, false
	})
}

// A record that the client could not even give to a partition, because it had not heard of new ones, is not tried
// in another one when its neighbour is refused (rule B5).
func TestRefusedBesideNewPartition(t *testing.T) {
	defer func(before time.Duration) { *kafkasink.TopicAge = before }(*kafkasink.TopicAge)
	*kafkasink.TopicAge = time.Millisecond
	c, brokers := fake(t, kfake.SeedTopics(1, "a", "b"))
	refuseBad(c)
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Opts: []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())},
		TopicOf:   func(s *string) string { return (*s)[:1] },
		Partition: func(s *string, n int) int { return (int((*s)[len(*s)-1]) - '0') % n },
	})
	life := func(between func(), batches ...[]string) (err error) {
		require.NoError(t, s.Open(t.Context(), env(t)))
		defer s.Close()
		for i, b := range batches {
			if err = s.Write(t.Context(), batch(b...)); err != nil {
				return err
			}
			if i == 0 {
				between()
			}
		}
		_, err = s.Commit(t.Context(), leat.Checkpoint{})
		return err
	}
	require.ErrorIs(t, life(func() {}, []string{"b0", "b0", "b0", "a bad0"}), leat.ErrAborted)
	more := func() {
		_, err := kadm.NewClient(client(t, brokers)).UpdatePartitions(t.Context(), 4, "b")
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	require.Error(t, life(more, []string{"b0"}, []string{"b3", "a bad0"}))
	for _, r := range readAll(t, brokers, "b") {
		require.Equal(t, string(r.Value), fmt.Sprint("b", r.Partition))
	}
}

// Rule B5: beside a sink that has committed less, what comes again after a rewind begins long
// before our own last commit. The row is found all the same.
func TestRefusedLongAfterTheRewind(t *testing.T) {
	c, brokers := fake(t, kfake.SeedTopics(1, "t"))
	refuseBad(c)
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t", Opts: []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}})
	life := func() error {
		require.NoError(t, s.Open(t.Context(), env(t)))
		defer s.Close()
		for i := range 100 {
			if err := s.Write(t.Context(), batch(fmt.Sprint(i))); err != nil {
				return err
			}
			if _, err := s.Commit(t.Context(), leat.Checkpoint{}); err != nil {
				return err
			}
		}
		err := s.Write(t.Context(), batch("good", "bad", "good"))
		if err == nil {
			_, err = s.Commit(t.Context(), leat.Checkpoint{})
		}
		return err
	}
	for n := 0; ; n++ {
		err := life()
		if re := (*leat.RowErrors)(nil); errors.As(err, &re) {
			assert.Equal(t, []int{1}, rowErrors(t, err))
			return
		}
		require.ErrorIs(t, err, leat.ErrAborted)
		require.Less(t, n, 8)
	}
}

var (
	tx = kafkasink.NewTransaction(kafkasink.TransactionConfig{})

	_ leat.Transactional = kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Transactional)
	_ leat.Joined        = kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Joined)
	_ leat.Prompt        = kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Prompt)
	_ leat.Bound         = kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Bound)
	_ leat.Deferring     = kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Deferring)
	_ leat.Joined        = tx.DeadLetters("bad").(leat.Joined)
)

func TestValidate(t *testing.T) {
	src := kafkasource.New(kafkasource.Config[string]{Topics: []string{"t"}, Group: "g"})
	for want, c := range map[string]leat.Sink[string]{
		"there is no topic":     kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}}),
		"exclude each other":    kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}, Topic: "t", TopicOf: func(*string) string { return "" }}),
		"is no name of a topic": kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}, Topic: "a b"}),
		"Brokers is empty":      kafkasink.New(kafkasink.Config[string]{Topic: "t"}),
		"Source is missing":     kafkasink.New(kafkasink.Config[string]{Topic: "t", Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{Brokers: []string{"x:1"}})}),
		"Raw, Codec and Encode": kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}, Topic: "t", Raw: true, Codec: &encoder{}}),
		"Unique needs Key":      kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}, Topic: "t", Unique: true}),
		"without a consumer group": kafkasink.New(kafkasink.Config[string]{Topic: "t", Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{
			Brokers: []string{"x:1"}, Source: kafkasource.New(kafkasource.Config[string]{Topics: []string{"t"}}),
		})}),
		"it must be 1s or more": kafkasink.New(kafkasink.Config[string]{Topic: "t", Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{Brokers: []string{"x:1"}, Timeout: time.Millisecond})}),
	} {
		assert.ErrorContains(t, c.(leat.Validator).Validate(), want)
	}
	assert.ErrorContains(t, kafkasink.New(kafkasink.Config[chan int]{Brokers: []string{"x:1"}, Topic: "t"}).(leat.Validator).Validate(), "set Encode or Codec")
	type unwritable struct{ A any }
	reg := codec.NewRegistry(sr.URLs("http://x:1"))
	avro := kafkasink.New(kafkasink.Config[unwritable]{Brokers: []string{"x:1"}, Topic: "t", Codec: avrocodec.New(avrocodec.Config[unwritable]{Registry: reg})})
	assert.ErrorContains(t, avro.(leat.Validator).Validate(), "has no Avro type")
	var source leat.Bound = kafkasink.New(kafkasink.Config[string]{Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src})}).(leat.Bound)
	assert.Equal(t, any(src), source.BoundTo())
	assert.NoError(t, kafkasink.New(kafkasink.Config[string]{Brokers: []string{"x:1"}, Topic: "t"}).(leat.Validator).Validate())
	var zero kafkasink.Config[string]
	assert.NotImplements(t, (*leat.Transactional)(nil), kafkasink.New(zero), "rule E7: it keeps no positions")
	assert.NotImplements(t, (*leat.Joined)(nil), kafkasink.New(zero))
	assert.Equal(t, leat.ExactlyOnce, kafkasink.New(kafkasink.Config[string]{Transaction: tx}).(leat.Guaranteed).Guarantee())
	assert.Equal(t, "kafka", kafkasink.New(zero).(leat.Named).Name())
	assert.Equal(t, leat.AtLeastOnce, kafkasink.New(zero).(leat.Guaranteed).Guarantee())
}
