package folder

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/failpoint"
)

// atStart opens a folder for a life of which nothing is held.
func atStart(t *testing.T, c Config) *Folder {
	t.Helper()
	f, err := Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	return f
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// rule D3: a stop, or a disk that fails, while a file is looked at before its move says
// nothing about the file: it is not lost, and a later attempt moves it.
func TestD3StoppedMoveLosesNothing(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	stopped := func(t *testing.T, prepare func(c Config, f *Folder)) *Entry {
		c := testConfig(t)
		c.Move = true
		put(t, c.Dir, "a", "x")
		f := atStart(t, c)
		readAll(t, f)
		prepare(c, f)
		e := f.led.entries[0]
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_, _, err := f.move(ctx, e, map[string]bool{})
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, f.Commit(t.Context(), 1<<40))
		require.Equal(t, ToProcessed, e.Moved)
		return e
	}
	t.Run("before the move", func(t *testing.T) {
		t.Parallel()
		e := stopped(t, func(c Config, f *Folder) { require.NoError(t, os.Chtimes(filepath.Join(c.Dir, "a"), at, at)) })
		require.Equal(t, "a", e.MovedTo)
	})
	t.Run("while the file is looked for where an earlier life may have moved it", func(t *testing.T) {
		t.Parallel()
		e := stopped(t, func(c Config, f *Folder) {
			put(t, c.moveDir(ToProcessed), "a", "y")
			require.NoError(t, os.Rename(filepath.Join(c.Dir, "a"), filepath.Join(c.moveDir(ToProcessed), "a.2")))
		})
		require.Equal(t, "a.2", e.MovedTo)
	})
	t.Run("while a copy that was half moved is looked at", func(t *testing.T) {
		t.Parallel()
		e := stopped(t, func(c Config, f *Folder) {
			text, err := os.ReadFile(filepath.Join(c.Dir, "a"))
			require.NoError(t, err)
			put(t, c.moveDir(ToProcessed), "a", string(text))
			for _, p := range []string{filepath.Join(c.Dir, "a"), filepath.Join(c.moveDir(ToProcessed), "a")} {
				require.NoError(t, os.Chtimes(p, f.led.entries[0].ModTime(), f.led.entries[0].ModTime()))
			}
		})
		require.Equal(t, "a", e.MovedTo, "its own copy, not a second one")
	})
}

// Config.Watch is the longest that a file waits to be seen, also when reading what the
// last scan found took long, or another file has not settled.
func TestWatchIsTheLongestWait(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		watch, reading time.Duration
		want           time.Duration // from the first scan's beginning to the second's
	}{
		"an unsettled file waits for Settle, not for nine times the reading": {time.Hour, 10 * time.Second, 10*time.Second + hintGap},
		"nor longer than Watch": {10 * time.Second, 5 * time.Second, 5*time.Second + hintGap},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := testConfig(t)
				c.Watch, c.PollOnly, c.Settle = tc.watch, true, time.Second
				put(t, c.Dir, "a", "x")
				f := atStart(t, c)
				readAll(t, f)
				_, err := f.Wait(t.Context())
				require.NoError(t, err)
				put(t, c.Dir, "b", "y")
				begin := time.Now()
				for e, err := range f.Entries(t.Context()) {
					require.NoError(t, err)
					require.Equal(t, "a", e.Name)
					time.Sleep(tc.reading)
				}
				more, err := f.Wait(t.Context())
				require.NoError(t, err)
				require.True(t, more)
				require.Equal(t, tc.want, time.Since(begin))
			})
		})
	}
}

// OnFinal hears of nothing that is not durable: also of files that are entered with
// their last word, while another goroutine commits.
func TestOnFinalHearsWhatIsDurable(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	var f *Folder
	inspect := c.Inspect
	c.Inspect = func(ctx context.Context, name string, file *os.File, size int64) (Look, error) {
		switch name {
		case "a":
			return Look{Extent: 1, Fault: errors.New("no header")}, nil
		case "z":
			require.NoError(t, f.Commit(ctx, 0))
		}
		return inspect(ctx, name, file, size)
	}
	var heard []string
	c.OnFinal = func(e Entry, _ string) {
		name := e.Name
		if f.led.dirty {
			name += ", too early"
		}
		heard = append(heard, name)
	}
	put(t, c.Dir, "a", "x")
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(c.Dir, "b")))
	put(t, c.Dir, "z", "y")
	f = atStart(t, c)
	readAll(t, f)
	require.Equal(t, []string{"a", "b"}, heard)
}

// rule D3: a verdict is durable before its file is moved, also when a rewind came
// between the two.
func TestD3VerdictIsDurableBeforeTheMoveAfterARewind(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Move = true
	var told []string
	c.OnFinal = func(e Entry, _ string) { told = append(told, e.Name+" "+e.Status.String()) }
	put(t, c.Dir, "a", "x")
	f := atStart(t, c)
	for e, err := range f.Entries(t.Context()) {
		require.NoError(t, err)
		r, err := f.Begin(t.Context(), e)
		require.NoError(t, err)
		require.NoError(t, r.Refuse(errors.New("bad"), true))
		break // and the engine rewinds
	}
	require.True(t, f.led.dirty)
	require.NoError(t, f.Start(t.Context(), 0, false, 0))
	require.FileExists(t, filepath.Join(c.moveDir(ToFailed), "a"))
	text, err := os.ReadFile(f.led.path)
	require.NoError(t, err)
	status, moved := bytes.Index(text, []byte(`"status":"failed"`)), bytes.Index(text, []byte(`"event":"moved"`))
	require.Less(t, status, moved)
	require.Empty(t, f.verdicts, "synced before the move")
	require.Equal(t, []string{"a failed"}, told)
	require.NoError(t, f.Settle(t.Context()))
	require.Equal(t, 1, bytes.Count(must(os.ReadFile(f.led.path)), []byte(`"event":"moved"`)), "once")
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A folder that is away says nothing about its files: those that wait for their turn
// are not failed, and not moved to failed/ when it is back.
func TestD5FolderIsAwayBeforeAFilesTurn(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"the same folder is back", "it is made again with the same file", "it is made again with another file of that name"} {
		t.Run(again, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t)
			c.Move, c.Watch, c.PollOnly = true, time.Nanosecond, true
			put(t, c.Dir, "a", "x")
			f := atStart(t, c)
			away := c.Dir + ".away"
			var failed error
			for e, err := range f.Entries(t.Context()) {
				require.NoError(t, err)
				require.NoError(t, os.Rename(c.Dir, away))
				require.NoError(t, os.Rename(filepath.Join(away, "a"), c.StateDir+"/a")) // as when its disk is not mounted
				_, failed = f.Begin(t.Context(), e)
				break
			}
			var read *ReadError
			require.ErrorAs(t, failed, &read, "to be tried again")
			switch again {
			case "the same folder is back":
				require.NoError(t, os.Rename(away, c.Dir))
			default:
				require.NoError(t, os.Mkdir(c.Dir, 0o755))
			}
			require.NoError(t, os.Rename(c.StateDir+"/a", filepath.Join(c.Dir, "a")))
			if again == "it is made again with another file of that name" {
				put(t, c.Dir, "a", "xyz")
			}
			require.NoError(t, f.Start(t.Context(), 0, false, 0))
			readAll(t, f)
			readAll(t, f)
			require.NoError(t, f.Commit(t.Context(), 1<<40))
			require.FileExists(t, filepath.Join(c.moveDir(ToProcessed), "a"))
			require.NoFileExists(t, filepath.Join(c.moveDir(ToFailed), "a"))
			last := f.led.entries[len(f.led.entries)-1]
			require.Equal(t, OK, last.Status)
		})
	}
}

// A folder that is made again in the middle of a scan: what sinks hold a part of is
// looked for in the new one before the run is ended for its sake.
func TestD5FolderIsMadeAgainInTheMiddleOfAScan(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Watch, c.PollOnly = time.Nanosecond, true
	put(t, c.Dir, "a", "x")
	put(t, c.Dir, "b", "y")
	f := atStart(t, c)
	readAll(t, f)
	require.NoError(t, f.Start(t.Context(), 0, false, 4)) // a sink holds all, another nothing
	var failed error
	for e, err := range f.Entries(t.Context()) {
		require.NoError(t, err)
		if e.Name == "a" {
			require.NoError(t, os.Rename(c.Dir, c.Dir+".old"))
			require.NoError(t, os.Mkdir(c.Dir, 0o755))
			put(t, c.Dir, "a", "x")
			put(t, c.Dir, "b", "y")
			require.NoError(t, os.RemoveAll(c.Dir+".old"))
			continue
		}
		_, failed = f.Begin(t.Context(), e)
		break
	}
	var read *ReadError
	require.ErrorAs(t, failed, &read, "to be tried again")
	require.NoError(t, f.Start(t.Context(), 0, false, 4))
	readAll(t, f)
	require.NoError(t, f.Commit(t.Context(), 4))
	require.Equal(t, Stats{OK: 2}, f.Stats())
}

// rule D2: while watching, a file that is replaced by one of the same size and time
// before its turn is not read in its place: it has an entry, and rows, of its own.
func TestD2ReplacedBeforeItsTurnBySizeAndTime(t *testing.T) {
	t.Parallel()
	if changeTime(must2(os.Stat("."))) == 0 {
		t.Skip("only Linux's change time shows it")
	}
	c := testConfig(t)
	c.Move = true
	at := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	write := func(text string) {
		put(t, c.StateDir, "tmp", text)
		require.NoError(t, os.Chtimes(filepath.Join(c.StateDir, "tmp"), at, at))
		require.NoError(t, os.Rename(filepath.Join(c.StateDir, "tmp"), filepath.Join(c.Dir, "a")))
	}
	require.NoError(t, os.MkdirAll(c.StateDir, 0o700))
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	write("x")
	f := atStart(t, c)
	t.Run("before it is read", func(t *testing.T) {
		for e, err := range f.Entries(t.Context()) {
			require.NoError(t, err)
			write("y")
			r, err := f.Begin(t.Context(), e)
			require.NoError(t, err)
			require.Nil(t, r, "it is not the file that was entered")
		}
		require.NoError(t, f.Settle(t.Context()))
	})
	t.Run("before it is moved", func(t *testing.T) {
		readAll(t, f) // y
		write("z")
		require.NoError(t, f.Commit(t.Context(), 1<<40))
		require.FileExists(t, filepath.Join(c.Dir, "a"), "nobody has read it")
		readAll(t, f)
		require.NoError(t, f.Commit(t.Context(), 1<<40))
		var got []string
		for _, e := range f.led.entries {
			got = append(got, e.Status.String()+" "+e.Moved.String())
		}
		require.Equal(t, []string{"failed lost", "ok lost", "ok processed"}, got)
	})
}

func must2(info os.FileInfo, err error) os.FileInfo {
	if err != nil {
		panic(err)
	}
	return info
}

// rule D4: what was found while the ledger's disk was full is found again when there is room, by
// the same process. Its sources end with a transient error, and begin again at Start.
func TestD4FoundOnAFullDisk(t *testing.T) { // not parallel: failpoints are global
	for name, settle := range map[string]time.Duration{"at once": 0, "after it has settled": 2 * racy} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig(t)
				c.Settle = settle
				put(t, c.Dir, "a", "x")
				put(t, c.Dir, "b", "y")
				require.NoError(t, os.Symlink("/dev/null", filepath.Join(c.Dir, "out")))
				f := atStart(t, c)
				scan := func() (found []string, err error) {
					for e, err := range f.Entries(t.Context()) {
						if err != nil {
							return found, err
						}
						found = append(found, e.Name)
					}
					return found, nil
				}
				full := ""
				failpoint.Set(func(name string) error {
					if name == full {
						return &os.PathError{Op: "write", Path: LedgerFile, Err: syscall.ENOSPC}
					}
					return nil
				})
				defer failpoint.Set(nil)
				full = "folder/append"
				if settle > 0 {
					_, err := scan()
					require.True(t, engine.IsTransient(err), "the link out of the folder: %v", err)
					time.Sleep(settle)
				}
				for range 3 {
					_, err := scan()
					require.True(t, engine.IsTransient(err), "%v", err)
					require.NoError(t, f.Start(t.Context(), 0, false, 0)) // as after a rewind
				}
				full = ""
				found, err := scan()
				require.NoError(t, err)
				require.Equal(t, []string{"a", "b"}, found, "rule D4")
				require.NotNil(t, f.led.refused["out"], "rule D5")
				require.Equal(t, 1, f.Stats().Refused)
			})
		})
	}
}
