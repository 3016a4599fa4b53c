package watermillsink

import (
	"context"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// Sink publishes rows by a Watermill Publisher. Make one with New. It implements
// leat.Sink, leat.Named, leat.Validator and leat.Guaranteed.
type Sink[T any] struct {
	config Config[T]

	// Of one life, from Open to Close.
	env     leat.Env
	rows    *row.Type // nil with Config.Encode
	done    map[place]struct{}
	scratch []byte
}

// New makes a sink. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Sink[T] { return &Sink[T]{config: c} }

// Name implements leat.Named.
func (s *Sink[T]) Name() string {
	switch {
	case s.config.Name != "":
		return s.config.Name
	case s.config.Topic != "":
		return s.config.Topic
	}
	return "watermill"
}

// Validate implements leat.Validator.
func (s *Sink[T]) Validate() error { return s.config.faults() }

// Guarantee implements leat.Guaranteed.
func (s *Sink[T]) Guarantee() leat.Guarantee { return leat.AtLeastOnce }

// Open does not connect: the Publisher is the program's.
func (s *Sink[T]) Open(_ context.Context, env leat.Env) error {
	if err := s.Validate(); err != nil {
		return err
	}
	s.env, s.done = env, nil
	if s.config.Encode == nil {
		t, err := row.Of[T]()
		if err != nil {
			return err
		}
		s.rows = t
	}
	return nil
}

// Write publishes the rows. See leat.Sink.
func (s *Sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	rows := b.Rows()
	messages := make([]addressed, len(rows))
	var refused []leat.RowError
	for i := range rows {
		m, err := s.message(&rows[i])
		if err != nil {
			refused = append(refused, leat.RowError{Row: i, Err: err})
		}
		messages[i] = m
	}
	if len(refused) > 0 { // before any is published
		return &leat.RowErrors{Rows: refused}
	}
	var at []place
	if s.config.UUID == nil {
		at = places(b)
		for i := range messages {
			messages[i].msg.UUID = s.uuid(at[i])
		}
	}
	w := writing[T]{Sink: s, ctx: ctx, messages: messages, sent: make([]bool, len(rows))}
	if len(s.done) > 0 {
		// The batch, or a part of it, may come again after an error.
		if at == nil {
			at = places(b)
		}
		for i := range at {
			_, w.sent[i] = s.done[at[i]]
		}
	}
	err := w.publish()
	if err == nil {
		return nil
	}
	if at == nil {
		at = places(b)
	}
	for i := range at {
		if w.sent[i] {
			if s.done == nil {
				s.done = map[place]struct{}{}
			}
			s.done[at[i]] = struct{}{}
		}
	}
	return err
}

// writing is one Write.
type writing[T any] struct {
	*Sink[T]
	ctx      context.Context
	messages []addressed
	sent     []bool // by row
	refused  []leat.RowError
}

// publish sends what is not sent yet, topic by topic, so that calls of Publish are few;
// within a topic in order.
func (w *writing[T]) publish() error {
	var topics []string
	rows := map[string][]int{}
	for i, m := range w.messages {
		if w.sent[i] {
			continue
		}
		if rows[m.topic] == nil {
			topics = append(topics, m.topic)
		}
		rows[m.topic] = append(rows[m.topic], i)
	}
	for _, topic := range topics {
		for group := range slices.Chunk(rows[topic], w.config.batchMessages()) {
			if err := w.group(topic, group); err != nil {
				return err
			}
		}
	}
	if len(w.refused) > 0 {
		// What was published already is in done: the rest is not published twice.
		slices.SortFunc(w.refused, func(a, b leat.RowError) int { return a.Row - b.Row })
		return &leat.RowErrors{Rows: w.refused}
	}
	return nil
}

// group is one call of Publish. When it fails for good, the message at fault is found by
// publishing them one by one (rule B5).
func (w *writing[T]) group(topic string, rows []int) error {
	err := w.call(topic, rows)
	switch {
	case err == nil:
		for _, i := range rows {
			w.sent[i] = true
		}
		return nil
	case w.config.Permanent == nil || !w.config.Permanent(err):
		return leat.Transient(fmt.Errorf("watermillsink: publish %d messages to %q: %w", len(rows), topic, err))
	case len(rows) == 1:
		w.refused = append(w.refused, leat.RowError{Row: rows[0], Err: err})
		return nil
	}
	for _, i := range rows {
		if err := w.group(topic, []int{i}); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing[T]) call(topic string, rows []int) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	messages := make([]*message.Message, len(rows))
	for k, i := range rows {
		messages[k] = w.messages[i].msg
		messages[k].SetContext(w.ctx)
	}
	return w.config.Publisher.Publish(topic, messages...)
}

// Commit has nothing to do: what Publish has returned from is published.
func (s *Sink[T]) Commit(context.Context, leat.Checkpoint) (bool, error) {
	s.done = nil
	return true, nil
}

// Close leaves the Publisher open.
func (s *Sink[T]) Close() error {
	s.done = nil
	return nil
}
