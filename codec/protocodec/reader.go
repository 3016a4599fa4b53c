package protocodec

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

// serialized asks for encoded descriptors, which are exact. A registry that does not know the
// form gives the text.
var serialized = sr.Format("serialized")

// reader is how values of one schema are told to be of the row's message.
type reader struct {
	id    int
	fault error // no value of the schema can be read
	file  *file
	names []string // that will do
	first error    // of values of the first message
	known sync.Map // indexes as they are in the value, of messages that will do → struct{}
}

func (k *Codec[T]) newReader(ctx context.Context, id int) (*reader, error) {
	s, err := k.c.Registry.Schema(ctx, id, serialized)
	r := &reader{id: id, names: append([]string{string(k.desc.FullName())}, k.c.Also...)}
	if many := (*codec.TooManyError)(nil); errors.As(err, &many) {
		r.fault = &leat.FieldError{Rule: "schema", Msg: err.Error()}
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if s.Type != sr.TypeProtobuf {
		r.fault = &leat.FieldError{Rule: "schema", Msg: fmt.Sprintf("the schema %d is %s, not Protobuf", id, s.Type)}
		return r, nil
	}
	if r.file, err = parseFile(s.Text); err != nil {
		r.fault = &leat.FieldError{Rule: "schema", Msg: fmt.Sprintf("the schema %d is not understood: %v", id, err)}
		return r, nil
	}
	r.first = r.check([]int{0})
	return r, nil
}

// cut takes the indexes off, provided they are of a message that will do.
func (r *reader) cut(b []byte) (rest []byte, err error) {
	if r.fault != nil {
		return nil, r.fault
	}
	if len(b) > 0 && b[0] == 0 { // short for [0]
		return b[1:], r.first
	}
	index, rest, err := cutIndexes(b)
	if err != nil {
		return nil, err
	}
	as := b[:len(b)-len(rest)]
	if _, ok := r.known.Load(string(as)); ok {
		return rest, nil
	}
	if err := r.check(index); err != nil {
		return nil, err
	}
	r.known.Store(string(as), struct{}{}) // a place has one form, so there are few
	return rest, nil
}

func (r *reader) check(index []int) error {
	names := r.file.at(index)
	for _, n := range names {
		if slices.Contains(r.names, n) {
			return nil
		}
	}
	if len(names) == 0 {
		return &leat.FieldError{Rule: "schema", Msg: fmt.Sprintf("the value says it is of message %v of the schema %d, which has no such message", index, r.id)}
	}
	return &leat.FieldError{Rule: "schema", Msg: fmt.Sprintf("the value is of the message %s (schema %d), not %s", names[0], r.id, r.names[0])}
}

// maxIndexes bounds the depth of a message's definition within others.
const maxIndexes = 32

var errIndexes = &leat.FieldError{Rule: "syntax", Msg: "the value's list of message indexes, behind the schema registry's header, is no such list: was it written as Protobuf with a registry?"}

// cutIndexes reads the place of the message: how many numbers, then the numbers, as zigzag
// varints. Only the shortest forms are taken, so that a place has one form.
func cutIndexes(b []byte) (index []int, rest []byte, err error) {
	n, size := binary.Varint(b)
	if size != 1 || n < 0 || n > maxIndexes {
		return nil, nil, errIndexes
	}
	b = b[size:]
	if n == 0 {
		return []int{0}, b, nil
	}
	index = make([]int, n)
	for i := range index {
		v, size := binary.Varint(b)
		if size <= 0 || v < 0 || v > 1<<20 || size > 1 && b[size-1] == 0 {
			return nil, nil, errIndexes
		}
		index[i], b = int(v), b[size:]
	}
	return index, b, nil
}

// appendIndexes is the other direction.
func appendIndexes(dst []byte, index []int) []byte {
	if len(index) == 1 && index[0] == 0 {
		return append(dst, 0)
	}
	dst = binary.AppendVarint(dst, int64(len(index)))
	for _, i := range index {
		dst = binary.AppendVarint(dst, int64(i))
	}
	return dst
}
