package lake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
)

// The failpoints are the process's: these tests run alone.

var errInjected = errors.New("injected")

// failAt makes the n-th hit of a failpoint fail.
func failAt(t testing.TB, name string, n int) (hit func() bool) {
	t.Helper()
	hits := 0
	failpoint.Set(func(at string) error {
		if at == name {
			if hits++; hits == n {
				return errInjected
			}
		}
		return nil
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	return func() bool { return hits >= n }
}

// F1, E4: wherever a commit breaks off, the next Open brings it to an end.
func TestRecovery(t *testing.T) {
	for _, tc := range []struct {
		point    string
		hits     int // how often a commit comes by
		takeover bool
		finished bool // the commit has happened, as its Open finds out
	}{
		{"lake/files-synced", 1, false, false},
		{"lake/pending-written", 1, false, true},
		{"lake/renamed", 3, false, true},
		{"lake/before-entry", 1, true, true},
		{"lake/after-entry", 1, true, true},
	} {
		for n := 1; n <= tc.hits; n++ {
			t.Run(fmt.Sprintf("%s %d", tc.point, n), func(t *testing.T) {
				dir := t.TempDir()
				s := opened(t, byP(dir), env())
				put(t, s, 0, 9)
				commit(t, s, 9)
				put(t, s, 9, 20)
				hit := failAt(t, tc.point, n)
				_, err := s.Commit(t.Context(), forced(20))
				require.ErrorIs(t, err, errInjected)
				require.True(t, hit())
				require.ErrorIs(t, putRows(s, numbered(20, 21)), leat.ErrAborted)
				require.NoError(t, s.Close())
				if n := int64(len(content(t, dir))); tc.point == "lake/after-entry" {
					require.Equal(t, int64(20), n)
				} else {
					require.Equal(t, int64(9), n, "E1: not visible before its entry")
				}
				// And what if the recovery is cut off too?
				for _, point := range []string{"lake/renamed", "lake/before-entry", "lake/after-entry"} {
					failAt(t, point, 1)
					if err := s.Open(t.Context(), env()); err != nil {
						require.ErrorIs(t, err, errInjected)
					} else {
						require.NoError(t, s.Close())
					}
				}
				failpoint.Set(nil)
				s = opened(t, byP(dir), env())
				at := heldBy(t, s)
				if tc.finished {
					require.Equal(t, int64(20), at)
				} else {
					require.Equal(t, int64(9), at)
				}
				whole(t, dir, at)
				tidyTree(t, dir)
				put(t, s, at, 30)
				commit(t, s, 30)
				whole(t, dir, 30)
				tidyTree(t, dir)
			})
		}
	}
	t.Run("F1: a commit whose files are not whole is rolled back", func(t *testing.T) {
		for _, point := range []string{"lake/pending-written", "lake/renamed", "lake/before-entry"} {
			dir := t.TempDir()
			s := opened(t, byP(dir), env())
			put(t, s, 0, 9)
			commit(t, s, 9)
			put(t, s, 9, 20)
			tmp := s.w.abs(tmpName(s.w.owner, s.w.member, s.w.tmps)) // of the last file
			failAt(t, point, 1)
			_, err := s.Commit(t.Context(), forced(20))
			require.ErrorIs(t, err, errInjected)
			failpoint.Set(nil)
			require.NoError(t, s.Close())
			require.NoError(t, os.Truncate(tmp, 1))
			s = opened(t, byP(dir), env())
			require.Equal(t, int64(9), heldBy(t, s))
			whole(t, dir, 9)
			tidyTree(t, dir)
		}
	})
	t.Run("E3: what a fenced owner left pending is rolled back", func(t *testing.T) {
		dir := t.TempDir()
		s := opened(t, byP(dir), env())
		put(t, s, 0, 9)
		failAt(t, "lake/before-entry", 1)
		_, err := s.Commit(t.Context(), forced(9))
		require.ErrorIs(t, err, errInjected)
		failpoint.Set(nil)
		name := s.w.abs(pendingName(s.w.owner, s.w.member))
		require.NoError(t, s.Close())
		away := filepath.Join(filepath.Dir(name), ".another"+pendingExt)
		require.NoError(t, os.Rename(name, away))
		s = New(byP(dir))
		// A start that does not see the pending entry begins another epoch; its
		// temporary files are gone, and the renamed ones are left.
		require.NoError(t, openTaking(s, env()))
		require.NoError(t, s.Close())
		require.NoError(t, os.Rename(away, name))
		s = opened(t, byP(dir), env())
		require.Zero(t, heldBy(t, s))
		require.Empty(t, content(t, dir))
		tidyTree(t, dir)
	})
	t.Run("F7: a tidying that breaks off", func(t *testing.T) {
		for _, point := range []string{"lake/snapshot-written", "lake/before-delete"} {
			for n := 1; n <= 6; n++ {
				dir := t.TempDir()
				s := New(byP(dir))
				s.hook.every = 2
				require.NoError(t, openTaking(s, env()))
				failAt(t, point, n)
				for i := range int64(16) {
					put(t, s, i, i+1)
					commit(t, s, i+1) // done, whatever comes of the tidying
				}
				failpoint.Set(nil)
				require.NoError(t, s.Close())
				require.Equal(t, int64(16), heldBy(t, opened(t, byP(dir), env())))
				whole(t, dir, 16)
				tidyTree(t, dir)
			}
		}
	})
	t.Run("a compaction that breaks off", func(t *testing.T) {
		for _, point := range []string{"lake/compact-merged", "lake/pending-written", "lake/renamed", "lake/before-entry", "lake/after-entry", "lake/compact-replaced", "lake/compact-before-delete"} {
			for n := 1; n <= 2; n++ {
				dir := filled(t)
				hit := failAt(t, point, n)
				_, err := Compact(t.Context(), dir, compacting())
				require.ErrorIs(t, err, errInjected)
				require.True(t, hit())
				failpoint.Set(nil)
				whole(t, dir, 18)
				s := opened(t, byP(dir), env()) // F5: a sink's start does not touch it
				put(t, s, 18, 24)
				commit(t, s, 24)
				whole(t, dir, 24)
				_, err = Compact(t.Context(), dir, compacting())
				require.NoError(t, err)
				whole(t, dir, 24)
				tidyTree(t, dir)
				files, err := Files(dir)
				require.NoError(t, err)
				require.Len(t, files, 3)
			}
		}
	})
	t.Run("a snapshot knows what a compaction has yet to delete", func(t *testing.T) {
		dir := filled(t)
		failAt(t, "lake/compact-before-delete", 2)
		_, err := Compact(t.Context(), dir, compacting())
		require.ErrorIs(t, err, errInjected)
		failpoint.Set(nil)
		s := New(byP(dir))
		s.hook.every = 2
		require.NoError(t, openTaking(s, env()))
		for i := int64(18); i < 38; i++ {
			put(t, s, i, i+1)
			commit(t, s, i+1)
		}
		require.NoError(t, s.Close())
		_, err = Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		whole(t, dir, 38)
		tidyTree(t, dir)
	})
}

// TestModel does random things to a lake, among them errors at all failpoints,
// and compares it with what must be there.
func TestModel(t *testing.T) {
	seeds := 25
	if os.Getenv("LEAT_LONG") != "" {
		seeds = 3000
	}
	for seed := range seeds {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, rand.New(rand.NewPCG(uint64(seed), 7))) }) {
			return
		}
	}
}

// modelOwner is one sink; its rows have numbers of its own.
type modelOwner struct {
	env   leat.Env
	sink  *Sink[fila]
	base  int64 // of its numbers
	next  int64 // rows written, committed or not
	least int64 // rows that were reported as committed
	doubt bool
}

func model(t *testing.T, r *rand.Rand) {
	dir := t.TempDir()
	t.Cleanup(func() { failpoint.Set(nil) })
	var steps []string
	defer func() {
		if t.Failed() {
			t.Log(strings.Join(steps, "\n"))
		}
	}()
	step := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	owners := []*modelOwner{
		{env: leat.Env{Pipeline: "a", Node: "x"}, base: 0},
		{env: leat.Env{Pipeline: "a", Node: "y"}, base: 1_000_000},
		{env: leat.Env{Pipeline: "b", Node: "x"}, base: 2_000_000},
	}
	every := 2 + r.IntN(10)
	inject := 0
	failpoint.Set(func(at string) error {
		if inject > 0 {
			if inject--; inject == 0 {
				step("    fails at %s", at)
				return errInjected
			}
		}
		return nil
	})
	reopen := func(o *modelOwner) {
		if o.sink != nil {
			require.NoError(t, o.sink.Close())
		}
		var at map[string]leat.Position
		for {
			o.sink = New(byP(dir))
			o.sink.hook = unsynced(every)
			o.sink.config.MaxOpen = 1 + r.IntN(3)
			o.sink.config.Roll.Rows = int64(1 + r.IntN(40))
			err := o.sink.Open(context.Background(), o.env)
			if err == nil {
				if at, err = o.sink.Restore(context.Background(), []string{"src"}); err == nil {
					break
				}
				require.NoError(t, o.sink.Close())
			}
			require.ErrorIs(t, err, errInjected)
		}
		now := at["src"].Next
		step("%v opened at %d", o.base, now)
		require.GreaterOrEqual(t, now, o.least, "A3: a reported commit is durable")
		if !o.doubt {
			require.Equal(t, o.least, now, "E8: all or none")
		} else {
			require.Contains(t, []int64{o.least, o.next}, now, "E8: all or none")
		}
		o.next, o.least, o.doubt = now, now, false
	}
	verify := func() {
		ids := map[int64]int{}
		for _, id := range content(t, dir) {
			ids[id]++
		}
		n := 0
		for _, o := range owners {
			// What is in doubt may be there as a whole.
			count := o.least
			if o.doubt && ids[o.base+o.next-1] > 0 {
				count = o.next
			}
			for i := range count {
				require.Equal(t, 1, ids[o.base+i], "row %d of %v", i, o.base)
			}
			n += int(count)
		}
		require.Len(t, ids, n, "no row that is not committed")
	}
	for _, o := range owners {
		reopen(o)
	}
	for range 80 {
		o := owners[r.IntN(len(owners))]
		if r.IntN(6) == 0 {
			inject = 1 + r.IntN(12)
		}
		switch k := r.IntN(20); {
		case k < 9:
			rows := make([]fila, r.IntN(20))
			for i := range rows {
				rows[i] = fila{ID: o.base + o.next + int64(i), P: string(rune('a' + r.IntN(4)))}
			}
			step("%v writes %d rows at %d", o.base, len(rows), o.next)
			require.NoError(t, o.sink.write(context.Background(), "src", rows, func(i int) leat.Offset { return rows[i].ID - o.base }))
			o.next += int64(len(rows))
		case k < 15:
			cp := upTo(o.next)
			cp.Force = r.IntN(3) > 0
			done, err := o.sink.Commit(context.Background(), cp)
			step("%v commits %d: %v %v", o.base, o.next, done, err)
			switch {
			case err != nil:
				require.ErrorIs(t, err, errInjected)
				o.doubt = true
				reopen(o)
			case done:
				o.least = o.next
			default:
				require.False(t, cp.Force, "E9")
			}
		case k < 17:
			step("%v closes", o.base)
			reopen(o)
		case k < 18:
			stats, err := Compact(context.Background(), dir, CompactOptions{Ext: ".txt", Merge: mergeLines, Target: 100, Smaller: 50, hook: unsynced(every)})
			step("compacts %+v: %v", stats, err)
			if err != nil {
				require.ErrorIs(t, err, errInjected)
			}
		default:
			verify()
		}
	}
	inject = 0
	for _, o := range owners {
		reopen(o)
	}
	_, err := Compact(context.Background(), dir, compacting())
	require.NoError(t, err)
	verify()
	for _, o := range owners {
		require.NoError(t, o.sink.Close())
	}
	tidyTree(t, dir)
}
