package kafkasource

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// noticesSoon are options of a client that takes a topic for deleted within seconds.
var noticesSoon = []kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(200 * time.Millisecond), kgo.ConsiderMissingTopicDeletedAfter(time.Second)}

// A topic of a pattern that is deleted does not keep the others from being read, also over a
// rewind, nor from being caught up.
func TestTopicOfPatternVanishes(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a", "in-b")
			c := w.member(group, "in-a")
			c.Topics, c.Pattern = nil, "in-.*"
			c.Opts = append(c.Opts, noticesSoon...)
			var abort atomic.Bool
			sink := leattest.Collect[rec]().In(t.TempDir()).OnCall(func(call string) error {
				if call == "Write" && abort.Swap(false) {
					return leat.ErrAborted
				}
				return nil
			}).NotYet(func(cp leat.Checkpoint) bool { return !cp.CaughtUp })
			r := start(t, c, sink)
			w.fill("in-a", 1, 0, 1)
			w.fill("in-b", 1, 1, 2)
			await(t, func() bool { return len(sink.Committed()) == 2 })
			_, err := w.adm.DeleteTopic(t.Context(), "in-b")
			require.NoError(t, err)
			abort.Store(true)
			w.fill("in-a", 1, 2, 3)
			await(t, func() bool { return len(sink.Committed()) == 3 })
			await(t, func() bool { return r.src.(*Source[rec]).Token(topicPartition{Topic: "in-b"}) == 0 })
			w.fill("in-a", 1, 3, 4)
			await(t, func() bool { return len(sink.Committed()) == 4 })
			require.NoError(t, r.stop())
			once(t, sink.Committed(), 4)
		})
	}
}

// Nor does it keep Drain from ending.
func TestTopicVanishesInDrain(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a", "in-b")
			w.fill("in-a", 1, 0, 10)
			w.fill("in-b", 1, 10, 20)
			c := drain(w.member(group, "in-a"))
			c.Topics, c.Pattern = nil, "in-.*"
			c.Opts = append(c.Opts, noticesSoon...)
			on := new(atomic.Bool)
			on.Store(true)
			deaf := w.deaf(on)
			sink := leattest.Collect[rec]().In(t.TempDir())
			r := start(t, c, sink)
			await(t, func() bool { return deaf.Load() > 0 && len(r.src.(*Source[rec]).Lag()) == 2 })
			_, err := w.adm.DeleteTopic(t.Context(), "in-b")
			require.NoError(t, err)
			on.Store(false)
			require.NoError(t, r.wait())
			once(t, sink.Committed(), 10)
		})
	}
}

// A topic that is asked for by name and deleted while it is read ends the run, as if it had not been there
// at the start: the client would wait for it for ever and say nothing.
func TestNamedTopicVanishes(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a", "in-b")
			c := w.member(group, "in-a", "in-b")
			c.Opts = append(c.Opts, noticesSoon...)
			sink := leattest.Collect[rec]().In(t.TempDir())
			r := start(t, c, sink)
			w.fill("in-a", 1, 0, 1)
			w.fill("in-b", 1, 1, 2)
			await(t, func() bool { return len(sink.Committed()) == 2 })
			_, err := w.adm.DeleteTopic(t.Context(), "in-b")
			require.NoError(t, err)
			w.fill("in-a", 1, 2, 3)
			require.ErrorContains(t, r.wait(), "has no in-b")
			once(t, sink.Committed(), 3)
		})
	}
}

// A broker that knows a topic of a pattern not yet, or not for a moment, does not end a drain without it.
func TestTopicUnknownForAMomentInDrain(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a", "in-b")
			w.fill("in-a", 1, 0, 10)
			w.fill("in-b", 1, 10, 20)
			c := drain(w.member(group, "in-a"))
			c.Topics, c.Pattern = nil, "in-.*"
			c.Opts = append(c.Opts, kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
			all, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), w.cl)
			require.NoError(t, err)
			sink := leattest.Collect[rec]().In(t.TempDir())
			p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond})
			src := New(c)
			var since atomic.Int64
			w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				if !src.own.hasJoined() { // then they are taken over
					return nil, nil, false
				}
				since.CompareAndSwap(0, time.Now().UnixMilli())
				time.Sleep(20 * time.Millisecond) // the client remembers for MetadataMinAge
				if time.Now().UnixMilli() > since.Load()+500 {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.MetadataResponse)
				resp.Brokers, resp.ClusterID, resp.ControllerID = all.Brokers, all.ClusterID, all.ControllerID
				for _, topic := range all.Topics {
					if *topic.Topic != "in-b" {
						resp.Topics = append(resp.Topics, topic)
					}
				}
				return resp, nil, true
			})
			leat.To(leat.From(p, src), sink)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			require.NoError(t, p.Run(ctx))
			require.NoError(t, ctx.Err())
			once(t, sink.Committed(), 20)
		})
	}
}

// Nor does a drain wait for one that another member was to read.
func TestNamedTopicOfOthersVanishesInDrain(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprint("leaves ", leaves), func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a", "in-b")
			w.fill("in-a", 1, 0, 10)
			w.fill("in-b", 1, 0, 10)
			got, has := make(chan string, 10), make(chan int, 10)
			other := w.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in-a", "in-b"), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.DisableAutoCommit(),
				kgo.HeartbeatInterval(50*time.Millisecond),
				kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { has <- len(m) }),
				kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
					for topic := range m {
						got <- topic
					}
				}))
			require.Equal(t, 2, <-has)
			c := drain(w.member("g", "in-a", "in-b"))
			c.Opts = append(c.Opts, noticesSoon...)
			r := start(t, c, leattest.Collect[rec]().In(t.TempDir()))
			mine := <-got
			await(t, func() bool { return r.p.Stats().Run.In == 10 })
			gone := map[string]string{"in-a": "in-b", "in-b": "in-a"}[mine]
			_, err := w.adm.DeleteTopic(t.Context(), gone)
			require.NoError(t, err)
			if leaves {
				time.Sleep(3 * time.Second) // when clients have forgotten it
				other.Close()
			}
			require.ErrorContains(t, r.wait(), "has no "+gone)
		})
	}
}
