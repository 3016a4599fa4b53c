package watermillsource

import (
	"bytes"
	"context"
	"maps"
	"runtime/debug"
	"strings"
	"unsafe"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/jsonrow"
	"github.com/leatgo/leat/internal/row"
)

// chunk is a run of messages. It is immutable.
type chunk[T any] struct {
	config  *Config[T]
	form    *form
	entries []entry
}

func (c *chunk[T]) chunk() leat.Chunk[T] {
	var zero T
	held := int64(0)
	for _, e := range c.entries {
		held += 2*size(e.msg) + int64(unsafe.Sizeof(zero))
	}
	return leat.Chunk[T]{
		Partition: c.config.Member,
		First:     c.entries[0].offset, Next: c.entries[len(c.entries)-1].offset + 1,
		Bytes:   held,
		Decode:  c.decode,
		Locate:  c.locate,
		Offsets: c.offsets,
	}
}

func (c *chunk[T]) decode(_ context.Context, out *leat.Batch[T]) error {
	out.Grow(len(c.entries))
	d := decoding[T]{chunk: c, out: out}
	if c.form.plan != nil {
		d.json = c.form.plan.Decoder()
		defer d.json.Release()
	}
	for !d.run() {
	}
	return nil
}

// decoding can be taken up again after a panic.
type decoding[T any] struct {
	chunk *chunk[T]
	out   *leat.Batch[T]
	json  *row.JSONDecoder
	first int // what the first record is called
	at    int
	given bool // out has a row for the message at hand
}

// run decodes up to the end, or to a message on which a user's code panics: that one is
// rejected (rule A9).
func (d *decoding[T]) run() (done bool) {
	defer func() {
		if !done {
			d.refuse(&engine.PanicError{Value: recover(), Stack: debug.Stack()})
		}
	}()
	for d.at < len(d.chunk.entries) {
		if err := d.one(&d.chunk.entries[d.at]); err != nil {
			d.refuse(err)
			continue
		}
		d.given = false
		d.at++
	}
	return true
}

func (d *decoding[T]) one(e *entry) error {
	var p *T
	if d.json != nil {
		p = d.out.Extend(d.first + d.at)
		d.given = true
		if err := d.json.Text(e.msg.Payload, unsafe.Pointer(p)); err != nil {
			return jsonrow.FieldError(err)
		}
	} else {
		r, err := d.chunk.config.Decode(e.msg)
		if err != nil {
			return err
		}
		p = d.out.Extend(d.first + d.at)
		d.given = true
		*p = r
	}
	if len(d.chunk.form.origins) == 0 {
		return nil
	}
	return d.chunk.setOrigins(unsafe.Pointer(p), e)
}

func (d *decoding[T]) refuse(err error) {
	if d.given {
		d.out.Drop()
		d.given = false
	}
	d.out.Reject(d.first+d.at, leat.Decode, err)
	d.at++
}

// setOrigins fills the fields tagged `leat:"@topic"` and the like; those that have no
// meaning for a message stay zero.
func (c *chunk[T]) setOrigins(p unsafe.Pointer, e *entry) (err error) {
	var o leat.Origin
	if c.form.asks {
		o = c.origin(e)
	}
	for i := range c.form.origins {
		switch col := &c.form.origins[i]; col.Name {
		case "@topic":
			err = col.SetString(p, c.config.Topic)
		case "@offset":
			err = col.SetInt(p, e.offset)
		case "@key":
			err = col.SetString(p, string(o.Key))
		case "@timestamp":
			err = col.SetTime(p, o.Time)
		case "@header." + UUIDHeader:
			err = col.SetString(p, e.msg.UUID)
		default:
			if name, is := strings.CutPrefix(col.Name, "@header."); is {
				err = col.SetString(p, e.msg.Metadata.Get(name))
			}
		}
		if err != nil {
			return jsonrow.FieldError(err)
		}
	}
	return nil
}

// origin is all that is known of where a message came from.
func (c *chunk[T]) origin(e *entry) leat.Origin {
	o := c.own(e)
	if c.config.Origin != nil {
		c.config.Origin(e.msg, &o)
	}
	o.Offset = e.offset
	return o
}

// own is what is known without asking Config.Origin, but for the offset.
func (c *chunk[T]) own(e *entry) leat.Origin {
	return leat.Origin{Topic: c.config.Topic, Headers: headers(e.msg), Raw: bytes.Clone(e.msg.Payload)}
}

// located is origin for a letter: what Config.Origin can't tell must not keep it from being written (rule A9).
func (c *chunk[T]) located(e *entry) (o leat.Origin) {
	defer func() {
		if recover() != nil {
			o = c.own(e)
			o.Offset = e.offset
		}
	}()
	return c.origin(e)
}

// headers are a message's metadata and its UUID.
func headers(m *message.Message) map[string]string {
	out := make(map[string]string, len(m.Metadata)+1)
	maps.Copy(out, m.Metadata)
	if m.UUID != "" {
		out[UUIDHeader] = m.UUID
	}
	return out
}

func (c *chunk[T]) offsets(records []int, out []leat.Offset) {
	for k, i := range records {
		out[k] = c.entries[i].offset
	}
}

func (c *chunk[T]) locate(records []int) []leat.Origin {
	out := make([]leat.Origin, len(records))
	for k, i := range records {
		out[k] = c.located(&c.entries[i])
	}
	return out
}
