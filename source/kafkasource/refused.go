package kafkasource

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat/internal/kafka"
)

// groupErrors hears of what ends a membership. The client itself only logs it and joins
// again, for ever, and the source reads nothing meanwhile: so what does not get better by that
// ends Run (rule B8).
type groupErrors struct{ refused func(error) }

var _ kgo.HookGroupManageError = groupErrors{}

// OnGroupManageError implements kgo.HookGroupManageError. The client calls it before it joins again.
func (h groupErrors) OnGroupManageError(err error) { h.refused(err) }

// refused remembers an error of the group that needs somebody to act.
func (s *Source[T]) refused(err error) {
	why, cl := "", s.member.Load()
	refusal := kafka.NoRefusal
	if cl != nil {
		refusal, err = kafka.Explain(cl, err)
	}
	switch {
	case refusal == kafka.Lasting:
		why = "its coordinator does not let this process in"
	case errors.Is(err, kerr.FencedInstanceID):
		why = fmt.Sprintf("another process has joined with InstanceID %q, and has the partitions now: it must be the process's own", s.config.InstanceID)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		why = "not allowed to be a member; it takes Read on the group and on the topics"
	case errors.Is(err, kerr.InvalidSessionTimeout):
		why = fmt.Sprintf("the broker does not take SessionTimeout %v", s.full.SessionTimeout)
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		why = "its other members share the partitions out in another way than cooperative-sticky: stop them first, or use another group"
	case errors.Is(err, kerr.GroupMaxSizeReached), errors.Is(err, kerr.InvalidGroupID), errors.Is(err, kerr.UnsupportedVersion):
		why = "it does not take this member"
	default:
		return // the client joins again
	}
	s.own.refuse(fmt.Errorf("kafkasource: group %s: %s: %w", s.config.Group, why, err))
	// Without another attempt: it would fence the process that has fenced this one.
	if cl != nil {
		go cl.LeaveGroup()
	}
}
