package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// Run implements leat.Source.
func (s *Source[T]) Run(ctx context.Context, in leat.Intake[T]) error {
	s.log.Store(in.Env().Logger)
	f, err := s.format()
	if err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.note(ctx); err != nil {
		return err
	}
	cl, err := s.fetcher()
	if err != nil {
		return err
	}
	defer cl.Close()
	r := &reading[T]{
		s: s, in: in, cl: cl, format: f, arrived: time.Now(),
		parts: map[topicPartition]*part{}, refused: map[topicPartition]uint64{}, absent: map[string]time.Time{},
	}
	s.mu.Lock()
	clear(s.lag) // of partitions that were lost with the last Run
	s.mu.Unlock()
	s.own.attach(in)
	s.recountLost()
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { s.watchLag(watch) })
	defer watching.Wait()
	defer stop()
	return r.run(ctx)
}

// reading is one Run. One goroutine reads all partitions.
type reading[T any] struct {
	s      *Source[T]
	in     leat.Intake[T]
	cl     *kgo.Client // fetches
	format *format[T]

	parts   map[topicPartition]*part
	order   []*part                   // those of parts, by name
	refused map[topicPartition]uint64 // tokens of partitions that the engine has left out
	absent  map[string]time.Time      // when topics that we have partitions of were last not there
	away    bool                      // there are such topics now

	fenced    time.Time        // the last time that a partition was refused, or was to be taken back
	unsure    time.Time        // when the group last did not say that this process is a member
	arrived   time.Time        // the last record
	told      bool             // CaughtUp, since then
	looked    time.Time        // at the ends, since then
	asked     time.Time        // when the group was last asked how far it is (Drain)
	listed    time.Time        // the topics
	checked   time.Time        // whether those that are read are still there
	awaited   []topicPartition // ours, which can't be taken over yet: see await
	awaitedAt time.Time        // when that was last looked at
	lacking   time.Time        // since when partitions are missing that rule H1 asks for
	waited    bool             // for them, and logged
}

// part is a partition that is being read.
type part struct {
	topicPartition
	name    string
	token   uint64
	log     string
	next    int64     // behind what was fetched
	sent    int64     // behind what was sent
	end     int64     // up to which records can be read, as last seen
	goal    int64     // of Drain: what has to be sent; 0: none
	arrived time.Time // the last record
	pending []segment // fetched, not sent
	paused  bool
}

// segment is records that came together. next may lie behind the last of them: markers
// of transactions, and records that compaction has taken away.
type segment struct {
	records []*kgo.Record
	next    int64
	epoch   int32
}

// How long the loop waits for records at most.
const (
	longWait  = time.Second
	shortWait = 20 * time.Millisecond // while something is held, or the end is near
	quiet     = 200 * time.Millisecond
)

func (r *reading[T]) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		whole, joined, err := r.follow(ctx)
		if err != nil {
			return err
		}
		if whole {
			switch done, err := r.send(); {
			case err != nil:
				return err
			case done:
				return nil
			}
			if joined {
				switch done, err := r.ends(ctx); {
				case err != nil:
					return err
				case done:
					return nil
				}
			}
		}
		if err := r.poll(ctx); err != nil {
			return err
		}
	}
}

// follow takes over what this process has got, and lets go of what it has lost. whole is
// false while nothing may be read (rule H1).
func (r *reading[T]) follow(ctx context.Context) (whole, joined bool, _ error) {
	if err := r.s.own.refusal(); err != nil {
		return false, false, err
	}
	if time.Since(r.arrived) > longWait {
		r.s.commitAgain(ctx)
	}
	if err := r.s.discover(ctx, &r.listed); err != nil && !r.goesOn(err) {
		return false, false, err
	}
	if err := r.deleted(ctx); err != nil {
		return false, false, err
	}
	r.takeBack(ctx)
	ours, joined := r.s.own.look()
	let := false
	for tp, p := range r.parts {
		if ours[tp] != p.token {
			r.let(p)
			let = true
		}
	}
	// Who was given them by the group since is no stranger to it.
	maps.DeleteFunc(r.refused, func(tp topicPartition, token uint64) bool { return ours[tp] != token })
	fresh := map[topicPartition]uint64{}
	r.away = false
	for tp, token := range ours {
		switch {
		case r.parts[tp] != nil, r.refused[tp] == token:
		case time.Since(r.absent[tp.Topic]) <= longWait:
			r.away = true
		default:
			fresh[tp] = token
		}
	}
	if stage := r.in.LocalState(); stage != "" && r.s.config.Group != "" {
		if let {
			return false, joined, leat.Transient(fmt.Errorf("kafkasource: rule H1: the group took partitions from this process, and only it can see the state of stage %q", stage))
		}
		if whole, err := r.local(ctx, stage, ours); err != nil && !r.goesOn(err) || err == nil && !whole {
			return false, joined, err
		}
	}
	if len(r.awaited) > 0 {
		r.awaited = slices.DeleteFunc(r.awaited, func(tp topicPartition) bool { return fresh[tp] == 0 })
		if time.Since(r.awaitedAt) < quiet {
			fresh = less(fresh, r.awaited)
		}
	}
	if len(fresh) > 0 {
		if r.s.config.Group != "" {
			if time.Since(r.unsure) < quiet {
				return len(r.parts) > 0, false, nil
			}
			if _, ok := r.s.confirmed(ctx); !ok {
				r.unsure = time.Now()
				return len(r.parts) > 0, false, nil
			}
		}
		if err := r.assign(ctx, fresh); err != nil {
			return false, joined, err
		}
	}
	if len(r.parts) == 0 && len(r.awaited) == 0 {
		if err := r.taken(); err != nil {
			return false, joined, err
		}
	}
	return true, joined, nil
}

// deleted finds out topics that were deleted while they are read: the client waits for them, for
// ever and silently. The next Run says that there is no such topic, or none again (rule A2-1).
func (r *reading[T]) deleted(ctx context.Context) error {
	wait := r.s.refresh()
	if len(r.s.missing) > 0 { // one broker may be behind the others, so one look is none
		wait = min(wait, longWait)
	}
	if r.s.config.Pattern != "" || len(r.parts) == 0 || time.Since(r.checked) < wait {
		return nil
	}
	r.checked = time.Now()
	there, err := r.s.topics(ctx, r.s.member.Load())
	switch {
	case leat.IsTransient(err):
		r.s.logger().Debug("the cluster does not tell its topics; asked again later", "err", err)
		return nil
	case err != nil:
		return err
	}
	for _, p := range r.order {
		if r.s.vanished(p.Topic, there) {
			return r.trouble(ctx, p, kerr.UnknownTopicOrPartition)
		}
	}
	return nil
}

// goesOn tells whether an error of looking at the cluster can wait: partitions are being
// read, and the client waits for brokers by itself.
func (r *reading[T]) goesOn(err error) bool {
	if len(r.parts) == 0 || !leat.IsTransient(err) {
		return false
	}
	r.listed = time.Now()
	r.s.logger().Debug("the cluster does not tell its topics; asked again later", "err", err)
	return true
}

// let goes of a partition.
func (r *reading[T]) let(p *part) {
	r.cl.RemoveConsumePartitions(map[string][]int32{p.Topic: {p.Partition}})
	r.resume(p)
	for _, seg := range p.pending {
		recycle(seg.records)
	}
	p.pending = nil
	delete(r.parts, p.topicPartition)
	r.sortParts()
	r.s.mu.Lock()
	delete(r.s.lag, p.topicPartition)
	r.s.mu.Unlock()
}

func (r *reading[T]) sortParts() {
	tps := make([]topicPartition, 0, len(r.parts))
	for tp := range r.parts {
		tps = append(tps, tp)
	}
	sortPartitions(tps)
	r.order = r.order[:0]
	for _, tp := range tps {
		r.order = append(r.order, r.parts[tp])
	}
}

func recycle(records []*kgo.Record) {
	for _, rec := range records {
		rec.Recycle()
	}
}

// poll waits for records, or for news of the group.
func (r *reading[T]) poll(ctx context.Context) error {
	ctx2, cancel := context.WithTimeout(ctx, r.wait())
	defer cancel()
	r.s.own.waking(cancel)
	fetches := r.cl.PollFetches(ctx2)
	r.s.own.waking(nil)
	for i := range fetches {
		for _, t := range fetches[i].Topics {
			for _, fp := range t.Partitions {
				tp := topicPartition{Topic: t.Topic, Partition: fp.Partition}
				if p := r.parts[tp]; p != nil && t.TopicID != [16]byte{} && kafka.LogOf(t.TopicID) != p.log {
					return r.trouble(ctx, p, kerr.UnknownTopicID) // made again since Assign was told its log
				}
				if err := r.take(ctx, tp, fp); err != nil {
					return err
				}
			}
		}
	}
	if len(fetches) > 0 {
		r.tellLag()
	}
	return nil
}

func (r *reading[T]) wait() time.Duration {
	wait := longWait
	if time.Since(r.unsure) < 2*quiet || len(r.awaited) > 0 {
		wait = quiet / 2
	}
	if len(r.order) == 0 && !r.lacking.IsZero() { // nothing may be read, so there is nothing to tell
		return min(wait, quiet)
	}
	for _, p := range r.order {
		switch {
		case len(p.pending) > 0:
			return shortWait
		case p.goal > p.next:
			wait = min(wait, quiet/2)
		}
	}
	if !r.told {
		wait = min(wait, max(shortWait, r.s.full.Idle-time.Since(r.arrived)))
	}
	return wait
}

// take keeps what was fetched of a partition.
func (r *reading[T]) take(ctx context.Context, tp topicPartition, fp kgo.FetchPartition) error {
	if fp.Err != nil && (ctx.Err() != nil || errors.Is(fp.Err, context.DeadlineExceeded) || errors.Is(fp.Err, context.Canceled)) {
		return nil // the wait is over
	}
	p := r.parts[tp]
	switch {
	case p == nil && fp.Err != nil && tp.Topic == "": // about the client, and not a partition
		return leat.Transient(fmt.Errorf("kafkasource: %w", fp.Err))
	case p == nil: // it is not ours any more
		recycle(fp.Records)
		return nil
	case fp.Err != nil:
		return r.trouble(ctx, p, fp.Err)
	}
	if p.end = fp.HighWatermark; !r.s.config.ReadUncommitted && fp.LastStableOffset >= 0 {
		p.end = fp.LastStableOffset
	}
	if len(fp.Records) == 0 {
		return nil
	}
	last := fp.Records[len(fp.Records)-1]
	if first := fp.Records[0].Offset; first < p.next {
		return r.s.beyond(p.topicPartition, p.next, first) // it was cut off while we read
	}
	seg := segment{epoch: last.LeaderEpoch, next: last.Offset + 1}
	p.next = seg.next
	seg.records = data(fp.Records) // last may be given back by it, and is empty then
	p.pending = append(p.pending, seg)
	p.arrived = time.Now()
	r.arrived, r.told = p.arrived, false
	return nil
}

// trouble is an error with which a partition came.
func (r *reading[T]) trouble(ctx context.Context, p *part, err error) error {
	where := fmt.Sprintf("kafkasource: topic %s, partition %d, offset %d", p.Topic, p.Partition, p.next)
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		return r.s.beyond(p.topicPartition, p.next, loss.ResetTo)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return r.missing(ctx, p)
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
		// If there is a new one, Assign tells its log from ours (rule A2-1).
		return leat.Transient(fmt.Errorf("%s: the topic was deleted while it was read, and perhaps made again: %w", where, err))
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("%s: not allowed to read it: %w", where, err)
	case errors.Is(err, kgo.ErrMaxDecompress): // and stays so
		return fmt.Errorf("%s: a batch of records is larger, decompressed, than this client may take: give kgo.MaxDecompressBatchBytes in Opts more than the %v bytes that it has: %w",
			where, r.cl.OptValue(kgo.MaxDecompressBatchBytes), kgo.ErrMaxDecompress)
	}
	return leat.Transient(fmt.Errorf("%s: %w", where, err))
}

// send hands in what was fetched, a chunk of each partition in turn. A partition that is
// held keeps what it has, and is not fetched meanwhile (rule A5-1). done tells that
// MaxMessages is reached.
func (r *reading[T]) send() (done bool, _ error) {
	for progress := true; progress; {
		progress = false
		for _, p := range r.order {
			if len(p.pending) == 0 {
				continue
			}
			if r.in.Held(p.name) {
				r.pause(p)
				continue
			}
			if r.s.own.isDirty() { // before Send may block
				return false, nil
			}
			limit := r.s.left(r.s.full.ChunkRows)
			if limit == 0 {
				return true, nil
			}
			if err := r.sendChunk(p, limit); err != nil {
				return false, err
			}
			if len(p.pending) == 0 {
				r.resume(p)
			}
			progress = true
		}
	}
	return r.s.left(1) == 0, nil
}

func (r *reading[T]) sendChunk(p *part, limit int) error {
	step := r.s.own.beginOne(p.topicPartition, p.token)
	if step == nil {
		return nil // follow lets go of it
	}
	defer r.s.own.end(step)
	seg := &p.pending[0]
	c, size, rest := r.format.cut(seg.records, limit)
	chunk := leat.Chunk[T]{
		Partition: p.name, First: p.sent, Next: seg.next, Resume: resume(seg.epoch),
		Bytes: size, Decode: c.decode, Locate: c.locate, Offsets: c.offsets, Release: c.release,
	}
	n := len(c.records)
	if n > 0 {
		chunk.First = c.records[0].Offset
	}
	if len(rest) > 0 {
		last := c.records[n-1]
		chunk.Next, chunk.Resume = last.Offset+1, resume(last.LeaderEpoch)
		seg.records = rest
	} else if p.pending = p.pending[1:]; len(p.pending) == 0 {
		p.pending = nil
	}
	if err := r.in.Send(chunk); err != nil {
		return err
	}
	p.sent = chunk.Next
	r.s.count(p.topicPartition, chunk.Next, n)
	return nil
}

func (r *reading[T]) pause(p *part) {
	if !p.paused {
		p.paused = true
		r.cl.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
}

func (r *reading[T]) resume(p *part) {
	if p.paused {
		p.paused = false
		r.cl.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
}
