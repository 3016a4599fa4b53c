package kafkasource

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Rule A2-1: a position behind a transaction's marker has the leader's epoch of the marker. With an older
// one the broker's answer says that the log was cut off, and the source would not start any more.
func TestEpochBehindAMarker(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 5)
	require.NoError(t, w.cluster.MoveTopicPartition("in", 0, 0)) // to where it is, in the next epoch
	tx := w.client(kgo.TransactionalID("tx"))
	require.NoError(t, tx.BeginTransaction())
	for i := range 5 {
		require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: fmt.Appendf(nil, `{"id":%d,"text":""}`, 5+i)}).FirstErr())
	}
	require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
	dir := t.TempDir()
	rows, _ := life(t, dir, drain(w.config("in")))
	require.Len(t, rows, 10)
	w.fill("in", 1, 10, 12)
	rows, _ = life(t, dir, drain(w.config("in")))
	assert.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, ids(rows))
}
