package kafkasource

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// restoring is a sink that takes partitions over slowly, the first time.
type restoring struct {
	*leattest.Collector[rec]
	began, late chan struct{}
	lives       atomic.Int32
	ended       atomic.Bool // by its context
}

func (s *restoring) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	if s.lives.Add(1) == 1 {
		close(s.began)
		select {
		case <-ctx.Done():
			s.ended.Store(true)
			return nil, ctx.Err()
		case <-s.late: // and fences whoever has them by now
		}
	}
	return s.Collector.Restore(ctx, partitions)
}

// Rules E2, H3: partitions that go away while sinks take them over are not taken over
// later on, when somebody else has them.
func TestTakenWhileAssigned(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(s *Source[rec]){
		"revoked": func(s *Source[rec]) { s.onRevoked(t.Context(), nil, map[string][]int32{"in": {1}}) },
		"lost":    func(s *Source[rec]) { s.onLost(t.Context(), nil, map[string][]int32{"in": {1}}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			w.fill("in", 2, 0, 100)
			dir := t.TempDir()
			sink := &restoring{Collector: leattest.Collect[rec]().In(dir), began: make(chan struct{}), late: make(chan struct{})}
			c := w.member("g", "in")
			c.RevokeBudget = 100 * time.Millisecond
			logged := new(kafkatest.Lines)
			p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: logged.Logger(t), CheckpointEvery: 10 * time.Millisecond})
			src := New(c)
			leat.To(leat.From(p, src), sink)
			a := run(t, p, src)
			<-sink.began
			lose(a.src.(*Source[rec])) // it returns: the group gives them away
			if name == "revoked" {
				assert.True(t, sink.ended.Load(), "it would fence the next owner")
			}
			await(t, sink.ended.Load)
			close(sink.late)
			await(t, func() bool { return len(sink.Committed()) == 50 })
			require.NoError(t, a.stop())
			assert.NotContains(t, logged.String(), "another process has taken the partition at a sink")
		})
	}
}

// A partition that a zombie took at a sink, and that nobody else reads, is taken back.
func TestTakenByZombie(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = time.Second
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	zombie := leattest.Collect[rec]().In(dir)
	require.NoError(t, zombie.Open(t.Context(), leat.Env{}))
	_, err := zombie.Restore(t.Context(), []string{"src/in/1"})
	require.NoError(t, err)
	w.fill("in", 2, 20, 40)
	await(t, func() bool { return len(sink.Committed()) == 40 })
	require.NoError(t, a.stop())
	once(t, sink.Committed(), 40)
}

// A killed owner may leave a transaction open that commits its offsets: what it says is not known until the broker
// ends it, a minute later perhaps. All other partitions are read meanwhile, and a drain waits for that one.
func TestTakenOverWithOpenTransaction(t *testing.T) {
	t.Parallel()
	for _, drains := range []bool{false, true} {
		t.Run(fmt.Sprint("drain ", drains), func(t *testing.T) {
			t.Parallel()
			w := broker(t, 3, "in")
			_, err := w.adm.CommitOffsets(t.Context(), "g", kadm.Offsets{"in": {1: {Topic: "in", Partition: 1, At: 4, LeaderEpoch: -1}}})
			require.NoError(t, err)
			open := new(atomic.Bool)
			open.Store(true)
			w.unstable(open, 1)
			w.readsOn(t, "in", "g", drains, func() { open.Store(false) })
		})
	}
}

// All replicas of a partition may be away when it is taken over: the others are read meanwhile.
func TestTakenOverWithoutLeader(t *testing.T) {
	t.Parallel()
	w := broker(t, 3, "in")
	_, err := w.adm.CommitOffsets(t.Context(), "g", kadm.Offsets{"in": {1: {Topic: "in", Partition: 1, At: 4, LeaderEpoch: -1}}})
	require.NoError(t, err)
	all, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), w.cl)
	require.NoError(t, err)
	parts := all.Topics[0].Partitions
	at := slices.IndexFunc(parts, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Partition == 1 })
	parts[at].Leader, parts[at].ErrorCode = -1, kerr.LeaderNotAvailable.Code
	var away atomic.Bool // since a member has joined, so that who fills the topic knew the leader
	w.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		away.Store(true)
		return nil, nil, false
	})
	w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if !away.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		resp.Brokers, resp.ClusterID, resp.ControllerID, resp.Topics = all.Brokers, all.ClusterID, all.ControllerID, all.Topics
		return resp, nil, true
	})
	w.readsOn(t, "in", "g", false, func() { away.Store(false) })
}

// Rule H5: a broker may not know yet of a partition that was just added, and that the group has given out: it waits alone.
func TestTakenOverBeforeItIsKnown(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	before, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), w.cl)
	require.NoError(t, err)
	before.Topics[0].Partitions = slices.DeleteFunc(before.Topics[0].Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Partition == 1 })
	var behind atomic.Bool
	w.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		behind.Store(true)
		return nil, nil, false
	})
	w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if !behind.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		resp.Brokers, resp.ClusterID, resp.ControllerID, resp.Topics = before.Brokers, before.ClusterID, before.ControllerID, before.Topics
		return resp, nil, true
	})
	sink := leattest.Collect[rec]().In(t.TempDir())
	r := start(t, w.member("g", "in"), sink)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	behind.Store(false)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	assert.Zero(t, r.p.Stats().Run.Rewinds)
	require.NoError(t, r.stop())
	once(t, sink.Committed(), 20)
}

// What waits is not forgotten when others come meanwhile: a drain would end without it.
func TestAwaitedWhileOthersCome(t *testing.T) {
	t.Parallel()
	tp := func(n int32) topicPartition { return topicPartition{Topic: "in", Partition: n} }
	r := &reading[rec]{s: New(Config[rec]{})}
	require.Equal(t, map[topicPartition]uint64{tp(0): 1}, r.await(map[topicPartition]uint64{tp(0): 1, tp(1): 2, tp(2): 3}, []topicPartition{tp(1)}, []topicPartition{tp(2)}))
	require.Equal(t, map[topicPartition]uint64{tp(3): 4}, r.await(map[topicPartition]uint64{tp(3): 4}, nil, nil))
	require.Equal(t, []topicPartition{tp(1), tp(2)}, r.awaited)
	require.Equal(t, map[topicPartition]uint64{tp(1): 2}, r.await(map[topicPartition]uint64{tp(1): 2, tp(2): 3}, nil, []topicPartition{tp(2)}))
	require.Equal(t, []topicPartition{tp(2)}, r.awaited)
}

// Where rule H1 makes a process wait for partitions, it looks five times a second, however long it waits.
func TestWaitsForAllPartitionsQuietly(t *testing.T) {
	t.Parallel()
	r := &reading[rec]{s: New(Config[rec]{}), arrived: time.Now().Add(-time.Minute), lacking: time.Now()}
	require.Equal(t, quiet, r.wait())
}

func TestRealOpenTransaction(t *testing.T) {
	for _, drains := range []bool{false, true} {
		t.Run(fmt.Sprint("drain ", drains), func(t *testing.T) {
			w, topic := realBroker(t, 3)
			killed := w.client(kgo.TransactionalID(topic))
			id, epoch, err := killed.ProducerID(t.Context())
			require.NoError(t, err)
			require.NoError(t, killed.BeginTransaction())
			// In the same cluster; what it wrote does not matter.
			other, err := w.adm.CreateTopic(t.Context(), 1, 1, nil, topic+"-out")
			require.NoError(t, err)
			require.NoError(t, other.Err)
			t.Cleanup(func() { _, _ = kadm.NewClient(w.client()).DeleteTopic(context.Background(), topic+"-out") })
			require.NoError(t, killed.ProduceSync(t.Context(), &kgo.Record{Topic: topic + "-out"}).FirstErr())
			topics, err := w.adm.ListTopics(t.Context(), topic)
			require.NoError(t, err)
			at := kafka.Offset{Next: 4, Log: kafka.LogOf(topics[topic].ID)}
			v2, err := kafka.TransactionsV2(t.Context(), killed)
			require.NoError(t, err)
			require.NoError(t, kafka.CommitOffsetsIn(t.Context(), killed, kafka.Txn{ID: topic, Producer: id, Epoch: epoch, V2: v2},
				kafka.Member{Group: topic, Generation: -1}, map[topicPartition]kafka.Offset{{Topic: topic, Partition: 1}: at}))
			w.readsOn(t, topic, topic, drains, func() { require.NoError(t, killed.EndTransaction(t.Context(), kgo.TryCommit)) })
		})
	}
}

// unstable makes the broker say that a transaction is committing the offset of a partition, while open is set.
func (w *world) unstable(open *atomic.Bool, partition int32) {
	w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		asked := req.(*kmsg.OffsetFetchRequest)
		if !asked.RequireStable || !open.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range asked.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group = g.Group
			for _, t := range g.Topics {
				rt := kmsg.NewOffsetFetchResponseGroupTopic()
				rt.Topic, rt.TopicID = t.Topic, t.TopicID
				for _, n := range t.Partitions {
					p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
					p.Partition, p.Offset = n, -1
					if n == partition {
						p.ErrorCode = kerr.UnstableOffsetCommit.Code
					}
					rt.Partitions = append(rt.Partitions, p)
				}
				rg.Topics = append(rg.Topics, rt)
			}
			resp.Groups = append(resp.Groups, rg)
		}
		return resp, nil, true
	})
}

// readsOn demands that a member reads two of three partitions while a transaction keeps the one in the middle, and
// that one from offset 4, when the transaction is over.
func (w *world) readsOn(t *testing.T, topic, group string, drains bool, end func()) {
	t.Helper()
	w.fill(topic, 3, 0, 30)
	c := w.member(group, topic)
	c.Drain = drains
	sink := &forgetful{}
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond})
	leat.To(leat.From(p, New(c)), sink)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	await(t, func() bool { return p.Stats().Run.In == 20 })
	w.fill(topic, 3, 30, 33)
	await(t, func() bool { return p.Stats().Run.In == 22 || drains })
	time.Sleep(2 * quiet)
	assert.Empty(t, done, "the partition that waits is a part of what is to be read")

	end()
	rest := 7 // of 11
	if drains {
		rest = 6 // of the 10 that were there when it began
	}
	await(t, func() bool { return p.Stats().Run.In >= int64(20+rest) })
	if !drains {
		cancel()
	}
	require.NoError(t, <-done)
	for _, id := range []int64{1, 4, 7, 10} {
		assert.NotContains(t, sink.got, id, "the killed owner has committed it")
	}
	for _, id := range []int64{13, 28} {
		assert.Contains(t, sink.got, id)
	}
}

// It is given up after some times, and tried again in the next generation of the group.
func TestTakenAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in", "other")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = time.Second
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	zombie := leattest.Collect[rec]().In(dir)
	require.NoError(t, zombie.Open(t.Context(), leat.Env{}))
	n := 20
	more := func() {
		_, err := zombie.Restore(t.Context(), []string{"src/in/1"})
		require.NoError(t, err)
		w.fill("in", 2, n, n+2)
		n += 2
	}
	for range retakes {
		more()
		await(t, func() bool { return len(sink.Committed()) == n })
	}
	more()
	await(t, func() bool { return len(sink.Committed()) == n-1 })
	time.Sleep(4 * a.src.(*Source[rec]).patience())
	require.Len(t, sink.Committed(), n-1, "somebody else's, it seems")

	b := w.member("g", "other") // a new generation, in which in/1 stays where it is
	b.SessionTimeout = time.Second
	start(t, b, leattest.Collect[rec]().In(t.TempDir()))
	await(t, func() bool { return len(sink.Committed()) == n })
	require.NoError(t, a.stop())
	once(t, sink.Committed(), n)
}

// A member whose partitions were taken at a sink, and then by the group too, as when it was frozen, waits for others:
// the group has heard of the other member, and the names are no other pipeline's.
func TestTakenAtSinkThenByGroup(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = 1500 * time.Millisecond
	a := start(t, c, sink)
	src := a.src.(*Source[rec])
	await(t, func() bool { return len(sink.Committed()) == 20 })
	both := map[string][]int32{"in": {0, 1}}
	owner := leattest.Collect[rec]().In(dir)
	require.NoError(t, owner.Open(t.Context(), leat.Env{}))
	_, err := owner.Restore(t.Context(), []string{"src/in/0", "src/in/1"})
	require.NoError(t, err)
	rewinds := a.p.Stats().Run.Rewinds
	w.fill("in", 2, 20, 40)
	await(t, func() bool { return a.p.Stats().Run.Rewinds > rewinds && len(src.Lag()) == 0 })
	time.Sleep(src.patience() / 2) // until they are refused
	src.onLost(t.Context(), src.Client(), both)

	select {
	case <-a.done:
		require.NoError(t, a.err)
	case <-time.After(3 * c.SessionTimeout): // as long as others have them
	}
	src.onAssigned(t.Context(), src.Client(), both)
	await(t, func() bool { return len(sink.Committed()) == 40 })
	require.NoError(t, a.stop())
	once(t, sink.Committed(), 40)
}
