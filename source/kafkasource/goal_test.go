package kafkasource

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat/leattest"
)

// A drain of some partitions does not ask about the others, which may be away.
func TestDrainOfSomePartitions(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	all, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), w.cl)
	require.NoError(t, err)
	parts := all.Topics[0].Partitions
	at := slices.IndexFunc(parts, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Partition == 1 })
	parts[at].Leader, parts[at].ErrorCode = -1, kerr.LeaderNotAvailable.Code
	w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		resp.Brokers, resp.ClusterID, resp.ControllerID, resp.Topics = all.Brokers, all.ClusterID, all.ControllerID, all.Topics
		return resp, nil, true
	})
	c := drain(w.config())
	c.Topics, c.Partitions = nil, map[string][]int32{"in": {0}}
	rows, _ := life(t, t.TempDir(), c)
	assert.Len(t, rows, 10)
}

// Where a drain ends is where the log ended that is read: not one that was deleted before anything of it was committed.
func TestDrainOfATopicMadeAgain(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in")
			w.fill("in", 1, 0, 10)
			on := new(atomic.Bool)
			on.Store(true)
			deaf := w.deaf(on)
			sink := leattest.Collect[rec]().In(t.TempDir())
			c := drain(w.member(group, "in"))
			c.Opts = append(c.Opts, noticesSoon...)
			r := start(t, c, sink)
			await(t, func() bool { return deaf.Load() > 0 && len(r.src.(*Source[rec]).Lag()) == 1 })
			w.again("in")
			w.fill("in", 1, 0, 3)
			on.Store(false)
			require.NoError(t, r.wait())
			once(t, sink.Committed(), 3)
		})
	}
}
