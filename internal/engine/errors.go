package engine

import (
	"errors"
	"fmt"
)

// Sentinels of the sink contract.
var (
	ErrAborted = errors.New("open commit aborted")
	ErrFenced  = errors.New("fenced: another owner has the partition")

	// ErrBreakerOpen: too many rows were rejected (rule B7).
	ErrBreakerOpen = errors.New("circuit breaker")
)

type transient struct{ err error }

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// Transient marks err as something that may go away (rule B8).
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return &transient{err}
}

// IsTransient tells whether err, or anything it wraps, is marked.
func IsTransient(err error) bool {
	var t *transient
	return errors.As(err, &t)
}

// FencedError names the partitions that another owner has taken.
type FencedError struct{ Partitions []string }

func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: %q", ErrFenced, e.Partitions)
}

func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// Error is a failure with its place. Package leat turns it into *leat.Error.
type Error struct {
	Node      string
	Partition string
	Offset    int64 // -1: none
	Class     Class
	Err       error
}

func (e *Error) Error() string {
	if e.Node == "" {
		return e.Err.Error()
	}
	return e.Node + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

// fault gives err a place, unless it has one.
func fault(n *Node, partition string, err error) error {
	var placed *Error
	if errors.As(err, &placed) {
		return err
	}
	return &Error{Node: n.Name, Partition: partition, Offset: -1, Err: err}
}

// PanicError is a panic of user code, as an error (rule A9).
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// FieldError is understood in statistics: errors that know their column and rule.
type FieldError interface {
	error
	Field() (column, rule string)
}

// join is errors.Join that leaves a lone error as it is.
func join(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil, errors.Is(a, b): // a log that broke says so again when it is closed
		return a
	}
	return errors.Join(a, b)
}
