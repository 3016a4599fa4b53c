package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
)

// Config says where rows of type T go and what records they become. Brokers (or
// Transaction) and one of Topic and TopicOf are needed; the zero value of all else is
// safe.
//
// The functions are called during Write, one at a time, and must depend on the row
// alone; they must not keep it. A panic of theirs is that row's fault (rule A9).
type Config[T any] struct {
	// Name keys the sink's metrics and dead letters, so it must be stable. Defaults to
	// Topic, or to "kafka".
	Name string

	// Brokers are where the cluster is found: HOST:PORT. With Transaction they are
	// its own, and this stays empty.
	Brokers []string

	// Topic is where all rows go; TopicOf gives each row its own. A topic that does not
	// exist, or not any more, ends the pipeline if it is Topic, and rejects the row if it comes
	// of TopicOf.
	Topic   string
	TopicOf func(row *T) string

	// Key is the record's key; nil is none. Records of one key go to one partition, as
	// the Java client would choose it. Defaults to the row's field @key, if it has one
	// that is not empty.
	Key func(row *T) []byte

	// Headers are the record's headers. Defaults to the row's fields @header.NAME that
	// are not empty.
	Headers func(row *T) []kgo.RecordHeader

	// Timestamp is the record's time; the zero time is the time of writing. Defaults to
	// the row's field @timestamp.
	Timestamp func(row *T) time.Time

	// Partition chooses one of n partitions, from 0. Defaults to that of the key; records
	// without a key spread evenly. For another rule for all rows there is
	// kgo.RecordPartitioner.
	Partition func(row *T, n int) int

	// Raw makes the value of the row's one column, as it is: a []byte or a string; so it
	// is where T itself is one of these. Nil bytes are no value, which is what deletes a
	// key from a compacted topic.
	Raw bool

	// Codec makes the value: Avro or Protobuf with a schema registry, see package codec.
	Codec Encoder[T]

	// Encode makes the value: it appends it to dst, which is empty, or gives a slice of its
	// own; nil is no value. An error rejects the row. Raw, Codec and Encode exclude each
	// other; without them the value is the row as a JSON object, as jsonsink writes it.
	Encode func(dst []byte, row *T) ([]byte, error)

	// Transaction, if set, makes the sink one of those that are committed together with
	// the source's positions: exactly once from Kafka to Kafka.
	Transaction *Transaction

	// Unique says that who reads the topic keeps one record for each key, the last, as
	// compaction does: then a record that is there twice does no harm, and the sink is
	// leat.Idempotent. It has no meaning with Transaction.
	Unique bool

	// Opts are added to the client's own: TLS, SASL, compression, linger and so on. That all
	// replicas in sync acknowledge can't be changed. With Transaction they are its own,
	// and this stays empty.
	Opts []kgo.Opt
}

// Encoder makes values of rows, as the codecs in package codec do.
type Encoder[T any] interface {
	// Encode appends the value that the row is to have in topic to dst, which is empty, or
	// gives a slice of its own; nil is no value. An error marked
	// with leat.Transient (a schema registry that does not answer) is retried; any other
	// rejects the row.
	Encode(ctx context.Context, topic string, dst []byte, row *T) ([]byte, error)
}

// New returns a sink that writes rows to Kafka. It only remembers c: Validate tells what
// is wrong with it, and Open connects.
//
// The sink implements leat.Named, leat.Validator and leat.Guaranteed; with a Transaction
// also leat.Transactional, leat.Joined, leat.Bound and leat.Prompt.
func New[T any](c Config[T]) leat.Sink[T] {
	s := &sink[T]{config: c}
	if c.Transaction == nil {
		return s
	}
	c.Transaction.join(s.Name(), c.Partition != nil)
	return &joined[T]{sink: s, tx: c.Transaction}
}

// Name is Config.Name or the topic.
func (s *sink[T]) Name() string {
	switch {
	case s.config.Name != "":
		return s.config.Name
	case s.config.Topic != "":
		return s.config.Topic
	}
	return "kafka"
}

// Guarantee is leat.AtLeastOnce, or leat.Idempotent with Config.Unique.
func (s *sink[T]) Guarantee() leat.Guarantee {
	if s.config.Unique {
		return leat.Idempotent
	}
	return leat.AtLeastOnce
}

// MayDefer is false: each Commit makes everything visible.
func (s *sink[T]) MayDefer() bool { return false }

// Validate reports all faults of the Config and of the row type, joined.
func (s *sink[T]) Validate() error {
	c := &s.config
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("kafkasink: "+format, args...))
	}
	if c.Topic == "" && c.TopicOf == nil {
		fault("there is no topic: set Topic or TopicOf")
	}
	if c.Topic != "" && c.TopicOf != nil {
		fault("Topic and TopicOf exclude each other")
	}
	if c.Topic != "" {
		if err := checkTopic(c.Topic); err != nil {
			fault("Topic: %w", err)
		}
	}
	if c.Encode != nil && (c.Codec != nil || c.Raw) || c.Codec != nil && c.Raw {
		fault("Raw, Codec and Encode exclude each other")
	}
	if err := checkCodec(c.Codec); err != nil {
		fault("Codec: %w", err)
	}
	if c.Transaction == nil {
		faults = append(faults, checkClient("kafkasink", c.Brokers, c.Opts))
	} else if len(c.Brokers)+len(c.Opts) > 0 {
		fault("Brokers and Opts are those of the Transaction: leave them out here")
	}
	if c.Unique && c.Key == nil {
		fault("Unique needs Key")
	}
	if _, err := compile(c); err != nil {
		fault("%w", err)
	}
	return errors.Join(faults...)
}

// checkCodec asks a codec that knows whether it can write such rows (package codec).
func checkCodec(codec any) error {
	switch v := codec.(type) {
	case interface{ ValidateEncode() error }:
		return v.ValidateEncode()
	case leat.Validator:
		return v.Validate()
	}
	return nil
}

// checkClient reports what kgo would refuse.
func checkClient(who string, brokers []string, opts []kgo.Opt) error {
	if len(brokers) == 0 {
		return fmt.Errorf("%s: Brokers is empty", who)
	}
	if err := kgo.ValidateOpts(clientOpts(brokers, opts)...); err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	return nil
}

// checkTopic is Kafka's own rule for names.
func checkTopic(name string) error {
	if name == "" {
		return errors.New("the topic's name is empty")
	}
	if len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("%.260q is no name of a topic: it must have 249 characters at most", name)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%q is no name of a topic: it may have letters, digits, dot, _ and - only", name)
		}
	}
	return nil
}
