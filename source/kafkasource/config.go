package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/jsonrow"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

// Config says which topics to read, and how values become rows. T is the row type: a
// struct whose columns are the keys of a JSON object, unless Raw, Codec or Decode says
// otherwise.
type Config[T any] struct {
	// Name keys positions, metrics and dead letters, so it must be stable. Defaults to
	// Group, or without one to the topics (or the pattern), joined by commas.
	Name string

	// Brokers are the addresses, host:port, that the cluster is first asked at; a few of
	// many are enough.
	Brokers []string

	// Topics are read whole, Pattern reads all topics whose whole name it matches, also
	// those that are made later; its syntax is package regexp's. Exactly one of Topics,
	// Pattern and Partitions must be set.
	Topics  []string
	Pattern string

	// Group is the consumer group through which processes share the partitions
	// (cooperative-sticky). Without one this process reads all partitions of Topics or
	// Pattern by itself, and two such processes are not kept apart.
	Group string

	// InstanceID makes the process a static member of the group: when it restarts within
	// SessionTimeout it gets its partitions back without a rebalance. It must be the process's
	// own. On Close such a member does not leave, so its partitions wait for it that long.
	InstanceID string

	// Partitions are fixed partitions by topic, read without a group.
	Partitions map[string][]int32

	// Start says where to read a partition of which nothing is known: neither a sink nor
	// the state folder nor the group has a position. Defaults to Earliest. A partition
	// that is added to a topic while the source runs is always read from its beginning.
	Start Start

	// StartAt, if set, is used instead of Start: reading begins at the first record whose
	// timestamp is not before it, or at the end when there is none.
	StartAt time.Time

	// OutOfRange says what to do when records that are to be read are not there any
	// more: retention has deleted them. Defaults to RefuseGap.
	OutOfRange OutOfRange

	// ReadUncommitted reads records of transactions that are open or were aborted too.
	// The default, read committed, reads up to the first transaction that is still open.
	ReadUncommitted bool

	// Drain makes Run return when every partition has been read up to where it ended when Run
	// was first called; in a group, those of other members by them, to their commit. When another
	// process has taken a partition at a sink, and keeps it, Run ends with ErrFenced behind the others.
	Drain bool

	// MaxMessages makes Run return after so many records, those of a rewind not counted
	// twice. Defaults to 0: no limit.
	MaxMessages int64

	// SessionTimeout is how long the group waits for a sign of life of this process before its
	// partitions go to others. Defaults to 45 s. The broker sets bounds for it.
	SessionTimeout time.Duration

	// RevokeBudget is how long partitions that are to go to another process may take to
	// finish: what was read of them is delivered and committed in that time, or the pipeline
	// rewinds without them (rule H3). Meanwhile the others are read on and the group is
	// kept alive. Defaults to a third of SessionTimeout, at most 15 s.
	RevokeBudget time.Duration

	// Idle is after what time without records, all partitions being read to their ends, the
	// source says that it is caught up. Sinks of files then close the file, so a short
	// time makes many small files. Defaults to 5 s.
	Idle time.Duration

	// ChunkRows is how many records are decoded at once, by one goroutine, and handed on as
	// one batch, at most; 1 MiB of them ends it too. Rows and offsets do not depend on it.
	// Defaults to 4,096.
	ChunkRows int

	// Extra, Missing, RepeatedKeys and MaxDepth are for JSON values, as in package
	// jsonsource: what becomes of keys without a column (a column with the option extra keeps
	// them), of columns without a key, and of keys that come twice; and how many arrays
	// and objects may lie in each other.
	Extra        drift.Extra
	Missing      drift.Missing
	RepeatedKeys drift.Repeated
	MaxDepth     int

	// Raw makes rows of the values as they are: T is []byte or string, or a struct with
	// one column of such a type, beside those that tell the origin.
	Raw bool

	// Codec decodes the values: Avro or Protobuf with a schema registry, see packages
	// codec/avrocodec and codec/protocodec.
	Codec Decoder[T]

	// Decode, if set, makes the row of a record in a way of its own. It is called by
	// several goroutines at once, and may be called again for the same record: it must be a pure function.
	// The record and all it points to are reused afterwards: the row must have copies.
	// Fields that tell the origin (see the package's doc) are filled in before. An error
	// rejects the record with class leat.Decode, a leat.Transient one makes the chunk be
	// decoded again later.
	Decode func(rec *kgo.Record, into *T) error

	// Opts are further options of the client: TLS (kgo.DialTLS), SASL (kgo.SASL), the rack,
	// fetch sizes and all else but groups and topics. What this Config says comes on top of
	// them. They are for several clients: one for the group, and one for each Run, which fetches.
	Opts []kgo.Opt
}

// Decoder decodes values of a topic. It is called by several goroutines at once. value is
// nil for a tombstone, and is reused afterwards: what the row keeps of it must be copied. An
// error rejects the record with class leat.Decode; a leat.Transient one (a schema
// registry that does not answer) makes the chunk be decoded again later.
type Decoder[T any] interface {
	Decode(ctx context.Context, topic string, value []byte, into *T) error
}

// Start is where to read a partition of which nothing is known.
type Start uint8

const (
	// Earliest is the first record that the partition still has.
	Earliest Start = iota
	// Latest is the partition's end: only what comes from then on is read.
	Latest
)

// OutOfRange is a policy for records that are not there any more.
type OutOfRange uint8

const (
	// RefuseGap ends the run with an error that tells which records are missing.
	RefuseGap OutOfRange = iota
	// SkipToEarliest goes on with the first record that is there, and logs how many are missing.
	SkipToEarliest
	// SkipToLatest goes on at the partition's end, and logs how many are passed over.
	SkipToLatest
)

const (
	defaultChunkRows      = 4096
	chunkBytes            = 1 << 20
	defaultIdle           = 5 * time.Second
	defaultSessionTimeout = 45 * time.Second
	longestRevokeBudget   = 15 * time.Second
)

func (c *Config[T]) name() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Group != "":
		return c.Group
	case c.Pattern != "":
		return c.Pattern
	case len(c.Partitions) > 0:
		return strings.Join(slices.Sorted(maps.Keys(c.Partitions)), ",")
	}
	return strings.Join(c.Topics, ",")
}

// withDefaults fills in what is left open.
func (c Config[T]) withDefaults() Config[T] {
	if c.SessionTimeout == 0 {
		c.SessionTimeout = defaultSessionTimeout
	}
	if c.RevokeBudget == 0 {
		c.RevokeBudget = min(c.SessionTimeout/3, longestRevokeBudget)
	}
	if c.Idle == 0 {
		c.Idle = defaultIdle
	}
	if c.ChunkRows == 0 {
		c.ChunkRows = defaultChunkRows
	}
	return c
}

// policies are those of JSON.
func (c *Config[T]) policies() jsonrow.Policies {
	return jsonrow.Policies{Extra: c.Extra, Missing: c.Missing, RepeatedKeys: c.RepeatedKeys, MaxDepth: c.MaxDepth}
}

// validate joins the faults.
func (c *Config[T]) validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("kafkasource: "+format, args...))
	}
	if len(c.Brokers) == 0 {
		fault("Brokers is empty: give the address of one broker at least, host:port")
	}
	c.whatFaults(fault)
	c.howFaults(fault)
	c.formatFaults(fault)
	return errors.Join(faults...)
}

// whatFaults are about which partitions are read.
func (c *Config[T]) whatFaults(fault func(format string, args ...any)) {
	ways := 0
	for _, set := range []bool{len(c.Topics) > 0, c.Pattern != "", len(c.Partitions) > 0} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		fault("exactly one of Topics, Pattern and Partitions must be set")
	}
	if slices.Contains(c.Topics, "") {
		fault("Topics has an empty name")
	}
	if c.Pattern != "" {
		if _, err := regexp.Compile(c.Pattern); err != nil {
			fault("Pattern: %w", err)
		}
	}
	if c.Group != "" && len(c.Partitions) > 0 {
		fault("Group and Partitions: a group shares partitions out by itself; leave one of them out")
	}
	if c.Group == "" && c.InstanceID != "" {
		fault("InstanceID without Group: only a group has members")
	}
	for topic, ps := range c.Partitions {
		sorted := slices.Sorted(slices.Values(ps))
		switch {
		case topic == "" || len(ps) == 0:
			fault("Partitions of topic %q: name the topic and one partition at least", topic)
		case sorted[0] < 0:
			fault("Partitions of topic %q: %d is negative", topic, sorted[0])
		case len(slices.Compact(sorted)) < len(ps):
			fault("Partitions of topic %q: one is named twice", topic)
		}
	}
}

// howFaults are about how they are read.
func (c *Config[T]) howFaults(fault func(format string, args ...any)) {
	if c.Start > Latest {
		fault("Start %d: there are Earliest and Latest", c.Start)
	}
	if !c.StartAt.IsZero() && c.Start != Earliest {
		fault("Start and StartAt are both set")
	}
	if c.OutOfRange > SkipToLatest {
		fault("OutOfRange %d: there are RefuseGap, SkipToEarliest and SkipToLatest", c.OutOfRange)
	}
	if c.MaxMessages < 0 {
		fault("MaxMessages %d is negative", c.MaxMessages)
	}
	if c.ChunkRows < 0 {
		fault("ChunkRows %d is negative", c.ChunkRows)
	}
	for name, d := range map[string]time.Duration{"SessionTimeout": c.SessionTimeout, "RevokeBudget": c.RevokeBudget, "Idle": c.Idle} {
		if d < 0 {
			fault("%s %v is negative", name, d)
		}
	}
	full := c.withDefaults()
	if c.RevokeBudget > 0 && full.RevokeBudget > full.SessionTimeout/2 {
		fault("RevokeBudget %v is more than half of SessionTimeout, %v: another process may have the partitions before it is over", c.RevokeBudget, full.SessionTimeout)
	}
}

// formatFaults are about values and rows.
func (c *Config[T]) formatFaults(fault func(format string, args ...any)) {
	c.policies().Faults(fault)
	ways := 0
	for _, set := range []bool{c.Raw, c.Codec != nil, c.Decode != nil} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		fault("only one of Raw, Codec and Decode can say what values are")
	}
	switch {
	case c.Codec != nil:
		if v, ok := c.Codec.(leat.Validator); ok {
			if err := v.Validate(); err != nil {
				fault("Codec: %w", err)
			}
		}
	case c.Decode != nil:
	case c.Raw:
		if _, err := rawOf[T](); err != nil {
			fault("Raw: %w", err)
		}
	default:
		c.jsonFaults(fault)
	}
}

func (c *Config[T]) jsonFaults(fault func(format string, args ...any)) {
	t, err := row.Of[T]()
	switch {
	case err != nil:
		if k := reflect.TypeFor[T]().Kind(); k == reflect.Slice || k == reflect.String {
			err = fmt.Errorf("%w; for values as they are, set Raw", err)
		}
		fault("%w", err)
	case len(t.Columns) == 0:
		fault("the row type %v has no columns", t)
	default:
		for i := range t.Columns {
			if col := &t.Columns[i]; !col.CanReadJSON() {
				fault("column %s: a %v can't be read from JSON; give its type an UnmarshalText or UnmarshalJSON method, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
			}
		}
	}
}
