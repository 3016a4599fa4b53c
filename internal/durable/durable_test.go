package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	t.Run("creates with the permission", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a")
		require.NoError(t, WriteFile(path, []byte("one"), 0o640))
		require.Equal(t, "one", read(t, path))
		if runtime.GOOS != "windows" {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
		}
	})
	t.Run("replaces and leaves no temporary file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "a")
		require.NoError(t, WriteFile(path, []byte("one"), 0o600))
		require.NoError(t, WriteFile(path, []byte("two"), 0o600))
		require.Equal(t, "two", read(t, path))
		require.Equal(t, []string{"a"}, names(t, dir))
	})
	t.Run("failed rename removes the temporary file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "a")
		require.NoError(t, os.MkdirAll(filepath.Join(path, "full"), 0o700))
		require.Error(t, WriteFile(path, []byte("one"), 0o600))
		require.Equal(t, []string{"a"}, names(t, dir))
	})
	t.Run("missing directory", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, WriteFile(filepath.Join(t.TempDir(), "no", "a"), nil, 0o600), fs.ErrNotExist)
	})
}

func TestWriteFileWithoutDirectory(t *testing.T) { // not parallel: Chdir
	t.Chdir(t.TempDir())
	require.NoError(t, WriteFile("a", []byte("x"), 0o600))
	require.Equal(t, []string{"a"}, names(t, "."))
}

func TestMkdirAll(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	require.NoError(t, MkdirAll(dir, 0o700))
	require.NoError(t, MkdirAll(dir, 0o700), "twice")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.True(t, info.IsDir())

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, MkdirAll(filepath.Join(file, "d"), 0o700), "below a file")
}

func TestSyncDirMissing(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, SyncDir(filepath.Join(t.TempDir(), "no")), fs.ErrNotExist)
}

func TestRename(t *testing.T) {
	t.Parallel()
	one, two := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(one, "a"), []byte("new"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(two, "b"), []byte("old"), 0o600))
	require.NoError(t, Rename(filepath.Join(one, "a"), filepath.Join(two, "b")))
	require.Empty(t, names(t, one))
	require.Equal(t, "new", read(t, filepath.Join(two, "b")))
}

// The three ways to rename without replacing keep the same contract; all but the kernel's are tested on any system.
func TestRenameNoReplace(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]func(string, string) error{
		"exported":        RenameNoReplace,
		"link and remove": linkAndRemove,
		"checked rename":  checkedRename,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			require.NoError(t, os.WriteFile(a, []byte("one"), 0o600))
			require.NoError(t, rename(a, b), "free name")
			require.Equal(t, []string{"b"}, names(t, dir))

			require.NoError(t, os.WriteFile(a, []byte("two"), 0o600))
			require.ErrorIs(t, rename(a, b), fs.ErrExist, "taken name")
			require.Equal(t, "one", read(t, b))
			require.Equal(t, "two", read(t, a))

			require.ErrorIs(t, rename(filepath.Join(dir, "no"), filepath.Join(dir, "c")), fs.ErrNotExist, "missing old name")

			if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err == nil {
				require.ErrorIs(t, rename(a, filepath.Join(dir, "dangling")), fs.ErrExist, "dangling link")
			}
			require.NoError(t, os.Mkdir(filepath.Join(dir, "d1"), 0o700))
			require.NoError(t, rename(filepath.Join(dir, "d1"), filepath.Join(dir, "d2")), "directory")
		})
	}
}

func TestRenameNoReplaceRace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	const n = 16
	for i := range n {
		require.NoError(t, os.WriteFile(filepath.Join(dir, string(rune('a'+i))), []byte{byte('a' + i)}, 0o600))
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if RenameNoReplace(filepath.Join(dir, string(rune('a'+i))), target) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), won.Load())
	require.Len(t, names(t, dir), n, "the losers' files are all still there")
}

// EXDEV needs two file systems; /dev/shm and the temporary folder are two on most Linux machines.
func TestRenameNoReplaceCrossDevice(t *testing.T) {
	t.Parallel()
	shm, err := os.MkdirTemp("/dev/shm", "leat")
	if err != nil {
		t.Skip("no /dev/shm: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	a := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(a, []byte("one"), 0o600))
	err = RenameNoReplace(a, filepath.Join(shm, "a"))
	if err == nil {
		t.Skip("/dev/shm and the temporary folder are one file system")
	}
	require.True(t, isCrossDevice(err), "%v", err)
	require.True(t, isCrossDevice(linkAndRemove(a, filepath.Join(shm, "a"))))
	require.Equal(t, "one", read(t, a))
}
