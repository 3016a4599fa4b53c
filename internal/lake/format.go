package lake

import (
	"io"

	"github.com/leatgo/leat"
)

// Format turns rows of type T into files: the one thing that differs between the
// sinks. A Format belongs to one life of a sink and is used by one goroutine. One
// that has goroutines of its own has a method Close() too, which ends them; it is
// called when the life ends, also when files were given up.
type Format[T any] interface {
	// Ext is the end of file names, with its dot: ".parquet".
	Ext() string

	// Schema describes the columns. It is kept in the manifest; when it changes,
	// readers must expect files of both kinds.
	Schema() string

	// Prepare looks at the rows of a batch before any of them goes into a file,
	// and names those that have no form in it: they are rejected, and the batch
	// comes again without them. The rows stay valid until the next Prepare.
	Prepare(rows []T) []leat.RowError

	// Create begins a file. It is written to w, in order, and never read back.
	Create(w io.Writer) (File, error)
}

// File is a file that is being written. An error of any method comes from w, or
// is a fault of the encoder: the file is given up, never tried again.
type File interface {
	// Append adds rows of the last Prepare: those with these numbers, ascending,
	// or all of them when pick is nil.
	Append(pick []int32) error

	// Size is how large the file would be if it were closed now, estimated.
	Size() int64

	// Buffered is the memory that rows hold which are not written to w yet.
	Buffered() int64

	// Flush writes what is buffered, as a row group of its own where the format
	// has such.
	Flush() error

	// Close writes the rest and what makes the file whole. It does not close w.
	// A file that is given up is not closed.
	Close() error
}

// Resting is implemented by a File that can do a part of its work while other files
// are used.
type Resting interface {
	// Rest tells that this file gets no rows for a while: what is buffered may
	// become a row group. It does not wait for work of its own to end; called
	// again, it writes what has ended.
	Rest() error
}
