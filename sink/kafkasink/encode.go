package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// plan makes records of rows. It is immutable.
type plan[T any] struct {
	config *Config[T]
	value  func(ctx context.Context, topic string, dst []byte, row *T) ([]byte, error)

	// Of the row's own fields; nil when it has none, or the Config says otherwise.
	key       *row.Column
	timestamp *row.Column
	headers   []*row.Column
	names     []string
}

// compile finds out what is a record's value, and which fields are its key and so on
// (rule J2).
func compile[T any](c *Config[T]) (*plan[T], error) {
	p := &plan[T]{config: c}
	of := reflect.TypeFor[T]()
	isBytes := of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Uint8
	var t *row.Type
	if of.Kind() == reflect.Struct {
		var err error
		if t, err = row.Of[T](); err != nil {
			if c.Encode == nil && c.Codec == nil {
				return nil, err
			}
			t = nil // the codec knows the type
		}
	}
	if t != nil {
		for i := range t.Origins {
			o := &t.Origins[i]
			header, isHeader := strings.CutPrefix(o.Name, "@header.")
			switch {
			case o.Name == "@key" && c.Key == nil:
				p.key = o
			case o.Name == "@timestamp" && c.Timestamp == nil:
				p.timestamp = o
			case isHeader && c.Headers == nil:
				p.headers = append(p.headers, o)
				p.names = append(p.names, header)
			}
		}
	}
	switch {
	case c.Codec != nil:
		p.value = c.Codec.Encode
	case c.Encode != nil:
		p.value = func(_ context.Context, _ string, dst []byte, row *T) ([]byte, error) { return c.Encode(dst, row) }
	case c.Raw && t != nil:
		if len(t.Columns) != 1 || t.Columns[0].Kind != row.Bytes && t.Columns[0].Kind != row.String {
			return nil, fmt.Errorf("with Raw, %v must have one column, of type []byte or string, beside those that tell the origin", of)
		}
		body := &t.Columns[0]
		p.value = func(_ context.Context, _ string, dst []byte, row *T) ([]byte, error) {
			if isNilBytes(body, row) {
				return nil, nil
			}
			v, err := body.Value(unsafe.Pointer(row))
			if err != nil || v.Null {
				return nil, err
			}
			if v.Bytes != nil {
				return append(dst, v.Bytes...), nil
			}
			return append(dst, v.Str...), nil
		}
	case t != nil:
		p.value = func(_ context.Context, _ string, dst []byte, row *T) ([]byte, error) {
			return t.AppendJSON(dst, unsafe.Pointer(row))
		}
	case isBytes: // []byte, json.RawMessage
		p.value = func(_ context.Context, _ string, dst []byte, row *T) ([]byte, error) {
			b := *(*[]byte)(unsafe.Pointer(row))
			if b == nil {
				return nil, nil
			}
			return append(dst, b...), nil
		}
	case of.Kind() == reflect.String:
		p.value = func(_ context.Context, _ string, dst []byte, row *T) ([]byte, error) {
			return append(dst, *(*string)(unsafe.Pointer(row))...), nil
		}
	default:
		return nil, fmt.Errorf("rows of type %v have no columns: set Encode or Codec", of)
	}
	return p, nil
}

func isNilBytes[T any](c *row.Column, r *T) bool {
	if c.Kind != row.Bytes {
		return false
	}
	at := c.At(unsafe.Pointer(r))
	return at == nil || *(*[]byte)(at) == nil
}

// encode fills f with the records of the rows. What is wrong with single rows is in
// refused; an error is about none of them.
func (p *plan[T]) encode(ctx context.Context, rows []T, f *flight) (refused []leat.RowError, err error) {
	for i := 0; i < len(rows); i++ {
		at := i
		err := p.encodeFrom(ctx, rows, &at, f)
		if err == nil {
			break
		}
		if leat.IsTransient(err) {
			return nil, err
		}
		if ctx.Err() != nil { // its error may be the cause, in any form
			return nil, err
		}
		f.drop()
		refused = append(refused, leat.RowError{Row: at, Err: err})
		i = at
	}
	return refused, nil
}

// encodeFrom goes on until a row is at fault. One recover serves all of them (rule A9).
func (p *plan[T]) encodeFrom(ctx context.Context, rows []T, at *int, f *flight) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &engine.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	for ; *at < len(rows); *at++ {
		if err := p.row(ctx, &rows[*at], *at, f); err != nil {
			return err
		}
	}
	return nil
}

// kgo counts in nanoseconds: what is beyond would be written as another time, one that
// retention deletes perhaps (rule J2).
var minTime, maxTime = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

func (p *plan[T]) row(ctx context.Context, r *T, i int, f *flight) error {
	c := p.config
	rec, s := f.add(i)
	rec.Topic = c.Topic
	if c.TopicOf != nil {
		if rec.Topic = c.TopicOf(r); rec.Topic == "" {
			return errors.New("TopicOf gave no topic")
		}
	}
	if err := p.addHeaders(r, f, s); err != nil {
		return err
	}
	switch {
	case c.Key != nil:
		if k := c.Key(r); k != nil {
			s.key = f.put(k)
		}
	case p.key != nil:
		if v, err := p.key.Value(unsafe.Pointer(r)); err == nil && v.Str != "" {
			from := len(f.bytes)
			f.bytes = append(f.bytes, v.Str...)
			s.key = [2]int{from, len(f.bytes)}
		}
	}
	switch {
	case c.Timestamp != nil:
		rec.Timestamp = c.Timestamp(r)
	case p.timestamp != nil:
		rec.Timestamp = *(*time.Time)(p.timestamp.At(unsafe.Pointer(r)))
	}
	if at := rec.Timestamp; !at.IsZero() && (at.Before(minTime) || at.After(maxTime)) {
		return &leat.FieldError{Rule: "timestamp", Msg: fmt.Sprintf("the record's timestamp would be %v, and can be from %v to %v", at, minTime.Year()+1, maxTime.Year()-1)}
	}
	n := len(f.bytes)
	v, err := p.value(ctx, rec.Topic, f.bytes[n:n:cap(f.bytes)], r)
	switch {
	case err != nil:
		return err
	case v == nil: // a tombstone
	case len(v) > 0 && cap(f.bytes) > n && &v[0] == &f.bytes[n : n+1][0]:
		f.bytes = f.bytes[:n+len(v)] // in place
		s.value = [2]int{n, len(f.bytes)}
	default:
		s.value = f.put(v)
	}
	return nil
}

// topicOf is what TopicOf gives, or nothing when it panics (rule A9).
func (p *plan[T]) topicOf(r *T) (name string) {
	defer func() {
		if recover() != nil {
			name = ""
		}
	}()
	return p.config.TopicOf(r)
}

func (p *plan[T]) addHeaders(r *T, f *flight, s *span) error {
	c := p.config
	if c.Headers != nil {
		for _, h := range c.Headers(r) {
			if h.Value != nil {
				f.put(h.Value)
			}
			f.headers = append(f.headers, h) // its value is made ours by seal
		}
	}
	for k, col := range p.headers {
		v, err := col.Value(unsafe.Pointer(r))
		if err != nil {
			return err
		}
		if v.Str == "" {
			continue
		}
		f.bytes = append(f.bytes, v.Str...)
		f.headers = append(f.headers, kgo.RecordHeader{Key: p.names[k], Value: unsafe.Slice(unsafe.StringData(v.Str), len(v.Str))})
	}
	s.headers[1] = len(f.headers)
	return nil
}
