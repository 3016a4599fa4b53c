package leat

import (
	"context"
	"time"
)

// Sink stores rows. All methods of one sink are called from one goroutine at a
// time.
//
// A life of a sink is Open, then Write and Commit in turn, then Close. After a
// rewind (rule E8) the same sink is opened again. A sink may also implement
// Transactional, Named, Validator and Guaranteed.
type Sink[T any] interface {
	// Open connects. An error marked with Transient is retried.
	Open(ctx context.Context, env Env) error

	// Write takes all rows of the batch, or none. Nothing needs to be durable or
	// visible before Commit. Batches of one partition come in order. The batch
	// and its rows are valid only during the call.
	//
	// Errors: Transient is retried, with everything written before it still
	// held. *RowErrors names the rows at fault; they are rejected and the rest
	// is written again. ErrAborted means that rows written earlier are gone and
	// the engine must rewind (joined with *RowErrors it condemns those rows);
	// ErrFenced or Fenced that another owner has the partition. Any other error
	// is permanent: the batch is halved until the row at fault is alone, and
	// that one is rejected (rule B5).
	Write(ctx context.Context, b *Batch[T]) error

	// Commit makes everything written so far durable and visible, and says
	// done. It may answer false, "not yet", unless cp.Force is set; a later
	// Commit then covers this one too (rule E9). cp holds the positions of the
	// partitions that reach this sink.
	//
	// Errors: Transient is retried: everything is still held. ErrAborted: the
	// open rows are gone, rewind. ErrFenced: see Write. Any other ends the
	// pipeline. Rows can't be refused here any more (rule B3-1).
	Commit(ctx context.Context, cp Checkpoint) (done bool, err error)

	// Close ends the life begun by Open. What is not committed is discarded.
	Close() error
}

// Transactional is implemented by a sink that stores the checkpoint in the same
// commit as its rows (rule E1) and gives it back at the start.
type Transactional interface {
	// Restore takes over the partitions, so that an older owner is fenced (rule
	// E2), and returns the positions of the last commit. A partition of which
	// the sink holds nothing is missing from the result (rule E7). Called after
	// Open, before the first Write of these partitions.
	Restore(ctx context.Context, partitions []string) (map[string]Position, error)
}

// Guarantee is what a sink promises for each row, and what a path from source
// to sink gives (rule E5).
type Guarantee uint8

// The guarantees, weakest first.
const (
	// AtLeastOnce: no row is lost; a crash may deliver some twice.
	AtLeastOnce Guarantee = iota
	// Idempotent: rows may be delivered twice, and a key makes that harmless.
	Idempotent
	// ExactlyOnce: each row is there once, whatever crashes.
	ExactlyOnce
)

// String gives the guarantee as people write it.
func (g Guarantee) String() string {
	switch g {
	case ExactlyOnce:
		return "exactly once"
	case Idempotent:
		return "idempotent"
	default:
		return "at least once"
	}
}

// Guaranteed is a small optional interface of sinks; without it AtLeastOnce is
// assumed.
type Guaranteed interface {
	Guarantee() Guarantee
}

// Joined is a small optional interface of sinks, and of a DeadLetterLog, that commit
// together: all outputs of one Kafka transaction. Those that give the same value, which
// must be comparable and not nil, are driven by one goroutine: between two barriers
// come the writes of all of them, and at a barrier Commit is called for each in turn, in the order of
// building, with the same checkpoint but each its own positions. The last call
// makes all of it visible. When one of them fails, none is committed.
//
// A DeadLetterLog that is joined gets the letters of sources, stages and joined sinks
// in the same order as the rows (so they belong to the same commit), and is not synced
// for them; letters of any other sink, and of a source that reaches none of the joined ones, it is to
// make durable by itself (Append with those alone, then Sync).
type Joined interface {
	JoinedWith() any
}

// Deferring is a small optional interface of sinks: whether Commit may answer "not yet".
type Deferring interface {
	MayDefer() bool
}

// Prompt is a small optional interface of sinks that can't stay open for long, because
// what they write to gives up: checkpoints come at least this often, whatever
// Config.CheckpointEvery says.
type Prompt interface {
	CommitWithin() time.Duration
}

// Bound is a small optional interface of sinks that can serve one source only: one whose
// positions they commit. Check refuses them behind any other.
type Bound interface {
	BoundTo() (source any)
}
