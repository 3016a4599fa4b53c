package stage

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime/debug"
	"sync/atomic"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
)

// Map makes one row of each row. See the package comment for what f may do and
// what becomes of its errors and panics.
func Map[In, Out any](f func(In) (Out, error)) leat.Stage[In, Out] {
	return &pure[In, Out]{name: "Map", missing: f == nil, most: 1, loop: func(rows []In, out *leat.Batch[Out], at *int) error {
		for i := *at; i < len(rows); i++ {
			*at = i
			row, err := f(rows[i])
			if err != nil {
				if err := reject(out, i, leat.Transform, err); err != nil {
					return err
				}
				continue
			}
			out.Append(row, i)
		}
		return nil
	}}
}

// Filter keeps the rows for which keep returns true; the others are counted as
// filtered. See the package comment for what keep may do and what becomes of
// its panics.
func Filter[T any](keep func(T) bool) leat.Stage[T, T] {
	return &sieve[T]{name: "Filter", missing: keep == nil, loop: func(rows []T, _ *leat.Batch[T], kept rowSet, at *int) error {
		for i := *at; i < len(rows); i++ {
			*at = i
			if keep(rows[i]) {
				kept.add(i, 1)
			}
		}
		return nil
	}}
}

// FilterMap makes one row of each row for which f returns true; the others are
// counted as filtered, whatever row came with the false. It does the work of
// Filter and Map where both need the same parsing. See the package comment for
// what f may do and what becomes of its errors and panics.
func FilterMap[In, Out any](f func(In) (Out, bool, error)) leat.Stage[In, Out] {
	return &pure[In, Out]{name: "FilterMap", missing: f == nil, most: 1, loop: func(rows []In, out *leat.Batch[Out], at *int) error {
		for i := *at; i < len(rows); i++ {
			*at = i
			row, keep, err := f(rows[i])
			switch {
			case err != nil:
				if err := reject(out, i, leat.Transform, err); err != nil {
					return err
				}
			case keep:
				out.Append(row, i)
			}
		}
		return nil
	}}
}

// FlatMap makes any number of rows of each row, in the order of the slice that f
// returns. A row of which f makes none is counted as filtered; with an error the
// slice is ignored. The rows are copied out of the slice before f is called
// again, so f may return part of a table that it shares with other calls. See
// the package comment for what else f may do and what becomes of its errors and
// panics.
//
// FlatMap itself allocates per batch, not per row; a slice that f makes for each
// row is f's own cost.
func FlatMap[In, Out any](f func(In) ([]Out, error)) leat.Stage[In, Out] {
	return &pure[In, Out]{name: "FlatMap", missing: f == nil, most: 4, loop: func(rows []In, out *leat.Batch[Out], at *int) error {
		for i := *at; i < len(rows); i++ {
			*at = i
			made, err := f(rows[i])
			if err != nil {
				if err := reject(out, i, leat.Transform, err); err != nil {
					return err
				}
				continue
			}
			for _, row := range made {
				out.Append(row, i)
			}
		}
		return nil
	}}
}

// Check lets a row pass unchanged when f returns nil; an error rejects it with
// class [leat.Contract]. Return a [*leat.FieldError] to have rejected rows
// counted by column and rule. See the package comment for what f may do; a panic
// of f is no verdict on the data and has class [leat.Transform].
func Check[T any](f func(T) error) leat.Stage[T, T] {
	return &sieve[T]{name: "Check", missing: f == nil, loop: func(rows []T, out *leat.Batch[T], kept rowSet, at *int) error {
		for i := *at; i < len(rows); i++ {
			*at = i
			if err := f(rows[i]); err != nil {
				if err := reject(out, i, leat.Contract, err); err != nil {
					return err
				}
				continue
			}
			kept.add(i, 1)
		}
		return nil
	}}
}

// pure is a stage whose loop calls the user's function row by row.
type pure[In, Out any] struct {
	name    string
	missing bool // the user's function is nil

	// made is how many rows came of each 1,024 in the last batch: so much room,
	// and a little more, the next one gets at once, but at most `most` times its
	// own rows. It decides about memory only, never about rows.
	made atomic.Int64
	most int

	// loop works on rows from *at on and keeps *at at the row that it is in, for
	// whoever recovers from a panic. A row's output is appended in one go after
	// the user's function has returned: a panic leaves nothing half done.
	loop func(rows []In, out *leat.Batch[Out], at *int) error
}

// Process implements leat.Stage.
func (s *pure[In, Out]) Process(_ context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
	rows := in.Rows()
	if made := int(s.made.Load()); made > 0 {
		out.Grow(min((made+64)*len(rows)/1024, s.most*len(rows)))
	}
	err := eachRow(len(rows), out, func(at *int) error { return s.loop(rows, out, at) })
	if len(rows) >= 64 { // fewer tell too little
		s.made.Store(int64(out.Len() * 1024 / len(rows)))
	}
	return err
}

// Validate implements leat.Validator.
func (s *pure[In, Out]) Validate() error { return needFunc(s.name, s.missing) }

// sieve is a stage that lets rows pass as they are. Its loop is that of pure, but
// only notes which rows to keep.
type sieve[T any] struct {
	name    string
	missing bool // the user's function is nil
	loop    func(rows []T, out *leat.Batch[T], kept rowSet, at *int) error
}

// Process implements leat.Stage.
func (s *sieve[T]) Process(_ context.Context, in *leat.Batch[T], out *leat.Batch[T]) error {
	return sift(in, out, func(kept rowSet, at *int) error { return s.loop(in.Rows(), out, kept, at) })
}

// Validate implements leat.Validator.
func (s *sieve[T]) Validate() error { return needFunc(s.name, s.missing) }

// sift hands on the rows of in that loop, which eachRow runs, has put into kept. It
// first asks, then hands on whole runs: most batches pass as they are and need not
// be copied, and of the others out gets exactly the room it needs.
func sift[T any](in, out *leat.Batch[T], loop func(kept rowSet, at *int) error) error {
	n := in.Len()
	kept := newRowSet(n)
	if err := eachRow(n, out, func(at *int) error { return loop(kept, at) }); err != nil {
		return err
	}
	if passed := kept.len(); passed < n {
		out.Grow(passed)
	}
	for from, to := kept.run(0); from < to; from, to = kept.run(to) {
		out.AppendRows(in, from, to)
	}
	return nil
}

// rowSet is a set of rows, one bit each.
type rowSet []uint64

func newRowSet(rows int) rowSet { return make(rowSet, (rows+63)/64) }

// add adds row i and, for further bits of the word, rows behind it, which may not
// go beyond the next multiple of 64.
func (s rowSet) add(i int, word uint64) { s[i/64] |= word << (i % 64) }

func (s rowSet) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

func (s rowSet) has(i int) bool { return s[i/64]>>(i%64)&1 > 0 }

// run finds the next rows in a row, from at on: from to to-1, none if they are equal.
func (s rowSet) run(at int) (from, to int) {
	from = s.next(at, 0)
	return from, s.next(from, ^uint64(0))
}

// next is the first row from at on that is in the set or, when flip is all ones,
// that is not; len(s)*64 when there is none.
func (s rowSet) next(at int, flip uint64) int {
	for w := at / 64; w < len(s); w++ {
		if word := (s[w] ^ flip) >> (at % 64); word != 0 {
			return at + bits.TrailingZeros64(word)
		}
		at = (w + 1) * 64
	}
	return len(s) * 64
}

// eachRow runs loop over n rows. When it panics, the row at *at is rejected and
// loop is entered again at the next one (rule A9): one defer per panic and batch,
// not per row.
func eachRow[Out any](n int, out *leat.Batch[Out], loop func(at *int) error) error {
	for at := 0; at < n; at++ {
		err := attempt(func() error { return loop(&at) })
		panicked, ok := err.(*engine.PanicError) //nolint:errorlint // attempt made it just now
		if !ok {
			return err
		}
		out.Reject(at, leat.Transform, panicked)
	}
	return nil
}

// attempt makes an error of a panic. The type of the error is exactly
// *engine.PanicError: Reject looks for the stack there.
func attempt(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &engine.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return f()
}

// reject refuses row i, unless err may go away: then it is the batch's error
// (rule B8: a transient error never dead-letters a row).
func reject[Out any](out *leat.Batch[Out], i int, class leat.Class, err error) error {
	if leat.IsTransient(err) {
		return err
	}
	out.Reject(i, class, err)
	return nil
}

func needFunc(name string, missing bool) error {
	if missing {
		return fmt.Errorf("stage.%s: %w", name, errNoFunc)
	}
	return nil
}

var errNoFunc = errors.New("the function is nil")
