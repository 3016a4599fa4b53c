package leat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// What a stage with state remembers is one node's (rule H1): two nodes, or two members, would take each
// other's rows for duplicates, and one that gives a partition up would make the other forget it.
func TestAStageWithStateIsOneNodes(t *testing.T) {
	t.Parallel()
	once := &stage.Dedupe[int, int]{Key: func(n *int) int { return *n }}
	build := func(name string, once leat.Stage[int, int]) *leat.Pipeline {
		p := leat.New(name, leat.Config{StateDir: t.TempDir()})
		leat.To(leat.Via(leat.From(p, leattest.Rows(1, 2)), "once", once), leattest.Collect[int]())
		return p
	}
	p := leat.New("p", leat.Config{StateDir: t.TempDir()})
	rows := leat.From(p, leattest.Rows(1, 2))
	leat.To(leat.Via(leat.Via(rows, "once", once), "again", once), leattest.Collect[int]())
	require.ErrorContains(t, p.Check(), `the stages "once" and "again" are one object`)

	err := leat.Run(t.Context(), leat.Replicas(2, func(int) *leat.Pipeline { return build("q", once) })...)
	require.ErrorContains(t, err, `the stages "once" and "once" are one object`)

	require.NoError(t, build("r", once).Run(t.Context()), "one after the other is fine")
	require.NoError(t, build("r", once).Run(t.Context()))
}
