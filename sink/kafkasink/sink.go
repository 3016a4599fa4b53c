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
func (s *sink[T]) encode(ctx context.Context, p *producer, c *care, b *leat.Batch[T]) (*flight, error) {
	rows := b.Rows()
	if s.config.Codec != nil && s.config.TopicOf != nil {
		switch astray, err := s.astray(ctx, p, rows); {
		case err != nil && !leat.IsTransient(err) && ctx.Err() == nil:
			return nil, c.hopeless(err)
		case err != nil:
			return nil, err
		case len(astray) > 0:
			return nil, &leat.RowErrors{Rows: astray}
		}
	}
	f := p.newFlight()
	refused, err := s.plan.encode(ctx, rows, f)
	if err != nil {
		return nil, err
	}
	var partition func(row, n int) int
	if choice := s.config.Partition; choice != nil {
		partition = func(row, n int) int { return choice(&rows[row], n) }
	}
	more, err := p.ready(ctx, f, s.config.Topic == "", partition)
	if err != nil {
		if leat.IsTransient(err) || ctx.Err() != nil {
			return nil, err
		}
		return nil, c.hopeless(err)
	}
	if refused = append(refused, more...); len(refused) > 0 {
		slices.SortFunc(refused, func(a, b leat.RowError) int { return a.Row - b.Row })
		f.recycle()
		return nil, &leat.RowErrors{Rows: refused} // nothing was sent
	}
	return f, nil
}

// astray finds the rows whose topic does not exist, before a codec asks the registry for its schema:
// for one that is not there it would wait for ever, or register it (rule B1).
func (s *sink[T]) astray(ctx context.Context, p *producer, rows []T) (refused []leat.RowError, err error) {
	p.topics.forget()
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = s.plan.topicOf(&rows[i])
	}
	if err := p.topics.lookNew(ctx, names); err != nil {
		return nil, err
	}
	for i, name := range names {
		if name == "" {
			continue // encode says why
		}
		switch missing := p.topics.known[name].missing; {
		case missing == nil:
		case denied(missing):
			return nil, missing
		default:
			refused = append(refused, leat.RowError{Row: i, Err: missing})
		}
	}
	return refused, nil
}

func (s *sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	if err := s.failed(); err != nil {
		return err
	}
	f, err := s.encode(ctx, s.p, &s.care, b)
	if err != nil {
		return err
	}
	s.care.wrote(len(f.records))
	if !s.care.on {
		s.p.send(ctx, f)
		return s.failed()
	}
	what, err := s.p.sendAndWait(ctx, f)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if what != refused {
		return s.care.failed(what, err)
	}
	rows, err := probe(ctx, f, func() (*producer, error) { return s.p, nil })
	if err != nil {
		return s.care.failed(judge(err), err)
	}
	s.care.tried = 0
	if len(rows) == 0 { // each alone they are taken: the batch was too large
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
	single  bool // batches are refused, but not for one of their records: send each alone
	left    int  // rows and letters until it may end
	tried   int  // what left was, if it named no row yet
	since   int  // rows and letters since the last commit
	before  int  // and between the two commits before
	verdict error
}

// begin starts a life. What can't get better by trying again ends the pipeline here.
func (c *care) begin() error {
	err := c.verdict
	c.verdict, c.since, c.before = nil, 0, 0
	return err
}

func (c *care) wrote(records int) {
	c.since += records
	c.left -= records
}

func (c *care) committed() {
	if c.since == 0 {
		return // what is to be watched has not come again yet
	}
	c.before, c.since = c.since, 0
	if c.left <= 0 {
		c.on, c.single = false, false
	}
}

func (c *care) failed(what failure, err error) error {
	switch what {
	case refused:
		// Beside a sink that commits seldom the rewind may go back much further than to our own
		// last commits, so that care ends before the row comes again: then twice as far.
		c.on, c.left = true, max(c.since+c.before, 2*c.tried)
		c.tried = c.left
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

// sendAndWait is send for careful mode. What became of each record is in f.errs. The
// error is the first of the worst kind: a refused record counts for more than those that
// are lost with it.
func (p *producer) sendAndWait(ctx context.Context, f *flight) (worst failure, err error) {
	f.errs = make([]error, len(f.records))
	f.done = make(chan struct{})
	p.expect(true)
	defer p.expect(false)
	p.send(ctx, f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return gone, ctx.Err()
	}
	for i, e := range f.errs {
		if e == nil {
			continue
		}
		if what := judge(e); err == nil || what > worst {
			worst, err = what, fmt.Errorf("topic %s: %w", f.records[i].Topic, e)
		}
	}
	return worst, err
}

// sendSingly sends each record in a batch of its own, up to the first that is not taken: at.
func (p *producer) sendSingly(ctx context.Context, f *flight) (at int, what failure, err error) {
	for at = range f.records {
		if what, err = p.sendAndWait(ctx, p.alone(f, at)); err != nil {
			return at, what, err
		}
	}
	return 0, gone, nil
}

// alone is a flight of record i of f, which may have been sent before.
func (p *producer) alone(f *flight, i int) *flight {
	r := &f.records[i]
	again := kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp, Topic: r.Topic, Context: p.ctx}
	if again.Offset = r.Offset; r.Offset < 0 { // kgo has had it
		at := int(r.Partition)
		if f.spans != nil && f.spans[i].chosen >= 0 { // kgo may have given it up before it had one
			at = f.spans[i].chosen
		}
		choose(&again, at)
	}
	one := &flight{p: p, records: []kgo.Record{again}}
	one.promise = one.settle
	return one
}

// probe sends the records of f that were not taken once more, each alone, since the
// broker refuses a whole batch for one of its records, and returns the rows that it does
// not take. with gives the producer for the next one.
func probe(ctx context.Context, f *flight, with func() (*producer, error)) (rows []leat.RowError, err error) {
	for i, before := range f.errs {
		if before == nil {
			continue
		}
		p, err := with()
		if err != nil {
			return nil, err
		}
		what, err := p.sendAndWait(ctx, p.alone(f, i))
		switch {
		case err == nil:
		case what == refused:
			rows = append(rows, f.refused(i, err))
		default:
			return nil, err
		}
	}
	return rows, nil
}

// refused is what the engine is told of record i, once it is known to be at fault.
func (f *flight) refused(i int, err error) leat.RowError {
	return leat.RowError{Row: f.rows[i], Err: fmt.Errorf("the broker refuses the record: %w", err)}
}
