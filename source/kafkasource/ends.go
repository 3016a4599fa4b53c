package kafkasource

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

var endOffsets = (*kadm.Client).ListEndOffsets

// ends looks whether the partitions have been read to their ends: of Drain, then done is
// true, or for now, then the engine is told once for each time that records cease.
func (r *reading[T]) ends(ctx context.Context) (done bool, _ error) {
	if r.s.config.Drain {
		if done, err := r.drained(ctx); err != nil || done {
			return done, err
		}
	}
	for _, p := range r.order {
		if len(p.pending) > 0 {
			return false, nil
		}
	}
	silent := time.Since(r.arrived)
	if r.told || len(r.order) == 0 || silent < r.s.full.Idle || time.Since(r.looked) < min(r.s.full.Idle, longWait) {
		return false, nil
	}
	r.looked = time.Now()
	of := map[topicPartition]uint64{}
	for tp := range r.parts {
		of[tp] = 0
	}
	end, err := r.s.ends(ctx, of)
	if err != nil {
		if leat.IsTransient(err) { // the client goes on trying; we are not caught up
			r.s.logger().Debug("can't tell whether all is read", "err", err)
			return false, nil
		}
		return false, err
	}
	for _, p := range r.order {
		p.end = end[p.topicPartition]
		if reached, err := r.reached(ctx, p, p.end); err != nil || !reached {
			return false, err
		}
	}
	r.told = true
	r.tellLag()
	r.in.CaughtUp()
	return false, nil
}

// drained tells whether Drain is done. A position that has reached the end says so, and
// not the last record: behind it there may be markers and gaps (rule H2).
func (r *reading[T]) drained(ctx context.Context) (bool, error) {
	if r.hopes() || len(r.awaited) > 0 {
		return false, nil
	}
	if r.away && r.s.config.Group == "" { // see othersDrained for a group
		return false, nil // until it is there again, or taken for deleted: see letVanished
	}
	var look []*part
	for _, p := range r.order {
		switch {
		case p.sent >= p.goal: // those that are done by what came cost nothing
		case len(p.pending) > 0, time.Since(p.arrived) < quiet, time.Since(r.looked) < quiet:
			return false, nil
		default:
			look = append(look, p)
		}
	}
	for _, p := range look {
		r.looked = time.Now()
		if reached, err := r.reached(ctx, p, p.goal); err != nil || !reached {
			return false, err
		}
		p.goal = p.next // so that it is not asked about again
	}
	if err := r.taken(); err != nil {
		return false, err
	}
	return r.othersDrained(ctx)
}

// othersDrained tells whether other members of the group have read what this one has not got:
// partitions may be on their way here, because their owner has just gone or is about to go. The group's
// offsets say so, which each member commits when all of it is durable.
func (r *reading[T]) othersDrained(ctx context.Context) (bool, error) {
	rest := map[topicPartition]uint64{}
	if r.s.config.Group != "" {
		for tp, goal := range r.s.goals {
			if goal > 0 && r.parts[tp] == nil {
				rest[tp] = 0
			}
		}
	}
	if len(rest) == 0 {
		return true, nil
	}
	if !r.told { // so that what is read here is committed, and they can see it
		r.told = true
		r.in.CaughtUp()
	}
	if time.Since(r.asked) < time.Second {
		return false, nil
	}
	r.asked = time.Now()
	vanished, err := r.withoutVanished(ctx, rest)
	if vanished != nil { // nobody will read it; see deleted
		return false, r.trouble(ctx, vanished, kerr.UnknownTopicOrPartition)
	}
	if len(rest) == 0 {
		return err == nil, nil
	}
	var kept map[topicPartition]kafka.Offset
	if err == nil {
		var open []topicPartition
		if kept, open, err = r.s.kept(ctx, rest); len(open) > 0 {
			return false, nil
		}
	}
	if err == nil {
		var begin, end map[topicPartition]int64
		if begin, end, err = r.s.span(ctx, rest); err == nil {
			for tp := range rest {
				p := &part{topicPartition: tp, name: tp.String(), next: max(begin[tp], kept[tp].Next)}
				if reached, err := r.reached(ctx, p, min(r.s.goals[tp], end[tp])); err != nil || !reached {
					return false, err
				}
			}
			return true, nil
		}
	}
	if leat.IsTransient(err) {
		r.s.logger().Debug("can't tell how far the group is", "err", err)
		return false, nil
	}
	return false, err
}

// withoutVanished leaves out what nobody can read any more: topics that matched Pattern and were deleted. One that
// is asked for by name is told of.
func (r *reading[T]) withoutVanished(ctx context.Context, of map[topicPartition]uint64) (named *part, _ error) {
	there, err := r.s.topics(ctx, r.s.member.Load())
	if err != nil {
		return nil, err
	}
	for tp := range of {
		if r.s.vanished(tp.Topic, there) {
			delete(of, tp)
			if r.s.config.Pattern == "" {
				named = &part{topicPartition: tp}
			}
		}
	}
	return named, nil
}

// reached tells whether nothing that can be read is left before end. The client says
// nothing of records that it leaves out (aborted ones, without their marker) nor of what
// compaction has left at the end, so if there seems to be something, the broker is asked.
func (r *reading[T]) reached(ctx context.Context, p *part, end int64) (bool, error) {
	next := p.next
	for next < end {
		at, any, err := r.s.probe(ctx, r.cl, p.topicPartition, next)
		switch {
		case err != nil:
			r.s.logger().Debug("can't look whether a partition has more", "partition", p.name, "err", err)
			return false, nil
		case any || at <= next:
			return false, nil
		}
		next = at
	}
	return true, nil
}

// probe fetches at an offset, past the client: it tells how far the broker's answer goes,
// and whether there is any record in it.
func (s *Source[T]) probe(ctx context.Context, cl *kgo.Client, tp topicPartition, at int64) (next int64, any bool, _ error) {
	topics, err := s.topics(ctx, s.member.Load())
	if err != nil {
		return at, false, err
	}
	d, ok := topics[tp.Topic].Partitions[tp.Partition]
	if !ok {
		return at, false, kerr.UnknownTopicOrPartition
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 0, 0, fetchPartitionBytes
	req.SessionEpoch = -1
	isolation := kgo.ReadUncommitted()
	if !s.config.ReadUncommitted {
		isolation, req.IsolationLevel = kgo.ReadCommitted(), 1
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = tp.Topic, topics[tp.Topic].ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = tp.Partition, at, fetchPartitionBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)

	ctx, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	answer, err := cl.Broker(int(d.Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return at, false, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return at, false, err
	}
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				Offset: at, IsolationLevel: isolation, Topic: tp.Topic, Partition: tp.Partition,
			}, &resp.Topics[i].Partitions[k], kgo.DefaultDecompressor(), nil)
			return next, len(fp.Records) > 0, fp.Err
		}
	}
	return at, false, nil
}
