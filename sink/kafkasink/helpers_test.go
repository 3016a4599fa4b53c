package kafkasink_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/kafka"
	"github.com/leatgo/leat/internal/kafkatest"
)

// Who reads rows after they were given back fails its test.
func init() { engine.Scrub = true }

func fake(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, []string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()
}

// realBrokers are those of a server that the test needs.
func realBrokers(t testing.TB) []string {
	t.Helper()
	if v := os.Getenv("LEAT_KAFKA"); v != "" {
		return strings.Split(v, ",")
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("LEAT_KAFKA is not set")
	}
	t.Skip("needs a Kafka server: set LEAT_KAFKA=host:port")
	return nil
}

func client(t testing.TB, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

var topicSeq int
var topicMu sync.Mutex

// newTopic makes a topic, and takes it away at the end.
func newTopic(t testing.TB, brokers []string, partitions int32, configs map[string]string) string {
	t.Helper()
	topicMu.Lock()
	topicSeq++
	name := fmt.Sprintf("snk-%d-%d", time.Now().UnixNano(), topicSeq)
	topicMu.Unlock()
	adm := kadm.NewClient(client(t, brokers))
	cs := map[string]*string{}
	for k, v := range configs {
		cs[k] = &v
	}
	_, err := adm.CreateTopic(context.Background(), partitions, 1, cs, name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := adm.DeleteTopics(context.Background(), name)
		require.NoError(t, err)
	})
	return name
}

// readAll gives what readers of committed records see of a topic now.
func readAll(t testing.TB, brokers []string, topic string, opts ...kgo.Opt) (records []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))...)
	require.NoError(t, err)
	defer cl.Close()
	var end kadm.ListedOffsets
	require.Eventually(t, func() bool {
		end, err = kadm.NewClient(cl).ListCommittedOffsets(t.Context(), topic)
		return !errors.Is(errors.Join(err, end.Error()), kerr.UnknownTopicOrPartition) // not yet, though its making was confirmed
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, end.Error())
	left, from := map[int32]int64{}, map[int32]kgo.Offset{}
	end.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().AtStart()
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		fs := cl.PollFetches(ctx)
		require.NoError(t, ctx.Err())
		cancel()
		for it := fs.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Offset < left[r.Partition] && !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		}
	}
	return records
}

// sees checks what readers of committed records see of a topic, in any order of its
// partitions. A transaction's last step is the broker's own, a moment after its answer.
func sees(t testing.TB, brokers []string, topic string, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	var got []string
	for end := time.Now().Add(5 * time.Second); ; {
		got = slices.Sorted(slices.Values(values(readAll(t, brokers, topic))))
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(end) || len(got) > len(want) {
			t.Errorf("topic %s holds %q, and should hold %q", topic, got, want)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func values(records []*kgo.Record) (out []string) {
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return out
}

func batch[T any](rows ...T) *leat.Batch[T] {
	b := &leat.Batch[T]{}
	for i, r := range rows {
		b.Append(r, i)
	}
	return b
}

func env(t testing.TB) leat.Env {
	return leat.Env{Pipeline: "prueba", Node: "sink", StateDir: t.TempDir(), Logger: kafkatest.Logger(t)}
}

// member is a consumer group's member as kafkasource is one, without a pipeline.
type member struct {
	cl    *kgo.Client
	group string

	mu         sync.Mutex
	tokens     map[kafka.TopicPartition]uint64
	last       uint64
	transacted bool
}

func join(t testing.TB, brokers []string, group, topic string, opts ...kgo.Opt) *member {
	t.Helper()
	m := &member{group: group, tokens: map[kafka.TopicPartition]uint64{}}
	gone := func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for topic, ps := range gone {
			for _, p := range ps {
				delete(m.tokens, kafka.TopicPartition{Topic: topic, Partition: p})
			}
		}
	}
	m.cl = client(t, brokers, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.HeartbeatInterval(100 * time.Millisecond), kgo.SessionTimeout(10 * time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for topic, ps := range got {
				for _, p := range ps {
					m.last++
					m.tokens[kafka.TopicPartition{Topic: topic, Partition: p}] = m.last
				}
			}
		}),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
	}, opts...)...)
	return m
}

func (m *member) Node() string                     { return "entrada" }
func (m *member) Client() *kgo.Client              { return m.cl }
func (m *member) Whole(kafka.TopicPartition) int64 { return -1 }
func (m *member) Transacted()                      { m.mu.Lock(); m.transacted = true; m.mu.Unlock() }

func (m *member) Token(tp kafka.TopicPartition) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens[tp]
}

func (m *member) Member(have map[kafka.TopicPartition]uint64) (kafka.Member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for tp, token := range have {
		if m.tokens[tp] != token {
			return kafka.Member{}, leat.Fenced("entrada/" + tp.String())
		}
	}
	id, gen := m.cl.GroupMetadata()
	return kafka.Member{Group: m.group, ID: id, Generation: gen}, nil
}

// owned waits until the member has n partitions.
func (m *member) owned(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.tokens) == n }, 20*time.Second, 5*time.Millisecond)
}

func rowErrors(t testing.TB, err error) (rows []int) {
	t.Helper()
	var re *leat.RowErrors
	require.True(t, errors.As(err, &re), "%v", err)
	for _, r := range re.Rows {
		rows = append(rows, r.Row)
	}
	return rows
}
