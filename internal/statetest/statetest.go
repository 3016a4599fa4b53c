// Package statetest is the suite that every storage of the engine has to pass.
package statetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/store"
)

// World is one place: what Open gives is a process that uses it.
type World struct {
	Open func(t *testing.T) engine.Storage
}

// process is one that has taken some partitions.
type process struct {
	engine.Storage
	t    *testing.T
	held store.Saved
}

func (w World) process(t *testing.T, partitions ...string) *process {
	t.Helper()
	p := &process{Storage: w.Open(t), t: t}
	held, err := p.Load()
	require.NoError(t, err)
	if p.Shared() {
		held, err = p.Take(t.Context(), partitions)
		require.NoError(t, err)
	}
	if held.Notes == nil {
		held.Notes = map[string]store.Note{}
	}
	p.held = held
	return p
}

func (p *process) close() {
	p.t.Helper()
	require.NoError(p.t, p.Close())
}

func (p *process) state(stage, partition string) []string {
	p.t.Helper()
	blobs, err := p.State(p.t.Context(), stage, partition)
	require.NoError(p.t, err)
	var out []string
	for _, b := range blobs {
		out = append(out, string(b))
	}
	size := p.Size(stage, partition)
	require.Equal(p.t, len(blobs), size.Pieces)
	require.Equal(p.t, int64(len(strings.Join(out, ""))), size.Snapshot+size.Deltas)
	return out
}

// At is a position with bytes that are no text.
func at(n int64) store.Position {
	return store.Position{Next: n, Resume: fmt.Sprintf("r\xff\x00%d", n), Log: "log\x00\xfe"}
}

func stages(names ...string) store.Note {
	n := store.Note{Stages: map[string]string{}}
	for _, s := range names {
		n.Stages[s] = "of \xff " + s
	}
	return n
}

// Run is the suite. open makes a new, empty place.
func Run(t *testing.T, place func(t *testing.T) World) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w World)
	}{
		{"nothing is held at first", fresh},
		{"what is committed is there, whole", commits},
		{"begin", begin},
		{"a stage that is gone takes its state along", gone},
		{"a snapshot replaces what was before it", snapshot},
		{"large and empty pieces", sizes},
		{"as a model has it", model},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, place(t)) })
	}
}

func fresh(t *testing.T, w World) {
	p := w.process(t, "a")
	require.Empty(t, p.held.Positions)
	require.Empty(t, p.held.Notes)
	require.Empty(t, p.state("s", "a"))
	p.close()
	p = w.process(t, "a")
	require.Empty(t, p.held.Positions, "taking is not holding")
	p.close()
}

func commits(t *testing.T, w World) {
	p := w.process(t, "a", "b", "c")
	require.NoError(t, p.Begin(t.Context(), map[string]store.Position{"a": {}, "b": {}}, map[string]store.Note{"a": stages("s", "u"), "b": stages()}))
	require.NoError(t, p.Commit(t.Context(), store.Checkpoint{Seq: 1, Positions: map[string]store.Position{"a": at(1), "b": at(2)},
		Deltas: []store.Delta{{Stage: "s", Partition: "a", Blob: []byte("1")}, {Stage: "u", Partition: "a", Blob: []byte("\x00\xff")}, {Stage: "s", Partition: "a", Blob: []byte("2")}}}))
	require.NoError(t, p.Commit(t.Context(), store.Checkpoint{Seq: 2, Positions: map[string]store.Position{"a": at(1), "b": at(3)}, Clean: []string{"b"},
		Deltas: []store.Delta{{Stage: "s", Partition: "a", Blob: []byte("3")}}}))
	p.close()

	p = w.process(t, "a", "b", "c")
	require.Equal(t, map[string]store.Position{"a": at(1), "b": at(3)}, p.held.Positions)
	require.Equal(t, map[string]store.Note{"a": stages("s", "u"), "b": {Clean: true, Stages: map[string]string{}}}, p.held.Notes)
	require.Equal(t, []string{"1", "2", "3"}, p.state("s", "a"))
	require.Equal(t, []string{"\x00\xff"}, p.state("u", "a"))
	require.Empty(t, p.state("s", "b"))
	p.close()
}

func begin(t *testing.T, w World) {
	p := w.process(t, "a", "b")
	require.NoError(t, p.Begin(t.Context(), map[string]store.Position{"a": at(5)}, nil))
	require.NoError(t, p.Begin(t.Context(), map[string]store.Position{"a": at(6), "b": {}}, map[string]store.Note{"a": {}}), "known ones stay")
	p.close()
	p = w.process(t, "a", "b")
	require.Equal(t, map[string]store.Position{"a": at(5), "b": {}}, p.held.Positions, "the zero Position is held too")
	require.Nil(t, p.held.Notes["a"].Stages, "nobody has said")
	p.close()
}

func gone(t *testing.T, w World) {
	p := w.process(t, "a", "b")
	require.NoError(t, p.Begin(t.Context(), map[string]store.Position{"a": {}, "b": {}}, map[string]store.Note{"a": stages("old", "kept")}))
	require.NoError(t, p.Commit(t.Context(), store.Checkpoint{Seq: 1, Positions: map[string]store.Position{"a": at(1)},
		Deltas: []store.Delta{{Stage: "old", Partition: "a", Blob: []byte("o")}, {Stage: "kept", Partition: "a", Blob: []byte("k")}, {Stage: "old", Partition: "b", Blob: []byte("b")}}}))
	require.NoError(t, p.Begin(t.Context(), nil, map[string]store.Note{"a": stages("kept", "new")}))
	require.Zero(t, p.Size("old", "a"))
	p.close()
	p = w.process(t, "a", "b")
	require.Empty(t, p.state("old", "a"))
	require.Equal(t, []string{"k"}, p.state("kept", "a"))
	require.Equal(t, []string{"b"}, p.state("old", "b"))
	require.Equal(t, at(1), p.held.Positions["a"])
	// The same name again finds nothing of the first one's.
	require.NoError(t, p.Begin(t.Context(), nil, map[string]store.Note{"a": stages("kept", "old")}))
	require.NoError(t, p.Commit(t.Context(), store.Checkpoint{Seq: 2, Positions: map[string]store.Position{"a": at(2)}, Deltas: []store.Delta{{Stage: "old", Partition: "a", Blob: []byte("n")}}}))
	p.close()
	p = w.process(t, "a")
	require.Equal(t, []string{"n"}, p.state("old", "a"))
	p.close()
}

func snapshot(t *testing.T, w World) {
	p := w.process(t, "a")
	piece := func(text string, full bool) store.Delta {
		return store.Delta{Stage: "s", Partition: "a", Blob: []byte(text), Full: full}
	}
	for i, deltas := range [][]store.Delta{
		{piece("1", false), piece("2", false)},
		{piece("3", true)},
		{piece("4", false)},
		{piece("5", false), piece("6", true), piece("7", false), piece("8", true), piece("9", false)},
	} {
		require.NoError(t, p.Commit(t.Context(), store.Checkpoint{Seq: uint64(i + 1), Positions: map[string]store.Position{"a": at(int64(i))}, Deltas: deltas}))
	}
	require.Equal(t, store.Size{Pieces: 2, Snapshot: 1, Deltas: 1}, p.Size("s", "a"))
	p.close()
	p = w.process(t, "a")
	require.Equal(t, []string{"8", "9"}, p.state("s", "a"))
	p.close()
}

func sizes(t *testing.T, w World) {
	p := w.process(t, "a")
	var want []string
	cp := store.Checkpoint{Seq: 1, Positions: map[string]store.Position{"a": at(1)}}
	for i, n := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 7, 0} {
		b := bytes.Repeat([]byte{byte(i + 1)}, n)
		cp.Deltas = append(cp.Deltas, store.Delta{Stage: "s", Partition: "a", Blob: b})
		want = append(want, string(b))
	}
	require.NoError(t, p.Commit(t.Context(), cp))
	p.close()
	p = w.process(t, "a")
	require.True(t, slices.Equal(want, p.state("s", "a")))
	p.close()
}

// model commits at random and compares with maps, over many processes.
func model(t *testing.T, w World) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	parts := []string{"a", "b", "a/b", "ü"}
	positions := map[string]store.Position{}
	notes := map[string]store.Note{}
	state := map[[2]string][]string{}
	seq := uint64(0)
	for range 12 {
		p := w.process(t, parts...)
		require.Equal(t, positions, p.held.Positions)
		for name, n := range notes {
			require.Equal(t, n, p.held.Notes[name])
		}
		for k, want := range state {
			if len(want) == 0 {
				want = nil
			}
			require.Equal(t, want, p.state(k[0], k[1]))
		}
		for range rng.IntN(8) {
			if rng.IntN(4) == 0 {
				name := parts[rng.IntN(len(parts))]
				n := stages([][]string{{"s"}, {"s", "u"}, {}}[rng.IntN(3)]...)
				if _, known := positions[name]; !known {
					positions[name] = store.Position{}
				}
				require.NoError(t, p.Begin(t.Context(), map[string]store.Position{name: {}}, map[string]store.Note{name: n}))
				notes[name] = n
				maps.DeleteFunc(state, func(k [2]string, _ []string) bool { _, named := n.Stages[k[0]]; return k[1] == name && !named })
				continue
			}
			seq++
			cp := store.Checkpoint{Seq: seq, Positions: map[string]store.Position{}}
			for _, name := range parts {
				if rng.IntN(2) == 0 {
					cp.Positions[name] = at(int64(seq))
					positions[name] = at(int64(seq))
				}
				if _, moved := cp.Positions[name]; !moved {
					continue
				}
				if rng.IntN(5) == 0 {
					cp.Clean = append(cp.Clean, name)
					n := notes[name]
					n.Clean = true
					notes[name] = n
				}
				for _, stage := range []string{"s", "u"} {
					if _, named := notes[name].Stages[stage]; !named && notes[name].Stages != nil {
						continue
					}
					for range rng.IntN(3) {
						d := store.Delta{Stage: stage, Partition: name, Blob: bytes.Repeat([]byte{byte(seq)}, rng.IntN(50)), Full: rng.IntN(4) == 0}
						k := [2]string{stage, name}
						if d.Full {
							state[k] = nil
						}
						cp.Deltas, state[k] = append(cp.Deltas, d), append(state[k], string(d.Blob))
					}
				}
			}
			require.NoError(t, p.Commit(t.Context(), cp))
		}
		p.close()
	}
}
