package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// readPatience is how long ReadDeadLetters waits for the broker. Tests set it.
var readPatience = 30 * time.Second

// ReadDeadLetters reads the letters of a topic that are committed now, each once, as
// leat.Replay wants them: those of one partition oldest first. It may be used while a
// pipeline writes. A record that is no letter is an error. Where a transaction is open that hides what
// was before it, as one of a killed process may be for TransactionConfig.Timeout, it waits for its end.
func ReadDeadLetters(ctx context.Context, c LettersConfig) iter.Seq2[leat.DeadLetter, error] {
	return func(yield func(leat.DeadLetter, error) bool) {
		stop := errors.New("stop")
		err := readLetters(ctx, c, func(d leat.DeadLetter) error {
			if !yield(d, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(leat.DeadLetter{}, fmt.Errorf("dead letters: %w", err))
		}
	}
}

func readLetters(ctx context.Context, c LettersConfig, yield func(leat.DeadLetter) error) error {
	if err := checkTopic(c.Topic); err != nil {
		return err
	}
	opts := append([]kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID("leat")}, c.Opts...)
	cl, err := kgo.NewClient(append(opts,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a transaction's end has an offset too (rule H2)
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()

	admin := kadm.NewClient(cl)
	first, err := admin.ListStartOffsets(ctx, c.Topic)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		_, err = kafka.Explain(cl, err)
		return fmt.Errorf("brokers %s: topic %s: %w", kafka.Seeds(cl), c.Topic, err)
	}
	end, err := admin.ListCommittedOffsets(ctx, c.Topic)
	if err == nil {
		err = end.Error()
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", c.Topic, err)
	}
	left := map[int32]int64{} // where reading ends
	from := map[int32]kgo.Offset{}
	end.Each(func(o kadm.ListedOffset) {
		if at, _ := first.Lookup(c.Topic, o.Partition); o.Offset > at.Offset {
			left[o.Partition] = o.Offset
			from[o.Partition] = kgo.NewOffset().At(at.Offset)
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: from})

	seen := map[string]struct{}{}
	for len(left) > 0 {
		wait, cancel := context.WithTimeout(ctx, readPatience)
		fetches := cl.PollFetches(wait)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wait.Err() != nil && fetches.NumRecords() == 0 {
			if held, err := behindTransactions(ctx, admin, c.Topic, left); err != nil {
				return fmt.Errorf("topic %s: %w", c.Topic, err)
			} else if held {
				continue
			}
			return fmt.Errorf("topic %s: nothing came within %v, and %d of its partitions are not read to the end", c.Topic, readPatience, len(left))
		}
		for _, e := range fetches.Errors() {
			if e.Err != nil && wait.Err() == nil {
				return fmt.Errorf("topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			end, ok := left[r.Partition]
			if !ok {
				continue
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				d, err := letterOf(r)
				if err != nil {
					return err
				}
				if _, dup := seen[d.ID]; !dup { // rule B3-2
					seen[d.ID] = struct{}{}
					if err := yield(d); err != nil {
						return err
					}
				}
			}
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		}
	}
	return nil
}

// behindTransactions tells whether an open transaction holds each of the partitions where reading is to
// end. What was aborted before it is not shown, nor that it was, until the open one ends: when
// its member goes on, or, if that was killed, at its timeout.
func behindTransactions(ctx context.Context, admin *kadm.Client, topic string, left map[int32]int64) (bool, error) {
	committed, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return false, err
	}
	all, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return false, err
	}
	for p, end := range left {
		c, ok := committed.Lookup(topic, p)
		a, ok2 := all.Lookup(topic, p)
		if !ok || !ok2 || c.Err != nil || a.Err != nil || c.Offset != end || a.Offset <= end {
			return false, nil
		}
	}
	return true, nil
}
