package kafkasink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/kafka"
)

// commit notes that a sink is to commit, and commits when it is the last one.
func (tx *Transaction) commit(ctx context.Context, who any, cp leat.Checkpoint) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	l, err := tx.alive()
	if err != nil {
		return err
	}
	l.votes[who] = cp
	if len(l.votes) < tx.opened {
		return nil
	}
	at, err := l.positions()
	if err == nil {
		err = l.commit(ctx, at)
	}
	if err != nil {
		return err
	}
	clear(l.votes)
	tx.care.committed()
	return nil
}

// positions are those of all sinks. They stand at the same cut.
func (l *life) positions() (map[kafka.TopicPartition]kafka.Offset, error) {
	out := map[kafka.TopicPartition]kafka.Offset{}
	for _, cp := range l.votes {
		for name, p := range cp.Positions {
			tp, err := l.parse(name)
			if err != nil {
				return nil, err
			}
			o := kafka.Offset{Next: p.Next, Resume: p.Resume, Log: p.Log}
			if other, ok := out[tp]; ok && other != o {
				return nil, fmt.Errorf("kafkasink: the sinks of a transaction are asked to commit %s at %d and at %d", name, other.Next, o.Next)
			}
			out[tp] = o
		}
	}
	return out, nil
}

// commit makes what was written since the last one visible, together with the positions.
func (l *life) commit(ctx context.Context, at map[kafka.TopicPartition]kafka.Offset) error {
	moved := map[kafka.TopicPartition]kafka.Offset{}
	for tp, o := range at {
		held := l.held[tp]
		if held.Mark, held.Whole = "", 0; held != o {
			moved[tp] = o
		}
	}
	if !l.begun {
		// There is nothing that the positions would have to be atomic with, and kgo's
		// transactions are begun by records only.
		if len(moved) == 0 {
			return nil
		}
		l.whole(moved)
		return l.commitOffsets(ctx, moved)
	}
	if len(moved) == 0 { // letters: something has to tell whether the commit took effect
		moved = at
	}
	if len(moved) == 0 {
		return errors.New("kafkasink: rows were written, and the checkpoint has no position of the source")
	}
	var nonce [8]byte
	rand.Read(nonce[:])
	mark := hex.EncodeToString(nonce[:])
	for tp, o := range moved {
		o.Mark = mark
		moved[tp] = o
	}
	l.whole(moved)

	if err := l.p.flush(ctx); err != nil {
		return err
	}
	if err := l.failed(); err != nil {
		return err
	}
	if err := failpoint.Hit("kafkasink/before-offsets"); err != nil {
		return l.lost(err)
	}
	id, epoch, err := l.p.cl.ProducerID(ctx)
	if err != nil {
		return l.lost(err)
	}
	tx := kafka.Txn{ID: l.id, Producer: id, Epoch: epoch, V2: l.v2}
	err = l.asMember(ctx, moved, func(m kafka.Member) error { return kafka.CommitOffsetsIn(ctx, l.p.cl, tx, m, moved) })
	if err != nil {
		return err
	}
	if err := failpoint.Hit("kafkasink/before-end"); err != nil {
		return l.lost(err)
	}
	ctx, cancel := outlast(ctx)
	defer cancel()
	err = l.end(ctx)
	if err == nil {
		err = failpoint.Hit("kafkasink/after-end") // as if the answer had been lost
	}
	if err != nil {
		if err := l.resolve(ctx, tx, moved, err); err != nil {
			return err
		}
	}
	l.begun = false
	maps.Copy(l.held, moved)
	return nil
}

// whole adds to positions what other sinks behind the source have, which this commit says
// nothing about: they would miss what is between (rule E7-1).
func (l *life) whole(at map[kafka.TopicPartition]kafka.Offset) {
	for tp, o := range at {
		if o.Whole = l.tx.config.Source.Whole(tp) + 1; o.Whole == 0 {
			o.Whole = -1
		}
		at[tp] = o
	}
}

// outlast is for the end of a transaction. It is not cut short by the pipeline's end: that would
// only make its outcome unknown. But who ends the pipeline does not wait for long (leat.Config.DrainTimeout).
func outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(endTime, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// end commits the transaction.
func (l *life) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return l.p.cl.EndTransaction(ctx, kgo.TryCommit)
}

// resolve finds out what became of a transaction whose end was not confirmed (rule E4): the commit
// is asked for again, as long as there is hope; then it is ended by force, and the group's offsets tell
// whether they were committed with it. When that can't be found out now, the rewind that follows
// reads them again.
//
// Ending it by force at once would do as well, if a coordinator did not act on decisions of which its
// successor knows nothing: Kafka's does, when brokers die again and again (see docs/guarantees.md).
// What the successor hears of first then decides about the partitions that have no marker yet.
func (l *life) resolve(ctx context.Context, tx kafka.Txn, moved map[kafka.TopicPartition]kafka.Offset, why error) error {
	why = fmt.Errorf("the end of a transaction was not confirmed: %w", why)
	if tx.V2 && !kafka.Final(why) {
		bound, cancel := context.WithTimeout(ctx, endTime)
		if err := kafka.CommitAgain(bound, l.p.cl, tx); err != nil {
			l.env.Logger.Debug("the commit was asked for again", "id", l.id, "error", err)
		}
		cancel()
	}
	bound, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	if err := l.p.cl.EndTransaction(bound, kgo.TryAbort); err != nil {
		return l.lost(errors.Join(why, err))
	}
	l.begun = false
	at, err := kafka.FetchOffsets(bound, l.p.cl, l.group, slices.Collect(maps.Keys(moved)), nil)
	if err != nil {
		return l.lost(errors.Join(why, err))
	}
	for tp, o := range moved {
		if at[tp] != o {
			return l.lost(fmt.Errorf("%w; it did not take effect", why))
		}
	}
	l.env.Logger.Info("the end of a transaction was not confirmed; it took effect", "id", l.id, "error", why)
	return nil
}

// commitOffsets moves positions without a transaction.
func (l *life) commitOffsets(ctx context.Context, moved map[kafka.TopicPartition]kafka.Offset) error {
	err := l.asMember(ctx, moved, func(m kafka.Member) error { return kafka.CommitOffsets(ctx, l.p.cl, m, moved) })
	if err == nil {
		maps.Copy(l.held, moved)
	}
	return err
}

// asMember commits offsets as the member that the source is now. While the group is
// rebalanced, the member's generation is out of date for a moment; as long as the source
// keeps the partitions, the commit is tried again with the new one (rule H4).
func (l *life) asMember(ctx context.Context, moved map[kafka.TopicPartition]kafka.Offset, commit func(kafka.Member) error) error {
	have := map[kafka.TopicPartition]uint64{}
	for tp := range moved {
		token, ok := l.tokens[tp]
		if !ok {
			return fmt.Errorf("kafkasink: a position of %s is to be committed, which was never restored", tp)
		}
		have[tp] = token
	}
	wait := 5 * time.Millisecond
	for end := time.Now().Add(min(l.tx.timeout()/3, 20*time.Second)); ; {
		m, err := l.tx.config.Source.Member(have)
		if err != nil {
			// Not leat.Fenced, see restore.
			return l.lost(fmt.Errorf("partitions are another process's: %v", err))
		}
		if m.ID == "" { // the broker would take it for an offset of nobody
			err = fmt.Errorf("the source is not a member of group %s at this moment", m.Group)
		} else {
			err = commit(m)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case denied(err), errors.Is(err, kerr.UnsupportedVersion):
			return err
		case !passing(err) || time.Now().After(end):
			return l.lost(err)
		}
		l.env.Logger.Debug("committing offsets again", "group", m.Group, "error", err)
		if err := kafka.Sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, 200*time.Millisecond)
	}
}

// passing tells whether a refused commit of offsets may be taken later, unchanged.
func passing(err error) bool {
	for _, e := range []error{
		kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.StaleMemberEpoch, kerr.ConcurrentTransactions,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var ke *kerr.Error
	return !errors.As(err, &ke) || ke.Retriable
}
