package kafkasource_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/kafkasource"
)

// A member that has read its own partitions to their ends stays until those that another one has and
// does not read are read too: by that one, or by this one when it has gone.
func TestDrainOfAGroupWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "eventos"))
	require.NoError(t, err)
	defer broker.Close()
	values := make([]string, 40)
	for i := range values {
		values[i] = `{"event_id":` + strconv.Itoa(i) + `,"accion":"click"}`
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DefaultProduceTopic("eventos"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	require.NoError(t, err)
	defer cl.Close()
	for _, v := range values {
		require.NoError(t, cl.ProduceSync(t.Context(), kgo.StringRecord(v)).FirstErr())
	}

	joined := make(chan struct{}, 10)
	other, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumerGroup("lake"), kgo.ConsumeTopics("eventos"), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { joined <- struct{}{} }))
	require.NoError(t, err)
	go other.PollFetches(t.Context())
	<-joined // it has both partitions, and commits nothing

	rows := leattest.Collect[Event]()
	p := leat.New("eventos", leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), CheckpointEvery: 50 * time.Millisecond})
	leat.To(leat.From(p, kafkasource.New(kafkasource.Config[Event]{
		Brokers: broker.ListenAddrs(), Topics: []string{"eventos"}, Group: "lake", Drain: true,
	})), rows)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	require.Eventually(t, func() bool { return len(rows.Committed()) == 20 }, 30*time.Second, 10*time.Millisecond, "its half")
	select {
	case err := <-done:
		t.Fatalf("it ended (%v) with a partition unread", err)
	case <-time.After(1500 * time.Millisecond):
	}
	other.Close() // leaves the group
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(60 * time.Second):
		t.Fatal("it did not end")
	}
	var ids []int64
	for _, e := range rows.Committed() {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	require.Len(t, ids, 40)
	require.Len(t, slices.Compact(ids), 40)
}
