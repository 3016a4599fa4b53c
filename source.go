package leat

import (
	"context"
	"log/slog"

	"github.com/leatgo/leat/internal/engine"
)

// Source reads records and pushes them, in chunks, to an Intake.
//
// A source may be run several times in one process: after trouble the engine
// rewinds (rule E8), which ends Run and calls it again.
//
// A source may also implement Named, Validator, Replayer and io.Closer. Close
// is called once, after the last Commit, also when Run was never called or
// failed.
type Source[T any] interface {
	// Run reads from where in.Assign says and calls in.Send until the input
	// ends (return nil), ctx ends (return nil or the context's error), Send
	// fails (return its error) or reading fails. Run is called from one
	// goroutine, never twice at once.
	//
	// An error marked with Transient makes the engine rewind and run the source
	// again, with backoff. Any other error ends the pipeline: what was sent is
	// processed and committed first, then Pipeline.Run returns it.
	Run(ctx context.Context, in Intake[T]) error

	// Commit hears of a checkpoint that is durable in every sink and in the
	// engine's store: never of an open one, and in order; some may be skipped
	// (rule A3). cp holds this source's own partitions, without its name.
	//
	// Commit is called from one goroutine, but concurrently with Run, and once
	// more after Run has returned. It must be safe to repeat: after a crash
	// between the checkpoint and Commit the next start may not hear of that
	// checkpoint again. An error marked with Transient is retried; any other
	// ends the pipeline.
	Commit(ctx context.Context, cp Checkpoint) error
}

// Chunk is a run of records as a source hands them in: read, cut at record
// boundaries, not yet decoded.
type Chunk[T any] struct {
	Partition string // without the source's name; "" is fine for a source of one partition
	First     Offset // of the first record
	Next      Offset // greater than the offset of every record: where the next chunk starts
	Resume    string // what Assign gives back for seeking to Next
	Bytes     int64  // estimate of the raw and the decoded bytes, for the budget

	// Decode fills out with the chunk's records in order (Append, Reject). It
	// runs later, on another goroutine, concurrently with the Decode of other
	// chunks, and may run more than once: it must give the same rows each time.
	// A bad record is rejected; an error means that the whole chunk can't be
	// decoded: retried when marked with Transient, else it ends the pipeline.
	Decode func(ctx context.Context, out *Batch[T]) error

	// Locate finds where records (numbers as in Decode, ascending, may repeat)
	// came from. Called rarely: for rejected rows and after a restart. It may
	// run concurrently with Decode, Locate and itself.
	Locate func(records []int) []Origin

	// Offsets, if set, fills in the offsets alone: those of Locate, of as many records
	// as out is long. Stages with state ask for those of every row, which Locate would
	// make slow. It may run as Locate may.
	Offsets func(records []int, out []Offset)

	// Release, if set, is called once when nothing will read the chunk again,
	// so that its buffers can be reused. Strings of decoded rows must not
	// point into memory that is reused: who has the row may keep them.
	Release func()
}

// Partition is a partition that a source wants to read.
type Partition struct {
	Name string // "" is fine for a source of one partition
	Log  string // id of the offset space; see Position

	// Kept is where the source itself knows the partition to stand, durably, from what
	// Commit told it: a consumer group's committed offset. Where partitions move between
	// processes it stands in for the state folder, which knows only what its own process
	// did: the later of the two counts (rule E7-1). Zero: the source keeps nothing.
	Kept Position

	// Given is a number that changes whenever the partition is given to this process anew,
	// by whoever hands partitions out: one that another owner has taken (rule E3) is left
	// out by Assign until then. 0: partitions are not handed out.
	Given uint64
}

// Intake is the engine as a source sees it. All methods are safe for concurrent
// use, but the chunks of one partition must be sent by one goroutine.
type Intake[T any] struct {
	in   *engine.Intake
	pool *rowPool[T]
}

// Env tells the source its names, its state folder and the logger.
func (in Intake[T]) Env() Env { return Env(in.in.Env()) }

// Assign takes over partitions and returns, by name, where to start reading
// each. A zero Position means that nothing is known: the source starts by its
// own policy. Partitions that another process has taken (rule E3) are missing
// from the result; when none is left the error is ErrFenced.
//
// A position of another Log is an error that says how to reset it (rule A2-1);
// a Next beyond the log's end is for the source to find and refuse. Call Assign
// once for each partition of a Run, before its first Send.
func (in Intake[T]) Assign(partitions ...Partition) (map[string]Position, error) {
	ps := make([]engine.Partition, len(partitions))
	for i, p := range partitions {
		ps[i] = engine.Partition{Name: p.Name, Log: p.Log, Kept: engine.Position(p.Kept), Given: p.Given}
	}
	at, err := in.in.Assign(ps)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Position, len(at))
	for name, p := range at {
		out[name] = Position(p)
	}
	return out, nil
}

// Revoke gives partitions up in good order (rule H3): the source has stopped sending
// of them, what it sent is delivered, and a checkpoint is forced. After nil it is
// complete, Commit has heard of it, and the partitions are the engine's no more. After
// an error, or when ctx ends first, the pipeline rewinds without them, and Revoke has
// returned only when its sinks are closed, so that nothing of theirs becomes visible
// later. Run has to return for that, so it must not wait for Revoke once its context has
// ended. Bound ctx well under the time after which somebody else gets them. Partitions that
// Assign is still at are given up at once, by a rewind.
func (in Intake[T]) Revoke(ctx context.Context, partitions ...string) error {
	return in.in.Revoke(ctx, partitions)
}

// Lost says that partitions are somebody else's already (rule H3): the pipeline rewinds
// without them, and nothing of theirs that is not committed becomes visible. It does
// not wait.
func (in Intake[T]) Lost(partitions ...string) { in.in.Lost(partitions) }

// LocalState names a stage behind the source whose state only this process can see; ""
// when there is none. A source whose partitions move between processes then runs only
// while this process has all of them (rule H1).
func (in Intake[T]) LocalState() string { return in.in.LocalState() }

// Send hands a chunk in and blocks while the pipeline's budget is used up
// (rule A5). After an error the source must stop: the context has ended or the
// pipeline has failed. The engine owns the chunk's memory until Release.
func (in Intake[T]) Send(c Chunk[T]) error {
	if tap := in.in.Tap(); tap != nil { // the test kit
		tapped := c
		tap(&tapped)
		c = tapped
	}
	return in.in.Send(erase(c, in.pool))
}

// erase hides the row type.
func erase[T any](c Chunk[T], pool *rowPool[T]) *engine.Chunk {
	ec := &engine.Chunk{
		Partition: c.Partition, First: c.First, Next: c.Next, Resume: c.Resume,
		Bytes: c.Bytes, Offsets: c.Offsets, Release: c.Release,
	}
	ec.Locate = func(records []int) []engine.Origin {
		found := c.Locate(records)
		out := make([]engine.Origin, len(found))
		for i, o := range found {
			out[i] = engine.Origin(o)
		}
		return out
	}
	ec.Decode = func(ctx context.Context) (engine.Batch, error) {
		out := pool.batch()
		out.trace.Chunk = ec
		if err := c.Decode(ctx, out); err != nil {
			return nil, err
		}
		out.made()
		return (*erased[T])(out), nil
	}
	return ec
}

// Held tells whether the engine wants no more of this partition for now: it is
// being retried, or has more than a quarter of the budget waiting. A source of
// many partitions should pause its fetch and keep what it has (rule A5-1); one
// with a single partition may ignore it.
func (in Intake[T]) Held(partition string) bool { return in.in.Held(partition) }

// Ahead tells, after Assign, up to which offset some sink holds the partition; 0
// when none keeps positions. That may be beyond the start that Assign gave: such a
// sink is not given rows before it again (rule E7), so the input up to there must
// not have changed. A source whose input can change checks that.
func (in Intake[T]) Ahead(partition string) Offset { return in.in.Ahead(partition) }

// CaughtUp says that everything there is has been sent. The engine takes a
// checkpoint as soon as that has drained, instead of waiting for the timer
// (rule A6).
func (in Intake[T]) CaughtUp() { in.in.CaughtUp() }

// RejectsFiles tells whether Config.OnReject asks for RejectFile: a source of files
// then passes each file to Try before it sends any of it (rule B2).
func (in Intake[T]) RejectsFiles() bool { return in.in.RejectsFiles() }

// Try decodes a chunk and runs it through the stages behind the source, up to those
// that wait for I/O or keep state. Nothing is delivered, counted or kept, and the
// chunk is released. faults counts the rows that would be rejected with a class whose
// policy is RejectFile; first is why the first of them would be, with its line.
//
// It may be called for any chunk between Assign and the end of Run, also concurrently
// with itself; err is as Send's.
func (in Intake[T]) Try(ctx context.Context, c Chunk[T]) (faults int, first, err error) {
	return in.in.Try(ctx, erase(c, in.pool))
}

// Env is what a source or sink gets to know about its surroundings.
type Env struct {
	Pipeline string       // the pipeline's name
	Node     string       // the source's or sink's own name
	StateDir string       // the pipeline's state folder; it exists
	Logger   *slog.Logger // never nil
}

// Named is a small optional interface of sources and sinks: their default name.
type Named interface {
	// Name keys positions, metrics and dead letters, so it must be stable.
	Name() string
}

// Validator is a small optional interface of sources, stages and sinks.
type Validator interface {
	// Validate reports all faults of the configuration, joined. It does no I/O.
	Validate() error
}

// ReplayKind says how faithfully a source reads a partition again (rule A2-2).
type ReplayKind uint8

// The kinds of replay, weakest first.
const (
	ReplayNone    ReplayKind = iota // no second reading: HTTP, foreign messages
	ReplaySimilar                   // the same rows more or less, at other offsets: an SQL cursor
	ReplayExact                     // the same rows at the same offsets: files, Kafka
)

// FileRejecter is a small optional interface of sources of files: they pass each file
// to Intake.Try, so that Config.OnReject may say RejectFile (rule B2).
type FileRejecter interface {
	CanRejectFiles() bool
}

// Limited is a small optional interface of sources that can have only so many records
// sent and not committed: a broker that waits for an acknowledgement before it hands
// out the next message. Such a source calls CaughtUp when it has that many. Behind it,
// sinks that may answer "not yet" are refused by Check unless Config.ForceCheckpoints
// is set (rule E9).
type Limited interface {
	MaxUncommitted() int
}

// Lagger is a small optional interface of sources: how many records of each partition
// (without the source's name) there are that it has not sent, as far as it knows. Called at any
// time, concurrently with Run, also before it; it must not do I/O.
type Lagger interface {
	Lag() map[string]int64
}

// Replayer is a small optional interface of sources; without it ReplayNone is
// assumed.
type Replayer interface {
	Replay() ReplayKind
}
