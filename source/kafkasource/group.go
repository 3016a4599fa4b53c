package kafkasource

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

var _ kafka.Group = (*Source[struct{}])(nil)

// Node implements kafka.Group.
func (s *Source[T]) Node() string { return s.Name() }

// GroupID names the consumer group; "" without one.
func (s *Source[T]) GroupID() string { return s.config.Group }

// Client implements kafka.Group.
func (s *Source[T]) Client() *kgo.Client { return s.member.Load() }

// Token implements kafka.Group.
func (s *Source[T]) Token(tp kafka.TopicPartition) uint64 { return s.own.token(tp) }

// Whole implements kafka.Group.
func (s *Source[T]) Whole(tp kafka.TopicPartition) int64 { return s.own.whole(tp) }

// Transacted implements kafka.Group.
func (s *Source[T]) Transacted() { s.transacted.Store(true) }

// Member implements kafka.Group. A partition is struck from the table before its
// callback returns, and the client joins the next generation, in which somebody else may
// have it, only after that: so a generation that is read together with the table belongs to it.
// The one exception is a client that joins as somebody new: then the table is void (see ownership).
func (s *Source[T]) Member(have map[kafka.TopicPartition]uint64) (m kafka.Member, err error) {
	m.Group = s.config.Group
	if s.config.InstanceID != "" {
		m.InstanceID = &s.config.InstanceID
	}
	id, generation, missing := s.own.holds(have)
	if len(missing) > 0 {
		names := make([]string, len(missing))
		for i, tp := range missing {
			names[i] = s.Name() + "/" + tp.String()
		}
		slices.Sort(names)
		return kafka.Member{}, leat.Fenced(names...)
	}
	if s.member.Load() == nil {
		return m, errors.New("kafkasource: the source is closed")
	}
	m.ID, m.Generation = id, generation
	return m, nil
}

// groupOpts are the options of a member. Its client has the partitions and reads none of
// them: each Run has a client of its own for that, so that a rewind leaves nothing behind.
func (s *Source[T]) groupOpts() []kgo.Opt {
	c := &s.full
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.Group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(), // rule J1
		kgo.SessionTimeout(c.SessionTimeout),
		kgo.OnPartitionsAssigned(s.onAssigned),
		kgo.OnPartitionsRevoked(s.onRevoked),
		kgo.OnPartitionsLost(s.onLost),
		kgo.AdjustFetchOffsetsFn(func(context.Context, map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return nil, nil // nothing is fetched
		}),
	}
	opts = append(opts, kgo.WithHooks(groupErrors{s.refused}))
	if c.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(c.InstanceID))
	}
	if c.Pattern != "" {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(wholeName(c.Pattern)))
	} else {
		opts = append(opts, kgo.ConsumeTopics(c.Topics...))
	}
	return opts
}

// wholeName makes a pattern match whole names only.
func wholeName(pattern string) string { return `\A(?:` + pattern + `)\z` }

func (s *Source[T]) onAssigned(_ context.Context, cl *kgo.Client, m map[string][]int32) {
	tps := flat(m)
	id, _ := cl.GroupMetadata()
	if stale := s.own.stale(id); len(stale) > 0 {
		s.expelled(stale)
		tps = append(tps, stale...)
	}
	if len(tps) > 0 {
		s.logger().Info("the group gives this process partitions", "group", s.config.Group, "partitions", few(names(tps)))
	}
	s.own.gained(id, tps)
}

func (s *Source[T]) onRevoked(ctx context.Context, _ *kgo.Client, m map[string][]int32) {
	tps := flat(m)
	if len(tps) == 0 {
		return
	}
	if s.own.isExpelled() {
		s.expelled(tps)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.full.RevokeBudget)
	defer cancel()
	start := time.Now()
	read, err := s.own.revoked(ctx, tps, s.settle)
	switch {
	case s.closed.Load():
	case err != nil:
		s.logger().Warn("partitions go to another process; what was read of them was not committed in time, and the pipeline rewinds without them",
			"group", s.config.Group, "partitions", few(read), "after", time.Since(start), "err", err)
	default:
		s.logger().Info("partitions go to another process", "group", s.config.Group, "partitions", few(names(tps)), "after", time.Since(start))
	}
}

func (s *Source[T]) onLost(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	if tps := flat(m); len(tps) > 0 {
		s.expelled(tps)
	}
}

// expelled gives up partitions that others may have had for a while.
func (s *Source[T]) expelled(tps []topicPartition) {
	s.own.lost(tps)
	s.logger().Warn("this process was taken for dead by the group, and its partitions are lost: nothing of theirs that is not committed becomes visible",
		"group", s.config.Group, "partitions", few(names(tps)))
}

func flat(m map[string][]int32) (out []topicPartition) {
	for topic, ps := range m {
		for _, p := range ps {
			out = append(out, topicPartition{Topic: topic, Partition: p})
		}
	}
	sortPartitions(out)
	return out
}

func names(tps []topicPartition) []string {
	out := make([]string, len(tps))
	for i, tp := range tps {
		out[i] = tp.String()
	}
	return out
}

// Commit implements leat.Source: it commits the positions to the group, for dashboards and
// for whoever gets the partitions next (rules E2, E7-1), unless a transaction of a sink
// does (rule J3). The sinks' positions are the truth, so a failure is logged and no more: the
// next commit covers this one, and Run tries again when none comes.
func (s *Source[T]) Commit(ctx context.Context, cp leat.Checkpoint) error {
	s.forget(cp)
	if s.config.Group == "" {
		return nil
	}
	at := map[topicPartition]kafka.Offset{}
	for name, p := range cp.Positions {
		if tp, err := kafka.ParsePartition(name); err == nil { // else letters that are replayed
			at[tp] = kafka.Offset{Next: p.Next, Resume: p.Resume, Log: p.Log}
		}
	}
	if s.own.complete(at); s.transacted.Load() {
		return nil
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	maps.Copy(s.due, at)
	s.commitDue(ctx)
	return nil
}

// catchUp is about a partition of which the sinks hold more than the group knows, because its last owner
// could not tell any more: when no records come, no checkpoint does either.
func (s *Source[T]) catchUp(tp topicPartition, pos leat.Position, known int64) {
	if s.config.Group == "" || s.transacted.Load() || !pos.Known() || pos.Next <= known {
		return
	}
	s.commits.Lock()
	s.due[tp] = kafka.Offset{Next: pos.Next, Resume: pos.Resume, Log: pos.Log}
	s.commits.Unlock()
}

// commitAgain is for Run, when no records come that would bring another checkpoint.
func (s *Source[T]) commitAgain(ctx context.Context) {
	if !s.commits.TryLock() { // Commit is at it
		return
	}
	defer s.commits.Unlock()
	if len(s.due) > 0 && time.Since(s.commitLast) > longWait {
		s.commitDue(ctx)
	}
}

// settle sees to it that the group has what is due of partitions that are about to be given up, within ctx: where
// sinks keep no positions, the next owner knows nothing else (rule H3).
func (s *Source[T]) settle(ctx context.Context, tps []topicPartition) {
	owes := func() (again bool) {
		s.commits.Lock()
		defer s.commits.Unlock()
		due := func(tp topicPartition) bool { _, ok := s.due[tp]; return ok }
		return slices.ContainsFunc(tps, due) && s.commitDue(ctx)
	}
	for owes() {
		if kafka.Sleep(ctx, shortWait) != nil {
			s.logger().Warn("the group's offsets could not be committed before partitions were given up; where sinks keep no positions, rows may come again",
				"group", s.config.Group, "partitions", few(names(tps)))
			return
		}
	}
}

// commitDue commits what the group does not have yet. again: it may be worth it soon. s.commits is held.
func (s *Source[T]) commitDue(ctx context.Context) (again bool) {
	s.commitLast = time.Now()
	due, have := s.own.committable(s.due)
	s.due = due
	cl := s.member.Load()
	if cl == nil || len(s.due) == 0 {
		return false
	}
	m, err := s.Member(have)
	if errors.Is(err, leat.ErrFenced) || err == nil && m.ID == "" {
		return false // not a member at this moment
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		err = kafka.CommitOffsets(ctx, cl, m, s.due)
		cancel()
	}
	switch {
	case err == nil:
		s.own.noteCommitted(s.due)
		clear(s.due)
		s.commitFail = time.Time{}
	case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID):
		s.logger().Debug("the group is being rebalanced; the next commit covers this one", "group", s.config.Group, "err", err)
	case s.commitFail.IsZero():
		s.commitFail = time.Now()
		s.logger().Warn("the group's offsets could not be committed; the next commit covers this one, and nothing is lost or doubled by it", "group", s.config.Group, "err", err)
	}
	answer := (*kerr.Error)(nil)
	return err != nil && (!errors.As(err, &answer) || answer.Retriable || answer == kerr.RebalanceInProgress || answer == kerr.IllegalGeneration)
}

// commitTimeout bounds how long a checkpoint waits for the group.
const commitTimeout = 3 * time.Second
