// Package kafka is what kafkasource and kafkasink share: how partitions and positions
// are named, and the consumer group through which a transaction commits the source's
// positions (rule J3).
package kafka

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TopicPartition is a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the name that kafkasource gives the partition, without its own: topic/0.
func (tp TopicPartition) String() string { return tp.Topic + "/" + strconv.Itoa(int(tp.Partition)) }

// ParsePartition undoes String.
func ParsePartition(name string) (TopicPartition, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return TopicPartition{}, fmt.Errorf("%q is no topic/partition", name)
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil {
		return TopicPartition{}, fmt.Errorf("%q is no topic/partition: %w", name, err)
	}
	return TopicPartition{name[:i], int32(n)}, nil
}

// Member is a consumer group's member at one moment: what a commit of offsets has to
// carry so that the broker refuses it when the member is no more (KIP-447).
type Member struct {
	Group      string
	ID         string
	InstanceID *string // static membership; nil without
	Generation int32
}

// Group is a kafkasource of a consumer group as a transaction of kafkasink sees it. All
// methods are safe for concurrent use.
type Group interface {
	// Node is the source's name in the pipeline; Qualified partition names begin
	// with it and a slash.
	Node() string

	// Client is the source's client, whose cluster the transaction must be on. It is
	// nil before Run. It must not be closed, and nothing may be produced with it.
	Client() *kgo.Client

	// Token is a number that changes whenever this process loses the partition or gets
	// it back. 0: it has not got it.
	Token(tp TopicPartition) uint64

	// Member is the membership at this moment, provided that the process still has
	// each of the partitions with its token; else leat.Fenced of those it has not. The check and the reading are
	// one step with respect to losing partitions: a Member that is out of date when it is used is refused
	// by the broker.
	Member(have map[TopicPartition]uint64) (Member, error)

	// Whole is the offset up to which all sinks behind the source have the partition's rows, as far as
	// the source has heard; -1: it does not know. A transaction commits it with its own position.
	Whole(tp TopicPartition) int64

	// Transacted tells the source that a transaction commits its positions in the
	// group, so that its own Commit must not (rule J3).
	Transacted()
}
