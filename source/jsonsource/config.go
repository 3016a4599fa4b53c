package jsonsource

import (
	"fmt"
	"time"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/jsonrow"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/files"
)

// Config says which files to read, and how. T is a struct; its columns are the keys of
// each object (see package leat on tags).
type Config[T any] struct {
	// Name keys positions, the ledger, metrics and dead letters, so it must be
	// stable. Defaults to the last element of Dir, or "json" for Files.
	Name string

	// Dir is the folder whose files are read. Either Dir or Files must be set.
	Dir string

	// Glob chooses files by their path relative to Dir, with slashes: elements as in
	// path.Match, and ** for any number of folders. A name that begins with a dot is
	// only found by a pattern that does too. Defaults to *.jsonl and *.ndjson, and the same
	// with .gz and .zst, in Dir itself or, with Recursive, in all folders below it too. Files
	// named .json are mostly one document and no lines; where they are lines, say *.json.
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
	// or the network, within one process. Each failure rewinds the pipeline, which
	// waits a little; after the last one the file is failed, the rows before the
	// fault stay, and the others go on. -1 means for ever. Defaults to 5.
	Attempts int

	// OnFile, if set, is called when a file's final status is durable: read, failed,
	// skipped, or refused without a place in the log. It is called once for each
	// entry of the ledger, never for rows; one call at a time, by any goroutine. The
	// source waits for it, so it must return quickly. A crash may lose a call; Ledger
	// has all.
	OnFile func(files.Event)

	// Extra says what to do with a row that has a key without a column. If T has a
	// column with the option extra, that one keeps such keys; else they are passed over.
	// Defaults to drift.IgnoreExtra.
	Extra drift.Extra

	// Missing says what to do with a row that has no key for a column. Defaults to
	// drift.NullMissing: null where the column has one (pointers, sql.Null, maps,
	// slices), else the row is rejected.
	Missing drift.Missing

	// RepeatedKeys says what to do with a row that has a key twice. Defaults to
	// drift.RefuseRepeated.
	RepeatedKeys drift.Repeated

	// MaxDepth is how many arrays and objects may lie in each other, the row's own
	// object included; a row with more is rejected. At most 10,000. Defaults to 64.
	MaxDepth int

	// MaxRecord is the longest record, in bytes, line end included; a longer one is
	// rejected, and memory is bounded by it. Defaults to 16 MiB.
	MaxRecord int

	// ChunkBytes is about how much text is decoded at once, by one goroutine, and
	// handed on as one batch. Rows and offsets do not depend on it. Defaults to 512 KiB.
	ChunkBytes int

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

const (
	defaultMaxRecord  = 16 << 20
	defaultChunkBytes = 512 << 10
)

// files are the fields that sources of files share.
func (c *Config[T]) files() filesource.Config {
	return filesource.Config{
		Package: "jsonsource", Kind: "json",
		Endings: []string{".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"},
		Name:    c.Name, Dir: c.Dir, Glob: c.Glob, Recursive: c.Recursive, Files: c.Files,
		Watch: c.Watch, Settle: c.Settle, MaxScans: c.MaxScans, PollOnly: c.PollOnly, Attempts: c.Attempts, OnFile: c.OnFile,
		After: c.After, ProcessedDir: c.ProcessedDir, FailedDir: c.FailedDir, Duplicates: c.Duplicates,
	}
}

func (c *Config[T]) chunkBytes() int {
	if c.ChunkBytes == 0 {
		return defaultChunkBytes
	}
	return c.ChunkBytes
}

// policies are how rows may differ from their type.
func (c *Config[T]) policies() jsonrow.Policies {
	return jsonrow.Policies{Extra: c.Extra, Missing: c.Missing, RepeatedKeys: c.RepeatedKeys, MaxDepth: c.MaxDepth}
}

// lines compiles what the files have in common.
func (c *Config[T]) lines() (*lines, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	l := &lines{plan: row.NewJSONPlan(t, c.policies().Rules()), origins: t.Origins, dialect: csvtext.Dialect{MaxRecord: c.MaxRecord}}
	if c.MaxRecord == 0 {
		l.dialect.MaxRecord = defaultMaxRecord
	}
	l.least = l.plan.Least() + 1
	for i := range t.Columns {
		switch c := &t.Columns[i]; {
		case c.Extra, c.Kind == row.Other: // maps and the like
			l.grows = 4
		case c.Null, c.Kind >= row.String: // no more than its text
			l.grows = max(l.grows, 1)
		}
	}
	return l, nil
}

// faults are the mistakes in the other fields.
func (c *Config[T]) faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	c.policies().Faults(fault)
	if c.MaxRecord < 0 {
		fault("MaxRecord %d is negative", c.MaxRecord)
	}
	if c.ChunkBytes < 0 {
		fault("ChunkBytes %d is negative", c.ChunkBytes)
	}
	t, err := row.Of[T]()
	switch {
	case err != nil:
		faults = append(faults, err)
	case len(t.Columns) == 0:
		fault("the row type %v has no columns", t)
	default:
		for i := range t.Columns {
			if col := &t.Columns[i]; !col.CanReadJSON() {
				fault("column %s: a %v can't be read from JSON; give its type an UnmarshalText or UnmarshalJSON method, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
			}
		}
	}
	return faults
}
