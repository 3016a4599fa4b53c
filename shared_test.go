package leat_test

import (
	"fmt"
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

// The calls to a sink, and to a source, are one node's: two members would make them at the same time, or
// open what the other one writes to.
func TestSinksAndSourcesAreOneNodes(t *testing.T) {
	t.Parallel()
	members := func(source func() leat.Source[int], sink func() leat.Sink[int]) error {
		return leat.Run(t.Context(), leat.Replicas(2, func(int) *leat.Pipeline {
			p := leat.New("p", leat.Config{StateDir: t.TempDir(), Logger: silent})
			leat.To(leat.From(p, source()), sink())
			return p
		})...)
	}
	rows, collect := leattest.Rows(1), leattest.Collect[int]()
	newRows := func() leat.Source[int] { return leattest.Rows(1) }
	newCollect := func() leat.Sink[int] { return leattest.Collect[int]() }
	require.ErrorContains(t, members(newRows, func() leat.Sink[int] { return collect }), `the sinks "collect" and "collect" are one object`)
	require.ErrorContains(t, members(func() leat.Source[int] { return rows }, newCollect), `the sources "rows" and "rows" are one object`)
	require.NoError(t, members(newRows, newCollect))
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
