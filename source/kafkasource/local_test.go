package kafkasource

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// Rules H1, H5: a rewind soon after partitions were added waits for them no longer than the group
// takes; the group must hear of them for that, and not only when the client looks next.
func TestLocalStatePartitionsAddedBeforeRewind(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	c := w.member("g", "in")
	c.SessionTimeout = 500 * time.Millisecond
	c.Opts = append(c.Opts, kgo.MetadataMinAge(100*time.Millisecond)) // how long the client remembers; it looks again after 30 s
	var abort atomic.Bool
	sink := leattest.Collect[rec]().In(t.TempDir()).OnCall(func(call string) error {
		if call == "Write" && abort.Swap(false) {
			return leat.ErrAborted
		}
		return nil
	})
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond,
		Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
	leat.To(leat.Via(leat.From(p, New(c)), "counting", leat.Stage[rec, rec](&counting{})), sink)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()); close(done) }()
	t.Cleanup(func() {
		for range done { // before its broker goes
		}
	})
	w.fill("in", 2, 0, 10)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	_, err := w.adm.CreatePartitions(t.Context(), 1, "in")
	require.NoError(t, err)
	time.Sleep(200 * time.Millisecond)
	abort.Store(true)
	w.fill("in", 2, 10, 20)
	w.cl = w.client() // the old one does not know the partition
	w.put("in", 2, `{"id":20,"text":""}`)
	for end := time.After(20 * time.Second); len(sink.Committed()) < 21; {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-end:
			t.Fatal("it does not go on")
		case <-time.After(5 * time.Millisecond):
		}
	}
	once(t, sink.Committed(), 21)
}
