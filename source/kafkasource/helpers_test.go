package kafkasource

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// rec is the row type of most tests.
type rec struct {
	ID   int64
	Text string
}

// placed tells where it came from.
type placed struct {
	ID        int64
	Topic     string    `leat:"@topic"`
	Partition int32     `leat:"@partition"`
	Offset    int64     `leat:"@offset"`
	Key       string    `leat:"@key"`
	Time      time.Time `leat:"@timestamp"`
	Trace     string    `leat:"@header.trace"`
}

// world is a broker in this process.
type world struct {
	t       *testing.T
	cluster *kfake.Cluster
	brokers []string
	cl      *kgo.Client
	adm     *kadm.Client
}

// broker starts one with topics of so many partitions.
func broker(t *testing.T, partitions int32, topics ...string) *world {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}
	if len(topics) > 0 {
		opts = append(opts, kfake.SeedTopics(partitions, topics...))
	}
	cluster, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	w := &world{t: t, cluster: cluster, brokers: cluster.ListenAddrs()}
	w.cl = w.client()
	w.adm = kadm.NewClient(w.cl)
	return w
}

func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	require.NoError(w.t, err)
	w.t.Cleanup(cl.Close)
	return cl
}

// put produces values to a partition.
func (w *world) put(topic string, partition int32, values ...string) {
	w.t.Helper()
	for _, v := range values {
		w.produce(&kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
}

func (w *world) produce(recs ...*kgo.Record) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(w.t, w.cl.ProduceSync(ctx, recs...).FirstErr())
}

// fill produces rows from to to-1, in turn to the partitions.
func (w *world) fill(topic string, partitions int32, from, to int) {
	w.t.Helper()
	var recs []*kgo.Record
	for i := from; i < to; i++ {
		recs = append(recs, &kgo.Record{
			Topic: topic, Partition: int32(i) % partitions, Key: fmt.Appendf(nil, "k%d", i),
			Value:   fmt.Appendf(nil, `{"id":%d,"text":"text of \"%d\""}`, i, i),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "t%d", i)}},
		})
	}
	w.produce(recs...)
}

// config is one for tests: it does not wait long.
func (w *world) config(topics ...string) Config[rec] {
	return Config[rec]{Brokers: w.brokers, Topics: topics, Idle: 50 * time.Millisecond, Opts: []kgo.Opt{kgo.FetchMaxWait(20 * time.Millisecond)}}
}
