package filelock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTry(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b, c := open(), open(), open()
	require.NoError(t, Try(a, false))
	require.ErrorIs(t, Try(b, false), ErrLocked)
	require.ErrorIs(t, Try(b, true), ErrLocked)
	Unlock(a)
	require.NoError(t, Try(b, true))
	require.NoError(t, Try(c, true), "shared with another that shares")
	require.ErrorIs(t, Try(a, false), ErrLocked)
	require.NoError(t, b.Close())
	require.NoError(t, c.Close())
	require.NoError(t, Try(a, false), "closing gives it back")
}
