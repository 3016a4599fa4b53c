package lake

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

func TestCompact(t *testing.T) {
	t.Parallel()
	t.Run("one file per folder, in order, again and again", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := opened(t, byP(dir), env())
		n := int64(0)
		for range 3 {
			for range 4 {
				put(t, s, n, n+6)
				n += 6
				commit(t, s, n)
			}
			stats, err := Compact(t.Context(), dir, compacting())
			require.NoError(t, err)
			assert.Equal(t, 3, stats.Written)
			assert.Equal(t, n, stats.Rows)
			files, err := Files(dir)
			require.NoError(t, err)
			require.Len(t, files, 3)
			for _, f := range files {
				b, err := os.ReadFile(filepath.Join(dir, f.Path))
				require.NoError(t, err)
				assert.True(t, slices.IsSorted(parse(t, b)), "in the order of the commits")
				assert.Equal(t, "@compact", f.Sink)
				assert.Equal(t, "id", f.Schema)
			}
			whole(t, dir, n)
			tidyTree(t, dir)
		}
		stats, err := Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		assert.Zero(t, stats)
		require.NoError(t, s.Close())
		assert.Equal(t, n, heldBy(t, opened(t, byP(dir), env())))
	})
	t.Run("the order stays when a commit comes in between", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := opened(t, config(dir), env())
		n := int64(0)
		more := func() {
			put(t, s, n, n+3)
			n += 3
			commit(t, s, n)
		}
		more()
		more()
		o := compacting()
		o.Merge = func(ctx context.Context, files []string, w io.Writer) (int64, error) {
			more()
			return mergeLines(ctx, files, w)
		}
		_, err := Compact(t.Context(), dir, o)
		require.NoError(t, err)
		assert.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, content(t, dir))
		_, err = Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		assert.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, content(t, dir))
		tidyTree(t, dir)
	})
	t.Run("Smaller, Target, Ext and schema", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for i, schema := range []string{"one", "two"} {
			c := config(dir)
			c.Format = func() (Format[fila], error) { return &lines{schema: schema}, nil }
			s := opened(t, c, env())
			for k := range int64(5) { // 20 bytes each
				at := int64(i)*50 + k*10
				put(t, s, at, at+10)
				commit(t, s, int64(i)*2000+at+10)
			}
			put(t, s, int64(1000*(i+1)), int64(1000*(i+1)+100)) // a large one
			commit(t, s, int64(2000*(i+1)))
			require.NoError(t, s.Close())
		}
		o := compacting()
		o.Smaller, o.Target = 100, 90
		stats, err := Compact(t.Context(), dir, o)
		require.NoError(t, err)
		assert.Equal(t, 4, stats.Written, "3 and 2 of each schema")
		assert.Equal(t, 10, stats.Replaced)
		files, err := Files(dir)
		require.NoError(t, err)
		require.Len(t, files, 6)
		o.Ext = ".parquet"
		o.Smaller = 1 << 30
		stats, err = Compact(t.Context(), dir, o)
		require.NoError(t, err)
		assert.Zero(t, stats)
	})
	t.Run("event times are joined", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := config(dir)
		c.EventTime = func(r fila) time.Time { return time.Unix(r.ID+1, 0) }
		s := opened(t, c, env())
		for i := range int64(3) {
			put(t, s, i*10, i*10+10)
			commit(t, s, i*10+10)
		}
		_, err := Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		files, err := Files(dir)
		require.NoError(t, err)
		assert.Equal(t, []int64{1, 30}, []int64{files[0].MinTime.Unix(), files[0].MaxTime.Unix()})
	})
	t.Run("faults leave the lake as it is", func(t *testing.T) {
		t.Parallel()
		for name, tc := range map[string]struct {
			o      func(o *CompactOptions)
			damage func(dir string) error
			want   string
		}{
			"merge fails":      {func(o *CompactOptions) { o.Merge = failing }, nil, "no merge"},
			"rows are missing": {func(o *CompactOptions) { o.Merge = losing }, nil, "nothing was replaced"},
			"a damaged file": {nil, func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "p=a/ventas-2-0.txt"), []byte("7\n8\n"), 0o600)
			}, "not those that were committed"},
			"no Merge": {func(o *CompactOptions) { o.Merge = nil }, nil, "need Ext and Merge"},
		} {
			dir := filled(t)
			o := compacting()
			if tc.o != nil {
				tc.o(&o)
			}
			if tc.damage != nil {
				require.NoError(t, tc.damage(dir))
			}
			_, err := Compact(t.Context(), dir, o)
			require.ErrorContains(t, err, tc.want, name)
			require.ErrorContains(t, err, "compact "+dir)
			if tc.damage == nil {
				whole(t, dir, 18)
			}
			tidyTree(t, dir)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Compact(ctx, filled(t), compacting())
		assert.ErrorIs(t, err, context.Canceled)
	})
	t.Run("only one at a time", func(t *testing.T) {
		t.Parallel()
		dir := filled(t)
		o := compacting()
		o.Merge = func(ctx context.Context, files []string, w io.Writer) (int64, error) {
			_, err := Compact(ctx, dir, compacting())
			assert.ErrorContains(t, err, "is being compacted already")
			assert.True(t, leat.IsTransient(err))
			return mergeLines(ctx, files, w)
		}
		_, err := Compact(t.Context(), dir, o)
		require.NoError(t, err)
	})
	t.Run("a row is never seen twice or not at all, by readers that go by Files", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(byP(dir))
		s.hook = unsynced(8)
		require.NoError(t, openTaking(s, env()))
		var stop atomic.Bool
		var committed atomic.Int64
		var wg sync.WaitGroup
		defer func() { stop.Store(true); wg.Wait() }()
		quickly := compacting()
		quickly.hook = unsynced(8)
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					least := committed.Load()
					ids, ok := look(t, dir)
					if !ok {
						return
					}
					slices.Sort(ids)
					if !assert.GreaterOrEqual(t, int64(len(ids)), least) {
						return
					}
					for i, id := range ids {
						if !assert.Equal(t, int64(i), id) {
							return
						}
					}
				}
			})
		}
		wg.Go(func() {
			for !stop.Load() {
				if _, err := Compact(context.Background(), dir, quickly); !assert.NoError(t, err) {
					return
				}
			}
		})
		const commits = 60
		for i := range int64(commits) {
			put(t, s, i*9, i*9+9)
			commit(t, s, i*9+9)
			committed.Store(i*9 + 9)
		}
		stop.Store(true)
		wg.Wait()
		require.NoError(t, s.Close())
		whole(t, dir, commits*9)
		tidyTree(t, dir)
		assert.Equal(t, int64(commits*9), heldBy(t, opened(t, byP(dir), env())))
	})
	t.Run("an open file stays readable", func(t *testing.T) {
		t.Parallel()
		dir := filled(t)
		f, err := os.Open(filepath.Join(dir, "p=a/ventas-2-0.txt"))
		require.NoError(t, err)
		defer f.Close()
		_, err = Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		assert.Equal(t, "0\n3\n", string(b))
	})
}

// look reads all rows; a listed file that was replaced meanwhile makes it list
// again.
func look(t *testing.T, dir string) (ids []int64, ok bool) {
again:
	for {
		files, err := Files(dir)
		if !assert.NoError(t, err) {
			return nil, false
		}
		ids = ids[:0]
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Path))
			if errors.Is(err, fs.ErrNotExist) {
				continue again
			}
			if !assert.NoError(t, err) {
				return nil, false
			}
			ids = append(ids, parse(t, b)...)
		}
		return ids, true
	}
}

func failing(context.Context, []string, io.Writer) (int64, error) { return 0, errors.New("no merge") }

func losing(ctx context.Context, files []string, w io.Writer) (int64, error) {
	return mergeLines(ctx, files[1:], w)
}
