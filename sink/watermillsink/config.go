package watermillsink

import (
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat/internal/row"
)

// Config says where rows are published, and how they become messages. Functions that take a
// *T must not change the row, nor keep it; one that panics costs the row.
type Config[T any] struct {
	// Name keys metrics and dead letters, and is part of the messages' default UUIDs, so
	// it must be stable. Defaults to Topic, or "watermill" with TopicOf.
	Name string

	// Publisher is any Watermill Publisher. What it has returned from must be safe with
	// the broker (rule A3): one that only queues messages, such as GoChannel, or one whose
	// confirmations are switched off, loses what it has queued when the process dies. The
	// program that made it closes it, after the pipeline has ended. Required.
	Publisher message.Publisher

	// Topic is where all rows go; or TopicOf chooses it for each row, and rejects a row by
	// returning "". One of them is required.
	Topic   string
	TopicOf func(*T) string

	// Encode makes the payload of a row; an error rejects the row alone. The payload must not be
	// used for another row. Defaults to one JSON object of the columns of T, as
	// jsonsink writes it, without the newline.
	Encode func(*T) ([]byte, error)

	// Metadata makes the metadata of a row: a map of its own, or nil. Defaults to none.
	Metadata func(*T) message.Metadata

	// UUID makes the UUID of a row. Defaults to one that follows from where the row came
	// from (pipeline, Name, partition, offset, and which of the rows made from that
	// record), so that a row that is published twice has the same UUID twice, by which a consumer
	// upserts, say. That needs a source that can be read again at the same offsets
	// (leat.ReplayExact).
	UUID func(*T) string

	// Permanent tells whether an error of Publish is the message's own fault, such as its
	// size, so that repeating it is of no use: then that row is rejected alone. All
	// other errors are retried (rule B8). Defaults to no error.
	Permanent func(error) bool

	// BatchMessages is how many messages go into one call of Publish, at most. When a
	// call fails nobody knows how many of them were published, so up to so many come twice;
	// they have the same UUIDs. Defaults to 100.
	BatchMessages int
}

const defaultBatchMessages = 100

func (c *Config[T]) batchMessages() int {
	if c.BatchMessages == 0 {
		return defaultBatchMessages
	}
	return c.BatchMessages
}

// faults are the mistakes, joined.
func (c *Config[T]) faults() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Publisher == nil {
		fault("Publisher is not set")
	}
	switch {
	case c.Topic == "" && c.TopicOf == nil:
		fault("neither Topic nor TopicOf is set")
	case c.Topic != "" && c.TopicOf != nil:
		fault("Topic and TopicOf are both set")
	}
	if c.BatchMessages < 0 {
		fault("BatchMessages %d is negative", c.BatchMessages)
	}
	if c.Encode == nil {
		switch t, err := row.Of[T](); {
		case err != nil:
			fault("%w; or set Encode", err)
		case len(t.Columns) == 0:
			fault("the row type %v has no columns", t)
		}
	}
	return errors.Join(faults...)
}
