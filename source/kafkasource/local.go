package kafkasource

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// local tells whether this process has all partitions, as it must where only it can see
// the state of a stage (rule H1). While it has not, nothing is read; after twice the
// session timeout that is an error.
func (r *reading[T]) local(ctx context.Context, stage string, ours map[topicPartition]uint64) (bool, error) {
	s := r.s
	if len(r.parts) > 0 && len(r.parts) == len(ours) && time.Since(r.listed) < s.refresh() {
		return true, nil
	}
	topics, err := s.topics(ctx, s.member.Load())
	if err != nil {
		return false, err
	}
	r.listed = time.Now()
	all, missing := 0, []topicPartition{}
	for topic, d := range topics {
		for p := range d.Partitions {
			all++
			if tp := (topicPartition{Topic: topic, Partition: p}); ours[tp] == 0 {
				missing = append(missing, tp)
			}
		}
	}
	if all > 0 && len(missing) == 0 {
		r.lacking = time.Time{}
		return true, nil
	}
	if r.lacking.IsZero() {
		r.lacking = time.Now()
		s.member.Load().ForceMetadataRefresh() // if they were added just now, the group has to hear of it
	}
	sortPartitions(missing)
	switch waited := time.Since(r.lacking); {
	case waited > 2*s.full.SessionTimeout:
		return false, fmt.Errorf("kafkasource: rule H1: stage %q keeps its state in this process, which therefore has to read all partitions, but other members of group %s have %d of %d (%s); that was waited for for twice the session timeout of %v: "+
			"run one process only, or keep the state where all can see it (package state, PostgreSQL). Members: %s",
			stage, s.config.Group, len(missing), all, strings.Join(few(names(missing)), ", "), s.full.SessionTimeout, s.members(ctx))
	case len(r.parts) > 0: // one was added to a topic, and the group has yet to give it to us
		return true, nil
	case !r.waited && waited > time.Second:
		r.waited = true
		s.logger().Warn("nothing is read until this process has all partitions, because only it can see the state of a stage (rule H1)",
			"stage", stage, "group", s.config.Group, "missing", few(names(missing)), "of", all, "members", s.members(ctx), "for at most", 2*s.full.SessionTimeout)
	}
	return false, nil
}

func few(names []string) []string {
	if len(names) > 5 {
		return append(slices.Clip(names[:5]), fmt.Sprintf("and %d more", len(names)-5))
	}
	return names
}

// members tells who is in the group.
func (s *Source[T]) members(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, brokerWait/5)
	defer cancel()
	groups, err := kadm.NewClient(s.member.Load()).DescribeGroups(ctx, s.config.Group)
	if err != nil {
		return "unknown: " + err.Error()
	}
	var out []string
	for _, m := range groups[s.config.Group].Members {
		out = append(out, m.ClientID+" at "+strings.TrimPrefix(m.ClientHost, "/"))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
