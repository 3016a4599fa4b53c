package kafkasource

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// What was read of a partition that was lost with it uncommitted does not count for MaxMessages.
func TestMaxMessagesWithoutWhatWasLost(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	put := func(partition int32, n int) {
		for range n {
			w.produce(&kgo.Record{Topic: "in", Partition: partition, Value: []byte(`{"id":1,"text":""}`)})
		}
	}
	put(1, 10)
	c := w.member("g", "in")
	c.MaxMessages = 30
	sink := leattest.Collect[rec]().In(t.TempDir()).NotYet(func(cp leat.Checkpoint) bool { return !cp.Force })
	r := start(t, c, sink)
	src := r.src.(*Source[rec])
	await(t, func() bool {
		src.mu.Lock()
		defer src.mu.Unlock()
		return src.counted == 10
	})
	src.onLost(t.Context(), nil, map[string][]int32{"in": {1}})
	put(0, 40)
	require.NoError(t, r.wait())
	assert.Len(t, sink.Committed(), 30)
}
