package watermillsource

import (
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
)

// DecodeLetter implements leat.LetterDecoder. It makes the message of a dead letter again,
// from its raw bytes and headers, and appends its row to out as record number record. Its
// time and key are the letter's. A message that still can't be decoded is rejected as when
// it came.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	f, err := s.form()
	if err != nil {
		return fmt.Errorf("watermillsource: dead letter %s: %w", l.ID, err)
	}
	// What Config.Origin asked the message's context for is gone; the letter has it.
	c := s.config
	c.Topic = l.Topic
	c.Origin = func(_ *message.Message, o *leat.Origin) { o.Key, o.Time = l.Key, l.Arrived }
	d := decoding[T]{
		chunk: &chunk[T]{config: &c, form: f, entries: []entry{{l.Offset, messageOf(l)}}},
		out:   out, first: record,
	}
	if f.plan != nil {
		d.json = f.plan.Decoder()
		defer d.json.Release()
	}
	for !d.run() {
	}
	return nil
}

// messageOf undoes what headers does.
func messageOf(l leat.DeadLetter) *message.Message {
	m := message.NewMessage(l.Headers[UUIDHeader], l.Raw)
	maps.Copy(m.Metadata, l.Headers)
	delete(m.Metadata, UUIDHeader)
	return m
}
