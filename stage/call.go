package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/leatgo/leat"
)

// Call asks f for each row, with at most n calls at once, over all batches that
// are on their way; throughput is limited by n divided by the time of a call.
// Rows come out in the order they came in.
//
// An error rejects its row alone, with class [leat.Transform]; so does a panic.
// An error marked with [leat.Transient] is the whole batch's (rule B8): no more
// calls of this batch are started, those that run are waited for, and the engine
// calls Process again after a while, for all rows of the batch, those that had
// succeeded included. Where an answer of 429 or 503 is nothing unusual, let f
// try again a few times by itself, or the batch will hardly ever get through.
// Only marked errors are tried again: mark what a timeout of f's own gives, too.
//
// f must return when its context ends. Process does not wait for one that does
// not: its answer is dropped, and it counts against n until it returns.
func Call[In, Out any](n int, f func(context.Context, In) (Out, error)) leat.Stage[In, Out] {
	return &call[In, Out]{n: n, f: f, slots: slots{n: n}}
}

type call[In, Out any] struct {
	n     int
	f     func(context.Context, In) (Out, error)
	slots slots // one for each call that runs
}

// Blocking implements leat.Blocking.
func (*call[In, Out]) Blocking() bool { return true }

// Validate implements leat.Validator.
func (s *call[In, Out]) Validate() error {
	err := needFunc("Call", s.f == nil)
	if s.n < 1 {
		err = errors.Join(err, fmt.Errorf("stage.Call: n is %d: it is how many calls may run at once, 1 or more", s.n))
	}
	return err
}

// answer is what came of one row.
type answer[Out any] struct {
	row Out
	err error
}

// Process implements leat.Stage.
func (s *call[In, Out]) Process(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
	rows := in.Rows()
	answers := make([]answer[Out], len(rows))
	if err := s.askAll(ctx, rows, answers); err != nil {
		return err
	}
	out.Grow(len(rows))
	for i := range answers {
		if err := answers[i].err; err != nil {
			out.Reject(i, leat.Transform, err)
			continue
		}
		out.Append(answers[i].row, i)
	}
	return nil
}

// askAll fills in answers. Its error is about the whole batch; there may be
// calls that still write to answers then.
func (s *call[In, Out]) askAll(ctx context.Context, rows []In, answers []answer[Out]) error {
	ended := make(chan int, len(rows)) // room for all: nobody may listen any more
	var again transients
	note := func(i int) { again.add(answers[i].err) }

	next, running := 0, 0
	granted, asked := make(chan struct{}, 1), false
	for next < len(rows) && len(again) == 0 && ctx.Err() == nil {
		if !asked {
			s.slots.ask(granted)
			asked = true
		}
		select {
		case <-granted:
			asked = false
			go s.ask(ctx, rows[next], &answers[next], next, ended)
			next++
			running++
		case i := <-ended:
			running--
			note(i)
		case <-ctx.Done():
		}
	}
	if asked {
		s.slots.cancel(granted)
	}
	for ; running > 0; running-- {
		select {
		case i := <-ended:
			note(i)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		// The errors of f are of our making: no row is rejected for them.
		return context.Cause(ctx)
	}
	return again.join()
}

// ask runs f for one row, in a slot that is already taken.
func (s *call[In, Out]) ask(ctx context.Context, row In, a *answer[Out], i int, ended chan<- int) {
	a.err = errNoAnswer // until f has returned: it may leave by runtime.Goexit
	defer func() {
		s.slots.give()
		ended <- i
	}()
	err := attempt(func() (err error) {
		a.row, err = s.f(ctx, row)
		return err
	})
	a.err = err
}

var errNoAnswer = errors.New("the function ended its goroutine instead of returning")

// transients collects errors that make a batch be tried again, equal texts once:
// a service that is down gives the same answer to every call.
type transients []error

func (t *transients) add(err error) {
	if !leat.IsTransient(err) {
		return
	}
	same := func(e error) bool { return e.Error() == err.Error() }
	if !slices.ContainsFunc(*t, same) {
		*t = append(*t, err)
	}
}

func (t transients) join() error {
	if len(t) == 1 {
		return t[0]
	}
	return errors.Join(t...)
}

// batchCalls is how many calls of one CallBatch may run at once.
const batchCalls = 16

// CallBatch asks f once per batch, for services that take many rows at once. f
// gets a slice of its own, with the rows in order, and returns one result per
// row in the same order. At most 16 calls run at once. f must return when its
// context ends: Process waits for it.
//
// An error marked with [leat.Transient] makes the engine try the same rows again
// after a while (rule B8). Any other, and a panic or a result of another length,
// makes the engine find the rows at fault by calling f with halves, quarters and
// so on: a batch of 4,096 rows with one bad one costs about two dozen more calls.
// To spare them, return the results together with a [*leat.RowErrors] that names
// the rows at fault; these are rejected with class [leat.Transform] and their
// results ignored.
func CallBatch[In, Out any](f func(context.Context, []In) ([]Out, error)) leat.Stage[In, Out] {
	return &callBatch[In, Out]{f: f, slots: slots{n: batchCalls}}
}

type callBatch[In, Out any] struct {
	f     func(context.Context, []In) ([]Out, error)
	slots slots // one for each call that runs
}

// Blocking implements leat.Blocking.
func (*callBatch[In, Out]) Blocking() bool { return true }

// Validate implements leat.Validator.
func (s *callBatch[In, Out]) Validate() error { return needFunc("CallBatch", s.f == nil) }

// Process implements leat.Stage.
func (s *callBatch[In, Out]) Process(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
	rows, bad, err := s.ask(ctx, in.Rows())
	if err != nil {
		return err
	}
	out.Grow(len(rows) - len(bad))
	for i, row := range rows {
		if len(bad) > 0 && bad[0].Row == i {
			out.Reject(i, leat.Transform, bad[0].Err)
			bad = bad[1:]
			continue
		}
		out.Append(row, i)
	}
	return nil
}

// ask returns one row for each of rows, and which of them do not count.
func (s *callBatch[In, Out]) ask(ctx context.Context, rows []In) ([]Out, []leat.RowError, error) {
	granted := make(chan struct{}, 1)
	s.slots.ask(granted)
	select {
	case <-granted:
		defer s.slots.give()
	case <-ctx.Done():
		s.slots.cancel(granted)
		return nil, nil, context.Cause(ctx)
	}
	// A clone: other branches read the batch, and sorting the keys of a query in
	// place is an easy mistake.
	got, err := s.f(ctx, slices.Clone(rows))

	var bad []leat.RowError
	if named := (*leat.RowErrors)(nil); errors.As(err, &named) && !leat.IsTransient(err) {
		if bad, err = namedRows(named, len(rows)); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case err != nil:
		return nil, nil, err
	case len(got) != len(rows):
		return nil, nil, fmt.Errorf("stage.CallBatch: the function returned %d results for %d rows: it must return one per row, in the same order", len(got), len(rows))
	}
	return got, bad, nil
}

// namedRows checks that the errors name rows of a batch of n.
func namedRows(named *leat.RowErrors, n int) ([]leat.RowError, error) {
	bad := slices.Clone(named.Rows)
	slices.SortStableFunc(bad, func(a, b leat.RowError) int { return a.Row - b.Row })
	bad = slices.CompactFunc(bad, func(a, b leat.RowError) bool { return a.Row == b.Row })
	for _, r := range bad {
		switch {
		case r.Row < 0 || r.Row >= n:
			return nil, fmt.Errorf("stage.CallBatch: the function's RowErrors name row %d: there are %d rows, counted from 0", r.Row, n)
		case r.Err == nil:
			return nil, fmt.Errorf("stage.CallBatch: the function's RowErrors name row %d without an error", r.Row)
		}
	}
	return bad, nil
}

var _, _ leat.Blocking = (*call[int, int])(nil), (*callBatch[int, int])(nil)
