package parquetsource

import (
	"fmt"
	"time"

	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/files"
)

// Config says which files to read, and how. T is a struct; its columns are found
// in a file by name (see package leat on tags).
type Config[T any] struct {
	// Name keys positions, the ledger, metrics and dead letters, so it must be
	// stable. Defaults to the last element of Dir, or "parquet" for Files.
	Name string

	// Dir is the folder whose files are read. Either Dir or Files must be set.
	Dir string

	// Glob chooses files by their path relative to Dir, with slashes: elements as in
	// path.Match, and ** for any number of folders. A name that begins with a dot is
	// only found by a pattern that does too. Defaults to *.parquet, in Dir itself or,
	// with Recursive, in all folders below it too.
	Glob string

	// Recursive makes Glob's default look into all folders below Dir. With a Glob it
	// has no meaning: write **/ there.
	Recursive bool

	// Files are read in this order. One that does not exist is an error, unless it
	// was read before.
	Files []string

	// Watch keeps looking for new files: it is the time between two scans of Dir, the
	// longest that a file waits to be seen. Where the file system notifies, that is
	// sooner, but nothing depends on it. Defaults to 0: one pass over what is there.
	Watch time.Duration

	// Settle is how long a file's size and modification time must stand still, as
	// seen by this process, before it is read (rule D1). -1 means not at all: files
	// must then be complete when they appear. Defaults to 2 s with Watch, and to -1
	// without.
	Settle time.Duration

	// MaxScans ends the run after so many scans that Watch made due. Files that
	// changed shortly before the last one get one more look, Settle later; those that
	// still change then are left for the next run. Defaults to 0: watch for ever.
	MaxScans int

	// PollOnly leaves out the file system's notifications, so that Watch alone says
	// when the folder is looked at: for file systems that make too many, and for
	// tests in virtual time (testing/synctest).
	PollOnly bool

	// Attempts is how often the reading of one file may fail, for reasons of the disk
	// or the network, or because its Isolate process was killed or hung, within one
	// process. Each failure rewinds the pipeline, which waits a little; after the last
	// one the file is failed, the rows before the fault stay, and the others go on. -1
	// means for ever. Defaults to 5.
	Attempts int

	// OnFile, if set, is called when a file's final status is durable: read, failed,
	// skipped, or refused without a place in the log. It is called once for each
	// entry of the ledger, never for rows; one call at a time, by any goroutine. The
	// source waits for it, so it must return quickly. A crash may lose a call; Ledger
	// has all.
	OnFile func(files.Event)

	// Missing says what becomes of a file that lacks a column of the row type.
	// Defaults to drift.RefuseMissing: the file is failed.
	Missing drift.Missing

	// Extra says what becomes of columns that the row type has not. By default they are
	// not even read. A row type with a column tagged `extra` keeps them.
	Extra drift.Extra

	// ChunkRows is how many rows are handed on as one batch, at most; fewer where rows
	// are large, and at the end of a row group. Rows and offsets do not depend on it.
	// Defaults to 16,384.
	ChunkRows int

	// Limits bound what a file may make this process allocate.
	Limits Limits

	// Isolate decodes files in a process of their own, with a limit on its memory, so
	// that no file can take this one down: see the package's words on untrusted files.
	// Linux only.
	Isolate Isolate

	// After says what becomes of a file when all its rows are durable in every
	// sink. Defaults to files.Keep.
	After files.After

	// ProcessedDir and FailedDir are where Move puts files; they are created. They
	// must not lose their files as long as a sink may have to be filled again from
	// the start. Default to folders "processed" and "failed" beside Dir; with Files
	// they must be set.
	ProcessedDir string
	FailedDir    string

	// Duplicates says what to do with a file that has another name but the same
	// content as one that was read before. Defaults to files.SkipDuplicates.
	Duplicates files.Duplicates
}

// Limits bound what a file may make its reader allocate. A file beyond one of them is
// failed, and the ledger says which. Zero is the default of each.
type Limits struct {
	// Footer is how many bytes the list of columns and row groups at a file's end may
	// have. Defaults to 64 MiB.
	Footer int64

	// Page is how many bytes a page may have, decompressed: the unit of a column that is
	// in memory at once, one for each column that is read. Writers make pages of about
	// 1 MiB, DuckDB up to 100 MB. Defaults to 128 MiB, at most 2 GiB.
	Page int64

	// Unfold is how many bytes a file may hold, decompressed and decoded, for each byte
	// that it has on disk; 256 MiB are always allowed, because small files of values
	// that repeat unfold enormously and honestly. -1 is no limit. Defaults to 1,000.
	Unfold int64
}

func (l Limits) read() parquetread.Limits {
	return parquetread.Limits{Footer: l.Footer, Page: l.Page, Ratio: l.Unfold}
}

// files are the fields that sources of files share.
func (c *Config[T]) files() filesource.Config {
	return filesource.Config{
		Package: "parquetsource", Kind: "parquet", Endings: []string{".parquet"},
		Name: c.Name, Dir: c.Dir, Glob: c.Glob, Recursive: c.Recursive, Files: c.Files,
		Watch: c.Watch, Settle: c.Settle, MaxScans: c.MaxScans, PollOnly: c.PollOnly, Attempts: c.Attempts, OnFile: c.OnFile,
		After: c.After, ProcessedDir: c.ProcessedDir, FailedDir: c.FailedDir, Duplicates: c.Duplicates,
	}
}

func (c *Config[T]) drift() parquetread.Drift {
	d := parquetread.Drift{RefuseExtra: c.Extra == drift.RefuseExtra}
	switch c.Missing {
	case drift.NullMissing:
		d.Missing = parquetread.NullMissing
	case drift.ZeroMissing:
		d.Missing = parquetread.ZeroMissing
	}
	return d
}

// faults are the mistakes in the other fields.
func (c *Config[T]) faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Missing > drift.ZeroMissing {
		fault("Missing %d: there are drift.RefuseMissing, NullMissing and ZeroMissing", c.Missing)
	}
	if c.Extra > drift.RefuseExtra {
		fault("Extra %d: there are drift.IgnoreExtra and drift.RefuseExtra", c.Extra)
	}
	if c.ChunkRows < 0 {
		fault("ChunkRows %d is negative", c.ChunkRows)
	}
	if l := c.Limits; l.Footer < 0 || l.Page < 0 || l.Unfold < -1 {
		fault("Limits %+v: they are bytes, and -1 is for Unfold only", l)
	}
	for _, f := range c.Isolate.faults() {
		fault("%s", f)
	}
	t, err := row.Of[T]()
	switch {
	case err != nil:
		faults = append(faults, err)
	case len(t.Columns) == 0:
		fault("the row type %v has no columns", t)
	default:
		for i := range t.Columns {
			if col := &t.Columns[i]; !parquetread.Readable(col) {
				fault("column %s: a %v can't be read from Parquet; there are slices of plain values, plain values, and types with UnmarshalText: use one, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
			}
		}
	}
	return faults
}
