package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leatgo/leat"
)

// Source reads rows of an SQLite database. It implements leat.Source, leat.Named,
// leat.Validator, leat.Replayer and leat.LetterDecoder.
type Source[T any] struct {
	config Config[T]

	afterPage func() // set by tests: between reading a page and sending it
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] { return &Source[T]{config: c} }

// Name implements leat.Named.
func (s *Source[T]) Name() string { return s.config.name() }

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error { return s.config.faults() }

// Replay implements leat.Replayer (rule A2-2): a table may have changed when it is read
// again, unless its owner says that it does not.
func (s *Source[T]) Replay() leat.ReplayKind {
	if s.config.AppendOnly {
		return leat.ReplayExact
	}
	return leat.ReplaySimilar
}

// Commit implements leat.Source. There is nothing to do: the cursor is the engine's own
// position, which moves when a checkpoint is complete (rule I2), and nothing is written
// to a database that is only read.
func (s *Source[T]) Commit(context.Context, leat.Checkpoint) error { return nil }

// intake is leat.Intake as far as it is used.
type intake[T any] interface {
	Env() leat.Env
	Assign(partitions ...leat.Partition) (map[string]leat.Position, error)
	Ahead(partition string) leat.Offset
	Send(c leat.Chunk[T]) error
	CaughtUp()
}

// Run implements leat.Source. It reads what is there and returns nil or, with Every,
// goes on looking until ctx ends.
func (s *Source[T]) Run(ctx context.Context, in leat.Intake[T]) error { return s.run(ctx, in) }

// engineError is an error of the engine, to be returned as it is.
type engineError struct{ err error }

func (e *engineError) Error() string { return e.err.Error() }

func (s *Source[T]) run(ctx context.Context, in intake[T]) error {
	if err := s.Validate(); err != nil {
		return err
	}
	r := &reader[T]{config: &s.config, in: in, log: in.Env().Logger, afterPage: s.afterPage}
	defer r.close()
	err := r.run(ctx)
	var engine *engineError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &engine):
		return engine.err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return trouble(ctx, fmt.Errorf("sqlitesource: %s, %s: %w", s.config.Path, s.config.what(), err))
}

// wait waits for the next look.
func (s *reader[T]) wait(ctx context.Context) error {
	t := time.NewTimer(s.config.Every)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
