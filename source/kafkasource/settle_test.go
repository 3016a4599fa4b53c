package kafkasource

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
	"github.com/leatgo/leat/internal/kafkatest"
)

// refuse makes the broker refuse as many commits of offsets as left says.
func (w *world) refuse(left *atomic.Int64) {
	w.cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if left.Add(-1) < 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, asked := range req.(*kmsg.OffsetCommitRequest).Topics {
			t := kmsg.NewOffsetCommitResponseTopic()
			t.Topic, t.TopicID = asked.Topic, asked.TopicID
			for _, n := range asked.Partitions {
				p := kmsg.NewOffsetCommitResponseTopicPartition()
				p.Partition, p.ErrorCode = n.Partition, kerr.RebalanceInProgress.Code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
}

// Rule H3: what was read of partitions that go away in good order is committed in the group when they go, also if the
// group refuses the first commit: where sinks keep no positions it is all that the next owner knows.
func TestCommittedBeforeGivenUp(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(t *testing.T, w *world, r *running){
		"revoked": func(t *testing.T, w *world, r *running) {
			other := start(t, w.member("g", "in"), &forgetful{})
			await(t, func() bool { return len(other.src.(*Source[rec]).Lag()) == 1 })
			require.NoError(t, r.stop())
			require.NoError(t, other.stop())
			require.Zero(t, other.p.Stats().Run.In, "nothing comes again")
		},
		"closed": func(t *testing.T, w *world, r *running) { require.NoError(t, r.stop()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			var left atomic.Int64
			w.refuse(&left)
			p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: time.Minute}) // the one that is forced
			c := w.member("g", "in")
			c.Idle = time.Minute
			src := New(c)
			leat.To(leat.From(p, src), &forgetful{})
			r := run(t, p, src)
			w.fill("in", 2, 0, 20)
			await(t, func() bool { return p.Stats().Run.In == 20 })
			left.Store(2)
			give(t, w, r)
			tps := []topicPartition{{Topic: "in"}, {Topic: "in", Partition: 1}}
			at, err := kafka.FetchOffsets(t.Context(), w.cl, "g", tps, nil)
			require.NoError(t, err)
			for _, tp := range tps {
				assert.EqualValues(t, 10, at[tp].Next)
			}
		})
	}
}

// What could not be committed is told of: nothing covers it any more.
func TestNotCommittedBeforeGivenUp(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	var left atomic.Int64
	w.refuse(&left)
	logged := new(kafkatest.Lines)
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: logged.Logger(t), CheckpointEvery: time.Minute})
	c := w.member("g", "in")
	c.Idle, c.RevokeBudget = time.Minute, 200*time.Millisecond
	src := New(c)
	leat.To(leat.From(p, src), &forgetful{})
	r := run(t, p, src)
	w.fill("in", 1, 0, 10)
	await(t, func() bool { return p.Stats().Run.In == 10 })
	left.Store(1000)
	src.onRevoked(t.Context(), src.Client(), map[string][]int32{"in": {0}})
	assert.Contains(t, logged.String(), "rows may come again")
	require.NoError(t, r.stop())
}
