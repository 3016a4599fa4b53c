package kafkasource

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// stolen is a sink at which another process takes a partition whenever this one has taken it over.
type stolen struct {
	*leattest.Collector[rec]
	partition string
	thief     *leattest.Collector[rec]
}

func (s *stolen) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	at, err := s.Collector.Restore(ctx, partitions)
	if err == nil && slices.Contains(partitions, s.partition) {
		_, err = s.thief.Restore(ctx, []string{s.partition})
	}
	return at, err
}

// Rule E3: a drain of which another process has taken a partition at a sink, and keeps it, reads the others and tells of it.
// Nobody will read that one for this group, or without a group give it back, so it would wait for ever.
func TestPartitionTakenInDrain(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			w.fill("in", 2, 0, 20)
			dir := t.TempDir()
			sink := &stolen{leattest.Collect[rec]().In(dir), "src/in/1", leattest.Collect[rec]().In(dir)}
			require.NoError(t, sink.thief.Open(t.Context(), leat.Env{}))
			c := drain(w.member(group, "in"))
			c.SessionTimeout = time.Second
			r := start(t, c, sink)
			err := r.wait()
			require.ErrorIs(t, err, leat.ErrFenced)
			require.ErrorContains(t, err, "in/1")
			require.Len(t, sink.Committed(), 10)
		})
	}
}
