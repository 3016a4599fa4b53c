package folder

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testConfig(t *testing.T) Config {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "in"), 0o755))
	return Config{
		Dir: filepath.Join(root, "in"), Globs: []string{"*"}, StateDir: filepath.Join(root, "state"),
		Logger: slog.New(slog.DiscardHandler),
		Inspect: func(_ context.Context, _ string, _ *os.File, size int64) (int64, error, error) {
			return size + 1, nil, nil
		},
	}
}

// readAll sends each file as one chunk of one row.
func readAll(t *testing.T, f *Folder) {
	t.Helper()
	for e, err := range f.Entries(t.Context()) {
		require.NoError(t, err)
		r, err := f.Begin(t.Context(), e)
		require.NoError(t, err)
		if r == nil {
			continue
		}
		_, err = io.Copy(io.Discard, r.Reader())
		require.NoError(t, err)
		n := new(Count)
		n.Set(1, 0)
		r.Sent(e.End(), 1, n)
		require.NoError(t, r.End(nil))
	}
}

// A file that is finished and moved while a scan looks at it is no new arrival.
func TestMovedDuringAScan(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Move = true
	var f *Folder
	inspect, commit := c.Inspect, false
	c.Inspect = func(ctx context.Context, name string, file *os.File, size int64) (int64, error, error) {
		if commit {
			require.NoError(t, f.Commit(ctx, 1<<40))
			require.NoFileExists(t, filepath.Join(c.Dir, "a"))
		}
		return inspect(ctx, name, file, size)
	}
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "a"), []byte("x"), 0o600))
	var err error
	f, err = Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	readAll(t, f)
	commit = true
	require.NoError(t, f.enterAll(t.Context(), func([]*Entry) error { return nil }))
	history, err := History(c.StateDir)
	require.NoError(t, err)
	require.Len(t, history, 1)
	require.Equal(t, ToProcessed, history[0].Moved)
	require.Equal(t, Stats{OK: 1}, f.Stats())
}

// A consumer that stops early leaves nothing running.
func TestEntriesStopEarly(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	for i := range 5 {
		require.NoError(t, os.WriteFile(filepath.Join(c.Dir, string(rune('a'+i))), []byte{byte(i)}, 0o600))
	}
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	for e, err := range f.Entries(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, "a", e.Name)
		break
	}
}

// TestLockHelper is the other process of TestD5TwoProcesses.
func TestLockHelper(t *testing.T) {
	dir := os.Getenv("LEAT_TEST_LOCK")
	if dir == "" {
		t.Skip("only as a helper process")
	}
	lock, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil || lock == nil {
		os.Exit(3)
	}
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
}

// rule D5: a folder is locked by one process, and a killed one leaves no lock behind.
func TestD5TwoProcesses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "js" || runtime.GOOS == "wasip1" {
		t.Skip("no processes")
	}
	c := testConfig(t)
	require.NoError(t, os.Mkdir(c.StateDir, 0o700))
	exe, err := os.Executable()
	require.NoError(t, err)
	other := exec.Command(exe, "-test.run=^TestLockHelper$")
	other.Env = append(os.Environ(), "LEAT_TEST_LOCK="+c.StateDir)
	_, err = other.StdinPipe()
	require.NoError(t, err)
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, c)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	opened := make(chan error, 1)
	go func() {
		f, err := Open(t.Context(), c)
		if err == nil {
			err = f.Close()
		}
		opened <- err
	}()
	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	require.NoError(t, <-opened)
}
