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

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
)

func testConfig(t testing.TB) Config {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "in"), 0o755))
	return Config{
		Dir: filepath.Join(root, "in"), Globs: []string{"*"}, StateDir: filepath.Join(root, "state"),
		Logger: slog.New(slog.DiscardHandler),
		Inspect: func(_ context.Context, _ string, _ *os.File, size int64) (Look, error) {
			return Look{Extent: size + 1}, nil
		},
	}
}

// readAll sends each file as one chunk of one row.
func readAll(t testing.TB, f *Folder) {
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
		require.NoError(t, r.Sent(e.End(), 1, n))
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
	c.Inspect = func(ctx context.Context, name string, file *os.File, size int64) (Look, error) {
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
	f.forget("a") // as if it looked new
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

// rule D3: a file that takes a finished file's name at the moment of the move is put
// back, unread as it is.
func TestD3PutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, path := filepath.Join(dir, "a.csv"), filepath.Join(dir, "moved.csv")
	write := func(path, text string) os.FileInfo {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		info, err := os.Lstat(path)
		require.NoError(t, err)
		return info
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	finished := write(filepath.Join(dir, "finished"), "old")
	write(path, "new") // was moved in its place
	require.ErrorIs(t, putBack(src, path, finished), errTaken)
	require.Equal(t, "new", read(src))
	require.NoFileExists(t, path)
	write(path, "newer")
	require.ErrorIs(t, putBack(src, path, finished), errTaken)
	require.Equal(t, "newer", read(filepath.Join(dir, "a.2.csv")), "and overwrites nothing")
	require.NoError(t, putBack(src, filepath.Join(dir, "finished"), finished))
}

// rule D3: where there is no rename that never overwrites, a second name is made; a
// crash between the two halves is found by the next attempt.
func TestD3LinkOver(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Move = true
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	src, path := filepath.Join(c.Dir, "a"), filepath.Join(c.moveDir(ToProcessed), "a")
	require.NoError(t, os.WriteFile(src, []byte("x"), 0o600))
	info, err := os.Lstat(src)
	require.NoError(t, err)
	require.NoError(t, os.Link(src, path)) // and then it died
	require.NoError(t, f.rename(src, path, ToProcessed, info))
	require.NoFileExists(t, src)
	require.FileExists(t, path)

	require.NoError(t, os.WriteFile(src, []byte("x"), 0o600))
	info, err = os.Lstat(src)
	require.NoError(t, err)
	require.ErrorIs(t, linkOver(src, path, info), os.ErrExist)
	require.NoError(t, linkOver(src, path+"2", info))
	require.NoFileExists(t, src)
}

// A name that comes each day does not try all the numbers before it each time.
func TestNumbersAreRemembered(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Move = true
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	for i := range 5 {
		require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "a.csv"), []byte{byte('0' + i)}, 0o600))
		readAll(t, f)
		require.NoError(t, f.Commit(t.Context(), 1<<40))
	}
	require.Equal(t, 5, f.numbers["processed/a.csv"])
	require.NoError(t, os.Remove(filepath.Join(c.moveDir(ToProcessed), "a.csv")))
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "a.csv"), []byte("9"), 0o600))
	readAll(t, f)
	require.NoError(t, f.Commit(t.Context(), 1<<40))
	require.FileExists(t, filepath.Join(c.moveDir(ToProcessed), "a.csv"), "a name that is free is taken")
}

// A scan of known files opens none of them.
func TestKnownFilesAreNotOpened(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	inspected := 0
	inspect := c.Inspect
	c.Inspect = func(ctx context.Context, name string, file *os.File, size int64) (Look, error) {
		inspected++
		return inspect(ctx, name, file, size)
	}
	for _, n := range []string{"a", "b"} {
		require.NoError(t, os.WriteFile(filepath.Join(c.Dir, n), []byte(n), 0o600))
	}
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	readAll(t, f)
	for range 3 {
		readAll(t, f)
		require.Equal(t, 2, inspected)
	}
	for _, s := range f.seen { // it was looked at too soon after it had changed: once more
		s.since, s.done = s.since.Add(-racy), s.done.Add(-racy)
	}
	readAll(t, f)
	require.Equal(t, 4, inspected)
	for _, s := range f.seen {
		require.True(t, s.known())
	}
	readAll(t, f)
	require.Equal(t, 4, inspected)
}

func TestWritableTime(t *testing.T) {
	t.Parallel()
	for _, year := range []int{-300, 0, 1900, 2026, 9999, 10_000, 300_000} {
		at := writable(time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC))
		_, err := at.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, year >= 0 && year <= 9999, at.Year() == year && at.Month() == 6)
	}
}

// Hints come for what a scan would find, and for nothing else.
func TestHintsThatMatter(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Globs, c.Watch, c.Settle = []string{"**/*.csv"}, time.Hour, time.Second
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Mkdir(filepath.Join(c.Dir, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "x.tmp"), nil, 0o600))
	f.seen["changing.csv"] = &sighting{}
	f.seen["known.csv"] = &sighting{done: time.Now()}
	h := newHints(f)
	defer h.close()
	for _, tc := range []struct {
		name string
		op   fsnotify.Op
		want bool
	}{
		{"new.csv", fsnotify.Create, true}, {"known.csv", fsnotify.Write, true}, {"changing.csv", fsnotify.Write, false},
		{"x.tmp", fsnotify.Create, false}, {".a.csv", fsnotify.Create, false}, {"x.tmp", fsnotify.Write, false},
		{"sub", fsnotify.Create, true}, {"sub/a.csv", fsnotify.Create, true}, {"new.csv", fsnotify.Remove, false},
		{"new.csv", fsnotify.Rename, false}, {"new.csv", fsnotify.Chmod, false},
	} {
		require.Equal(t, tc.want, h.matters(fsnotify.Event{Name: filepath.Join(c.Dir, tc.name), Op: tc.op}), "%s %s", tc.name, tc.op)
	}
	var none *hints
	none.watch("x")
	none.close()
	require.Nil(t, none.come())
}

// Whatever goes wrong with notifications, the interval is left.
func TestHintsThatFail(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Watch = time.Hour
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer f.Close()
	h := newHints(f)
	h.watch(filepath.Join(c.Dir, "not", "there"))
	require.False(t, h.said)
	h.w.Errors <- fsnotify.ErrEventOverflow
	<-h.come()
	h.close()
	h.watch(c.Dir)
	require.True(t, h.said)
	(&hints{f: f}).watch(c.Dir) // could not be started
	require.Nil(t, (&hints{f: f}).come())
}

func TestStateName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"incoming": "incoming", "a/b": "a%2Fb", "..": "%2E%2E", ".": "%2E", "a.b": "a.b", "": ""} {
		require.Equal(t, want, StateName(in))
	}
}
