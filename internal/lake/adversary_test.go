package lake

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
)

// F5: an Open beside a compaction takes no file for lost that has been replaced.
func TestOpenBesideCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const folders = 300
	s := New(byP(dir))
	s.hook = unsynced(1000)
	s.config.MaxOpen = folders
	require.NoError(t, openTaking(s, env()))
	for range 2 {
		var rows []fila
		for i := range int64(folders) {
			rows = append(rows, fila{ID: i, P: fmt.Sprint(i)})
		}
		require.NoError(t, putRows(s, rows))
		commit(t, s, heldBy(t, s)+1)
	}
	require.NoError(t, s.Close())
	compacted := make(chan error)
	go func() {
		_, err := Compact(t.Context(), dir, CompactOptions{Ext: ".txt", Merge: mergeLines, hook: unsynced(1000)})
		compacted <- err
	}()
	for {
		s := New(byP(dir))
		s.hook = unsynced(1000)
		require.NoError(t, openTaking(s, leat.Env{Pipeline: "other"}))
		require.NoError(t, s.Close())
		select {
		case err := <-compacted:
			require.NoError(t, err)
			return
		default:
		}
	}
}

// A commit ends with an error, and not never, when somebody moves the folder.
func TestMovedFolder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("an open folder can't be moved there")
	}
	for name, after := range map[string]func(t *testing.T, dir string){
		"gone": func(*testing.T, string) {},
		"another lake in its place": func(t *testing.T, dir string) {
			s := New(byP(dir))
			require.NoError(t, openTaking(s, env()))
			require.NoError(t, s.Close())
		},
	} {
		for _, rows := range []int64{0, 3} {
			t.Run(fmt.Sprint(name, ", rows: ", rows), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "lake")
				s := opened(t, byP(dir), env())
				put(t, s, 0, rows)
				require.NoError(t, os.Rename(dir, dir+".moved"))
				after(t, dir)
				failed := make(chan error, 1)
				go func() {
					_, err := s.Commit(t.Context(), forced(9))
					failed <- err
				}()
				select {
				case err := <-failed:
					require.Error(t, err)
					require.NotErrorIs(t, err, leat.ErrAborted, "it ends the pipeline")
				case <-time.After(5 * time.Second):
					t.Fatal("Commit does not return")
				}
			})
		}
	}
}

// F1: a file whose name another sink of the pipeline takes, and whose commit Move
// brings to an end, keeps the end of its name, which readers go by.
func TestMoveAfterCollision(t *testing.T) {
	dir := t.TempDir()
	a, b := leat.Env{Pipeline: "ventas", Node: "a"}, leat.Env{Pipeline: "ventas", Node: "b"}
	first, second := opened(t, byP(dir), a), opened(t, byP(dir), b)
	put(t, first, 0, 3)
	failAt(t, "lake/pending-written", 1)
	_, err := first.Commit(t.Context(), forced(3))
	require.ErrorIs(t, err, errInjected)
	require.NoError(t, first.Close())
	require.NoError(t, second.write(t.Context(), "src", numbered(3, 6), func(int) leat.Offset { return 0 }))
	failAt(t, "lake/before-entry", 1)
	_, err = second.Commit(t.Context(), forced(6))
	require.ErrorIs(t, err, errInjected)
	require.NoError(t, second.Close())
	failpoint.Set(nil)
	require.NoError(t, Move(dir, Held{Pipeline: "ventas", Sink: "a", Partition: "src", Position: upTo(3).Positions["src"]}, leat.Position{Next: 1}))
	require.Equal(t, int64(6), heldBy(t, opened(t, byP(dir), b)))
	require.Equal(t, int64(1), heldBy(t, opened(t, byP(dir), a)))
	whole(t, dir, 6)
	tidyTree(t, dir)
	data, _ := tree(t, dir)
	require.Len(t, data, 6)
	for _, name := range data {
		assert.True(t, strings.HasSuffix(name, ".txt"), name)
	}
}

// F1, F5: a commit that is carried out late does not take the name of a file that was there
// meanwhile, and that a compaction has deleted, or will: its rows would go with it.
func TestNameOfReplacedFile(t *testing.T) {
	t.Parallel()
	compactLess := compacting()
	compactLess.Smaller = 1 // only clears up
	for _, late := range []string{"killed", "slow", "slow again"} {
		t.Run(late, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, other := opened(t, config(dir), env()), New(config(dir))
			require.NoError(t, other.Open(t.Context(), env()))
			t.Cleanup(func() { _ = other.Close() })
			_, err := other.Restore(t.Context(), []string{"other"})
			require.NoError(t, err)
			others := func(n int64) { // begin at the same offset, behind the same entry
				for i := range n {
					rows := []fila{{ID: 3 + i}}
					require.NoError(t, other.write(t.Context(), "other", rows, func(int) leat.Offset { return i }))
					done, err := other.Commit(t.Context(), leat.Checkpoint{Force: true, Positions: map[string]leat.Position{"other": {Next: i + 1, Log: "log"}}})
					require.NoError(t, err)
					require.True(t, done)
				}
				_, err = Compact(t.Context(), dir, compacting())
				require.NoError(t, err)
			}
			put(t, s, 0, 3)
			n := 0
			s.w.hook.link = func(root *os.Root, from, to string) error {
				switch n++; {
				case late == "killed":
					return errInjected
				case n == 1 && late == "slow", n == 2 && late == "slow again": // before the file's name, before the entry's
					others(2)
				}
				return root.Link(from, to)
			}
			if late == "killed" {
				_, err = s.Commit(t.Context(), forced(3))
				require.ErrorIs(t, err, errInjected)
				require.NoError(t, s.Close())
				others(2)
				s = opened(t, config(dir), env())
			} else {
				commit(t, s, 3)
			}
			require.Equal(t, int64(3), heldBy(t, s))
			whole(t, dir, 5)
			_, err = Compact(t.Context(), dir, compactLess)
			require.NoError(t, err)
			whole(t, dir, 5)
			tidyTree(t, dir)
			files, err := Files(dir)
			require.NoError(t, err)
			for _, f := range files {
				seq := seqOfFile(f.Path, "ventas", ".txt") + seqOfFile(f.Path, "compact", ".txt")
				require.Equal(t, f.Seq, seq, "the number in %s is that of its entry", f.Path)
			}
		})
	}
}

// F5: a lake of an earlier program, in which that has happened, keeps the file.
func TestReplacedNameIsLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, config(dir), env())
	for i := range int64(3) {
		put(t, s, i, i+1)
		commit(t, s, i+1)
		if i == 1 {
			_, err := Compact(t.Context(), dir, compacting())
			require.NoError(t, err)
		}
	}
	require.NoError(t, s.Close())
	reseal(t, dir, 5, func(e *entry) {
		require.NoError(t, os.Rename(filepath.Join(dir, e.Files[0].Path), filepath.Join(dir, "ventas-2-0.txt")))
		e.Files[0].Path = "ventas-2-0.txt"
	})
	_, err := Compact(t.Context(), dir, CompactOptions{Ext: ".txt", Merge: mergeLines, Smaller: 1})
	require.NoError(t, err)
	whole(t, dir, 3)
}

// F7, A3: an entry that has been tidied away, and is back because its writer slept
// and was killed before it could take it back, is not taken for the end of the
// manifest.
func TestStrayEntry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := opened(t, byP(dir), leat.Env{Pipeline: "ventas", Node: "a"})
	b := New(byP(dir))
	b.hook = unsynced(4)
	require.NoError(t, openTaking(b, leat.Env{Pipeline: "ventas", Node: "b"}))
	t.Cleanup(func() { _ = b.Close() })
	commit(t, a, 3)
	stray := entryName(a.w.st.seq + 1)
	put(t, b, 0, 1)
	commit(t, b, 1)
	kept, err := os.ReadFile(b.w.abs(stray))
	require.NoError(t, err)
	for i := int64(1); i < 30; i++ {
		put(t, b, i, i+1)
		commit(t, b, i+1)
	}
	require.NoFileExists(t, b.w.abs(stray))
	require.NoError(t, os.WriteFile(b.w.abs(stray), kept, 0o600))
	require.NoError(t, a.write(t.Context(), "src", numbered(30, 40), func(int) leat.Offset { return 3 }))
	commit(t, a, 13)
	whole(t, dir, 40)
	require.NoError(t, a.Close())
	require.Equal(t, int64(13), heldBy(t, opened(t, byP(dir), leat.Env{Pipeline: "ventas", Node: "a"})))
}

func TestSplitFinal(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"ventas", "a-1.2-x", "compact"} {
		for _, ext := range []string{".txt", ".csv.gz", ".parquet", ""} {
			for n := 1; n <= 3; n++ {
				stem, got := splitFinal("p=a/" + finalName(prefix, 7, 4096, n, ext))
				if ext == "" && n > 1 { // no format has none
					continue
				}
				require.Equal(t, "p=a/"+prefix+"-7-4096", stem)
				require.Equal(t, ext, got)
				require.Equal(t, finalName(prefix, 12, 4096, n, ext), renumbered(finalName(prefix, 7, 4096, n, ext), 12))
				require.Equal(t, "p=a-1-1/"+finalName(prefix, 12, -5, n, ext), renumbered("p=a-1-1/"+finalName(prefix, 7, -5, n, ext), 12))
			}
		}
	}
}
