package protocodec

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/internal/unknown"
	"github.com/leatgo/leat/internal/memo"
)

// Config says where schemas are. The zero value reads and writes messages as they are, without a
// registry's header.
type Config struct {
	// Registry has the schemas of values that begin with the registry's header. Without it
	// values have no header, and are taken to be of the row's message.
	Registry *codec.Registry

	// Also are full names of messages whose values are read too, as if they were of the row's
	// message: the same message in another package, say.
	Also []string

	// Subject names the subject of the values that are written. Defaults to
	// codec.TopicName.
	Subject codec.Subject

	// Register lets the first row of a topic register the message's file, if the subject
	// has not got it, and the files that it imports under their paths. By default all must be
	// there. Google's own files, which registries know, are not registered.
	Register bool

	// Latest writes with the newest schema of the subject, as it is when the first row of a
	// topic is written. It must have the message.
	Latest bool
}

// Message is a pointer to a generated message.
type Message[M any] interface {
	*M
	proto.Message
}

// Codec reads and writes values. All methods are safe for concurrent use.
type Codec[T any] struct {
	c       Config
	desc    protoreflect.MessageDescriptor
	message func(row *T) proto.Message // to be written; nil without
	fresh   func(row *T) proto.Message // to be read into
	readers memo.Cache[int, *reader]
	writers memo.Cache[string, []byte]
}

// New makes the codec of rows that are messages.
func New[T any, P Message[T]](c Config) *Codec[T] {
	self := func(row *T) proto.Message { return P(row) }
	return newCodec[T](c, P(new(T)).ProtoReflect().Descriptor(), self, self)
}

// Within makes the codec of rows that hold a message; field gives its place. When reading it is a new
// message for each row; when writing it must not be nil.
func Within[T, M any, P Message[M]](c Config, field func(row *T) *P) *Codec[T] {
	return newCodec(c, P(new(M)).ProtoReflect().Descriptor(),
		func(row *T) proto.Message {
			if m := *field(row); m != nil {
				return m
			}
			return nil
		},
		func(row *T) proto.Message {
			m := P(new(M))
			*field(row) = m
			return m
		})
}

func newCodec[T any](c Config, desc protoreflect.MessageDescriptor, message, fresh func(*T) proto.Message) *Codec[T] {
	c.Also = slices.Clone(c.Also)
	k := &Codec[T]{c: c, desc: desc, message: message, fresh: fresh}
	k.readers = memo.Cache[int, *reader]{Load: k.newReader, Keep: unknown.Keep}
	k.writers = memo.Cache[string, []byte]{Load: k.newHeader}
	return k
}

// Validate reports what can be known to be wrong without the registry.
func (k *Codec[T]) Validate() error {
	var errs []error
	c := k.c
	switch {
	case c.Registry != nil:
		errs = append(errs, c.Registry.Validate())
	case c.Register || c.Latest:
		errs = append(errs, errors.New("give a Registry: Register and Latest need one"))
	case len(c.Also) > 0:
		errs = append(errs, errors.New("give a Registry, or leave out Also: without one a value does not say what it is"))
	}
	if c.Register && c.Latest {
		errs = append(errs, errors.New("set Register or Latest, not both: the one writes with the message's own file, the other with what the subject has"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("protocodec: %w", err)
	}
	return nil
}

// maxDepth is how deep messages may lie in each other, in what comes from outside. Protobuf's
// own C++ and Java have the same limit.
const maxDepth = 100

var (
	unmarshal = proto.UnmarshalOptions{RecursionLimit: maxDepth}
	marshal   = proto.MarshalOptions{Deterministic: true} // equal rows are equal bytes
)

// Decode reads a value into the row, which keeps no part of it. A plain error is of the
// value, which is to be rejected; a transient one of the registry.
func (k *Codec[T]) Decode(ctx context.Context, _ string, value []byte, into *T) error {
	if value == nil { // Kafka's mark that a key is deleted; no bytes at all may be a value
		return codec.ErrTombstone
	}
	if k.c.Registry != nil {
		id, rest, err := codec.CutHeader(value)
		if err != nil {
			return &leat.FieldError{Rule: "syntax", Msg: err.Error()}
		}
		r, err := k.readers.Get(ctx, id)
		if err != nil {
			return err
		}
		if value, err = r.cut(rest); err != nil {
			return err
		}
	}
	if err := unmarshal.Unmarshal(value, k.fresh(into)); err != nil {
		return &leat.FieldError{Rule: "syntax", Msg: fmt.Sprintf("the value is no %s: %v", k.desc.FullName(), err)}
	}
	return nil
}

var errNil = &leat.FieldError{Rule: "null", Msg: "the row holds no message (nil)"}

// Encode appends the row's value to dst. A plain error is of the row; a transient one of the
// registry, or of a schema that it has not got.
func (k *Codec[T]) Encode(ctx context.Context, topic string, dst []byte, from *T) ([]byte, error) {
	m := k.message(from)
	if m == nil {
		return dst, errNil
	}
	n := len(dst)
	if k.c.Registry != nil {
		header, err := k.writers.Get(ctx, topic)
		if err != nil {
			return dst, err
		}
		dst = append(dst, header...)
	}
	out, err := marshal.MarshalAppend(dst, m)
	if err != nil {
		return dst[:n], &leat.FieldError{Rule: "type", Msg: fmt.Sprintf("the row's %s can't be written: %v", k.desc.FullName(), err)}
	}
	return out, nil
}
