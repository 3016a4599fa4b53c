package kafkasink_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
)

// plain is a sink that keeps no positions. Its first Commit waits, and fails.
type plain struct {
	wait       func()
	open, done map[int]bool
}

func (s *plain) Open(context.Context, leat.Env) error { s.open = map[int]bool{}; return nil }
func (s *plain) Close() error                         { return nil }

func (s *plain) Write(_ context.Context, b *leat.Batch[pedido]) error {
	for _, r := range b.Rows() {
		s.open[r.ID] = true
	}
	return nil
}

func (s *plain) Commit(context.Context, leat.Checkpoint) (bool, error) {
	if s.wait != nil {
		s.wait()
		s.wait = nil
		return false, errors.New("the disk is full")
	}
	for id := range s.open {
		s.done[id] = true
	}
	return true, nil
}

// Rules E7-1, J3: what a transaction has committed to the group is not what another sink
// holds, which gets the rest after a crash.
func TestBesideATransaction(t *testing.T) {
	t.Run("the same process", func(t *testing.T) { beside(t, t.TempDir(), "") })
	t.Run("another one", func(t *testing.T) { beside(t, t.TempDir(), t.TempDir()) })
}

func beside(t *testing.T, dir, next string) {
	_, brokers := fake(t)
	j := &job{brokers: brokers, name: "pedidos", rows: 40}
	j.make(t)
	other := &plain{done: map[int]bool{}, wait: func() {
		adm := kadm.NewClient(client(t, brokers))
		assert.Eventually(t, func() bool {
			at, err := adm.FetchOffsets(context.Background(), j.name)
			n := int64(0)
			at.Each(func(o kadm.OffsetResponse) { n += o.At })
			return err == nil && n == 40
		}, 10*time.Second, 5*time.Millisecond)
	}}
	run := func() error {
		src := kafkasource.New(kafkasource.Config[pedido]{Brokers: brokers, Topics: []string{j.topic("in")}, Group: j.name, Drain: true})
		tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
		p := leat.New("pedidos", leat.Config{StateDir: dir, CheckpointEvery: time.Hour})
		all := leat.From(p, src)
		leat.To(all, kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: j.topic("all")}))
		leat.To(all, other)
		return p.Run(t.Context())
	}
	require.ErrorContains(t, run(), "the disk is full")
	if next != "" {
		dir = next
	}
	require.NoError(t, run())
	assert.Len(t, other.done, 40, "lost")
	assert.Len(t, readAll(t, brokers, j.topic("all")), 40)
}
