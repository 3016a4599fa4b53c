//go:build unix

package lake

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

func exists(name string) bool { _, err := os.Lstat(name); return err == nil }

// F7, A3: who reads the manifest, and sleeps behind its snapshot while the entries after it
// are tidied away, does not go on with one that a writer who slept as long has just put in
// the place of the first of them.
func TestStrayEntryBehindSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quick := New(config(dir))
	quick.hook = unsynced(4)
	slow := opened(t, config(dir), leat.Env{Pipeline: "otra", Node: "lago"})
	n, snapshot := int64(0), ""
	run := func() { // until a snapshot is the last there is
		require.NoError(t, openTaking(quick, env()))
		for end := n + 40; n < end || !exists(snapshot); {
			put(t, quick, n, n+1)
			n++
			commit(t, quick, n)
			snapshot = quick.w.abs(snapshotName(quick.w.st.seq))
		}
		require.NoError(t, quick.Close())
	}
	run()
	links := 0
	slow.w.hook.link = func(root *os.Root, from, to string) error {
		if links++; links > 1 {
			return root.Link(from, to)
		}
		snapshot := snapshot
		b, err := os.ReadFile(snapshot)
		require.NoError(t, err)
		require.NoError(t, os.Remove(snapshot))
		require.NoError(t, syscall.Mkfifo(snapshot, 0o600))
		read := make(chan int)
		go func() {
			files, err := Files(dir)
			assert.NoError(t, err)
			read <- len(files)
		}()
		sleeps, err := os.OpenFile(snapshot, os.O_WRONLY, 0) // once the reader is there
		require.NoError(t, err)
		require.NoError(t, os.Remove(snapshot))
		require.NoError(t, os.WriteFile(snapshot, b, 0o600))
		run()
		err = root.Link(from, to)
		require.NoError(t, err)
		_, err = sleeps.Write(b)
		require.NoError(t, err)
		require.NoError(t, sleeps.Close())
		require.Equal(t, int(n), <-read)
		return nil
	}
	_, err := slow.Restore(t.Context(), []string{"more"})
	require.NoError(t, err)
	require.Equal(t, 2, links)
	whole(t, dir, n)
}
