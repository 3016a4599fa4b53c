package files

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/leatgo/leat/internal/folder"
)

// Entry is one line of a source's history: one version of one file, or a file
// that was refused before it was given a place (Hash is empty then).
type Entry struct {
	Name     string    // relative to the folder, with slashes
	Hash     string    // SHA-256 of the stored bytes, in hexadecimal
	Size     int64     // bytes, as stored
	Offset   int64     // of its first byte in the log
	Status   string    // pending, processing, ok, failed, skipped
	Error    string    // why it failed or was skipped
	Drift    string    // how its columns differ from those of the file entered before it; "" when they don't
	Rows     int64     // records found so far, rejected ones included
	Rejected int64     // those that could not be decoded; what later stages reject is not in it
	Attempt  int       // how often reading this content began, of this entry and those that it follows up
	Again    int       // how often Reprocess had asked for the file; 0 as it came
	Entered  time.Time // into the ledger
	Started  time.Time // zero: never
	Finished time.Time // zero: not yet
	MovedTo  string    // "processed/name" or "failed/name"; "" when it was not moved
}

// Duration is from Started to Finished; 0 as long as there is not both.
func (e *Entry) Duration() time.Duration {
	if e.Started.IsZero() || e.Finished.IsZero() {
		return 0
	}
	return e.Finished.Sub(e.Started)
}

// Ledger reads the history of a source from a pipeline's state folder, in the order
// in which the files were entered. It may be called while the pipeline runs. A
// source that never ran has none: the error matches fs.ErrNotExist.
func Ledger(stateDir, source string) ([]Entry, error) {
	entries, err := folder.History(filepath.Join(stateDir, folder.StateName(source)))
	if err != nil {
		return nil, wrap(err)
	}
	out := make([]Entry, len(entries))
	for i := range entries {
		out[i] = publicEntry(&entries[i])
	}
	return out, nil
}

func publicEntry(e *folder.Entry) Entry {
	out := Entry{
		Name: e.Name, Hash: e.Hash(), Size: e.Size, Offset: e.Base,
		Status: e.Status.String(), Error: e.Error, Drift: e.Drift, Rows: e.Rows, Rejected: e.Rejected, Attempt: int(e.Attempt), Again: int(e.Again),
		Entered: e.Entered(), Started: e.Started(), Finished: e.Finished(),
	}
	if e.MovedTo != "" {
		out.MovedTo = e.Moved.String() + "/" + e.MovedTo
	}
	return out
}

// Event is a file whose status is final, as OnFile in a source's Config hears of it.
type Event struct {
	Source   string // the source's name
	Name     string // relative to the folder, with slashes
	Status   string // ok, failed or skipped
	Error    string // why it failed or was skipped
	Reason   string // Error without anything quoted from the file, for messages to people; "" if that is not known any more
	Rows     int64  // as in Entry
	Rejected int64
	Finished time.Time
	Duration time.Duration // since reading it began; 0 when it never did
}

// Abandon gives up the rest of a file that can't be read any more: it went away or
// was changed after rows of it had been delivered, and Run says so. What was
// delivered stays; the file is marked failed and not asked for again. The pipeline
// must not be running.
func Abandon(stateDir, source, name string) error {
	return wrap(folder.Abandon(filepath.Join(stateDir, folder.StateName(source)), name))
}

// Reprocess makes the next run read a file once more, in its latest version, also
// when it was read, failed or skipped before. The pipeline must not be running.
//
// The file is read from where it lies: its folder, or processed/ or failed/; if it is
// in none of them any more, put it back into the folder. The same bytes get a new
// entry and new offsets, so that all its rows come again: a sink with a key replaces
// what it has, a stage that drops duplicates drops them if it still knows them, and
// any other sink holds them twice, also one that is exactly once. After it the file
// lies in processed/ or failed/ as its new status says.
func Reprocess(stateDir, source, name string) error {
	return wrap(folder.Reprocess(filepath.Join(stateDir, folder.StateName(source)), name))
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("files: %w", err)
}

// Stats counts the files of a source since it was made.
type Stats struct {
	OK        int // read to the end, and all rows durable in every sink
	Failed    int // refused for their header or their rows, or given up part way
	Skipped   int // new files with the content of another one
	Refused   int // not even entered into the ledger: special files, links out of the folder, unreadable ones
	Unchanged int // read by an earlier run, and left alone by this one
}
