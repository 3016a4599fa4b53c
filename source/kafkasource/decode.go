package kafkasource

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/jsonrow"
	"github.com/leatgo/leat/internal/row"
)

// format makes rows of records. It is immutable.
type format[T any] struct {
	origins []origin
	json    *row.JSONPlan
	raw     *raw
	codec   Decoder[T]
	user    func(rec *kgo.Record, into *T) error

	size  int64 // of a row
	grows int64 // how many times the value's bytes a row has outside of itself
}

// origin is a field that tells where the row came from.
type origin struct {
	column *row.Column
	header string // of @header.
}

// raw is where a value as it is goes.
type raw struct {
	column *row.Column // nil: the row itself
	bytes  bool        // and not a string
}

func (c *Config[T]) format() (*format[T], error) {
	f := &format[T]{codec: c.Codec, user: c.Decode, grows: 1}
	var zero T
	f.size = int64(unsafe.Sizeof(zero))
	t, err := row.Of[T]()
	if err == nil {
		for i := range t.Origins {
			col := &t.Origins[i]
			header, _ := strings.CutPrefix(col.Name, "@header.")
			f.origins = append(f.origins, origin{col, header})
		}
	}
	switch {
	case f.codec != nil || f.user != nil: // a row type without columns is none of our business
		return f, nil
	case c.Raw:
		f.raw, err = rawOf[T]()
		return f, err
	case err != nil:
		return nil, err
	}
	f.json = row.NewJSONPlan(t, c.policies().Rules())
	for i := range t.Columns {
		if col := &t.Columns[i]; col.Extra || col.Kind == row.Other { // maps and the like
			f.grows = 4
		}
	}
	return f, nil
}

func rawOf[T any]() (*raw, error) {
	rt := reflect.TypeFor[T]()
	switch kind, _ := row.KindOf(rt); {
	case kind == row.Bytes:
		return &raw{bytes: true}, nil
	case kind == row.String:
		return &raw{}, nil
	}
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	if len(t.Columns) == 1 {
		switch c := &t.Columns[0]; c.Kind {
		case row.Bytes:
			return &raw{column: c, bytes: true}, nil
		case row.String:
			return &raw{column: c}, nil
		}
	}
	return nil, fmt.Errorf("the row type %v must be []byte or string, or have exactly one column, of such a type", t)
}

// walk makes rows of some records. It can be taken up again after a panic.
type walk[T any] struct {
	*format[T]
	records []*kgo.Record
	out     *leat.Batch[T]
	first   int // what the first record is called

	json  *row.JSONDecoder
	line  []byte // the JSON text at hand
	texts texts
	at    int
	given bool // out has a row for the record at hand
}

// lineRoom is what the quick way through JSON wants to have behind a value.
const lineRoom = 128

// decode makes a row of each record. The error is about all of them.
func (f *format[T]) decode(ctx context.Context, records []*kgo.Record, out *leat.Batch[T], first int) (err error) {
	w := walk[T]{format: f, records: records, out: out, first: first}
	if f.json != nil {
		w.json = f.json.Decoder()
		defer w.json.Release()
	}
	for done := false; !done && err == nil; {
		done, err = w.run(ctx)
	}
	return err
}

// run decodes up to the end, or to a record at which somebody else's code panics: that one is
// rejected (rule A9).
func (w *walk[T]) run(ctx context.Context) (done bool, err error) {
	defer func() {
		if !done && err == nil {
			w.refuse(&engine.PanicError{Value: recover(), Stack: debug.Stack()})
			w.at++
		}
	}()
	for ; w.at < len(w.records); w.at++ {
		rec := w.records[w.at]
		into := w.out.Extend(w.first + w.at)
		w.given = true
		err := w.setOrigins(rec, unsafe.Pointer(into))
		if err == nil {
			switch {
			case w.json != nil:
				err = w.object(rec.Value, unsafe.Pointer(into))
			case w.raw != nil:
				err = w.value(rec.Value, unsafe.Pointer(into))
			case w.codec != nil:
				err = w.codec.Decode(ctx, rec.Topic, rec.Value, into)
			default:
				err = w.user(rec, into)
			}
		}
		if err != nil {
			if leat.IsTransient(err) || ctx.Err() != nil {
				return false, fmt.Errorf("kafkasource: topic %s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
			}
			w.refuse(jsonrow.FieldError(err))
		}
		w.given = false
	}
	return true, nil
}

func (w *walk[T]) refuse(err error) {
	if w.given {
		w.out.Drop()
		w.given = false
	}
	w.out.Reject(w.first+w.at, leat.Decode, err)
}

// object reads a JSON object. The decoder is quick where something lies behind what it
// reads, and a record's value ends where it ends: so it gets a copy that is a line with
// room behind it. What is no single line, or is wrong, is read as it is: that verdict counts.
func (w *walk[T]) object(value []byte, p unsafe.Pointer) error {
	if value == nil {
		return errNull
	}
	n := len(value)
	if cap(w.line) < n+1+lineRoom {
		w.line = make([]byte, 2*n+1+lineRoom)
	}
	line := w.line[:n+1+lineRoom]
	copy(line, value)
	line[n] = '\n'
	if next, err := w.json.Line(line, 0, p); err == nil && next == n+1 {
		return nil
	}
	w.given = false
	w.out.Drop()
	into := w.out.Extend(w.first + w.at)
	w.given = true
	if err := w.setOrigins(w.records[w.at], unsafe.Pointer(into)); err != nil {
		return err
	}
	return w.json.Text(value, unsafe.Pointer(into))
}

// errNull is about a tombstone.
var errNull = &leat.FieldError{Rule: "null", Msg: "the record has no value (in a compacted topic: a tombstone); Config.Decode, or a column that can be null with Config.Raw, takes such records"}

// value sets the value as it is.
func (w *walk[T]) value(value []byte, p unsafe.Pointer) error {
	col := w.raw.column
	switch {
	case value == nil && col != nil && col.Null:
		return nil
	case value == nil && !w.raw.bytes:
		return errNull
	case value == nil: // nil is what a []byte has for it
		return nil
	case w.raw.bytes && col == nil:
		*(*[]byte)(p) = bytes.Clone(value)
	case w.raw.bytes:
		return col.SetBytes(p, bytes.Clone(value))
	case col == nil:
		*(*string)(p) = w.texts.keep(value)
	default:
		return col.SetString(p, w.texts.keep(value))
	}
	return nil
}

// setOrigins fills the fields tagged `leat:"@topic"` and the like; those that have no
// meaning for a record stay zero.
func (w *walk[T]) setOrigins(rec *kgo.Record, p unsafe.Pointer) (err error) {
	for i := range w.origins {
		o := &w.origins[i]
		switch o.column.Name {
		case "@topic":
			err = o.column.SetString(p, rec.Topic)
		case "@partition":
			err = o.column.SetInt(p, int64(rec.Partition))
		case "@offset":
			err = o.column.SetInt(p, rec.Offset)
		case "@timestamp":
			err = o.column.SetTime(p, when(rec))
		case "@key":
			err = o.column.SetString(p, w.texts.keep(rec.Key))
		default:
			if o.header == "" {
				continue
			}
			for k := len(rec.Headers) - 1; k >= 0; k-- { // of several, the last counts
				if rec.Headers[k].Key == o.header {
					err = o.column.SetString(p, w.texts.keep(rec.Headers[k].Value))
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// texts makes strings of bytes that will be reused. They lie together in blocks, so that
// there is no allocation for each, and one that is kept for long keeps no more than its block.
type texts struct{ block []byte }

const textBlock = 32 << 10

func (t *texts) keep(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > textBlock/8 {
		return string(b)
	}
	if len(b) > cap(t.block)-len(t.block) {
		t.block = make([]byte, 0, textBlock)
	}
	n := len(t.block)
	t.block = append(t.block, b...)
	return unsafe.String(&t.block[n], len(b))
}
