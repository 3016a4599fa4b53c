package filesource

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/folder"
)

// Format is what a source knows of its kind of file.
type Format[T any] interface {
	// Inspect looks into a file before it is entered into the ledger; see
	// folder.Config. A fault of the bytes is the Look's; an error is one of the disk or
	// the network, or of ctx. It is called by one goroutine, perhaps concurrently with
	// everything else.
	Inspect(ctx context.Context, name string, f *os.File, size int64) (folder.Look, error)

	// Open begins to read a file at its first record. An error is Damaged, or one of
	// reading. It and the Records are used by one goroutine, one file at a time.
	Open(ctx context.Context, f File) (Records[T], error)
}

// File is one file that is to be read.
type File struct {
	folder.Reader // from its first byte

	Name    string // relative to the folder, with slashes
	Size    int64  // bytes, as stored
	Base    int64  // offset of its first byte, or row
	Arrived time.Time
}

// Records are the records of one file, in order. Places in a file are offsets without the
// file's base.
type Records[T any] interface {
	// Next gives the next piece, or io.EOF at the end of the file or at the place given to
	// Stop. Another error is Damaged, or one of reading.
	Next() (Piece[T], error)

	// Offset is the place of what Next begins with, Line its line (or row), from 1.
	Offset() int64
	Line() int64

	// SkipTo goes forward to the place of a record; line is its line, 0 if that is not
	// known. io.ErrUnexpectedEOF means that the file ends before it.
	SkipTo(offset, line int64) error

	// Stop makes the file end at the place of a record, not before Offset; -1 lifts it
	// again.
	Stop(offset int64)

	// Close ends the reading. Pieces stay valid.
	Close()
}

// Piece is a run of records that becomes one batch. All its methods but Release may be
// called at any time before Release, by any goroutine.
type Piece[T any] interface {
	Span() Span

	// Decode appends the rows; reject is called for each bad record, in order. It counts
	// all records, and those of them that it rejected. An error is as that of
	// leat.Chunk's Decode.
	Decode(ctx context.Context, out *leat.Batch[T], reject func(record int, err error)) (records, rejected int, err error)

	// Locate is leat.Chunk's, with offsets in the log.
	Locate(records []int) []leat.Origin

	// Offsets is leat.Chunk's: those of Locate.
	Offsets(records []int, out []leat.Offset)

	// Bytes estimates the memory of the raw and the decoded records.
	Bytes() int64

	// Release is called once, when nothing will use the piece again.
	Release()
}

// Span is where a piece lies.
type Span struct {
	Start, End int64 // places of its first record, and behind its last
	EndLine    int64 // the line at End
	Last       bool  // nothing follows, up to the end of the file or the place given to Stop
}

// Damaged marks a fault of the file, the same at each reading.
func Damaged(err error) error { return &damage{err} }

type damage struct{ err error }

func (d *damage) Error() string { return d.err.Error() }
func (d *damage) Unwrap() error { return d.err }

// IsDamaged tells faults of the file from those of the disk or the network.
func IsDamaged(err error) bool {
	var d *damage
	return errors.As(err, &d) || errors.Is(err, folder.ErrChanged)
}

// Rewind goes back to a file's first byte.
func Rewind(f io.Seeker) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}
