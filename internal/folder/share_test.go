package folder

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/filelock"
)

// rule D5: sources of one process share a folder when their globs can't match the same
// file, also when they move files; else the second waits, as another process does.
func TestSharedFolder(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, dir, state string, move bool, glob ...string) (*Folder, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
		defer cancel()
		c := testConfig(t)
		c.Dir, c.StateDir, c.Globs, c.Move = dir, filepath.Join(dir, "..", state), glob, move
		c.ProcessedDir, c.FailedDir = filepath.Join(dir, "..", "p"), filepath.Join(dir, "..", "f")
		return Open(ctx, c)
	}
	folder := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "in")
		require.NoError(t, os.Mkdir(dir, 0o755))
		return dir
	}
	for name, tc := range map[string]struct {
		a, b         []string
		moveA, moveB bool
		shared       bool
	}{
		"apart":                  {[]string{"*.csv", "*.csv.gz"}, []string{"*.parquet"}, true, true, true},
		"apart, second moves":    {[]string{"*.csv"}, []string{"*.parquet"}, false, true, true},
		"apart, first moves":     {[]string{"*.csv"}, []string{"*.parquet"}, true, false, true},
		"apart by prefix":        {[]string{"a*"}, []string{"b*"}, true, true, true},
		"the same":               {[]string{"*.csv"}, []string{"*.csv"}, true, true, false},
		"the same, none moves":   {[]string{"*.csv"}, []string{"*.csv"}, false, false, true},
		"one holds the other":    {[]string{"*.csv"}, []string{"**/a*.csv"}, true, true, false},
		"may meet in the middle": {[]string{"a*.csv"}, []string{"*b.csv"}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			first, err := open(t, dir, "s1", tc.moveA, tc.a...)
			require.NoError(t, err)
			second, err := open(t, dir, "s2", tc.moveB, tc.b...)
			if !tc.shared {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NoError(t, first.Close())
				second, err = open(t, dir, "s2", tc.moveB, tc.b...)
				require.NoError(t, err, "the folder is free")
				require.NoError(t, second.Close())
				return
			}
			require.NoError(t, err)
			// Another process sees one lock, until the last of them has gone.
			require.NoError(t, first.Close())
			other, err := os.Open(dir)
			require.NoError(t, err)
			defer other.Close()
			require.ErrorIs(t, filelock.Try(other, false), filelock.ErrLocked, "D5: the second still reads")
			require.NoError(t, second.Close())
			require.NoError(t, filelock.Try(other, false))
		})
	}
	t.Run("another process reads it", func(t *testing.T) {
		t.Parallel()
		dir := folder(t)
		other, err := os.Open(dir)
		require.NoError(t, err)
		defer other.Close()
		first, err := open(t, dir, "s1", false, "*.csv")
		require.NoError(t, err)
		defer first.Close()
		require.NoError(t, filelock.Try(other, true))
		_, err = open(t, dir, "s2", true, "*.parquet")
		require.ErrorIs(t, err, context.DeadlineExceeded, "D5: who moves needs it alone")
		filelock.Unlock(other)
		second, err := open(t, dir, "s2", true, "*.parquet")
		require.NoError(t, err)
		require.NoError(t, second.Close())
	})
}

// A change of the columns between files is one line in the ledger, and stays known.
func TestDriftIsNoted(t *testing.T) {
	t.Parallel()
	schemas := map[string][]string{
		"1": {"id", "text"}, "2": {"id", "text"}, "3": {"text", "id"}, "4": nil, "5": {"text", "id", "nota"}, "6": {"id"}, "7": {"id"},
	}
	c := testConfig(t)
	dir := c.Dir
	c.Inspect = func(_ context.Context, name string, _ *os.File, size int64) (Look, error) {
		return Look{Extent: size + 1, Schema: schemas[name]}, nil
	}
	put := func(names ...string) {
		for _, n := range names {
			require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte(n), 0o600))
			require.NoError(t, os.Chtimes(filepath.Join(dir, n), time.Time{}, time.Unix(1e9, 0)))
		}
		f, err := Open(t.Context(), c)
		require.NoError(t, err)
		require.NoError(t, f.Start(t.Context(), f.led.end(), f.led.end() > 0, 0))
		readAll(t, f)
		require.NoError(t, f.Close())
	}
	put("1", "2", "3", "4")
	put("5", "6", "7") // a restart in between
	history, err := History(c.StateDir)
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range history {
		if e.Drift != "" {
			got[e.Name] = e.Drift
		}
	}
	require.Equal(t, map[string]string{"3": "in another order", "5": `+"nota"`, "6": `-"text" -"nota"`}, got)
	text, err := os.ReadFile(filepath.Join(c.StateDir, LedgerFile))
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(text), `"event":"schema"`), "one line for the first, and one for each change")
}
