package kafkasink_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/kafkasink"
)

// Rule J4: records have a producer's id and wait for all replicas in sync, whatever Opts say of that; Write waits for
// none of them, and Commit for all.
func TestAcks(t *testing.T) {
	cluster, brokers := fake(t, kfake.SeedTopics(1, "t"))
	var held, asked atomic.Int32
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Add(1)
		r := req.(*kmsg.ProduceRequest)
		assert.EqualValues(t, -1, r.Acks)
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				var b kmsg.RecordBatch
				assert.NoError(t, b.ReadFrom(p.Records))
				assert.GreaterOrEqual(t, b.ProducerID, int64(0), "an idempotent producer has an id")
			}
		}
		if held.Load() > 0 {
			<-release
		}
		return nil, nil, false
	})
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t", Opts: []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck())}})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	require.NoError(t, s.Write(t.Context(), batch("a")))
	_, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)

	held.Store(1)
	want := []string{"a"}
	for _, v := range strings.Fields("b c d e f") {
		want = append(want, v)
		require.NoError(t, s.Write(t.Context(), batch(v)), "nothing is acknowledged, and Write goes on")
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), leat.Checkpoint{})
		done <- err
	}()
	require.Eventually(t, func() bool { return asked.Load() > 1 }, 10*time.Second, time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("Commit was done (%v) with records that nobody has acknowledged", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-done)
	sees(t, brokers, "t", want...)
}
