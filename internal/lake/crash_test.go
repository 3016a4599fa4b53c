package lake

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/killtest"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"commit": commitAndCompact, "member": beMember})
}

var compactAll = CompactOptions{Ext: ".txt", Merge: mergeLines, Target: 1 << 20}

// commitAndCompact commits rows, from where the positions say.
func commitAndCompact(dir string) {
	ctx := context.Background()
	s := New(byP(dir))
	s.hook.every = 5
	killtest.Must(s.Open(ctx, env()))
	at, err := s.Restore(ctx, []string{"src"})
	killtest.Must(err)
	next := at["src"].Next
	for round := 0; killtest.More(); round++ {
		for range 3 {
			killtest.Must(putRows(s, numbered(next, next+50)))
			next += 50
		}
		_, err := s.Commit(ctx, forced(next))
		killtest.Must(err)
		killtest.Ack(next)
		if round%4 == 3 {
			_, err := Compact(ctx, dir, compactAll)
			killtest.Must(err)
		}
	}
	killtest.Must(s.Close())
}

// requireWhole checks what a kill has left, before and after the next life's recovery.
func requireWhole(t *testing.T, dir string, acked int64) {
	t.Helper()
	s := New(byP(dir))
	require.NoError(t, openTaking(s, env()))
	next := heldBy(t, s)
	require.NoError(t, s.Close())
	require.GreaterOrEqual(t, next, acked, "A3: a reported commit is durable")
	whole(t, dir, next)
	_, err := Compact(t.Context(), dir, compactAll)
	require.NoError(t, err)
	whole(t, dir, next)
	tidyTree(t, dir)
}

// E1, F1: rows and positions agree whenever the process is killed, and what was
// reported as committed is there.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(t *testing.T, acked int64) { requireWhole(t, dir, acked) }
	killtest.Kill(t, "commit", dir, 6, check)
	for _, point := range []string{"lake/files-synced", "lake/pending-written", "lake/renamed", "lake/before-entry", "lake/after-entry", "lake/snapshot-written", "lake/before-delete",
		"lake/compact-merged", "lake/compact-replaced", "lake/compact-before-delete"} {
		killtest.KillAt(t, "commit", dir, point, 2, check)
	}
}

// F1: the same at every system call of opening, four commits, snapshots, a compaction
// and closing.
func TestKillAtEverySyscall(t *testing.T) {
	t.Parallel()
	killtest.EverySyscall(t, "commit", 4, requireWhole)
}
