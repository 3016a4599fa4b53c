package leat

import (
	"context"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/store"
)

// StateStore keeps positions and the state of stages where several processes can reach
// them; Config.State. Package state has one in PostgreSQL.
//
// Each process has a StateStore of its own. Partitions have one owner at a time: Take
// makes this process the owner, and fences the one before (rules E2, H4). Take and
// Commit are called from two goroutines, but for partitions of one Take never at once.
// Their contexts end when the pipeline has to go on without the answer.
type StateStore interface {
	// Open connects for one run of the pipeline and makes or upgrades what it needs (rule
	// H6). An error marked with Transient is retried, with backoff.
	Open(ctx context.Context, pipeline string) error

	// Take makes this process the owner of the partitions, with an epoch above all before,
	// and returns what the store holds of them; a partition of which it holds nothing is
	// missing from the result. It is called after each rewind again, and may be repeated
	// at any time. An error marked with Transient is retried.
	Take(ctx context.Context, partitions []string) (map[string]StateHeld, error)

	// Commit makes all of c durable, or nothing. It is compare-and-set, for each partition,
	// on what Take or the last Commit left (rule E3): where another owner has been since,
	// nothing is written, and the error is Fenced with these partitions. When it
	// is not known whether a commit was done, Commit finds out by reading (rule E4), or
	// returns an error marked with Transient: it is then called with the same c again, and
	// must not write it twice. Any other error ends the pipeline.
	Commit(ctx context.Context, c StateCommit) error

	// Close ends what Open began. It is called also when Open failed.
	Close() error
}

// StateNote is what belongs to a partition beside its position. The engine says what is in
// it; a store keeps it.
type StateNote struct {
	Clean  bool              // the last stop of its owner was clean (rule E7-4)
	Stages map[string]string // stages with state and their fingerprints; nil is another thing than empty
}

// StateHeld is what a store holds of a partition.
type StateHeld struct {
	Position Position // the zero Position is one too: the source's own start
	Note     StateNote
	Sizes    map[string]StateExtent // by stage

	// Pieces reads the state of a stage: the last whole piece, if there is one, and those
	// after it, oldest first. Called between Take and the partition's first Commit; errors
	// as Commit's.
	Pieces func(ctx context.Context, stage string) ([][]byte, error)
}

// StateExtent is how much state there is.
type StateExtent struct {
	Pieces int
	Whole  int64 // bytes of the last whole piece; 0 when there is none
	Rest   int64 // bytes of the pieces since
}

// StateCommit is what one Commit changes.
type StateCommit struct {
	// Partitions, all taken, and what they are from now on. State of a stage that a Note
	// does not name (when its Stages is not nil) is to be deleted.
	Partitions map[string]StateChange

	// Pieces of state to be added, in order; only of Partitions, and of stages that the
	// Note names (when its Stages is not nil).
	Pieces []StatePiece
}

// StateChange is what a partition is from now on.
type StateChange struct {
	Position Position
	Note     StateNote
}

// StatePiece is a piece of the state of a stage. Data is valid during the call.
type StatePiece struct {
	Stage, Partition string
	Data             []byte
	Whole            bool // replaces all pieces before it
}

// eraseState turns a store into what the engine knows.
func eraseState(s StateStore) *engine.StateStore {
	return &engine.StateStore{
		Open: s.Open, Close: s.Close,
		Take: func(ctx context.Context, partitions []string) (map[string]engine.TakenState, error) {
			held, err := s.Take(ctx, partitions)
			out := make(map[string]engine.TakenState, len(held))
			for name, h := range held {
				sizes := make(map[string]store.Size, len(h.Sizes))
				for stage, size := range h.Sizes {
					sizes[stage] = store.Size{Pieces: size.Pieces, Snapshot: size.Whole, Deltas: size.Rest}
				}
				out[name] = engine.TakenState{Position: engine.Position(h.Position), Note: store.Note(h.Note), Sizes: sizes, Pieces: h.Pieces}
			}
			return out, err
		},
		Commit: func(ctx context.Context, c engine.StateCommit) error {
			out := StateCommit{Partitions: make(map[string]StateChange, len(c.Partitions)), Pieces: make([]StatePiece, len(c.Pieces))}
			for name, change := range c.Partitions {
				out.Partitions[name] = StateChange{Position(change.Position), StateNote(change.Note)}
			}
			for i, p := range c.Pieces {
				out.Pieces[i] = StatePiece{Stage: p.Stage, Partition: p.Partition, Data: p.Blob, Whole: p.Full}
			}
			return s.Commit(ctx, out)
		},
	}
}
