package kafkasource

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// Source reads topics. It implements leat.Source, leat.Named, leat.Validator,
// leat.Replayer, leat.Lagger, leat.LetterDecoder and io.Closer.
type Source[T any] struct {
	config Config[T]
	full   Config[T] // with defaults
	format func() (*format[T], error)
	pool   pool

	// What outlives a Run (rule E8).
	own        ownership
	member     atomic.Pointer[kgo.Client] // of the group; without one it only asks
	transacted atomic.Bool
	closed     atomic.Bool
	log        atomic.Pointer[slog.Logger]
	retaken    map[topicPartition]retaken // by the goroutine of Run
	missing    map[string]time.Time       // topics that were there, since when; by the goroutine of Run

	commits    sync.Mutex
	due        map[topicPartition]kafka.Offset // checkpoints that the group may not have
	commitLast time.Time
	commitFail time.Time // when the first of a row of commits failed

	mu      sync.Mutex
	lag     map[topicPartition]lag
	begun   map[topicPartition]begin  // where partitions were begun of which nothing was known
	goals   map[topicPartition]int64  // Drain
	counts  map[topicPartition][]sent // MaxMessages
	counted int64
	known   map[topicPartition]uint64 // the partitions that there were when Run was first called
}

// begin is where reading of a partition began.
type begin struct {
	log string
	at  int64
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] {
	full := c.withDefaults()
	return &Source[T]{
		config: c, full: full, format: sync.OnceValues(full.format),
		own:   ownership{claims: map[topicPartition]*claim{}},
		begun: map[topicPartition]begin{}, counts: map[topicPartition][]sent{}, lag: map[topicPartition]lag{},
		retaken: map[topicPartition]retaken{}, missing: map[string]time.Time{}, due: map[topicPartition]kafka.Offset{},
	}
}

// Name implements leat.Named.
func (s *Source[T]) Name() string { return s.config.name() }

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error { return s.config.validate() }

// Replay implements leat.Replayer: a log gives the same records at the same offsets.
func (s *Source[T]) Replay() leat.ReplayKind { return leat.ReplayExact }

// Close implements io.Closer. It leaves the group, so that others get the partitions at
// once; a static member stays in it.
func (s *Source[T]) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	s.settle(ctx, s.own.all())
	s.closed.Store(true)
	s.own.detach()
	if cl := s.member.Swap(nil); cl != nil {
		cl.Close()
	}
	return nil
}

// DecodeLetter implements leat.LetterDecoder: it makes the row of a dead letter's record again.
// Of headers with the same key the letter has the last only.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	f, err := s.format()
	if err != nil {
		return err
	}
	if l.Topic == "" {
		return fmt.Errorf("kafkasource: dead letter %s names no topic: it is of another source", l.ID)
	}
	var tp topicPartition
	if l.Partition != "" {
		if tp, err = kafka.ParsePartition(l.Partition); err != nil {
			return fmt.Errorf("kafkasource: dead letter %s: partition %w", l.ID, err)
		}
	}
	return f.decode(context.Background(), []*kgo.Record{recordOf(&l, tp.Partition, l.Arrived)}, out, record)
}
