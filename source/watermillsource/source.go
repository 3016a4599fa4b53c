package watermillsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
)

// Source reads the messages of a Watermill Subscriber. It implements leat.Source,
// leat.Named, leat.Validator, leat.Replayer, leat.Limited, leat.LetterDecoder and
// io.Closer.
type Source[T any] struct {
	config Config[T]
	form   func() (*form, error)
	held   held

	mu       sync.Mutex
	messages <-chan *message.Message // nil: not subscribed
	cancel   context.CancelFunc
	ended    bool // the subscriber has closed the channel
	logger   *slog.Logger
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] {
	return &Source[T]{config: c, form: sync.OnceValues(c.form)}
}

// Name implements leat.Named.
func (s *Source[T]) Name() string {
	if s.config.Name != "" {
		return s.config.Name
	}
	return s.config.Topic
}

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error { return s.config.faults() }

// Replay implements leat.Replayer: a broker hands a message out again in whatever order
// it likes, perhaps to somebody else (rule A2-2).
func (s *Source[T]) Replay() leat.ReplayKind { return leat.ReplayNone }

// MaxUncommitted implements leat.Limited (rule E9).
func (s *Source[T]) MaxUncommitted() int { return s.config.maxUncommitted() }

const (
	// logName is the same for ever: offsets grow over all lives, whatever is subscribed to.
	logName = "watermill"

	// The most that goes as one batch.
	chunkMessages = 1024
	chunkBytes    = 1 << 20
)

// Run subscribes, unless an earlier Run has, and sends what comes. See leat.Source.
func (s *Source[T]) Run(ctx context.Context, in leat.Intake[T]) error {
	f, err := s.form()
	if err != nil {
		return err
	}
	at, err := in.Assign(leat.Partition{Name: s.config.Member, Log: logName})
	if err != nil {
		return err
	}
	messages, err := s.subscribe(ctx, in.Env().Logger)
	if err != nil {
		return err
	}
	again := s.held.start(at[s.config.Member].Next, in.Ahead(s.config.Member))
	for len(again) > 0 { // rule E8: what an earlier Run sent and nobody has committed
		n := 0
		for bytes := int64(0); n < len(again) && n < chunkMessages && (n == 0 || bytes < chunkBytes); n++ {
			bytes += size(again[n].msg)
		}
		if err := s.send(in, f, again[:n:n]); err != nil {
			return err
		}
		again = again[n:]
	}
	return s.read(ctx, in, f, messages)
}

// subscribe gives the one subscription of this source's life.
func (s *Source[T]) subscribe(run context.Context, logger *slog.Logger) (<-chan *message.Message, error) {
	s.mu.Lock()
	s.logger = logger
	have := s.messages
	s.mu.Unlock()
	if have != nil {
		return have, nil
	}
	// No lock is held over Subscribe (rule E10): one that never returns is left behind when the
	// pipeline ends, and Close must not wait for it.
	// Its context is not Run's: messages that are in flight when reading stops are
	// acknowledged by the checkpoint of the drain, so the subscription lives until Close.
	ctx, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(run, cancel) // while it connects, it can be stopped
	messages, err := s.config.Subscriber.Subscribe(ctx, s.config.Topic)
	stopped := !stop()
	if err == nil && stopped {
		return nil, errors.Join(run.Err(), s.end(messages)) // another Run may subscribe again
	}
	if err != nil {
		cancel()
		// Subscribers do not say which of their errors go away (rule B8); most do.
		return nil, leat.Transient(fmt.Errorf("watermillsource: subscribe to %q: %w", s.config.Topic, err))
	}
	s.mu.Lock()
	s.messages, s.cancel = messages, cancel
	s.mu.Unlock()
	return messages, nil
}

// read sends messages until ctx ends or the subscriber has closed its channel.
func (s *Source[T]) read(ctx context.Context, in leat.Intake[T], f *form, messages <-chan *message.Message) error {
	told := false // CaughtUp, since the last chunk
	for {
		if s.held.full(s.config.maxUncommitted()) {
			in.CaughtUp() // rule E9: nothing can come before a checkpoint
			told = true
			select {
			case <-s.held.room:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		batch, open := s.gather(messages)
		if len(batch) == 0 && open {
			if !told {
				in.CaughtUp() // rule A6; and a subscriber may wait for acks before it goes on
				told = true
			}
			select {
			case m, ok := <-messages:
				if open = ok; ok {
					batch = append(batch, s.held.add(m))
					var more []entry
					more, open = s.gather(messages)
					batch = append(batch, more...)
				}
			case <-ctx.Done():
				return nil
			}
		}
		if len(batch) > 0 {
			told = false
			if err := s.send(in, f, batch); err != nil {
				return err
			}
		}
		if !open {
			s.mu.Lock()
			first := !s.ended
			s.ended = true
			s.mu.Unlock()
			if first {
				s.logger.Warn("the subscriber has closed its channel, so the input ends", "source", s.Name(), "topic", s.config.Topic)
			}
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// gather takes the messages that are there already. A subscriber mostly hands them over
// an unbuffered channel from goroutines that need to be let run first.
func (s *Source[T]) gather(messages <-chan *message.Message) (batch []entry, open bool) {
	var bytes int64
	for waited := 0; len(batch) < chunkMessages && bytes < chunkBytes && !s.held.full(s.config.maxUncommitted()); {
		select {
		case m, ok := <-messages:
			if !ok {
				return batch, false
			}
			batch = append(batch, s.held.add(m))
			bytes += size(m)
			waited = 0
		default:
			if waited++; waited > 2 {
				return batch, true
			}
			runtime.Gosched()
		}
	}
	return batch, true
}

// send hands a chunk in.
func (s *Source[T]) send(in leat.Intake[T], f *form, batch []entry) error {
	c := &chunk[T]{config: &s.config, form: f, entries: batch}
	return in.Send(c.chunk())
}

// Commit acknowledges the messages of a checkpoint that is complete (rule A3).
func (s *Source[T]) Commit(_ context.Context, cp leat.Checkpoint) error {
	s.held.ack(cp.Positions[s.config.Member].Next)
	return nil
}

const (
	settleTime = time.Second
	closeTime  = 10 * time.Second
)

// Close gives back what is not committed and ends the subscription. Called by the engine,
// after the last Commit.
func (s *Source[T]) Close() error {
	s.mu.Lock()
	messages, cancel := s.messages, s.cancel
	s.messages, s.cancel = nil, nil
	s.mu.Unlock()
	if messages == nil {
		return nil
	}
	nacked, acked := s.held.giveBack()
	if nacked > 0 {
		s.logger.Info("messages that were not committed are given back", "source", s.Name(), "topic", s.config.Topic, "messages", nacked)
	}
	settle(acked)
	cancel()
	return s.end(messages)
}

// end waits for the end of a subscription whose context has ended. What it had ready is
// given back; a channel with a buffer would lose it.
func (s *Source[T]) end(messages <-chan *message.Message) error {
	late := time.NewTimer(closeTime)
	defer late.Stop()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return nil
			}
			m.Nack()
		case <-late.C:
			return errors.New("watermillsource: the subscription to " + s.config.Topic + " did not end within " + closeTime.String() + " after its context had; everything that was committed is acknowledged")
		}
	}
}

// settle waits until the subscriber has seen the acknowledgements, which it shows by
// ending the messages' contexts: one that sees the end of the subscription first may
// forget them, and hand the messages out again.
func settle(acked []*message.Message) {
	late := time.NewTimer(settleTime)
	defer late.Stop()
	for _, m := range acked {
		done := m.Context().Done()
		if done == nil {
			continue
		}
		select {
		case <-done:
		case <-late.C:
			return
		}
	}
}
