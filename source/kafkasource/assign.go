package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// discover finds the partitions to read where no group shares them out: at the start of
// a Run, and now and then for partitions and topics that are added (rule H5).
func (s *Source[T]) discover(ctx context.Context, last *time.Time) error {
	if s.config.Group != "" || time.Since(*last) < s.refresh() {
		return nil
	}
	topics, err := s.topics(ctx, s.member.Load())
	if err != nil {
		return err
	}
	*last = time.Now()
	tps := s.wanted(topics)
	s.letVanished(topics)
	s.own.mu.Lock()
	fresh := tps[:0]
	for _, tp := range tps {
		if s.own.claims[tp] == nil {
			fresh = append(fresh, tp)
		}
	}
	s.own.mu.Unlock()
	if len(fresh) > 0 || !s.own.hasJoined() {
		s.own.gained("", fresh)
	}
	return nil
}

// wanted are the partitions of topics that are to be read, by this process or another one of the group.
func (s *Source[T]) wanted(topics kadm.TopicDetails) (tps []topicPartition) {
	if len(s.config.Partitions) > 0 {
		return flat(s.config.Partitions)
	}
	for topic, d := range topics {
		for p := range d.Partitions {
			tps = append(tps, topicPartition{Topic: topic, Partition: p})
		}
	}
	return tps
}

// letVanished lets go of the partitions of topics that matched Pattern and were deleted, as a
// group does: the other topics do not wait for them.
func (s *Source[T]) letVanished(there kadm.TopicDetails) {
	if s.config.Pattern == "" {
		return
	}
	var gone []topicPartition
	s.own.mu.Lock()
	for tp, c := range s.own.claims {
		if !c.leaving && s.vanished(tp.Topic, there) {
			gone = append(gone, tp)
		}
	}
	s.own.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	sortPartitions(gone)
	s.logger().Warn("topics that match the pattern were deleted; the others are read on", "partitions", few(names(gone)))
	go func() { // giving up may take a rewind, which waits for Run
		ctx, cancel := context.WithTimeout(context.Background(), s.full.RevokeBudget)
		defer cancel()
		if _, err := s.own.revoked(ctx, gone, nil); err != nil && !s.closed.Load() {
			s.logger().Warn("what was read of deleted topics was not committed in time, and the pipeline rewinds without them", "partitions", few(names(gone)), "err", err)
		}
	}()
}

// vanished tells whether a topic has been missing for so long that it is taken for deleted: brokers
// may leave out for a while one that was made just now. For the goroutine of Run.
func (s *Source[T]) vanished(topic string, there kadm.TopicDetails) bool {
	if _, ok := there[topic]; ok {
		delete(s.missing, topic)
		return false
	}
	if _, ok := s.missing[topic]; !ok {
		s.missing[topic] = time.Now()
	}
	return time.Since(s.missing[topic]) > s.clientOption(kgo.ConsiderMissingTopicDeletedAfter, missingTopic)
}

// refresh is how often the client looks at the cluster.
func (s *Source[T]) refresh() time.Duration {
	return s.clientOption(kgo.MetadataMaxAge, metadataAge)
}

func (s *Source[T]) clientOption(opt any, or time.Duration) time.Duration {
	if cl := s.member.Load(); cl != nil {
		if d, ok := cl.OptValue(opt).(time.Duration); ok {
			return d
		}
	}
	return or
}

// note remembers, when Run is first called, which partitions there are, and for Drain where they end.
func (s *Source[T]) note(ctx context.Context) error {
	if s.known != nil {
		return nil
	}
	topics, err := s.topics(ctx, s.member.Load())
	if err != nil {
		return err
	}
	all := map[topicPartition]uint64{}
	for _, tp := range s.wanted(topics) {
		all[tp] = 0
	}
	if s.config.Drain {
		if s.goals, err = s.ends(ctx, all); err != nil {
			return err
		}
	}
	s.known = all
	return nil
}

// assign takes partitions over: asks where they stand, and begins to fetch them there.
func (r *reading[T]) assign(ctx context.Context, fresh map[topicPartition]uint64) error {
	s := r.s
	logs, leaderless, err := s.logs(ctx, fresh)
	if err != nil {
		return err
	}
	for tp := range fresh {
		if logs[tp.Topic] == "" { // deleted, and the others do not wait for it
			r.absent[tp.Topic], r.away = time.Now(), true
			delete(fresh, tp)
		}
	}
	var kept map[topicPartition]kafka.Offset
	var open []topicPartition
	if ready := less(fresh, leaderless); len(ready) > 0 {
		if kept, open, err = s.kept(ctx, ready); err != nil {
			return err
		}
	}
	if fresh = r.await(fresh, leaderless, open); len(fresh) == 0 {
		return nil
	}
	at, err := r.takeOver(ctx, fresh, logs, kept)
	if err != nil || len(at) == 0 {
		return err
	}
	begin, end, err := s.span(ctx, fresh)
	if err != nil {
		return err
	}
	offsets := map[string]map[int32]kgo.Offset{}
	from := make(map[string]int64, len(at))
	for tp, token := range fresh {
		pos, ok := at[tp.String()]
		if !ok {
			continue
		}
		p := &part{topicPartition: tp, name: tp.String(), token: token, log: logs[tp.Topic], end: end[tp], arrived: time.Now()}
		p.goal = min(s.goals[tp], p.end) // the topic may have been made again since
		if p.next, err = r.startOf(ctx, p, pos, logs[tp.Topic], begin[tp], end[tp]); err != nil {
			return err
		}
		p.sent = p.next
		from[p.name] = p.next
		s.recount(tp, p.next)
		// Where reading begins becomes known like what was read, when it is neither the
		// beginning nor what is known: else a process that begins before the next record
		// has come would decide anew, and pass records over.
		switch {
		case pos.Known() && p.next > pos.Next:
			p.jump(pos.Next)
		case !pos.Known() && !s.atStart():
			p.jump(p.next - 1)
		}
		r.parts[tp] = p
		s.catchUp(tp, pos, kept[tp].Next)
		if offsets[tp.Topic] == nil {
			offsets[tp.Topic] = map[int32]kgo.Offset{}
		}
		offsets[tp.Topic][tp.Partition] = kgo.NewOffset().At(p.next).WithEpoch(epochOf(pos.Resume))
		if pos.Known() && p.next > pos.Next { // of another place in the log
			offsets[tp.Topic][tp.Partition] = kgo.NewOffset().At(p.next)
		}
	}
	r.sortParts()
	s.logger().Info("partitions are read", "partitions", len(from))
	s.logger().Debug("partitions are read", "from", from)
	r.cl.AddConsumePartitions(offsets)
	r.arrived, r.told = time.Now(), false
	r.tellLag()
	return nil
}

// logs are the ids of the topics. Brokers before 2.8 have none: then the name stands for it. Topics of a
// pattern that are not there have none. Partitions that are leaderless, or that the broker does not know (yet), can't be asked
// for anything.
func (s *Source[T]) logs(ctx context.Context, of map[topicPartition]uint64) (logs map[string]string, leaderless []topicPartition, err error) {
	// Not what the client remembers: by the id of some seconds ago, a topic that was made again
	// since would pass for the log that was read (rule A2-1).
	cl, req := s.member.Load(), kmsg.NewPtrMetadataRequest()
	if s.config.Pattern == "" { // else all are looked at
		byName := map[string]bool{}
		for tp := range of {
			if !byName[tp.Topic] {
				byName[tp.Topic] = true
				t := kmsg.NewMetadataRequestTopic()
				t.Topic = kmsg.StringPtr(tp.Topic)
				req.Topics = append(req.Topics, t)
			}
		}
	}
	err = s.ask(ctx, cl, "asking for the topics' ids", func(ctx context.Context) error {
		_, err := cl.RequestCachedMetadata(ctx, req, time.Nanosecond)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	topics, err := s.topics(ctx, cl)
	if err != nil {
		return nil, nil, err
	}
	logs = map[string]string{}
	for tp := range of {
		d, ok := topics[tp.Topic]
		if !ok && s.config.Pattern != "" {
			continue
		}
		if !ok {
			return nil, nil, leat.Transient(fmt.Errorf("kafkasource: topic %s was deleted while it was taken over", tp.Topic))
		}
		if logs[tp.Topic] = kafka.LogOf(d.ID); logs[tp.Topic] == "" {
			logs[tp.Topic] = tp.Topic
		}
		if p, ok := d.Partitions[tp.Partition]; !ok || p.Leader < 0 {
			leaderless = append(leaderless, tp)
		}
	}
	return logs, leaderless, nil
}

// kept is what the group has committed of the partitions; of those in open it is not known before a
// transaction of an earlier owner has ended.
func (s *Source[T]) kept(ctx context.Context, of map[topicPartition]uint64) (out map[topicPartition]kafka.Offset, open []topicPartition, err error) {
	if s.config.Group == "" {
		return nil, nil, nil
	}
	ctx2, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	cl := s.member.Load()
	out, open, err = kafka.StableOffsets(ctx2, cl, s.config.Group, slices.Collect(maps.Keys(of)))
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, kafka.ErrMetadata), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		return nil, nil, fmt.Errorf("kafkasource: %w", err)
	case err != nil:
		refusal, err := kafka.Refused(ctx, cl, err)
		if err = fmt.Errorf("kafkasource: %w", err); refusal == kafka.Lasting {
			return nil, nil, err
		}
		return nil, nil, leat.Transient(err)
	}
	return out, open, nil
}

// await gives those of fresh that can be taken over now, and remembers the others; reading does not
// stop for them meanwhile. All replicas of a partition may be away, or it was added just now. A killed owner may have left a
// transaction open that commits offsets of the partition, which only the broker ends, when its timeout
// is over.
func (r *reading[T]) await(fresh map[topicPartition]uint64, leaderless, open []topicPartition) map[topicPartition]uint64 {
	if len(r.awaited) == 0 {
		if len(leaderless) > 0 {
			r.s.logger().Warn("no broker leads these partitions, or they are not known yet; they are read when one does", "partitions", few(names(leaderless)))
		}
		if len(open) > 0 {
			r.s.logger().Info("waiting for the transaction of a partition's last owner to end", "group", r.s.config.Group, "partitions", few(names(open)))
		}
	}
	others := slices.DeleteFunc(r.awaited, func(tp topicPartition) bool { return fresh[tp] != 0 }) // not asked about this time
	r.awaited, r.awaitedAt = slices.Concat(others, leaderless, open), time.Now()
	return less(fresh, r.awaited)
}

func less(of map[topicPartition]uint64, without []topicPartition) map[topicPartition]uint64 {
	if len(without) == 0 {
		return of
	}
	of = maps.Clone(of)
	for _, tp := range without {
		delete(of, tp)
	}
	return of
}

// takeOver calls Intake.Assign for the partitions that are still ours, and gives the positions of
// those that the engine has taken.
func (r *reading[T]) takeOver(ctx context.Context, fresh map[topicPartition]uint64, logs map[string]string, kept map[topicPartition]kafka.Offset) (map[string]leat.Position, error) {
	step := r.s.own.begin(fresh)
	if step == nil {
		return nil, nil
	}
	defer r.s.own.end(step)
	var ask []leat.Partition
	committed := map[topicPartition]int64{}
	for _, tp := range step.of {
		p := leat.Partition{Name: tp.String(), Log: logs[tp.Topic], Given: fresh[tp]}
		if o, ok := kept[tp]; ok {
			p.Kept = leat.Position{Next: o.Next, Resume: o.Resume, Log: o.Log}
			if o.Log == "" { // another program's: it is about the topic as it is
				p.Kept.Log = p.Log
			}
			committed[tp] = o.Next
			switch {
			case o.Whole < 0: // a transaction's, and other sinks may not have it
				p.Kept = leat.Position{}
			case o.Whole > 0 && o.Whole-1 < o.Next:
				p.Kept.Next, p.Kept.Resume = o.Whole-1, ""
			}
		}
		ask = append(ask, p)
	}
	at, err := r.in.Assign(ask...)
	if errors.Is(err, leat.ErrFenced) && r.s.config.Group != "" {
		if ctx.Err() != nil { // then it is the reason why all was given up meanwhile
			return nil, ctx.Err()
		}
		at, err = nil, nil // the others go on, or the group gives us some again
	}
	if err != nil {
		return nil, err
	}
	got := map[topicPartition]uint64{}
	for _, tp := range step.of {
		if _, ok := at[tp.String()]; ok {
			got[tp] = fresh[tp]
			continue
		}
		r.refused[tp] = fresh[tp]
		r.s.recount(tp, 0)
		r.fenced = time.Now()
		if r.s.config.Group == "" {
			r.s.logger().Warn("another process has taken the partition at a sink, so it is not read here any more", "partition", tp.String())
			continue
		}
		r.s.logger().Warn("another process has taken the partition at a sink, so it is not read here until the group says that it is ours", "partition", tp.String())
	}
	if gone := r.s.own.assigned(got, committed, at); len(gone) > 0 {
		r.in.Lost(names(gone)...)
		for _, tp := range gone {
			delete(at, tp.String())
		}
	}
	return at, nil
}

// span is from where to where the partitions have records.
func (s *Source[T]) span(ctx context.Context, of map[topicPartition]uint64) (begin, end map[topicPartition]int64, err error) {
	if begin, err = s.starts(ctx, of); err == nil {
		end, err = s.ends(ctx, of)
	}
	return begin, end, err
}

// startOf decides where to begin (rules A2-1, J1).
func (r *reading[T]) startOf(ctx context.Context, p *part, pos leat.Position, log string, first, end int64) (int64, error) {
	s, tp := r.s, p.topicPartition
	if !pos.Known() {
		s.mu.Lock()
		b, ok := s.begun[tp]
		s.mu.Unlock()
		if !ok || b.log != log {
			at, err := s.fresh(ctx, tp, first, end)
			if err != nil {
				return 0, err
			}
			b = begin{log, at}
			s.mu.Lock()
			s.begun[tp] = b
			s.mu.Unlock()
		}
		pos.Next = b.at
		if held := r.in.Ahead(p.name); held > 0 && !s.atStart() { // by one sink, and another knows nothing
			pos.Next = min(pos.Next, held)
		}
	}
	if most := max(pos.Next, r.in.Ahead(p.name)); most > end {
		// What is read committed may end before the log does.
		last, err := s.watermark(ctx, tp)
		if err != nil {
			return 0, err
		}
		if most > last {
			return 0, s.beyond(tp, most, last)
		}
	}
	if pos.Next < first {
		return s.skip(tp, pos.Next, first, end)
	}
	return pos.Next, nil
}

// fresh is where to begin with a partition of which nothing is known.
func (s *Source[T]) fresh(ctx context.Context, tp topicPartition, first, end int64) (int64, error) {
	_, old := s.known[tp]
	switch {
	case !old: // added since: all of it has come since then
		return first, nil
	case !s.config.StartAt.IsZero():
		last, err := s.watermark(ctx, tp) // before it is looked for
		if err != nil {
			return 0, err
		}
		at, err := s.after(ctx, map[topicPartition]uint64{tp: 0}, s.config.StartAt)
		if err != nil {
			return 0, err
		}
		if at[tp] < 0 {
			return last, nil
		}
		return at[tp], nil
	case s.config.Start == Latest:
		return end, nil
	}
	return first, nil
}

// atStart tells whether partitions are read from their beginning.
func (s *Source[T]) atStart() bool {
	return s.config.Start == Earliest && s.config.StartAt.IsZero()
}

// jump moves the position of a partition past offsets of which no record is read.
func (p *part) jump(from int64) {
	if len(p.pending) == 0 {
		p.sent = from
	}
	p.pending = append(p.pending, segment{next: p.next, epoch: -1})
	p.goal = max(p.goal, p.next) // a drain does not end before it is known
}

// missing is about records that were deleted while their partition was read.
func (r *reading[T]) missing(ctx context.Context, p *part) error {
	of := map[topicPartition]uint64{p.topicPartition: 0}
	logs, _, err := r.s.logs(ctx, of)
	if err != nil {
		return err
	}
	first, end, err := r.s.span(ctx, of)
	if err != nil {
		return err
	}
	if p.next >= first[p.topicPartition] {
		last, err := r.s.watermark(ctx, p.topicPartition)
		if err != nil {
			return err
		}
		if p.next > last {
			return r.s.beyond(p.topicPartition, p.next, last)
		}
		return leat.Transient(fmt.Errorf("kafkasource: %s: offset %d is out of range for its broker, but lies in the log of topic %s", p.name, p.next, logs[p.Topic]))
	}
	to, err := r.s.skip(p.topicPartition, p.next, first[p.topicPartition], end[p.topicPartition])
	if err != nil {
		return err
	}
	p.next = to
	p.jump(p.sent)
	where := map[string][]int32{p.Topic: {p.Partition}}
	r.cl.RemoveConsumePartitions(where)
	r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{p.Topic: {p.Partition: kgo.NewOffset().At(to)}})
	return nil
}

// watermark is the end of the log, whatever may be read of it.
func (s *Source[T]) watermark(ctx context.Context, tp topicPartition) (int64, error) {
	at, err := s.list(ctx, map[topicPartition]uint64{tp: 0}, "asking where a partition ends", endOffsets)
	return at[tp], err
}

// skip decides about records from asked to first, which are not there any more (rule J1).
func (s *Source[T]) skip(tp topicPartition, asked, first, end int64) (int64, error) {
	var to int64
	switch s.config.OutOfRange {
	case SkipToEarliest:
		to = first
	case SkipToLatest:
		to = max(end, first)
	default:
		return 0, fmt.Errorf("kafkasource: topic %s, partition %d: rule J1: reading was to go on at offset %d, but the log begins at %d (and ends at %d): "+
			"%d offsets were deleted by retention before they were read. What was read is kept. "+
			"To go on without them set OutOfRange to SkipToEarliest, or to SkipToLatest to pass over all that is there",
			tp.Topic, tp.Partition, asked, first, end, first-asked)
	}
	s.logger().Warn("records are passed over: they were deleted before they were read, or OutOfRange says so",
		"topic", tp.Topic, "partition", tp.Partition, "asked", asked, "log start", first, "log end", end, "goes on at", to, "skipped", to-asked)
	return to, nil
}

// beyond is about a log that ends before what was read of it.
func (s *Source[T]) beyond(tp topicPartition, asked, end int64) error {
	return fmt.Errorf("kafkasource: topic %s, partition %d: rule A2-1: offset %d was reached, but the log ends at %d: "+
		"the broker has lost records that were read (an unclean leader election, a restored backup), or the position is another cluster's. "+
		"Nothing was skipped and nothing is read. To read on from what the log has now, reset the partition: delete the sinks' positions of %s/%s, the state folder, and the offsets of the group (%q)",
		tp.Topic, tp.Partition, asked, end, s.Name(), tp, s.config.Group)
}
