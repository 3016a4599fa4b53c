package lake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// filled is a lake of three commits: entries 1 (takeover) to 4.
func filled(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s := opened(t, byP(dir), env())
	for i := range int64(3) {
		put(t, s, 6*i, 6*i+6)
		commit(t, s, 6*i+6)
	}
	require.NoError(t, s.Close())
	return dir
}

func flip(t testing.TB, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[(at+len(b))%len(b)] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// reseal changes an entry and gives it a right checksum.
func reseal(t testing.TB, dir string, seq int64, change func(e *entry)) {
	t.Helper()
	l, err := openLake("test", dir, hooks{})
	require.NoError(t, err)
	defer l.root.Close()
	e, _, err := l.readEntry(seq)
	require.NoError(t, err)
	change(e)
	b, err := seal(e)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.abs(entryName(seq)), b, 0o600))
}

func TestDamage(t *testing.T) {
	t.Parallel()
	one := "_leat/0000000000000003.json"
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []string // in the error
	}{
		{"a cut entry", func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, one), 100)) }, []string{one, "ends in the middle", "restore it", "nothing was changed"}},
		{"an empty entry", func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, one), 0)) }, []string{one, "ends in the middle"}},
		{"a flipped bit at the start", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, one), 20) }, []string{one, "not those that were written"}},
		{"a flipped bit in a number", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, one), 300) }, []string{one, "not those that were written"}},
		{"a flipped bit in the checksum", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, one), -5) }, []string{one, "not those that were written"}},
		{"a flipped bit at the end", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, one), -1) }, []string{one, "not those that were written"}},
		{"a gap", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, one))) }, []string{one, "it is missing, and entry 4 is there"}},
		{"the first entry is missing", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "_leat/0000000000000001.json")))
		}, []string{"0000000000000001.json", "missing"}},
		{"another version", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Version = 3 }) }, []string{one, "version 3; this program knows versions 1 to 2"}},
		{"an entry in another's place", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Seq = 2 }) }, []string{one, "its place is 3"}},
		{"an unknown kind", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Kind, e.Positions = "x", nil }) }, []string{one, `kind "x"`}},
		{"F2: from is not the previous to", func(t *testing.T, dir string) {
			reseal(t, dir, 3, func(e *entry) { e.Positions[0].From.Next = 5 })
		}, []string{one, `partition "src": it begins at 5, and 6`}},
		{"F2: from is missing", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Positions[0].From = nil }) }, []string{one, "nothing was held"}},
		{"an older epoch", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Positions[0].Epoch = 0 }) }, []string{one, `partition "src": it was written in epoch 0, when epoch 1`}},
		{"a takeover of an epoch that was", func(t *testing.T, dir string) {
			reseal(t, dir, 3, func(e *entry) {
				e.Kind, e.Files, e.Positions = kindTakeover, nil, []movement{{Partition: "src", Epoch: 1}}
			})
		}, []string{one, `epoch 1 of partition "src"`, "after epoch 1"}},
		{"a commit that does not say how far", func(t *testing.T, dir string) { reseal(t, dir, 3, func(e *entry) { e.Positions[0].To = nil }) }, []string{one, `"src" is impossible`}},
		{"a file twice", func(t *testing.T, dir string) {
			reseal(t, dir, 3, func(e *entry) { e.Files[0].Path = "p=a/ventas-2-0.txt" })
		}, []string{one, "is there twice"}},
		{"a file outside", func(t *testing.T, dir string) {
			reseal(t, dir, 3, func(e *entry) { e.Files[0].Path = "../x.txt" })
		}, []string{one, "impossible file"}},
		{"a file removed that never was", func(t *testing.T, dir string) {
			reseal(t, dir, 3, func(e *entry) { e.Removed = []string{"x.txt"} })
		}, []string{one, "removes x.txt"}},
		{"F5: a data file is missing", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "p=a/ventas-3-6.txt")))
		}, []string{"p=a/ventas-3-6.txt is missing", "2 rows were committed (entry 3", "restore it from a backup"}},
		{"F5: a data file was cut", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "p=a/ventas-3-6.txt"), 1))
		}, []string{"p=a/ventas-3-6.txt has 1 bytes, and 4 were committed"}},
		{"F5: a data file is a folder", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "p=a/ventas-3-6.txt")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "p=a/ventas-3-6.txt"), 0o755))
		}, []string{"no regular file"}},
		{"the manifest is lost", func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "_leat"))) }, []string{"no manifest in", "move the files away"}},
		{"a damaged pending entry", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, pendingName(owner{"ventas", "lago"}, newMember())), []byte("{}"), 0o600))
		}, []string{".pending", "is damaged", "move it away"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t)
			tc.damage(t, dir)
			before := names(t, dir)
			s := New(byP(dir))
			err := s.Open(t.Context(), env())
			require.Error(t, err)
			for _, w := range append(tc.want, "linesink: open "+dir) {
				assert.ErrorContains(t, err, w)
			}
			assert.False(t, leat.IsTransient(err))
			assert.Equal(t, before, names(t, dir), "nothing was changed")
			require.NoError(t, s.Close())
			if !strings.Contains(tc.name, "F5") && !strings.Contains(tc.name, "pending") && !strings.Contains(tc.name, "lost") {
				_, err = Files(dir)
				assert.ErrorContains(t, err, tc.want[0])
			}
		})
	}
	t.Run("what is no lake", func(t *testing.T) {
		t.Parallel()
		_, err := Files(filepath.Join(t.TempDir(), "x"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
		dir := t.TempDir()
		_, err = Files(dir)
		assert.ErrorContains(t, err, "holds no lake")
		assert.ErrorIs(t, err, fs.ErrNotExist)
		_, err = Compact(t.Context(), dir, compacting())
		assert.ErrorContains(t, err, "there is no lake")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "notas.md"), nil, 0o600))
		require.NoError(t, opened(t, byP(dir), env()).Close(), "files of another kind don't matter")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "more.txt"), nil, 0o600))
		require.NoError(t, opened(t, byP(dir), env()).Close(), "nor do files that come later")
	})
}

func names(t testing.TB, dir string) []string {
	data, manifest := tree(t, dir)
	var out []string
	for _, n := range append(data, manifest...) {
		if !strings.HasSuffix(n, ".lock") {
			out = append(out, n)
		}
	}
	return out
}

func TestRetention(t *testing.T) {
	t.Parallel()
	t.Run("F7: snapshots keep the manifest short", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(config(dir))
		s.hook = unsynced(8)
		require.NoError(t, openTaking(s, env()))
		const commits = 150
		for i := range int64(commits) {
			put(t, s, i, i+1)
			commit(t, s, i+1)
			entries, snapshots := 0, 0
			if i%20 == 0 {
				_, manifest := tree(t, dir)
				for _, n := range manifest {
					if seqOf(n, snapshotExt) > 0 {
						snapshots++
					} else if seqOf(n, entryExt) > 0 {
						entries++
					}
				}
				require.LessOrEqual(t, snapshots, 2)
				require.LessOrEqual(t, entries, 120)
			}
		}
		require.NoError(t, s.Close())
		_, manifest := tree(t, dir)
		assert.Less(t, len(manifest), 120)
		whole(t, dir, commits)
		s = opened(t, config(dir), env())
		assert.Equal(t, int64(commits), heldBy(t, s))
		tidyTree(t, dir)
	})
	t.Run("F7: the newest snapshot is damaged: the way out that the error names", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(config(dir))
		s.hook.every = 4
		require.NoError(t, openTaking(s, env()))
		for i := range int64(60) {
			put(t, s, i, i+1)
			commit(t, s, i+1)
		}
		require.NoError(t, s.Close())
		last := ""
		_, manifest := tree(t, dir)
		for _, n := range manifest {
			if seqOf(n, snapshotExt) > 0 {
				last = n
			}
		}
		flip(t, filepath.Join(dir, leatDir, last), 50)
		err := New(config(dir)).Open(t.Context(), env())
		require.ErrorContains(t, err, last)
		require.ErrorContains(t, err, "move it away")
		require.NoError(t, os.Remove(filepath.Join(dir, leatDir, last)))
		assert.Equal(t, int64(60), heldBy(t, opened(t, config(dir), env())))
		whole(t, dir, 60)
	})
	t.Run("F7, E3: a writer that slept through it all takes no number that was tidied away", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		slow, quick := opened(t, config(dir), env()), New(config(dir))
		quick.hook.every = 4
		put(t, slow, 0, 5)
		run := func() {
			require.NoError(t, openTaking(quick, leat.Env{Pipeline: "otra", Node: "lago"}))
			at := heldBy(t, quick)
			for i := at; i < at+60; i++ {
				put(t, quick, 5+i, 5+i+1)
				commit(t, quick, i+1)
			}
			require.NoError(t, quick.Close())
		}
		run()
		n := 0
		slow.w.hook.link = func(root *os.Root, from, to string) error {
			if n++; n == 1 {
				run() // between the look and the entry
			}
			return root.Link(from, to)
		}
		commit(t, slow, 5)
		whole(t, dir, 125)
		tidyTree(t, dir)
		require.NoError(t, slow.Close())
		assert.Equal(t, int64(5), heldBy(t, opened(t, config(dir), env())))
	})
	t.Run("F7, E7: a member that opened an empty lake and slept through it all", func(t *testing.T) {
		t.Parallel()
		for _, asleep := range []string{"before its look", "between the look and the entry"} {
			dir := t.TempDir()
			slow, quick := New(config(dir)), New(config(dir))
			require.NoError(t, slow.Open(t.Context(), env()))
			quick.hook = unsynced(4)
			run := func() {
				require.NoError(t, openTaking(quick, env()))
				for i := heldBy(t, quick); i < 60; i++ {
					put(t, quick, i, i+1)
					commit(t, quick, i+1)
				}
				require.NoError(t, quick.Close())
			}
			if asleep == "before its look" {
				run()
			}
			n := 0
			slow.w.hook.link = func(root *os.Root, from, to string) error {
				if n++; n == 1 {
					run()
				}
				return root.Link(from, to)
			}
			at, err := slow.Restore(t.Context(), []string{"src"})
			require.NoError(t, err)
			require.Equal(t, int64(60), at["src"].Next, "asleep %s", asleep)
			put(t, slow, 60, 61)
			commit(t, slow, 61)
			whole(t, dir, 61)
			tidyTree(t, dir)
			require.NoError(t, slow.Close())
		}
	})
	t.Run("F7: readers are not disturbed", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(config(dir))
		s.hook = unsynced(4)
		require.NoError(t, openTaking(s, env()))
		var stop atomic.Bool
		var committed atomic.Int64
		var wg sync.WaitGroup
		defer func() { stop.Store(true); wg.Wait() }()
		for range 3 {
			wg.Go(func() {
				for !stop.Load() {
					least := committed.Load()
					files, err := Files(dir)
					if !assert.NoError(t, err) {
						return
					}
					assert.GreaterOrEqual(t, int64(len(files)), least)
				}
			})
		}
		for i := range int64(80) {
			put(t, s, i, i+1)
			commit(t, s, i+1)
			committed.Store(i + 1)
		}
		stop.Store(true)
		wg.Wait()
		require.NoError(t, s.Close())
		whole(t, dir, 80)
	})
	t.Run("F7: a tidying that fails is made up for", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(config(dir))
		s.hook.every = 4
		require.NoError(t, openTaking(s, env()))
		for i := range int64(40) {
			broken := errors.New("broken")
			put(t, s, i, i+1)
			// The third synced file of a commit is the snapshot.
			n := 0
			s.w.hook.sync = func(f *os.File) error {
				if n++; n > 2 && i < 39 {
					return broken
				}
				return f.Sync()
			}
			commit(t, s, i+1)
		}
		require.NoError(t, s.Close())
		assert.FileExists(t, filepath.Join(dir, snapshotName(41)))
		whole(t, dir, 40)
		tidyTree(t, dir)
	})
}

// A lake of 100,000 files stays usable: its manifest is read in a second or so.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, config(dir), env())
	put(t, s, 0, 1)
	commit(t, s, 1)
	require.NoError(t, s.Close())
	l, err := openLake("test", dir, hooks{})
	require.NoError(t, err)
	defer l.root.Close()
	st, err := l.load()
	require.NoError(t, err)
	const many = 100_000
	for i := range many {
		st.add(file{Path: fmt.Sprintf("p=%d/ventas-%d-0.txt", i%500, i+1000), Bytes: 5, Rows: 1, Checksum: "crc32c:00000000"}, owner{"ventas", "lago"}, 2, "id")
	}
	sum, err := l.summary(st)
	require.NoError(t, err)
	b, err := seal(sum)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.abs(snapshotName(st.seq)), b, 0o600))
	start := time.Now()
	files, err := Files(dir)
	require.NoError(t, err)
	require.Len(t, files, many+1)
	t.Logf("%d MB of manifest read in %v", len(b)>>20, time.Since(start))
	assert.Less(t, time.Since(start), 20*time.Second)
}

func BenchmarkCommit(b *testing.B) {
	dir := b.TempDir()
	s := opened(b, config(dir), env())
	i := int64(0)
	for b.Loop() {
		put(b, s, i, i+1)
		i++
		commit(b, s, i)
	}
}

func FuzzUnseal(f *testing.F) {
	good, err := seal(&entry{Version: version, Seq: 3, Kind: kindCommit, Owner: owner{"a", "\xff"}, Files: []file{{Path: "x"}}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e entry
		if unseal(b, &e) != nil {
			return
		}
		again, err := seal(&e)
		require.NoError(t, err)
		var e2 entry
		require.NoError(t, unseal(again, &e2))
		require.Equal(t, e, e2)
	})
}
