package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
)

// Who is a member is for the group's coordinator to say. A process that was frozen, or cut off,
// may hear late that it got partitions which are somebody else's by now; if it took them
// over, it would fence their owner at the sinks (rule E2), and of that the group would not
// know. So the coordinator is asked before partitions are taken over, and again when
// they were taken from us although the group has not given them to anyone else.

// retakes is how often a partition is taken back within a generation of the group.
const retakes = 3

// retaken counts them. It outlives a Run, because being fenced is a rewind.
type retaken struct {
	generation int32
	times      int
}

// confirmed tells whether this process is a member in the group's present generation. While the
// group is rebalanced it is: nobody gets its partitions before it has answered or was given up.
func (s *Source[T]) confirmed(ctx context.Context) (generation int32, ok bool) {
	m, err := s.Member(nil)
	if err != nil || m.ID == "" || s.own.isExpelled() {
		return 0, false
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = m.Group, m.Generation, m.ID, m.InstanceID
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	resp, err := req.RequestWith(ctx, s.member.Load())
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil && !errors.Is(err, kerr.RebalanceInProgress) {
		s.logger().Debug("the group does not say that this process is a member", "group", m.Group, "err", err)
		return 0, false
	}
	return m.Generation, true
}

// patience is how long a refused partition is left alone before it may be taken back.
func (s *Source[T]) patience() time.Duration { return min(s.full.SessionTimeout/6, 5*time.Second) }

// hopes tells whether a refused partition may still be taken back.
func (r *reading[T]) hopes() bool {
	if len(r.refused) == 0 || r.s.config.Group == "" { // then nobody says whose they are
		return false
	}
	m, err := r.s.Member(nil)
	for tp, token := range r.refused {
		n := r.s.retaken[tp]
		again := n.times < retakes || err == nil && m.ID != "" && n.generation != m.Generation
		if again && r.s.own.token(tp) == token {
			return true
		}
	}
	return false
}

// taken is the error of partitions that another process has taken at a sink and keeps, as far as one can tell.
func (r *reading[T]) taken() error {
	if len(r.refused) == 0 || r.hopes() {
		return nil
	}
	tps := slices.Collect(maps.Keys(r.refused))
	sortPartitions(tps)
	which := strings.Join(few(names(tps)), ", ")
	switch group := r.s.config.Group; {
	case group == "":
		return fmt.Errorf("kafkasource: another process has taken %s at a sink, and reads it: without a group such processes are not kept apart: %w", which, leat.ErrFenced)
	case time.Since(r.fenced) > 2*r.s.full.SessionTimeout:
		return fmt.Errorf("kafkasource: group %s has given %s to this process, but another one has taken it at a sink, and the group has heard of no other member: "+
			"is there a pipeline with the same names in another group? %w", group, which, leat.ErrFenced)
	}
	return nil
}

// takeBack makes partitions, which another process has taken at a sink, be taken over again, if
// the group says that they are ours all the same: who took them was not a member any more. Somebody who does
// it again and again is no such process but a pipeline of another group.
func (r *reading[T]) takeBack(ctx context.Context) {
	if !r.hopes() || time.Since(r.fenced) < r.s.patience() {
		return
	}
	r.fenced = time.Now()
	generation, ok := r.s.confirmed(ctx)
	if !ok {
		return
	}
	for tp, token := range r.refused {
		n := r.s.retaken[tp]
		if n.generation != generation {
			n = retaken{generation: generation}
		}
		if n.times >= retakes || !r.s.own.renew(tp, token) {
			continue
		}
		n.times++
		r.s.retaken[tp] = n
		delete(r.refused, tp)
		r.s.logger().Info("the group says that the partition is ours, so it is taken back at the sinks", "partition", tp.String(), "generation", generation)
	}
}
