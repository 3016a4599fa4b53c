package csvsink

import (
	"context"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
)

// Sink writes rows of type T to files of CSV. Make one with New. It
// implements leat.Sink, leat.Transactional, leat.Named, leat.Validator,
// leat.Guaranteed and leat.Deferring.
type Sink[T any] struct {
	config Config[T]
	lake   *lake.Sink[T]
}

// Open locks the folder for this pipeline and sink, brings commits that a crash
// cut off to an end, and takes over (rule E2).
func (s *Sink[T]) Open(ctx context.Context, env leat.Env) error {
	if err := s.Validate(); err != nil {
		return err
	}
	return s.lake.Open(ctx, env)
}

// Restore returns the positions of the last commit. See leat.Transactional.
func (s *Sink[T]) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	return s.lake.Restore(ctx, partitions)
}

// Write adds the rows of a batch to open files: see leat.Sink.
func (s *Sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error { return s.lake.Write(ctx, b) }

// Commit closes the open files and publishes them together with the positions:
// see leat.Sink. It is "not yet" while Config.Roll allows (rule E9).
func (s *Sink[T]) Commit(ctx context.Context, cp leat.Checkpoint) (done bool, err error) {
	return s.lake.Commit(ctx, cp)
}

// MayDefer is true: rows wait in a file until Config.Roll closes it (rule E9).
func (s *Sink[T]) MayDefer() bool { return true }

// Close discards what is not committed.
func (s *Sink[T]) Close() error { return s.lake.Close() }
