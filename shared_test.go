package leat_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
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

// Members that have one source, or one sink, would call it in the middle of each other's calls: a sink
// of tables went on with nil pointers, and with rows of the other one in its transaction.
func TestMembersHaveEndsOfTheirOwn(t *testing.T) {
	t.Parallel()
	run := func(src func() *leattest.MemSource[int], sink func() *leattest.Collector[int]) error {
		return leat.Run(t.Context(), leat.Replicas(2, func(int) *leat.Pipeline {
			p := leat.New("p", leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			leat.To(leat.From(p, src()), sink())
			return p
		})...)
	}
	newSource := func() *leattest.MemSource[int] { return leattest.Rows(1) }
	newSink := leattest.Collect[int]
	one, all := newSource(), newSink()
	require.ErrorContains(t, run(newSource, func() *leattest.Collector[int] { return all }), "pipelines 0 (p) and 1 (p) have one object as collect: make one for each")
	require.ErrorContains(t, run(func() *leattest.MemSource[int] { return one }, func() *leattest.Collector[int] { return newSink() }), "pipelines 0 (p) and 1 (p) have one object as rows: make one for each")
	require.Empty(t, all.Committed())
	require.NoError(t, run(newSource, func() *leattest.Collector[int] { return newSink() }))
}

// Members of one program that keep their own in one place: letters would be written over, or forgotten
// (rule B3), or a member would wait for another one to end.
func TestPipelinesHaveFoldersOfTheirOwn(t *testing.T) {
	t.Parallel()
	members := func(config func(member int) leat.Config) error {
		return leat.Run(t.Context(), leat.Replicas(2, func(member int) *leat.Pipeline {
			p := leat.New("p", config(member))
			leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
			return p
		})...)
	}
	dir := t.TempDir()
	state := func(member int) string { return filepath.Join(dir, fmt.Sprint("member-", member)) }
	one := leat.DeadLetterFile(filepath.Join(dir, "letters.jsonl"))
	require.ErrorContains(t, members(func(member int) leat.Config {
		return leat.Config{StateDir: state(member), DeadLetters: one}
	}), "letters.jsonl: give each")
	require.ErrorContains(t, members(func(member int) leat.Config {
		return leat.Config{StateDir: state(member), DeadLetters: leat.DeadLetterFile(filepath.Join(dir, "letters.jsonl"))}
	}), "letters.jsonl: give each")
	require.ErrorContains(t, members(func(member int) leat.Config {
		return leat.Config{StateDir: dir}
	}), "pipelines 0 (p) and 1 (p) both keep their own in "+dir)
	require.ErrorContains(t, members(func(member int) leat.Config {
		if member == 0 {
			return leat.Config{StateDir: state(0)}
		}
		return leat.Config{StateDir: state(1), DeadLetters: leat.DeadLetterFile(filepath.Join(state(0), "dead-letters.jsonl"))}
	}), "dead-letters.jsonl: give each")
	store := &struct {
		leat.StateStore
		_ int
	}{}
	require.ErrorContains(t, members(func(member int) leat.Config {
		return leat.Config{StateDir: state(member), State: store}
	}), "one object as Config.State")
	require.NoError(t, members(func(member int) leat.Config { return leat.Config{StateDir: state(member)} }))

	// And with Mount, which sees one pipeline alone.
	require.NoError(t, one.Open(t.Context(), leat.Env{}))
	require.NoError(t, one.Append(t.Context(), []leat.DeadLetter{{ID: "a"}}))
	require.ErrorContains(t, one.Open(t.Context(), leat.Env{}), "a pipeline has them open")
	require.NoError(t, one.Sync(t.Context()))
	require.NoError(t, one.Close())
	n := 0
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(dir, "letters.jsonl"), func(leat.DeadLetter) error { n++; return nil }))
	require.Equal(t, 1, n)
}
