package csvsource

import (
	"net/url"
	"path/filepath"
	"strings"
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
	Rows     int64     // records found so far, rejected ones included
	Rejected int64     // those that could not be decoded; what later stages reject is not in it
	Attempt  int       // how often reading it began
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
	entries, err := folder.History(filepath.Join(stateDir, stateName(source)))
	if err != nil {
		return nil, wrap(err)
	}
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{
			Name: e.Name, Hash: e.Hash, Size: e.Size, Offset: e.Base,
			Status: string(e.Status), Error: e.Error, Rows: e.Rows, Rejected: e.Rejected, Attempt: e.Attempt,
			Entered: e.Entered, Started: e.Started, Finished: e.Finished,
		}
		if e.MovedTo != "" {
			out[i].MovedTo = e.Moved + "/" + e.MovedTo
		}
	}
	return out, nil
}

// Abandon gives up the rest of a file that can't be read any more: it went away or
// was changed after rows of it had been delivered, and Run says so. What was
// delivered stays; the file is marked failed and not asked for again. The pipeline
// must not be running.
func Abandon(stateDir, source, name string) error {
	if err := folder.Abandon(filepath.Join(stateDir, stateName(source)), name); err != nil {
		return wrap(err)
	}
	return nil
}

// stateName is the source's folder in the state folder. Most names are their own.
func stateName(source string) string {
	name := url.PathEscape(source)
	if strings.Trim(name, ".") == "" { // "." and "..", which PathEscape leaves alone
		name = strings.ReplaceAll(name, ".", "%2E")
	}
	return name
}
