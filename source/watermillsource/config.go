package watermillsource

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// UUIDHeader is the header in which watermill-kafka keeps a message's UUID. This source
// shows the UUID under the same name, whatever the Pub/Sub, so that a row type with a
// column `leat:"@header._watermill_message_uuid"` also reads the topic by kafkasource; and a
// record written with this header is a message with that UUID to watermill-kafka.
const UUIDHeader = "_watermill_message_uuid"

// Config says what to subscribe to, and how messages become rows.
type Config[T any] struct {
	// Name keys positions, metrics and dead letters, so it must be stable. Defaults to
	// Topic.
	Name string

	// Subscriber is any Watermill Subscriber. The program that made it closes it, after
	// the pipeline has ended: the source ends only its own subscription. Required.
	Subscriber message.Subscriber

	// Topic is what the source subscribes to, once in the life of a pipeline. Required.
	Topic string

	// Member names this process, or this one of leat.Replicas, where several run the same
	// pipeline on one Pub/Sub that shares the messages out among them (a consumer group).
	// Each must have another one, and keep it over restarts: it is the partition's name, and a sink with
	// positions takes two owners of one partition for a mistake (rule E3). Defaults to "",
	// for one process.
	Member string

	// Decode makes the row of a message; an error rejects that message alone, with class
	// leat.Decode. It is called from several goroutines, and more than once for a message,
	// which it must not change. Defaults to reading Payload as one JSON object into the
	// columns of T, as jsonsource reads a line (see its doc for the values): keys without
	// a column are passed over, columns without a key are null where they can be.
	//
	// Fields tagged as origins (`leat:"@topic"` and so on) are filled in afterwards, in
	// either case.
	Decode func(m *message.Message) (T, error)

	// Origin, if set, adds what this Pub/Sub knows of a message besides: Key and Time are
	// what it is for, with watermill-kafka's MessageKeyFromCtx and MessageTimestampFromCtx
	// for instance. Topic, Headers and Raw are set already; Offset is not yet. It is called as Decode is, and
	// only where it is looked at: for columns @key and @timestamp, and for dead letters.
	Origin func(m *message.Message, o *leat.Origin)

	// MaxUncommitted is how many messages are taken and not yet acknowledged, at most;
	// then no more are taken until a checkpoint is complete, which is made at once. Memory
	// is bounded by it: a message is held until it is acknowledged. (They are also bounded at 32 MiB
	// of payload, or one message.) More helps only if the Subscriber hands out messages
	// before earlier ones are acknowledged. Defaults to 1,024.
	MaxUncommitted int
}

const (
	defaultMaxUncommitted = 1024
	maxUncommittedBytes   = 32 << 20
)

func (c *Config[T]) maxUncommitted() int {
	if c.MaxUncommitted == 0 {
		return defaultMaxUncommitted
	}
	return c.MaxUncommitted
}

// faults are the mistakes, joined.
func (c *Config[T]) faults() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Subscriber == nil {
		fault("Subscriber is not set")
	}
	if c.Topic == "" {
		fault("Topic is not set")
	}
	if c.MaxUncommitted < 0 {
		fault("MaxUncommitted %d is negative", c.MaxUncommitted)
	}
	if _, err := c.form(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// form is what the row type makes of messages.
type form struct {
	plan    *row.JSONPlan // nil: Config.Decode
	origins []row.Column
	asks    bool // for what Config.Origin knows
}

// form compiles the row type.
func (c *Config[T]) form() (*form, error) {
	if c.Decode != nil && reflect.TypeFor[T]().Kind() != reflect.Struct {
		return &form{}, nil // its columns are nobody's business here
	}
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	f := &form{origins: t.Origins}
	for i := range f.origins {
		switch f.origins[i].Name {
		case "@key", "@timestamp":
			f.asks = c.Origin != nil
		}
	}
	if c.Decode != nil {
		return f, nil
	}
	if len(t.Columns) == 0 {
		return nil, fmt.Errorf("the row type %v has no columns", t)
	}
	var faults []error
	for i := range t.Columns {
		if col := &t.Columns[i]; !col.CanReadJSON() {
			faults = append(faults, fmt.Errorf("column %s: a %v can't be read from JSON; give its type an UnmarshalText or UnmarshalJSON method, leave the field out with `leat:\"-\"`, or set Decode", col.Name, col.Type))
		}
	}
	f.plan = row.NewJSONPlan(t, row.JSONRules{})
	return f, errors.Join(faults...)
}
