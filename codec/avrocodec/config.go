package avrocodec

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/internal/unknown"
	"github.com/leatgo/leat/internal/memo"
	"github.com/leatgo/leat/internal/row"
)

// Config says where schemas are. T is the row, a struct; its columns are found by name.
// Registry or Schema is needed.
type Config[T any] struct {
	// Registry has the schemas of values that begin with the registry's header. Without
	// it values have no header, and all are of the schema Schema.
	Registry *codec.Registry

	// Schema is an Avro schema in JSON, of a record. When reading with a Registry it is
	// the reader's schema, with defaults and aliases for what the writer's lacks; by default rows take
	// what the writer's has. When writing it is the schema of the values; it defaults to one
	// that is derived from T (see Derive).
	Schema string

	// Record is the full name of the record in the derived schema, and the one that Subject
	// gets with Latest: com.acme.Venta. Defaults to the Go type's name.
	Record string

	// Subject names the subject of the values that are written. Defaults to
	// codec.TopicName.
	Subject codec.Subject

	// Register lets the first row of a topic register the schema, if the subject has not got
	// it. By default it must be there: schemas are a contract with others, and a
	// program should not change it by being started.
	Register bool

	// Latest writes with the newest schema of the subject, as it is when the first row of a
	// topic is written. It must have a field for every column; fields without a column
	// get their default.
	Latest bool

	// Single frames values as Avro's single objects do, by two bytes and the fingerprint of
	// Schema, so that values of another schema are found out. Without a Registry only.
	Single bool
}

// Codec reads and writes values. All methods are safe for concurrent use.
type Codec[T any] struct {
	c        Config[T]
	readers  memo.Cache[int, *reader]
	writers  memo.Cache[string, *writer]
	prepared func() (prepared, error)
}

// prepared is what the Config alone gives.
type prepared struct {
	row    *row.Type
	schema *avro.Schema // of Config.Schema; nil without
	plain  *reader      // without a registry
}

// New remembers the Config; schemas are fetched with the first values.
func New[T any](c Config[T]) *Codec[T] {
	k := &Codec[T]{c: c, prepared: sync.OnceValues(c.prepare)}
	k.readers = memo.Cache[int, *reader]{Load: k.newReader, Keep: unknown.Keep}
	k.writers = memo.Cache[string, *writer]{Load: k.newWriter}
	return k
}

// Validate reports what can be known to be wrong without the registry.
func (k *Codec[T]) Validate() error {
	var errs []error
	if _, err := k.prepared(); err != nil {
		errs = append(errs, err)
	}
	c := k.c
	if c.Registry == nil {
		switch {
		case c.Schema == "":
			errs = append(errs, errors.New("set Registry, or the Schema of values without a registry"))
		case c.Register || c.Latest:
			errs = append(errs, errors.New("give a Registry: Register and Latest need one"))
		}
	} else {
		errs = append(errs, c.Registry.Validate())
		if c.Single {
			errs = append(errs, errors.New("leave out Single: with a Registry the registry's header takes its place"))
		}
		if c.Register && c.Latest {
			errs = append(errs, errors.New("set Register or Latest, not both: the one writes with Schema, the other with what the subject has"))
		}
		if c.Latest && c.Schema != "" {
			errs = append(errs, errors.New("leave out Schema: Latest writes with the subject's"))
		}
	}
	return wrap(errors.Join(errs...))
}

// ValidateEncode reports, beside what Validate does, why rows can't be written: a column
// that the schema has no field for, or a type that Avro has not. kafkasink asks for it.
func (k *Codec[T]) ValidateEncode() error {
	errs := []error{k.Validate()}
	if p, err := k.prepared(); err == nil && !k.c.Latest {
		schema, err := k.own(p)
		if err == nil {
			_, err = newWritePlan(p.row, schema)
		}
		errs = append(errs, wrap(err))
	}
	return errors.Join(errs...)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("avrocodec: %w", err)
}

func (c Config[T]) prepare() (prepared, error) {
	var p prepared
	var err error
	if p.row, err = row.Of[T](); err != nil {
		return p, err
	}
	if c.Schema != "" {
		if p.schema, err = avro.Parse(c.Schema); err != nil {
			return p, fmt.Errorf("the Schema is not understood: %w", err)
		}
		if c.Registry == nil {
			if p.plain, err = newReadPlan(p.row, p.schema, nil); err != nil {
				return p, err
			}
		}
	}
	// The shape of T alone may be at fault, whatever the schema.
	_, err = shadowOf(reflect.TypeFor[T](), p.row, nil)
	return p, err
}

// own is the schema that rows are written with, but for Latest.
func (k *Codec[T]) own(p prepared) (*avro.Schema, error) {
	if p.schema != nil {
		return p.schema, nil
	}
	text, err := Derive[T](k.c.Record)
	if err != nil {
		return nil, err
	}
	return avro.Parse(text)
}

// parse makes one schema of a registry's and of those that it refers to.
func parse(s codec.Schema) (*avro.Schema, error) {
	if s.Type != sr.TypeAvro {
		return nil, fmt.Errorf("the schema %d is %s, not Avro", s.ID, s.Type)
	}
	var cache avro.SchemaCache
	for _, im := range s.Imports {
		if _, err := cache.Parse(im.Text); err != nil {
			return nil, fmt.Errorf("the schema %d refers to %q, which is not understood: %w", s.ID, im.Name, err)
		}
	}
	schema, err := cache.Parse(s.Text)
	if err != nil {
		return nil, fmt.Errorf("the schema %d is not understood: %w", s.ID, err)
	}
	return schema, nil
}

func (k *Codec[T]) newReader(ctx context.Context, id int) (*reader, error) {
	p, err := k.prepared()
	if err != nil {
		return nil, err
	}
	s, err := k.c.Registry.Schema(ctx, id)
	if many := (*codec.TooManyError)(nil); errors.As(err, &many) {
		return &reader{fault: err}, nil
	}
	if err != nil {
		return nil, err
	}
	// A schema that does not fit T is known for good: its error is part of the value, so that
	// it is not worked out for each row.
	schema, err := parse(s)
	if err != nil {
		return &reader{fault: err}, nil
	}
	r, err := newReadPlan(p.row, schema, p.schema)
	if err != nil {
		return &reader{fault: fmt.Errorf("the schema %d does not fit the row: %w", id, err)}, nil
	}
	return r, nil
}

func (k *Codec[T]) newWriter(ctx context.Context, topic string) (*writer, error) {
	p, err := k.prepared()
	if err != nil {
		return nil, err
	}
	if k.c.Registry == nil {
		return newWritePlan(p.row, p.schema)
	}
	subject := k.c.Subject
	if subject == nil {
		subject = codec.TopicName
	}
	if k.c.Latest {
		return k.latest(ctx, p, topic, subject)
	}
	schema, err := k.own(p)
	if err != nil {
		return nil, err
	}
	w, err := newWritePlan(p.row, schema)
	if err != nil {
		return nil, err
	}
	find := k.c.Registry.Find
	if k.c.Register {
		find = k.c.Registry.Register
	}
	id, _, err := find(ctx, subject(topic, w.record), sr.Schema{Schema: schema.String(), Type: sr.TypeAvro})
	if err != nil {
		return nil, err
	}
	w.header = codec.AppendHeader(nil, id)
	return w, nil
}

func (k *Codec[T]) latest(ctx context.Context, p prepared, topic string, subject codec.Subject) (*writer, error) {
	record := k.c.Record // that of the schema is not known yet
	if record == "" {
		record = recordName(reflect.TypeFor[T]())
	}
	name := subject(topic, record)
	s, err := k.c.Registry.Latest(ctx, name)
	if err != nil {
		return nil, err
	}
	schema, err := parse(s)
	if err == nil {
		var w *writer
		if w, err = newWritePlan(p.row, schema); err == nil {
			w.header = codec.AppendHeader(nil, s.ID)
			return w, nil
		}
	}
	// People can register another schema, so rows wait for them.
	return nil, leat.Transient(fmt.Errorf("the newest schema of the subject %q (%d) can't be written with: %w", name, s.ID, err))
}
