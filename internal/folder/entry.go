package folder

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Status is where a file stands. See the life of a file in the package comment.
type Status uint8

// The statuses of rule D3 and conventions.md.
const (
	Pending    Status = iota + 1 // entered; not begun
	Processing                   // begun; not everything is durable everywhere
	OK                           // a complete checkpoint covers its end
	Failed                       // refused, or given up part way; Error says why
	Skipped                      // a duplicate
)

var statusNames = [...]string{"", "pending", "processing", "ok", "failed", "skipped"}

// String is the status as the ledger and people write it.
func (s Status) String() string { return statusNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(b []byte) error {
	for i := Pending; i <= Skipped; i++ {
		if statusNames[i] == string(b) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("unknown status %q", b)
}

// Place is where a file lies.
type Place uint8

// Where a file was moved to.
const (
	InFolder    Place = iota
	ToProcessed       // in ProcessedDir
	ToFailed          // in FailedDir
	Lost              // it is gone
)

var placeNames = [...]string{"", "processed", "failed", "lost"}

// String is the place as the ledger and people write it.
func (p Place) String() string { return placeNames[p] }

// MarshalText implements encoding.TextMarshaler.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Place) UnmarshalText(b []byte) error {
	for i := InFolder; i <= Lost; i++ {
		if placeNames[i] == string(b) {
			*p = i
			return nil
		}
	}
	return fmt.Errorf("unknown place %q", b)
}

// Entry is what the ledger knows of one version of a file. There may be a million
// of them in memory, so it is packed.
type Entry struct {
	Seq    int64
	Name   string // relative to the folder, with slashes
	Size   int64
	Base   int64 // offset of its first byte (or row)
	Extent int64 // width of its range of offsets

	Rows     int64 // records found so far, rejected ones included
	Rejected int64 // those of them that could not be decoded

	// Sent is, once Final (or at fault), the offset behind the last record that was
	// sent; Base when nothing was.
	Sent int64

	Error   string
	MovedTo string // its name where it lies, if that is not the folder
	Drift   string // how its columns differ from those of the file entered before it; "": they don't

	hash                       [32]byte
	entered, started, finished int64 // nanoseconds since 1970; 0: never
	modSec                     int64
	modNano                    int32

	Attempt  int32 // how often reading began
	Again    int32 // how often Reprocess had asked for it when it was entered
	sameName int32 // Seq of the entry before it with the same name (or key of it)
	sameHash int32 // Seq of the entry before it that was to be read with the same hash (or key of it)

	Status    Status
	Moved     Place
	Settled   bool // it lies where it is to stay
	Refused   bool // it never got a place in the log: Seq, Hash, Base and Extent are 0
	Abandoned bool // given up by hand: never to be read again
	Judged    bool // refused whole for its rows (rule B2): its content is not tried again
	Faulted   bool // not final, but nothing behind Sent is ever read, because of Error
}

// Hash is the SHA-256 of the stored bytes, in hexadecimal.
func (e *Entry) Hash() string {
	if e.Refused {
		return ""
	}
	return hex.EncodeToString(e.hash[:])
}

// ModTime is the file's modification time when it was entered.
func (e *Entry) ModTime() time.Time {
	if e.Refused {
		return time.Time{}
	}
	return time.Unix(e.modSec, int64(e.modNano)).UTC()
}

// Entered is when the entry was made.
func (e *Entry) Entered() time.Time { return instant(e.entered) }

// Started is when reading first began; zero: never.
func (e *Entry) Started() time.Time { return instant(e.started) }

// Finished is when the status became final; zero: not yet.
func (e *Entry) Finished() time.Time { return instant(e.finished) }

func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// progress is a count at one offset.
type progress struct {
	next, line     int64
	rows, rejected int64
}

// End is where the next file's range begins.
func (e *Entry) End() int64 { return e.Base + e.Extent }

// Final tells whether the entry's status is the last word.
func (e *Entry) Final() bool { return e.Status >= OK }

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

func parseHash(s string) (h [32]byte, err error) {
	if n, err := hex.Decode(h[:], []byte(s[:min(len(s), 64)])); err != nil || n != 32 || len(s) != 64 || strings.ToLower(s) != s {
		return h, fmt.Errorf("the hash %.100q is no SHA-256 in hexadecimal", s)
	}
	return h, nil
}

// StateName is the name of a source's folder in the state folder. Most names are their
// own.
func StateName(source string) string {
	name := url.PathEscape(source)
	if strings.Trim(name, ".") == "" { // "." and "..", which PathEscape leaves alone
		name = strings.ReplaceAll(name, ".", "%2E")
	}
	return name
}
