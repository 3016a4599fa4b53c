package leat

import (
	"errors"
	"fmt"
	"strings"

	"github.com/leatgo/leat/internal/engine"
)

// Class sorts failures (rule B1).
type Class string

// The classes of rule B1.
const (
	Decode          Class = "Decode"          // the bytes are no record
	Contract        Class = "Contract"        // a value breaks the data contract
	Transform       Class = "Transform"       // a user's function refused the row, or panicked
	SinkReject      Class = "SinkReject"      // a sink will never take the row
	SinkUnavailable Class = "SinkUnavailable" // a sink could not take anything; never dead-lettered
	Late            Class = "Late"            // too late for its window
	FutureTime      Class = "FutureTime"      // event time too far ahead of its arrival
)

// rejectClasses are those of rows. A sink that is not available is no fault of a row.
var rejectClasses = []Class{Decode, Contract, Transform, SinkReject, Late, FutureTime}

// Error is a failure with its place; Pipeline.Run returns it.
type Error struct {
	Pipeline  string
	Node      string // source, stage or sink
	Partition string // "" when it is not about one
	Offset    Offset // -1 when it is not about one record
	Class     Class  // "" when no class fits
	Err       error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "leat: pipeline %s", e.Pipeline)
	if e.Node != "" {
		fmt.Fprintf(&b, ", %s", e.Node)
	}
	if e.Partition != "" && e.Partition != e.Node {
		fmt.Fprintf(&b, ", partition %s", e.Partition)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, ", offset %d", e.Offset)
	}
	if e.Class != "" {
		fmt.Fprintf(&b, " (%s)", e.Class)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Transient marks err as something that may go away: network, lock, 429, 503.
// The engine retries it with exponential backoff and jitter and never
// dead-letters a row for it (rule B8). Transient(nil) is nil.
func Transient(err error) error { return engine.Transient(err) }

// IsTransient tells whether err, or an error it wraps, is marked with Transient.
func IsTransient(err error) bool { return engine.IsTransient(err) }

// ErrAborted is returned by a sink whose open rows are gone: the engine rewinds
// to the last complete checkpoint (rule E8).
var ErrAborted = engine.ErrAborted

// ErrFenced is returned when another owner has taken a partition over (rule E3).
var ErrFenced = engine.ErrFenced

// ErrBreakerOpen is in the error of Run when too many rows were rejected (rule B7).
var ErrBreakerOpen = engine.ErrBreakerOpen

// Fenced is ErrFenced for these partitions only; the others go on.
func Fenced(partitions ...string) error { return &engine.FencedError{Partitions: partitions} }

// RowErrors names the rows of a batch that a sink refused. Nothing of the batch
// has been written.
type RowErrors struct {
	Rows []RowError // by ascending Row
}

// RowError is one row at fault.
type RowError struct {
	Row int // index in the batch
	Err error
}

func (e *RowErrors) Error() string {
	if len(e.Rows) == 0 {
		return "no rows refused"
	}
	return fmt.Sprintf("%d rows refused; row %d: %v", len(e.Rows), e.Rows[0].Row, e.Rows[0].Err)
}

// Unwrap gives each row's error.
func (e *RowErrors) Unwrap() []error {
	errs := make([]error, len(e.Rows))
	for i, r := range e.Rows {
		errs[i] = r.Err
	}
	return errs
}

// FieldError is a value that breaks the contract of its column. Statistics count
// rejected rows by class, Column and Rule.
type FieldError struct {
	Column string // the column's name, not the Go field's; "" when it is about the whole record
	Rule   string // short and stable: "required", "gt", "range", "syntax"
	Msg    string // for people
}

func (e *FieldError) Error() string { return e.Msg }

// Field gives column and rule.
func (e *FieldError) Field() (column, rule string) { return e.Column, e.Rule }

// errorsAs is errors.As for one-line use.
func errorsAs[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
