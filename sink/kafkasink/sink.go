package kafkasink

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
)

// sink writes rows without a transaction: what is acknowledged is visible at once, and
// Commit waits until everything is.
type sink[T any] struct {
	config Config[T]
	plan   *plan[T]
	env    leat.Env
	p      *producer // of this life
	care   care
}

func (s *sink[T]) Open(ctx context.Context, env leat.Env) (err error) {
	if err := s.Validate(); err != nil {
		return err
	}
	if err := s.care.begin(); err != nil {
		return err
	}
	s.env = env
	s.p, err = connect(env.Logger, s.config.Brokers, s.config.Opts, s.config.Partition != nil)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, s.p); err != nil {
		s.p.close()
		s.p = nil
		return err
	}
	return nil
}

// prepare makes ready what does not depend on a transaction.
func (s *sink[T]) prepare(ctx context.Context, p *producer) (err error) {
	if s.plan, err = compile(&s.config); err != nil {
		return err
	}
	if s.config.Topic == "" {
		return nil
	}
	return p.mustHave(ctx, s.config.Topic)
}

// mustHave looks a topic up, and is an error when nothing can be written to it.
func (p *producer) mustHave(ctx context.Context, name string) error {
	if err := p.topics.look(ctx, []string{name}); err != nil {
		return err
	}
	return p.topics.known[name].missing
}

// encode makes the records of a batch, all or none.
func (s *sink[T]) encode(ctx context.Context, p *producer, b *leat.Batch[T]) (*flight, error) {
	rows := b.Rows()
	f := p.newFlight()
	refused, err := s.plan.encode(ctx, rows, f)
	if err != nil {
		return nil, err
	}
	var partition func(row, n int) int
	if c := s.config.Partition; c != nil {
		partition = func(row, n int) int { return c(&rows[row], n) }
	}
	more, err := p.ready(ctx, f, partition)
	if err != nil {
		if leat.IsTransient(err) || ctx.Err() != nil {
			return nil, err
		}
		return nil, s.care.hopeless(err)
	}
	if refused = append(refused, more...); len(refused) > 0 {
		slices.SortFunc(refused, func(a, b leat.RowError) int { return a.Row - b.Row })
		f.recycle()
		return nil, &leat.RowErrors{Rows: refused} // nothing was sent
	}
	return f, nil
}

func (s *sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	if err := s.failed(); err != nil {
		return err
	}
	f, err := s.encode(ctx, s.p, b)
	if err != nil {
		return err
	}
	s.care.wrote(len(f.records))
	if !s.care.on {
		s.p.send(ctx, f)
		return s.failed()
	}
	if err := s.p.sendAndWait(ctx, f); err != nil {
		return err
	}
	if !f.failed.Load() {
		return nil
	}
	rows, err := s.p.probe(ctx, f, nil)
	if err != nil {
		return s.aborted(err)
	}
	if len(rows) == 0 { // they are taken one by one: the neighbours were at fault, and are gone
		return nil
	}
	return &leat.RowErrors{Rows: rows}
}

func (s *sink[T]) Commit(ctx context.Context, _ leat.Checkpoint) (bool, error) {
	if err := s.p.flush(ctx); err != nil {
		return false, err
	}
	if err := s.failed(); err != nil {
		return false, err
	}
	s.care.committed()
	return true, nil
}

// failed is leat.ErrAborted once a record is lost.
func (s *sink[T]) failed() error {
	what, err := s.p.failure()
	if err == nil {
		return nil
	}
	return s.care.failed(what, err)
}

func (s *sink[T]) aborted(err error) error { return s.care.failed(judge(err), err) }

func (s *sink[T]) Close() error {
	if s.p != nil {
		s.p.close()
		s.p = nil
	}
	return nil
}

// care is what a sink remembers from one life to the next.
//
// A record that the broker refuses is heard of when its batch is long forgotten. So the
// life ends (leat.ErrAborted), and in the next one Write waits for its own records, until
// what was under way has come again: then the row at fault can be named (rule B5).
type care struct {
	on      bool
	left    int // rows until it may end
	since   int // rows since the last commit
	before  int // and between the two commits before
	verdict error
}

// begin starts a life. What can't get better by trying again ends the pipeline here.
func (c *care) begin() error {
	err := c.verdict
	c.verdict, c.since, c.before = nil, 0, 0
	return err
}

func (c *care) wrote(rows int) {
	c.since += rows
	c.left -= rows
}

func (c *care) committed() {
	c.before, c.since = c.since, 0
	if c.left <= 0 {
		c.on = false
	}
}

func (c *care) failed(what failure, err error) error {
	switch what {
	case refused:
		c.on, c.left = true, c.since+c.before
		return fmt.Errorf("%w: the broker refused a record; it will be named in the next attempt: %w", leat.ErrAborted, err)
	case hopeless:
		return c.hopeless(err)
	}
	return fmt.Errorf("%w: a record was lost: %w", leat.ErrAborted, err)
}

// hopeless ends the pipeline, by way of the next Open: an error of Write would be taken
// for the rows' fault.
func (c *care) hopeless(err error) error {
	c.verdict = fmt.Errorf("%w. No row was rejected for it, and no position has moved past what is not written: mend it and start again", err)
	return fmt.Errorf("%w: %w", leat.ErrAborted, err)
}

// sendAndWait is send for careful mode: what became of each record is in f.errs.
func (p *producer) sendAndWait(ctx context.Context, f *flight) error {
	f.errs = make([]error, len(f.records))
	f.done = make(chan struct{})
	p.mu.Lock()
	p.probed = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.probed = false
		p.mu.Unlock()
	}()
	p.send(ctx, f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, err := range f.errs {
		if err != nil && judge(err) != refused {
			// Records behind a refused one are lost with it; without such a one it is trouble.
			if !slices.ContainsFunc(f.errs, func(err error) bool { return err != nil && judge(err) == refused }) {
				return fmt.Errorf("%w: a record was lost: %w", leat.ErrAborted, err)
			}
			break
		}
	}
	return nil
}

// probe sends the records of f that were not taken once more, each alone, since the
// broker refuses a whole batch for one of its records, and returns the rows that it does
// not take. again, if set, is called after each refusal.
func (p *producer) probe(ctx context.Context, f *flight, again func() error) (rows []leat.RowError, err error) {
	for i, before := range f.errs {
		if before == nil {
			continue
		}
		one := &flight{p: p, records: []kgo.Record{resend(&f.records[i])}, rows: []int{f.rows[i]}}
		one.promise = one.settle
		err := p.sendAndWait(ctx, one)
		if err != nil {
			return nil, err
		}
		if err := one.errs[0]; err != nil {
			rows = append(rows, leat.RowError{Row: f.rows[i], Err: refusal(one.records[0].Topic, err)})
			if again != nil {
				if err := again(); err != nil {
					return nil, err
				}
			}
		}
	}
	return rows, nil
}

// resend is the record without what kgo has noted in it.
func resend(r *kgo.Record) kgo.Record {
	again := kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp, Topic: r.Topic, Context: r.Context}
	choose(&again, int(r.Partition))
	return again
}

func refusal(topic string, err error) error {
	return fmt.Errorf("topic %s does not take the record: %w", topic, err)
}
