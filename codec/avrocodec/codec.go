package avrocodec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/twmb/avro"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

// Decode reads a value into a row that is zero, but for its origins (`leat:"@topic"`). The row
// keeps no part of value. A plain error is of the value, which is to be rejected; a
// transient one of the registry.
func (k *Codec[T]) Decode(ctx context.Context, _ string, value []byte, into *T) error {
	if value == nil { // Kafka's mark that a key is deleted; no bytes at all may be a value
		return codec.ErrTombstone
	}
	r, rest, err := k.reader(ctx, value)
	if err != nil {
		return err
	}
	if r.fault != nil {
		return &leat.FieldError{Rule: "schema", Msg: r.fault.Error()}
	}
	p := unsafe.Pointer(into)
	if rest, err = r.frame.decode(r.schema, rest, p); err != nil {
		return refusal(err)
	}
	if len(rest) > 0 {
		return &leat.FieldError{Rule: "syntax", Msg: fmt.Sprintf("%d bytes are left over behind the record: the value is of another schema", len(rest))}
	}
	return checkText(r.text, p)
}

// reader finds how the value is to be read, and takes its header off.
func (k *Codec[T]) reader(ctx context.Context, value []byte) (*reader, []byte, error) {
	if k.c.Registry != nil {
		id, rest, err := codec.CutHeader(value)
		if err != nil {
			return nil, nil, &leat.FieldError{Rule: "syntax", Msg: err.Error()}
		}
		r, err := k.readers.Get(ctx, id)
		return r, rest, err
	}
	p, err := k.prepared()
	if err != nil {
		return nil, nil, wrap(err)
	}
	if p.plain == nil {
		return nil, nil, errNoSchema
	}
	if !k.c.Single {
		return p.plain, value, nil
	}
	fp, rest, err := avro.SingleObjectFingerprint(value)
	if err != nil {
		return nil, nil, &leat.FieldError{Rule: "syntax", Msg: "the value does not begin as an Avro single object"}
	}
	if !bytes.Equal(fp[:], fingerprint(p.schema)) {
		return nil, nil, &leat.FieldError{Rule: "schema", Msg: fmt.Sprintf("the value is of a schema with the fingerprint %x, which is not that of Schema", fp)}
	}
	return p.plain, rest, nil
}

var errNoSchema = errors.New("avrocodec: set Registry, or the Schema of values without a registry")

// Encode appends the row's value to dst. A plain error is of the row; a transient one of the
// registry, or of a schema that it has not got.
func (k *Codec[T]) Encode(ctx context.Context, topic string, dst []byte, from *T) ([]byte, error) {
	if k.c.Registry == nil {
		if k.c.Schema == "" {
			return dst, errNoSchema
		}
		topic = "" // one schema for all
	}
	w, err := k.writers.Get(ctx, topic)
	if err != nil {
		return dst, wrap(err)
	}
	if err := checkText(w.text, unsafe.Pointer(from)); err != nil {
		return dst, err
	}
	n := len(dst)
	dst = append(dst, w.header...)
	if k.c.Single {
		dst = append(dst, 0xC3, 0x01)
		dst = append(dst, fingerprint(w.schema)...)
	}
	out, err := w.frame.encode(w.schema, dst, unsafe.Pointer(from))
	if err != nil {
		return dst[:n], refusal(err)
	}
	return out, nil
}

var fingerprints sync.Map // *avro.Schema → []byte

// fingerprint is the CRC-64-AVRO, little-endian as single objects have it.
func fingerprint(s *avro.Schema) []byte {
	if fp, ok := fingerprints.Load(s); ok {
		return fp.([]byte)
	}
	fp := s.Fingerprint(avro.NewRabin())
	for i, j := 0, len(fp)-1; i < j; i, j = i+1, j-1 {
		fp[i], fp[j] = fp[j], fp[i]
	}
	fingerprints.Store(s, fp)
	return fp
}

// refusal says what is wrong with a value in terms of columns. The library's text would show
// the shadow's type.
func refusal(err error) error {
	if f := (interface{ Field() (string, string) })(nil); errors.As(err, &f) {
		return err
	}
	if sb := (*avro.ShortBufferError)(nil); errors.As(err, &sb) {
		column := ""
		if se := (*avro.SemanticError)(nil); errors.As(err, &se) {
			column = se.Field
		}
		return &leat.FieldError{Column: column, Rule: "syntax", Msg: in(column) + "the value ends in the middle of the record"}
	}
	if se := (*avro.SemanticError)(nil); errors.As(err, &se) {
		msg := fmt.Sprintf("does not fit as %s", se.AvroType)
		if se.Err != nil {
			msg = se.Err.Error()
		} else if se.GoType != nil && se.GoType.Name() != "" {
			msg = fmt.Sprintf("%s does not fit into %v", se.AvroType, se.GoType)
		}
		return &leat.FieldError{Column: se.Field, Rule: "type", Msg: in(se.Field) + msg}
	}
	return &leat.FieldError{Rule: "syntax", Msg: err.Error()}
}

func in(column string) string {
	if column == "" {
		return ""
	}
	return "column " + column + ": "
}
