package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
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

func TestMain(m *testing.M) {
	brokerWait, topicWait = 2*time.Second, time.Second
	os.Exit(m.Run())
}

// life runs a pipeline of the source and a collector in dir to its end.
func life[T any](t *testing.T, dir string, c Config[T]) (rows []T, rep leattest.Report) {
	t.Helper()
	rows, rep, err := lifeErr(t, dir, c)
	require.NoError(t, err)
	return rows, rep
}

func lifeErr[T any](t *testing.T, dir string, c Config[T]) (rows []T, rep leattest.Report, err error) {
	t.Helper()
	sink := leattest.Collect[T]().In(dir)
	p := leat.New("test", leat.Config{StateDir: filepath.Join(dir, "state"), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond,
		Breaker: leat.Breaker{Share: -1}, Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond, Attempts: 20}})
	leat.To(leat.From(p, New(c)), sink)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = p.Run(ctx)
	if ctx.Err() != nil {
		t.Error("the pipeline did not end")
	}
	return sink.Committed(), leattest.Report{Stats: p.Stats()}, err
}

// running is a pipeline that runs.
type running struct {
	t      *testing.T
	p      *leat.Pipeline
	src    any
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs a pipeline of the source and the sink until stop.
func start(t *testing.T, c Config[rec], sink leat.Sink[rec]) *running {
	t.Helper()
	return startIn(t, t.TempDir(), c, sink)
}

func startIn(t *testing.T, dir string, c Config[rec], sink leat.Sink[rec]) *running {
	t.Helper()
	p := leat.New("test", leat.Config{StateDir: dir, Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond,
		Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
	src := New(c)
	leat.To(leat.From(p, src), sink)
	return run(t, p, src)
}

// run runs a pipeline of the source until stop.
func run(t *testing.T, p *leat.Pipeline, src any) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, p: p, src: src, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = p.Run(ctx)
	}()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *running) stop() error {
	r.cancel()
	return r.wait()
}

func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(20 * time.Second):
		return errors.New("the pipeline did not end")
	}
}

// await waits until something holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, 15*time.Second, 5*time.Millisecond)
}

// deaf makes the broker answer fetches with nothing while on is set, and counts those answers.
func (w *world) deaf(on *atomic.Bool) (answers *atomic.Int64) {
	answers = new(atomic.Int64)
	w.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if !on.Load() {
			return nil, nil, false
		}
		answers.Add(1)
		time.Sleep(time.Millisecond)
		return req.ResponseKind(), nil, true
	})
	return answers
}
