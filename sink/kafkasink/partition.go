package kafkasink

import (
	"fmt"
	"runtime/debug"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat/internal/engine"
)

// chosen is the partition that Config.Partition chooses.
func chosen(choose func(row, n int) int, row, n int) (at int, err error) {
	defer func() {
		if r := recover(); r != nil { // rule A9
			err = &engine.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	if at = choose(row, n); at < 0 || at >= n {
		return -1, fmt.Errorf("Partition chose %d of %d partitions", at, n)
	}
	return at, nil
}

// choose fixes the partition of a record. kgo keeps Partition for itself, and does not
// look at Offset until the record is written.
func choose(r *kgo.Record, partition int) { r.Offset = int64(partition) + 1 }

// partitioner honors what choose has fixed, and leaves all other records to another
// partitioner: in a Transaction, one client serves sinks of both kinds.
type partitioner struct{ kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	rest := p.Partitioner.ForTopic(topic)
	t := &topicPartitioner{TopicPartitioner: rest}
	t.backup, _ = rest.(kgo.TopicBackupPartitioner)
	t.batch, _ = rest.(kgo.TopicPartitionerOnNewBatch)
	return t
}

type topicPartitioner struct {
	kgo.TopicPartitioner
	backup kgo.TopicBackupPartitioner
	batch  kgo.TopicPartitionerOnNewBatch
}

func (t *topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Offset > 0 || t.TopicPartitioner.RequiresConsistency(r)
}

func (t *topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Offset > 0 {
		return int(r.Offset - 1)
	}
	return t.TopicPartitioner.Partition(r, n)
}

func (t *topicPartitioner) PartitionByBackup(r *kgo.Record, n int, backup kgo.TopicBackupIter) int {
	switch {
	case r.Offset > 0:
		return int(r.Offset - 1)
	case t.backup != nil:
		return t.backup.PartitionByBackup(r, n, backup)
	}
	return t.TopicPartitioner.Partition(r, n)
}

func (t *topicPartitioner) OnNewBatch() {
	if t.batch != nil {
		t.batch.OnNewBatch()
	}
}
