package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "state", "checkpoints.db") }

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustState(t *testing.T, s *Store, stage, partition string) []string {
	t.Helper()
	blobs, err := s.State(stage, partition)
	require.NoError(t, err)
	require.Equal(t, len(blobs), s.Size(stage, partition).Pieces)
	var out []string
	for _, b := range blobs {
		out = append(out, string(b))
	}
	return out
}

func positions(pairs ...any) map[string]Position {
	out := map[string]Position{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = Position{Next: int64(pairs[i+1].(int)), Resume: "r", Log: "l"}
	}
	return out
}

func TestNewStoreIsEmpty(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	saved, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, Saved{Positions: map[string]Position{}, Counters: map[string]int64{}}, saved)
	require.Empty(t, mustState(t, s, "a", "p"))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		info, err = os.Stat(filepath.Dir(path))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
}

// Every case commits in order and is then looked at twice: in the open store and after opening it again.
func TestCommit(t *testing.T) {
	t.Parallel()
	delta := func(stage, partition, blob string, full bool) Delta {
		return Delta{Stage: stage, Partition: partition, Blob: []byte(blob), Full: full}
	}
	for _, tc := range []struct {
		name    string
		commits []Checkpoint
		forget  []string
		want    Saved
		state   map[string][]string // "stage/partition"
	}{
		{
			name: "positions replace only the partitions they name",
			commits: []Checkpoint{
				{Seq: 1, Positions: positions("a", 1, "b", 1)},
				{Seq: 2, Positions: positions("b", 2, "c", 2)},
			},
			want: Saved{Seq: 2, Positions: positions("a", 1, "b", 2, "c", 2)},
		},
		{
			name: "counters are replaced as a whole",
			commits: []Checkpoint{
				{Seq: 1, Counters: map[string]int64{"in": 5, "late": 1}},
				{Seq: 2, Counters: map[string]int64{"in": -7}},
			},
			want: Saved{Seq: 2, Counters: map[string]int64{"in": -7}},
		},
		{
			name:    "Seq may leave gaps",
			commits: []Checkpoint{{Seq: 3}, {Seq: 1 << 63}},
			want:    Saved{Seq: 1 << 63},
		},
		{
			name: "deltas are appended in order",
			commits: []Checkpoint{
				{Seq: 1, Deltas: []Delta{delta("s", "p", "one", false), delta("s", "p", "two", false), delta("s", "q", "x", false)}},
				{Seq: 2, Deltas: []Delta{delta("s", "p", "three", false)}},
			},
			want:  Saved{Seq: 2},
			state: map[string][]string{"s/p": {"one", "two", "three"}, "s/q": {"x"}},
		},
		{
			name: "a snapshot replaces what was before it",
			commits: []Checkpoint{
				{Seq: 1, Deltas: []Delta{delta("s", "p", "one", false), delta("s", "q", "x", false)}},
				{Seq: 2, Deltas: []Delta{delta("s", "p", "all", true), delta("s", "p", "more", false)}},
			},
			want:  Saved{Seq: 2},
			state: map[string][]string{"s/p": {"all", "more"}, "s/q": {"x"}},
		},
		{
			name: "a snapshot after deltas of the same checkpoint",
			commits: []Checkpoint{
				{Seq: 1, Deltas: []Delta{delta("s", "p", "one", false), delta("s", "p", "all", true)}},
			},
			want:  Saved{Seq: 1},
			state: map[string][]string{"s/p": {"all"}},
		},
		{
			name:    "an empty piece is a piece",
			commits: []Checkpoint{{Seq: 1, Deltas: []Delta{delta("s", "p", "", false)}}},
			want:    Saved{Seq: 1},
			state:   map[string][]string{"s/p": {""}},
		},
		{
			name: "names that run into one another stay apart",
			commits: []Checkpoint{{Seq: 1, Deltas: []Delta{
				delta("ab", "c", "1", false), delta("a", "bc", "2", false), delta("", "abc", "3", false), delta("abc", "", "4", false),
			}}},
			want:  Saved{Seq: 1},
			state: map[string][]string{"ab/c": {"1"}, "a/bc": {"2"}, "/abc": {"3"}, "abc/": {"4"}},
		},
		{
			name: "names and resume points of any bytes",
			commits: []Checkpoint{{
				Seq:       1,
				Positions: map[string]Position{"\xff\x00<&>": {Next: -1, Resume: "\x80\x81", Log: "base64:AA=="}, "": {}},
				Counters:  map[string]int64{"\xfe": 1, "base64:": 2},
				Deltas:    []Delta{delta("\xff", "\x00", "\x00\xff", false)},
			}},
			want: Saved{
				Seq:       1,
				Positions: map[string]Position{"\xff\x00<&>": {Next: -1, Resume: "\x80\x81", Log: "base64:AA=="}, "": {}},
				Counters:  map[string]int64{"\xfe": 1, "base64:": 2},
			},
			state: map[string][]string{"\xff/\x00": {"\x00\xff"}},
		},
		{
			name:    "a piece larger than many pages",
			commits: []Checkpoint{{Seq: 1, Deltas: []Delta{delta("s", "p", strings.Repeat("x", 1<<20), false)}}},
			want:    Saved{Seq: 1},
			state:   map[string][]string{"s/p": {strings.Repeat("x", 1<<20)}},
		},
		{
			name: "pieces around the size of a part",
			commits: []Checkpoint{{Seq: 1, Deltas: []Delta{
				delta("s", "p", strings.Repeat("a", partSize-1), false), delta("s", "p", strings.Repeat("b", partSize), false),
				delta("s", "p", strings.Repeat("c", partSize+1), false), delta("s", "p", strings.Repeat("d", 2*partSize), false),
			}}},
			want: Saved{Seq: 1},
			state: map[string][]string{"s/p": {
				strings.Repeat("a", partSize-1), strings.Repeat("b", partSize), strings.Repeat("c", partSize+1), strings.Repeat("d", 2*partSize),
			}},
		},
		{
			name: "forget removes position and state of a partition, in all stages",
			commits: []Checkpoint{{
				Seq: 4, Positions: positions("p", 1, "q", 1), Counters: map[string]int64{"in": 1},
				Deltas: []Delta{delta("s", "p", "1", false), delta("s", "p", "2", false), delta("t", "p", "3", false), delta("s", "q", "4", false)},
			}},
			forget: []string{"p", "unknown"},
			want:   Saved{Seq: 4, Positions: positions("q", 1), Counters: map[string]int64{"in": 1}},
			state:  map[string][]string{"s/p": nil, "t/p": nil, "s/q": {"4"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			s := mustOpen(t, path)
			for _, cp := range tc.commits {
				require.NoError(t, s.Commit(cp))
			}
			if tc.forget != nil {
				require.NoError(t, s.Forget(tc.forget...))
			}
			if tc.want.Positions == nil {
				tc.want.Positions = map[string]Position{}
			}
			if tc.want.Counters == nil {
				tc.want.Counters = map[string]int64{}
			}
			look := func(s *Store) {
				saved, err := s.Load()
				require.NoError(t, err)
				require.Equal(t, tc.want, saved)
				for k, want := range tc.state {
					stage, partition, _ := strings.Cut(k, "/")
					require.Equal(t, want, mustState(t, s, stage, partition), k)
				}
			}
			look(s)
			require.NoError(t, s.Close())
			look(mustOpen(t, path))
		})
	}
}

func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newPath(t))
	require.NoError(t, s.Commit(Checkpoint{Seq: 5, Positions: positions("p", 5)}))
	for name, cp := range map[string]Checkpoint{
		"same Seq":    {Seq: 5, Positions: positions("p", 6)},
		"smaller Seq": {Seq: 4, Positions: positions("p", 6)},
		"long name":   {Seq: 6, Positions: positions("p", 6), Deltas: []Delta{{Stage: strings.Repeat("x", 40_000)}}},
	} {
		require.Error(t, s.Commit(cp), name)
	}
	saved, err := s.Load()
	require.NoError(t, err, "the store goes on")
	require.Equal(t, Saved{Seq: 5, Positions: positions("p", 5), Counters: map[string]int64{}}, saved)
	require.NoError(t, s.Commit(Checkpoint{Seq: 6}))
}

// The caller may reuse what it passes and change what it gets.
func TestNothingIsShared(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newPath(t))
	cp := Checkpoint{
		Seq: 1, Positions: positions("p", 1), Counters: map[string]int64{"in": 1},
		Deltas: []Delta{{Stage: "s", Partition: "p", Blob: []byte("one")}},
	}
	require.NoError(t, s.Commit(cp))
	clear(cp.Positions)
	clear(cp.Counters)
	copy(cp.Deltas[0].Blob, "xxx")
	require.NoError(t, s.Begin(positions("q", 0), nil), "it writes what Commit has left")
	require.NoError(t, s.Forget("q"))

	saved, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"in": 1}, saved.Counters)
	clear(saved.Positions)
	clear(saved.Counters)
	blobs, err := s.State("s", "p")
	require.NoError(t, err)
	copy(blobs[0], "yyy")

	require.NoError(t, s.Commit(Checkpoint{Seq: 2, Counters: map[string]int64{"in": 2}}))
	saved, err = s.Load()
	require.NoError(t, err)
	require.Equal(t, Saved{Seq: 2, Positions: positions("p", 1), Counters: map[string]int64{"in": 2}}, saved)
	require.Equal(t, []string{"one"}, mustState(t, s, "s", "p"))
}

func TestOpenWaits(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	first := mustOpen(t, path)
	require.NoError(t, first.Commit(Checkpoint{Seq: 1}))

	waiting := make(chan struct{})
	opened := make(chan *Store)
	go func() {
		defer close(opened)
		s, err := Open(t.Context(), path, func() { close(waiting) }) // a second call would panic
		if err != nil {
			t.Error(err)
			return
		}
		opened <- s
	}()
	<-waiting
	require.NoError(t, first.Commit(Checkpoint{Seq: 2}), "the owner is not disturbed")
	require.NoError(t, first.Close())
	second := <-opened
	require.NotNil(t, second)
	saved, err := second.Load()
	require.NoError(t, err)
	require.Equal(t, uint64(2), saved.Seq, "it sees what was committed while it waited")
	require.NoError(t, second.Close())
}

func TestOpenEndsWithContext(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	mustOpen(t, path)
	why := errors.New("the operator gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := Open(ctx, path, func() { cancel(why) })
	require.ErrorIs(t, err, why)
	require.ErrorContains(t, err, path)
}

func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			saved, err := s.Load()
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Commit(Checkpoint{Seq: saved.Seq + 1}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	saved, err := mustOpen(t, path).Load()
	require.NoError(t, err)
	require.Equal(t, uint64(8), saved.Seq, "nobody's commit is lost, so nobody had it open together with another")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := func(t *testing.T) []byte {
		path := newPath(t)
		s := mustOpen(t, path)
		require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1)}))
		require.NoError(t, s.Close())
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	for _, tc := range []struct {
		name    string
		content func(t *testing.T) []byte
	}{
		{"empty", func(*testing.T) []byte { return nil }},
		{"short", func(*testing.T) []byte { return []byte("leat") }},
		{"a text", func(*testing.T) []byte { return bytes.Repeat([]byte("not a database\n"), 10_000) }},
		{"zeros", func(*testing.T) []byte { return make([]byte, 64<<10) }},
		{"cut after a byte", func(t *testing.T) []byte { return good(t)[:1] }},
		{"cut after the first meta page", func(t *testing.T) []byte { return good(t)[:os.Getpagesize()] }},
		{"cut after the second meta page", func(t *testing.T) []byte { return good(t)[:2*os.Getpagesize()] }},
		{"cut in a page", func(t *testing.T) []byte { return good(t)[:3*os.Getpagesize()+100] }},
		{"second half zeros", func(t *testing.T) []byte { b := good(t); clear(b[2*os.Getpagesize():]); return b }},
		{"first meta page zeros", func(t *testing.T) []byte { b := good(t); clear(b[:os.Getpagesize()]); return b }},
		{"second meta page zeros", func(t *testing.T) []byte {
			b := good(t)
			clear(b[os.Getpagesize() : 2*os.Getpagesize()])
			return b
		}},
		{"another bbolt file", func(t *testing.T) []byte {
			path := filepath.Join(t.TempDir(), "x")
			db, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Close())
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			return b
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "checkpoints.db")
			content := tc.content(t)
			require.NoError(t, os.WriteFile(path, content, 0o600))
			_, err := Open(t.Context(), path, nil)
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "Restore checkpoints.db from a copy, or delete the state folder")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, after), "the file was not touched")
		})
	}
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		_, err := Open(t.Context(), t.TempDir(), nil)
		require.ErrorContains(t, err, "not a file")
	})
	t.Run("link that leads nowhere", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "checkpoints.db")
		if err := os.Symlink("nowhere", path); err != nil {
			t.Skip(err)
		}
		_, err := Open(t.Context(), path, nil)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// rewrite changes the content of a closed store with plain bbolt.
func rewrite(t *testing.T, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(f))
	require.NoError(t, db.Close())
}

func TestDamagedContent(t *testing.T) {
	t.Parallel()
	key := partKey(stateKey{"s", "p"}, 1, 0)
	flip := func(bucket, key []byte, at int) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			rec := slices.Clone(tx.Bucket(bucket).Get(key))
			rec[at] ^= 1
			return tx.Bucket(bucket).Put(key, rec)
		}
	}
	for _, tc := range []struct {
		name, where, what string
		damage            func(tx *bbolt.Tx) error
	}{
		{"version byte of the head", "checkpoint/last", "checksum", flip(checkpointBucket, lastKey, 0)},
		{"payload of the head", "checkpoint/last", "checksum", flip(checkpointBucket, lastKey, 20)},
		{"checksum of the format", "meta/format", "checksum", flip(metaBucket, formatKey, 1)},
		{"piece of state", `state/"s"/"p"/1`, "checksum", flip(stateBucket, key, recordHeader)},
		{"head cut off", "checkpoint/last", "cut off", func(tx *bbolt.Tx) error {
			return tx.Bucket(checkpointBucket).Put(lastKey, []byte{recordVersion, 0})
		}},
		{"head missing", "checkpoint/last", "missing", func(tx *bbolt.Tx) error { return tx.Bucket(checkpointBucket).Delete(lastKey) }},
		{"format missing", "meta/format", "missing", func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(formatKey) }},
		{"checkpoint bucket missing", "checkpoint/last", "bucket", func(tx *bbolt.Tx) error { return tx.DeleteBucket(checkpointBucket) }},
		{"state bucket missing", `state/"s"/"p"`, "bucket", func(tx *bbolt.Tx) error { return tx.DeleteBucket(stateBucket) }},
		{"piece of state missing", `state/"s"/"p"/1`, "missing", func(tx *bbolt.Tx) error { return tx.Bucket(stateBucket).Delete(key) }},
		{"piece of state in another's place", `state/"s"/"p"/1`, "checksum", func(tx *bbolt.Tx) error {
			b := tx.Bucket(stateBucket)
			return b.Put(key, slices.Clone(b.Get(partKey(stateKey{"s", "p"}, 0, 0))))
		}},
		{"part of a piece missing", `state/"s"/"p"/2`, "part 1", func(tx *bbolt.Tx) error {
			return tx.Bucket(stateBucket).Delete(partKey(stateKey{"s", "p"}, 2, 1))
		}},
		{"piece with another length", `state/"s"/"p"/1`, "should have 3", func(tx *bbolt.Tx) error {
			return put(tx, stateBucket, key, []byte("\x03bbbb"))
		}},
		{"record of an unknown version", "checkpoint/last", "version 9", func(tx *bbolt.Tx) error {
			rec := encodeRecord(checkpointBucket, lastKey, []byte("{}"))
			rec[0] = 9
			sum := recordSum(checkpointBucket, lastKey, 9, rec[recordHeader:])
			rec[1], rec[2], rec[3], rec[4] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
			return tx.Bucket(checkpointBucket).Put(lastKey, rec)
		}},
		{"unknown content", "checkpoint/last", "not what this program writes", func(tx *bbolt.Tx) error {
			return put(tx, checkpointBucket, lastKey, []byte(`{"seq":1,"surprise":true}`))
		}},
		{"a partition twice", "checkpoint/last", "twice", func(tx *bbolt.Tx) error {
			return put(tx, checkpointBucket, lastKey, []byte(`{"seq":1,"positions":[{"partition":"a","next":1},{"partition":"a","next":2}]}`))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			s := mustOpen(t, path)
			require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1), Deltas: []Delta{
				{Stage: "s", Partition: "p", Blob: []byte("aaaa")}, {Stage: "s", Partition: "p", Blob: []byte("bbbb")},
				{Stage: "s", Partition: "p", Blob: make([]byte, 3*partSize)},
			}}))
			require.NoError(t, s.Close())
			rewrite(t, path, tc.damage)

			s, err := Open(t.Context(), path, nil)
			if err == nil {
				defer s.Close()
				var blobs [][]byte
				blobs, err = s.State("s", "p")
				require.Nil(t, blobs)
			}
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, path+": "+tc.where)
			require.ErrorContains(t, err, tc.what)
			require.ErrorContains(t, err, "delete the state folder")
		})
	}
}

// A flipped bit anywhere in the file gives an error or changes nothing: never other content, never a panic.
func TestEveryFlippedBit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	rng := rand.New(rand.NewPCG(1, 2))
	want := map[string]string{}
	for i := range 40 { // enough for a branch page and a free list
		blob := make([]byte, rng.IntN(300))
		for j := range blob {
			blob[j] = byte(rng.Uint32())
		}
		p := fmt.Sprint("p", i)
		want[p] = string(blob)
		require.NoError(t, s.Commit(Checkpoint{
			Seq: uint64(i + 1), Positions: positions(p, i), Counters: map[string]int64{"in": int64(i)},
			Deltas: []Delta{{Stage: "s", Partition: p, Blob: []byte("old")}, {Stage: "s", Partition: p, Blob: blob, Full: true}},
		}))
	}
	saved, err := s.Load()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	original, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, verify(bytes.NewReader(original), int64(len(original))))

	check := func(t *testing.T, path string, bit int) (clean bool) {
		b := slices.Clone(original)
		b[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(context.Background(), path, nil)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d: %v", bit, err)
			}
			return false
		}
		defer s.Close()
		got, err := s.Load()
		if err != nil {
			return false
		}
		if got.Seq != saved.Seq || !maps.Equal(got.Positions, saved.Positions) || !maps.Equal(got.Counters, saved.Counters) {
			t.Errorf("bit %d: other content: %v", bit, got)
		}
		for p, blob := range want {
			blobs, err := s.State("s", p)
			if err != nil {
				return false
			}
			if len(blobs) != 1 || string(blobs[0]) != blob {
				t.Errorf("bit %d: other state of %s", bit, p)
			}
		}
		return true
	}
	// Free pages may hold anything; what matters is in the others.
	m, err := readMeta(bytes.NewReader(original), 0)
	require.NoError(t, err)
	if m1, err := readMeta(bytes.NewReader(original), int64(m.pageSize)); err == nil && m1.txid > m.txid {
		m = m1
	}
	v := &verifier{f: bytes.NewReader(original), meta: m, used: make([]bool, m.pgid)}
	require.NoError(t, v.tree(m.root, nil, nil))
	v.used[0], v.used[1], v.used[m.freelist] = true, true, true
	var bits []int
	for page, used := range v.used {
		for i := 0; used && i < int(m.pageSize)*8; i++ {
			bits = append(bits, page*int(m.pageSize)*8+i)
		}
	}
	step := len(bits)/600 | 1
	if os.Getenv("LEAT_LONG") == "1" {
		step = 1
	}
	flips, clean := 0, 0
	file := filepath.Join(t.TempDir(), "x.db")
	for i := rng.IntN(step); i < len(bits); i += step {
		flips++
		if check(t, file, bits[i]) {
			clean++
		}
	}
	t.Logf("%d bytes in live pages, %d flips, %d of them in unused places", len(bits)/8, flips, clean)
}

// bbolt would step back to the checkpoint before when a meta page is damaged; here any of its bits is an error.
func TestEveryFlippedMetaBit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	require.NoError(t, s.Commit(Checkpoint{Seq: 1}))
	require.NoError(t, s.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, start := range []int{0, os.Getpagesize()} {
		for i := range (pageHeader + metaSize) * 8 {
			if i/8 >= 10 && i/8 < pageHeader {
				continue // count and overflow mean nothing here
			}
			b[start+i/8] ^= 1 << (i % 8)
			require.Error(t, verify(bytes.NewReader(b), int64(len(b))), "bit %d of the page at %d", i, start)
			b[start+i/8] ^= 1 << (i % 8)
		}
	}
	require.NoError(t, verify(bytes.NewReader(b), int64(len(b))))
}

// Faults in mapped memory end a Go process unless they are turned into panics.
func TestFileCutWhileOpen(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be cut on Windows")
	}
	for name, use := range map[string]func(s *Store) error{
		"Load":   func(s *Store) error { _, err := s.Load(); return err },
		"State":  func(s *Store) error { _, err := s.State("s", "p"); return err },
		"Commit": func(s *Store) error { return s.Commit(Checkpoint{Seq: 2}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			s := mustOpen(t, path)
			require.NoError(t, s.Commit(Checkpoint{Seq: 1, Deltas: []Delta{{Stage: "s", Partition: "p", Blob: make([]byte, 100_000)}}}))
			require.NoError(t, os.Truncate(path, 0))
			require.ErrorIs(t, use(s), ErrCorrupt)
			require.Error(t, s.Commit(Checkpoint{Seq: 3}), "it is not used any more")
			require.NoError(t, s.Close())
			require.NoError(t, s.Close())

			require.NoError(t, os.Remove(path))
			require.NoError(t, mustOpen(t, path).Commit(Checkpoint{Seq: 1}), "the lock was freed")
		})
	}
}

func TestFailedCommit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1)}))
	require.NoError(t, s.file.Close()) // every write fails from here on

	require.Error(t, s.Commit(Checkpoint{Seq: 2, Positions: positions("p", 2)}))
	require.ErrorIs(t, s.Commit(Checkpoint{Seq: 2}), ErrClosed)
	_, err := s.Load()
	require.ErrorIs(t, err, ErrClosed)
	_ = s.Close() // it cannot close what is closed

	s = mustOpen(t, path)
	saved, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, Saved{Seq: 1, Positions: positions("p", 1), Counters: map[string]int64{}}, saved)
	require.NoError(t, s.Commit(Checkpoint{Seq: 2}))
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newPath(t))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err := s.Load()
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.State("s", "p")
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Commit(Checkpoint{Seq: 1}), ErrClosed)
	require.ErrorIs(t, s.Forget("p"), ErrClosed)
}

func TestNewerFormat(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	require.NoError(t, mustOpen(t, path).Close())
	rewrite(t, path, func(tx *bbolt.Tx) error { return putFormat(tx, current.version+1) })
	_, err := Open(t.Context(), path, nil)
	require.ErrorIs(t, err, ErrNewer, "rule H6")
	require.NotErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, fmt.Sprintf("format %d", current.version+1))
}

// rule H6: the upgrade path works, all or nothing, for formats to come.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	require.NoError(t, s.Commit(Checkpoint{Seq: 7, Positions: positions("p", 7)}))
	require.NoError(t, s.Close())

	step := func(add uint64, err error) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			payload, getErr := get(tx, checkpointBucket, lastKey)
			if getErr != nil {
				return getErr
			}
			h, decErr := decodeHead(payload)
			if decErr != nil {
				return decErr
			}
			h.Seq += add
			return errors.Join(putHead(tx, h), err)
		}
	}
	v := current.version
	broken := schema{version: v + 2, steps: map[int]func(*bbolt.Tx) error{v: step(10, nil), v + 1: step(100, errors.New("no"))}}
	_, err := open(t.Context(), path, nil, broken)
	require.ErrorContains(t, err, fmt.Sprintf("from format %d to %d: no", v+1, v+2))
	_, err = open(t.Context(), path, nil, schema{version: v + 1})
	require.ErrorContains(t, err, fmt.Sprintf("no way from format %d to %d", v, v+1))

	s = mustOpen(t, path)
	saved, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, uint64(7), saved.Seq, "a failed upgrade has changed nothing")
	require.NoError(t, s.Close())

	s, err = open(t.Context(), path, nil, schema{version: v + 2, steps: map[int]func(*bbolt.Tx) error{v: step(10, nil), v + 1: step(100, nil)}})
	require.NoError(t, err)
	saved, err = s.Load()
	require.NoError(t, err)
	require.Equal(t, uint64(117), saved.Seq, "each step once, in order")
	require.Equal(t, positions("p", 7), saved.Positions)
	require.NoError(t, s.Close())
	_, err = Open(t.Context(), path, nil)
	require.ErrorIs(t, err, ErrNewer)
}

// rule H6: a file of format 1, as the commit before format 2 wrote it.
func TestUpgradeFromFormat1(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/format1.db.gz")
	require.NoError(t, err)
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	require.NoError(t, err)
	old, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "checkpoints.db")
	require.NoError(t, os.WriteFile(path, old, 0o600))
	_, _, err = Peek(path)
	require.ErrorContains(t, err, "format 1", "looking changes nothing")

	for range 2 {
		s := mustOpen(t, path)
		saved, err := s.Load()
		require.NoError(t, err)
		require.Equal(t, Saved{Seq: 9, Counters: map[string]int64{"orders\x00in": 90},
			Positions: map[string]Position{"orders": {Next: 90, Resume: "r\xff", Log: "l"}, "lines/1": {Next: 9, Log: "m"}}}, saved)
		require.Len(t, mustState(t, s, "dedupe", "orders"), 9)
		require.Equal(t, Size{Pieces: 9, Deltas: 45}, s.Size("dedupe", "orders"))
		count := mustState(t, s, "count", "orders")
		require.Len(t, count, 6)
		require.Equal(t, strings.Repeat("y", 20_009), count[5])
		require.Equal(t, Size{Pieces: 6, Deltas: 6*20_000 + 4 + 5 + 6 + 7 + 8 + 9}, s.Size("count", "orders"))
		require.NoError(t, s.Close())
	}
}

// rule E7-4: notes, and what goes with a stage that is no more.
func TestNotes(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	notes := map[string]Note{"p": {Stages: map[string]string{"old": "1", "kept": "\xff"}}, "q": {Stages: map[string]string{}}, "r": {}}
	require.NoError(t, s.Begin(positions("p", 0, "q", 0, "r", 0), notes))
	require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1), Clean: []string{"q"},
		Deltas: []Delta{{"old", "p", []byte("o"), false}, {"kept", "p", []byte("kk"), true}, {"kept", "p", []byte("k"), false}, {"old", "r", []byte("r"), false}}}))
	require.Equal(t, Size{2, 2, 1}, s.Size("kept", "p"))
	require.NoError(t, s.Close())

	s = mustOpen(t, path)
	saved, err := s.Load()
	require.NoError(t, err)
	notes["q"] = Note{true, map[string]string{}}
	require.Equal(t, notes, saved.Notes)
	require.NoError(t, s.Begin(nil, map[string]Note{"p": {Stages: map[string]string{"kept": "2", "new": ""}}, "r": {}}))
	require.Empty(t, mustState(t, s, "old", "p"), "the stage is gone, and its state with it")
	require.Equal(t, []string{"kk", "k"}, mustState(t, s, "kept", "p"))
	require.Equal(t, []string{"r"}, mustState(t, s, "old", "r"), "nobody has said what stages there are")
	require.Equal(t, Size{2, 2, 1}, s.Size("kept", "p"))
	require.NoError(t, s.Move("p", Position{Next: 5}))
	require.NoError(t, s.Forget("q"))
	saved, err = s.Load()
	require.NoError(t, err)
	require.Equal(t, map[string]Note{"r": {}}, saved.Notes)
	require.NoError(t, s.Close())
}

// Many commits with snapshots do not let the file grow without end, and verify agrees with bbolt on all that bbolt writes.
func TestFileStaysSoundAndBounded(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		cp := Checkpoint{Seq: uint64(i + 1), Positions: positions(fmt.Sprint("p", rng.IntN(200)), i)}
		for range rng.IntN(5) {
			stage, partition := fmt.Sprint("s", rng.IntN(3)), fmt.Sprint("p", rng.IntN(20))
			cp.Deltas = append(cp.Deltas, Delta{
				Stage: stage, Partition: partition, Blob: make([]byte, rng.IntN(60_000)), Full: s.Size(stage, partition).Pieces > 5,
			})
		}
		require.NoError(t, s.Commit(cp))
		if i%100 == 99 {
			require.NoError(t, s.Forget(fmt.Sprint("p", rng.IntN(20))))
		}
		if i%20 == 0 {
			info, err := s.file.Stat()
			require.NoError(t, err)
			require.NoError(t, verify(s.file, info.Size()), "commit %d", i)
		}
	}
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		// Nothing is left behind in the file that the head does not name.
		parts, named := 0, 0
		require.NoError(t, tx.Bucket(stateBucket).ForEach(func(_, _ []byte) error { parts++; return nil }))
		for k, e := range s.head.Load().State {
			for n := e.First; n < e.Next; n++ {
				blob, err := getPiece(tx, k, n)
				require.NoError(t, err)
				named += max(1, (len(blob)+partSize-1)/partSize)
			}
		}
		require.Equal(t, named, parts)
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}))
	info, err := s.file.Stat()
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(64<<20))
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("bucket"), []byte("key"), []byte(`{"seq":1}`), uint16(3))
	f.Add([]byte{}, []byte{}, []byte{}, uint16(0))
	f.Add([]byte("b"), []byte("k"), []byte{1, 0, 0, 0, 0, 9}, uint16(999))
	f.Fuzz(func(t *testing.T, bucket, key, data []byte, bit uint16) {
		_, _ = decodeRecord(bucket, key, data) // arbitrary bytes: no panic

		rec := encodeRecord(bucket, key, data)
		got, err := decodeRecord(bucket, key, rec)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("decode(encode(%q)) = %q, %v", data, got, err)
		}
		at := int(bit) % (len(rec) * 8)
		rec[at/8] ^= 1 << (at % 8)
		if _, err := decodeRecord(bucket, key, rec); err == nil {
			t.Fatalf("flipped bit %d went unnoticed", at)
		}
		rec[at/8] ^= 1 << (at % 8)
		if _, err := decodeRecord(bucket, key, rec[:len(rec)-1]); err == nil {
			t.Fatal("a cut record went unnoticed")
		}
		if _, err := decodeRecord(bucket, append(slices.Clone(key), 'x'), rec); err == nil {
			t.Fatal("another key went unnoticed")
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(`{"seq":1,"positions":[{"partition":"a","next":1}],"counters":[{"name":"in","value":2}],"state":[{"stage":"s","partition":"p","first":0,"next":1}]}`), "a", "b")
	f.Add([]byte(`{}`), "base64:", "\xff")
	f.Fuzz(func(t *testing.T, data []byte, a, b string) {
		_, _ = decodeHead(data)

		h := newHead()
		h.Seq = uint64(len(data))
		h.Positions[a] = Position{-1, b, a}
		h.Counters[b] = 5
		h.Notes[a] = Note{true, map[string]string{b: a}}
		h.Notes[b+"x"] = Note{}
		h.State[stateKey{a, b}] = extent{1, 2, Size{1, 3, 4}}
		enc, err := encodeHead(h)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeHead(enc)
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, h, got)
		if !json.Valid(enc) {
			t.Fatal("not JSON")
		}
	})
}

// verify must end, without a panic, whatever the file holds.
func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x.db")
	s, err := Open(context.Background(), path, nil)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1)}); err != nil {
		f.Fatal(err)
	}
	_ = s.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(2*os.Getpagesize()+8), []byte{1}, uint32(3*os.Getpagesize()+16), []byte{0xff, 0xff})
	f.Add(uint32(4*os.Getpagesize()+12), []byte{9}, uint32(0), []byte{})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, at2 uint32, patch2 []byte) {
		b := slices.Clone(good)
		copy(b[int(at)%len(b):], patch)
		copy(b[int(at2)%len(b):], patch2)
		_ = verify(bytes.NewReader(b), int64(len(b)))
		_ = verify(bytes.NewReader(patch), int64(len(patch)))
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, partitions := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(partitions, " partitions"), func(b *testing.B) {
			s, err := Open(context.Background(), filepath.Join(b.TempDir(), "x.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			cp := Checkpoint{Positions: map[string]Position{}, Counters: map[string]int64{"in": 1, "out": 2}}
			for i := range partitions {
				name := fmt.Sprint("topic/", i)
				cp.Positions[name] = Position{Next: int64(i), Log: "some-topic-id"}
				cp.Deltas = append(cp.Deltas, Delta{Stage: "totals", Partition: name, Blob: make([]byte, 1000)})
			}
			for b.Loop() {
				cp.Seq++
				for i := range cp.Deltas {
					cp.Deltas[i].Full = cp.Seq%32 == 0
				}
				if err := s.Commit(cp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, pieces := range map[string]struct{ n, size int }{
		"1 MB in 1000 pieces": {1000, 1000}, "100 MB in 100 pieces": {100, 1 << 20}, "100 MB in 100000 pieces": {100_000, 1000},
	} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "x.db")
			s, err := Open(context.Background(), path, nil)
			if err != nil {
				b.Fatal(err)
			}
			cp := Checkpoint{Seq: 1}
			for i := range pieces.n {
				cp.Deltas = append(cp.Deltas, Delta{Stage: "s", Partition: fmt.Sprint("p", i%100), Blob: make([]byte, pieces.size)})
			}
			if err := s.Commit(cp); err != nil {
				b.Fatal(err)
			}
			_ = s.Close()
			for b.Loop() {
				s, err := Open(context.Background(), path, nil)
				if err != nil {
					b.Fatal(err)
				}
				_ = s.Close()
			}
		})
	}
}

// A small delta beside large snapshots of the same and of other partitions costs what it is, not what they are.
func BenchmarkCommitBesideSnapshots(b *testing.B) {
	s, err := Open(context.Background(), filepath.Join(b.TempDir(), "x.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	cp := Checkpoint{Seq: 1}
	for i := range 4 {
		cp.Deltas = append(cp.Deltas, Delta{Stage: "s", Partition: fmt.Sprint("p", i), Blob: make([]byte, 16<<20), Full: true})
	}
	if err := s.Commit(cp); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cp.Seq++
		cp.Deltas = cp.Deltas[:1]
		cp.Deltas[0] = Delta{Stage: "s", Partition: fmt.Sprint("p", cp.Seq%4), Blob: make([]byte, 100)}
		if err := s.Commit(cp); err != nil {
			b.Fatal(err)
		}
	}
}

// Begin notes a start once, and what is known already stays.
func TestBegin(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	require.NoError(t, s.Begin(positions("new", 0, "held", 7), nil))
	require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("held", 9), Counters: map[string]int64{"in": 2}}))
	require.NoError(t, s.Begin(positions("held", 3, "later", 1), nil))
	require.NoError(t, s.Begin(nil, nil))
	require.NoError(t, s.Close())

	s = mustOpen(t, path)
	saved, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, Saved{Seq: 1, Positions: positions("new", 0, "held", 9, "later", 1), Counters: map[string]int64{"in": 2}}, saved)
	require.NoError(t, s.Close())
}
