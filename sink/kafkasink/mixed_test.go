package kafkasink_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/stage"
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

// Rule B3: a letter of a source that has no part in the transaction is durable before a position moves past its row,
// also while the transaction's sinks are busy: whoever takes the partition over begins behind the row.
func TestLetterOfAnotherSource(t *testing.T) {
	_, brokers := fake(t)
	j := &job{brokers: brokers, name: "pedidos", rows: 1}
	j.make(t)
	src := kafkasource.New(kafkasource.Config[pedido]{Brokers: brokers, Topics: []string{j.topic("in")}, Group: j.name, Drain: true})
	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
	busy, done := make(chan struct{}), make(chan struct{})
	var once, finished sync.Once
	p := leat.New("pedidos", leat.Config{StateDir: t.TempDir(), DeadLetters: tx.DeadLetters(j.topic("bad")), CheckpointEvery: 10 * time.Millisecond, Breaker: leat.Breaker{Share: -1}})
	leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: j.topic("all"), Encode: func(dst []byte, _ *pedido) ([]byte, error) {
		once.Do(func() { close(busy) })
		<-done
		return append(dst, "x"...), nil
	}}))
	other := leat.Via(leat.From(p, leattest.Rows(1, 2, 3).Named("otra")), "contract", stage.Check(func(n int) error {
		<-busy
		if n == 2 {
			return errors.New("two")
		}
		return nil
	}))
	leat.To(other, leattest.Collect[int]().Named("lake").OnCall(func(call string) error {
		if call == "Commit" {
			finished.Do(func() {
				defer close(done)
				assert.Equal(t, []string{"2"}, values(readAll(t, brokers, j.topic("bad"))))
			})
		}
		return nil
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	assert.Equal(t, []string{"2"}, values(readAll(t, brokers, j.topic("bad"))))
}
