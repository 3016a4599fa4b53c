package kafkasource

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// live puts records to a partition until the test ends.
func (w *world) live(partition int32, every time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	cl := w.client()
	go func() {
		defer close(done)
		for i := 1000; ctx.Err() == nil; i++ {
			cl.Produce(ctx, &kgo.Record{Topic: "in", Partition: partition, Value: fmt.Appendf(nil, `{"id":%d,"text":""}`, i)}, nil)
			time.Sleep(every)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// hidden makes partitions end behind a record of which the client says nothing: of an aborted transaction, without its marker.
func (w *world) hidden(partitions ...int32) {
	w.t.Helper()
	aborts, stays := w.client(kgo.TransactionalID("aborts")), w.client(kgo.TransactionalID("stays"))
	for _, tx := range []*kgo.Client{aborts, stays} {
		require.NoError(w.t, tx.BeginTransaction())
		for _, n := range partitions {
			require.NoError(w.t, tx.ProduceSync(w.t.Context(), &kgo.Record{Topic: "in", Partition: n, Value: []byte("not read")}).FirstErr())
		}
	}
	require.NoError(w.t, aborts.EndTransaction(w.t.Context(), kgo.TryAbort))
}

// Rule H2: the end of each partition is looked for, however many have no record before theirs.
func TestDrainBehindManyTransactions(t *testing.T) {
	t.Parallel()
	w := broker(t, 3, "in")
	w.hidden(0, 1, 2)
	life(t, t.TempDir(), drain(w.config("in")))
}

// Rule H2: nor is it only looked for when no partition gets records any more.
func TestDrainBesideALivePartition(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.hidden(0)
	w.live(1, 20*time.Millisecond)
	life(t, t.TempDir(), drain(w.config("in")))
}

// Rule A5-1: a partition that is held, since more comes than the sink can take, has been read to where it ended all the same.
func TestDrainOfMoreThanTheSinkTakes(t *testing.T) {
	t.Parallel()
	w := broker(t, 3, "in")
	w.fill("in", 3, 0, 60)
	var written atomic.Int64
	sink := leattest.Collect[rec]().OnCall(func(call string) error {
		if call == "Write" {
			written.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	c := drain(w.config("in"))
	c.ChunkRows = 1
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond, BudgetBatches: 64})
	leat.To(leat.From(p, New(c)), sink)
	for n := range int32(3) {
		w.live(n, 5*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	require.NoError(t, ctx.Err(), "it did not end, after %d rows", written.Load())
}
