package leat

import "context"

// Stage turns batches of one row type into batches of another.
//
// A stage that implements neither Stateful nor Blocking must be a pure
// function of its input: the engine calls Process concurrently for different
// batches, and may call it again for the same rows, whole or in parts.
type Stage[In, Out any] interface {
	// Process reads in and fills out (Append, Reject; rows that are neither are
	// counted as filtered). in and out are valid only during the call.
	//
	// A row at fault is rejected on out; that costs its neighbours nothing. An
	// error is about the whole batch: marked with Transient it is retried with
	// backoff, any other makes the engine find the rows at fault by halving the
	// batch. A panic counts as such an error (rule A9).
	Process(ctx context.Context, in *Batch[In], out *Batch[Out]) error
}

// Stateful is the second interface of a stage that remembers. Its Process sees
// the batches of one partition in order, one at a time; calls for different
// partitions may be concurrent. State is per partition, and what a stage emits
// for a partition may depend on that partition only (rules H1, E7-3).
//
// The state's changes are saved in the same commit as the positions (rule
// G12): after a crash or a rewind the stage is given back exactly what belongs
// to the position from which rows come again. An error or panic of Process
// rewinds the pipeline; the row at fault is found by feeding single rows and
// is then rejected.
type Stateful interface {
	// Restore replaces all state of the partition by what was saved: a snapshot
	// and the deltas after it, oldest first; none means a fresh start. Called
	// before the first Process of the partition in each life of the pipeline, and
	// with none when the partition is given up or the life is over: it is to be forgotten.
	Restore(partition string, saved [][]byte) error

	// Delta returns what changed since the last Delta, Snapshot or Restore;
	// nil when nothing did. The engine owns the slice. Called between batches,
	// never concurrently with Process of the same partition.
	Delta(partition string) ([]byte, error)

	// Snapshot returns the whole state of the partition. The engine calls it
	// instead of Delta now and then, so that the saved pieces stay few.
	Snapshot(partition string) ([]byte, error)
}

// SingleSource is a small optional interface of stages with state that bring rows of one
// partition together which would be missed if they came by several: Check refuses such
// a stage behind more than one source (rule C6).
type SingleSource interface {
	SingleSource() bool
}

// Blocking is a small optional interface of stages that wait for I/O: they run
// without holding one of the few slots for decoding (rule A5).
type Blocking interface {
	Blocking() bool
}

// Sized is a small optional interface of stages with state: how many keys they
// remember, of all partitions together, and about how many bytes that takes. The engine
// also makes a cut, between two of every Config.CheckpointEvery, when the bytes have grown
// by a few MiB since the last one: so what waits to be saved stays small. Called at
// any time, after each batch too, also before the first Restore, concurrently with all
// else; it must be quick, so count as you go.
type Sized interface {
	StateSize() (keys, bytes int64)
}

// AppendOnly is a small optional interface of stages with state: whether their deltas only
// add, so that all of them together are no larger than a snapshot. Then one is asked for
// only when the pieces become many.
type AppendOnly interface {
	AppendOnly() bool
}

// Fingerprinted is a small optional interface of stages with state: what of their
// configuration the saved state depends on. It is saved with the state, and a stage
// with another fingerprint is refused (rule E7-4), unless the pipeline was stopped
// cleanly and Config.Reconfigure names the stage.
type Fingerprinted interface {
	Fingerprint() string
}
