package watermillsink

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime/debug"
	"unsafe"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// place names a row for ever.
type place struct {
	partition string
	offset    leat.Offset
	ordinal   int
}

// places are those of all rows of a batch.
func places[T any](b *leat.Batch[T]) []place {
	out := make([]place, b.Len())
	for i, offset := range b.Offsets() {
		out[i] = place{b.Partition(), offset, b.Ordinal(i)}
	}
	return out
}

// uuid is the same whenever the row comes again. The names hold no zero byte.
func (s *Sink[T]) uuid(p place) string {
	b := s.scratch[:0]
	for _, name := range []string{s.env.Pipeline, s.env.Node, p.partition} {
		b = append(append(b, name...), 0)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(p.ordinal))
	s.scratch = b
	sum := sha256.Sum256(b)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: made as its maker likes
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// addressed is a message with where it goes.
type addressed struct {
	topic string
	msg   *message.Message
}

// message makes the message of a row, but for the default UUID. An error is the row's own
// fault.
func (s *Sink[T]) message(r *T) (m addressed, err error) {
	defer func() {
		if v := recover(); v != nil { // rule A9
			err = &row.Refusal{Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	c := &s.config
	m.topic = c.Topic
	if c.TopicOf != nil {
		if m.topic = c.TopicOf(r); m.topic == "" {
			return m, errors.New("TopicOf gives no topic for it")
		}
	}
	payload, err := s.encode(r)
	if err != nil {
		return m, err
	}
	id := ""
	if c.UUID != nil {
		id = c.UUID(r)
	}
	m.msg = message.NewMessage(id, payload)
	if c.Metadata != nil {
		if md := c.Metadata(r); md != nil {
			m.msg.Metadata = md
		}
	}
	return m, nil
}

func (s *Sink[T]) encode(r *T) ([]byte, error) {
	if s.config.Encode != nil {
		return s.config.Encode(r)
	}
	b, err := s.rows.AppendJSON(s.scratch[:0], unsafe.Pointer(r))
	if err != nil {
		if e, is := errors.AsType[*row.Error](err); is {
			return nil, &leat.FieldError{Column: e.Column, Rule: e.Rule(), Msg: e.Error()}
		}
		return nil, err
	}
	s.scratch = b
	return bytes.Clone(b), nil // who publishes it may keep it
}
