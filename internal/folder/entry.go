package folder

import "time"

// Status is where a file stands. See the life of a file in the package comment.
type Status string

// The statuses of rule D3 and conventions.md.
const (
	Pending    Status = "pending"    // entered; not begun
	Processing Status = "processing" // begun; not everything is durable everywhere
	OK         Status = "ok"         // a complete checkpoint covers its end
	Failed     Status = "failed"     // refused, or given up part way; Error says why
	Skipped    Status = "skipped"    // a duplicate
)

// Entry is what the ledger knows of one version of a file.
type Entry struct {
	Seq     int64
	Name    string // relative to the folder, with slashes
	Hash    string // SHA-256 of the stored bytes, in hexadecimal
	Size    int64
	ModTime time.Time
	Base    int64 // offset of its first byte (or row)
	Extent  int64 // width of its range of offsets
	Entered time.Time

	Status   Status
	Error    string
	Rows     int64 // records found so far, rejected ones included
	Rejected int64 // those of them that could not be decoded
	Attempt  int   // how often reading began
	Started  time.Time
	Finished time.Time

	// Sent is, once Final, the offset behind the last record that was sent; Base
	// when nothing was.
	Sent int64

	Refused   bool   // it never got a place in the log: Seq, Hash, Base and Extent are 0
	Abandoned bool   // given up by hand: never to be read again
	Moved     string // ProcessedDir or FailedDir when it was moved there, Lost when it is gone
	MovedTo   string // its name there

	progress []progress // only until Final
}

// Where a file was moved to.
const (
	ToProcessed = "processed"
	ToFailed    = "failed"
	Lost        = "lost"
)

// progress is a count at one offset.
type progress struct {
	next, line     int64
	rows, rejected int64
}

// End is where the next file's range begins.
func (e *Entry) End() int64 { return e.Base + e.Extent }

// Final tells whether the entry's status is the last word.
func (e *Entry) Final() bool { return e.Status == OK || e.Status == Failed || e.Status == Skipped }

// Unread tells whether the file failed before anything of it was sent, so that the
// same content may be tried again.
func (e *Entry) Unread() bool { return e.Status == Failed && e.Sent <= e.Base && !e.Abandoned }

// wanted tells whether a reading from next on (known or not) has to read the file.
func (e *Entry) wanted(next int64, known bool) bool {
	switch {
	case e.Status == Skipped, e.Abandoned:
		return false
	case e.Final():
		return e.Sent > e.Base && (!known || next < e.Sent)
	}
	return true
}
