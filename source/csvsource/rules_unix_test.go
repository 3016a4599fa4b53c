//go:build unix

package csvsource

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/source/files"
)

// rule D5: what must not be read is refused with a clear error, and the rest is read.
func TestD5Refusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret := w.Beside("secret.csv")
	require.NoError(t, os.WriteFile(secret, []byte(ab), 0o644))
	in := func(name string) string { return filepath.Join(w.Dir, name) }
	require.NoError(t, os.Symlink("../secret.csv", in("a-out.csv")))
	require.NoError(t, os.Symlink(secret, in("b-absolute.csv")))
	require.NoError(t, os.Symlink("nowhere.csv", in("c-dangling.csv")))
	require.NoError(t, syscall.Mkfifo(in("d-pipe.csv"), 0o644))
	require.NoError(t, os.Mkdir(in("e-dir.csv"), 0o755))
	require.NoError(t, os.WriteFile(in("f-bad\xffname.csv"), []byte(ab), 0o644))
	w.Put("g.csv", ab)
	require.NoError(t, os.Symlink("g.csv", in("h-inside.csv")))
	w.Put("i-closed.csv", "id,text\n9,z\n")
	require.NoError(t, os.Chmod(in("i-closed.csv"), 0))
	root := os.Geteuid() == 0
	w.must(w.config())
	want := []string{
		"a-out.csv failed", "b-absolute.csv failed", "c-dangling.csv failed", "d-pipe.csv failed",
		`"f-bad\xffname.csv" failed`, "g.csv ok", "h-inside.csv skipped", "i-closed.csv failed",
	}
	ids := []int64{1, 2}
	if root { // may read everything
		want[7] = "i-closed.csv ok"
		ids = append(ids, 9)
	}
	require.Equal(t, want, w.Statuses())
	require.Equal(t, ids, w.IDs())
	h := w.Ledger()
	require.Contains(t, h[0].Error, "it is a symbolic link that can't be followed inside the folder")
	require.Contains(t, h[3].Error, "it is not a regular file but a named pipe")
	require.Empty(t, h[0].Hash, "not in the log")
	require.Contains(t, w.Log.String(), "rule=D5")
	n := len(h)
	w.must(w.config())
	require.Len(t, w.Ledger(), n, "said once")

	c := w.config()
	c.After = files.Move
	w.Put("k.csv", "id,text\n10,z\n")
	require.NoError(t, os.Symlink("k.csv", in("j-link.csv")))
	w.must(c)
	require.Contains(t, strings.Join(w.Statuses(), "\n"), "j-link.csv failed")
	require.FileExists(t, w.Beside("processed/k.csv"))
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }
