package csvsource

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// running is a life that watches, in virtual time.
type running struct {
	*world
	f    *filetest.Engine[rec]
	src  *Source[rec]
	stop context.CancelFunc
	done chan error
	over bool
}

const every = 10 * time.Second

// watch begins a life that looks each 10 s.
func (w *world) watch(c Config[rec], l life) *running {
	if c.Watch == 0 {
		c.Watch = every
	}
	c.PollOnly = true
	if l.CaughtUp == nil {
		l.CaughtUp = func(int) {}
	}
	r := &running{world: w, src: New(c), done: make(chan error, 1)}
	require.NoError(w.T, r.src.Validate())
	r.f = w.Engine(r.src, l)
	ctx, stop := context.WithCancel(w.T.Context())
	r.stop = stop
	go func() { r.done <- r.src.Drive(ctx, r.f) }()
	synctest.Wait()
	return r
}

// pass lets time go by.
func (r *running) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// have are the ids sent so far.
func (r *running) have() []int64 {
	out := []int64{}
	for _, rows := range r.f.Rows {
		for _, row := range rows {
			out = append(out, row.ID)
		}
	}
	return out
}

// end stops it, or waits for its own end; everything sent is durable by then.
func (r *running) end(stop bool) error {
	r.T.Helper()
	if stop {
		r.stop()
	}
	err := <-r.done
	defer r.stop()
	if n := len(r.f.Sent); n > 0 {
		require.NoError(r.T, r.f.Commit(n))
		r.f.Keep(n)
	}
	r.Stats = r.src.Stats()
	require.NoError(r.T, r.src.Close())
	r.over = true
	return err
}

func (w *world) add(name, text string) {
	f, err := os.OpenFile(w.Path(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	require.NoError(w.T, err)
	_, err = f.WriteString(text)
	require.NoError(w.T, err)
	require.NoError(w.T, f.Close())
}

// says tells how many lines of the log hold a text.
func (w *world) says(text string) int {
	n := 0
	for _, line := range strings.Split(w.Log.String(), "\n") {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func row1(id int) string { return fmt.Sprintf("id,text\n%d,x\n", id) }

// rules D1-D6 while watching: each situation with the rows that are delivered, what
// the ledger says and what the user sees.
func TestWatchSituations(t *testing.T) {
	t.Parallel()
	manyRows := "id,text\n" + strings.Repeat("1,aaaaaaaaaa\n", 1000)
	for name, tc := range map[string]struct {
		config func(c *Config[rec])
		life   func(w *world) life
		run    func(r *running)

		ids      []int64
		statuses []string
		errors   map[int]string // of the ledger's entries
		log      []string
		silent   []string
	}{
		"D1: a file that is renamed into place settles too": {
			run: func(r *running) {
				r.pass(every / 2)
				r.Put("a.csv", ab)
				r.pass(every/2 + time.Second) // seen a second ago
				require.Empty(r.T, r.have())
				r.pass(time.Second)
				require.Equal(r.T, []int64{1, 2}, r.have(), "it did not wait for the next scan")
			},
			ids: []int64{1, 2}, statuses: []string{"a.csv ok"},
		},
		"D1: a slow writer is never read before its file stands still": {
			run: func(r *running) {
				r.add("a.csv", "id,text\n")
				r.add("b.csv", row1(100))
				for i := range 50 {
					r.pass(900 * time.Millisecond)
					r.add("a.csv", fmt.Sprintf("%d,x\n", i))
				}
				require.Equal(r.T, []int64{100}, r.have(), "others go on")
				r.pass(2 * time.Second)
				require.Len(r.T, r.have(), 1)
				r.pass(every)
				require.Len(r.T, r.have(), 51)
			},
			statuses: []string{"b.csv ok", "a.csv ok"}, silent: []string{"level=ERROR", "level=WARN"},
		},
		"D1: Settle -1 reads at once": {
			config: func(c *Config[rec]) { c.Settle = -1 },
			run:    func(r *running) { r.Put("a.csv", ab); r.pass(every) },
			ids:    []int64{1, 2}, statuses: []string{"a.csv ok"},
		},
		"D1: times in the future and the past, and a clock that is far off": { // the bubble's clock says 2000
			run: func(r *running) {
				for i, year := range []int{1901, 1969, 1999, 2000, 2026, 2300} {
					r.Put(fmt.Sprintf("%d.csv", year), row1(i))
					at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
					require.NoError(r.T, os.Chtimes(r.Path(fmt.Sprintf("%d.csv", year)), at, at))
				}
				r.pass(every + 1900*time.Millisecond)
				require.Empty(r.T, r.have())
				r.pass(every)
				require.Len(r.T, r.have(), 6)
				r.pass(10 * every)
				at := time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) // touched: the content is the same
				require.NoError(r.T, os.Chtimes(r.Path("1901.csv"), at, at))
				r.pass(10 * every)
			},
			ids: []int64{0, 1, 2, 3, 4, 5}, statuses: []string{"1901.csv ok", "1969.csv ok", "1999.csv ok", "2000.csv ok", "2026.csv ok", "2300.csv ok"},
			silent: []string{"level=ERROR", "level=WARN"},
		},
		"D2: a new version while watching": {
			run: func(r *running) {
				r.Put("a.csv", ab)
				r.pass(3 * every)
				r.Put("a.csv", row1(7))
				r.pass(3 * every)
			},
			ids: []int64{1, 2, 7}, statuses: []string{"a.csv ok", "a.csv ok"},
		},
		"D2: rewritten with the same size and the same time: seen while watching, on Linux": {
			run: func(r *running) {
				if runtime.GOOS != "linux" {
					r.T.Skip("only Linux's change time shows it")
				}
				r.Put("a.csv", row1(1))
				r.old("a.csv")
				info, err := os.Stat(r.Path("a.csv"))
				require.NoError(r.T, err)
				r.pass(3 * every)
				r.add("a.csv", "")
				require.NoError(r.T, os.WriteFile(r.Path("a.csv"), []byte(row1(2)), 0o644))
				require.NoError(r.T, os.Chtimes(r.Path("a.csv"), info.ModTime(), info.ModTime()))
				r.pass(3 * every)
			},
			ids: []int64{1, 2}, statuses: []string{"a.csv ok", "a.csv ok"},
		},
		"D2: the same content under another name": {
			run: func(r *running) {
				r.Put("a.csv", ab)
				r.pass(3 * every)
				r.Put("b.csv", ab)
				r.pass(3 * every)
			},
			ids: []int64{1, 2}, statuses: []string{"a.csv ok", "b.csv skipped"},
			errors: map[int]string{1: "same content as a.csv (file 1)"}, log: []string{"a file is skipped"},
		},
		"D2: a known file is said nothing about, scan after scan": {
			run:    func(r *running) { r.Put("a.csv", ab); r.pass(50 * every) },
			ids:    []int64{1, 2},
			silent: []string{"read before"}, statuses: []string{"a.csv ok"},
		},
		"D3-1: truncated while it is read": {
			config: func(c *Config[rec]) { c.ChunkBytes = 100 },
			life: func(w *world) life {
				return life{BeforeChunk: func(i int) {
					if i == 2 {
						require.NoError(w.T, os.Truncate(w.Path("a.csv"), 8+13*3))
					}
				}}
			},
			run: func(r *running) {
				r.Put("a.csv", manyRows)
				r.Put("b.csv", row1(2))
				r.pass(5 * every)
				require.Greater(r.T, len(r.have()), 4)
			},
			statuses: []string{"a.csv failed", "b.csv ok", "a.csv ok"}, // what is left of it is a new version
			errors:   map[int]string{0: "the file is no longer the one that was entered into the ledger: while it was read its size went from 13008 to 47 bytes; the records before line"},
			log:      []string{"a file failed"},
		},
		"D3-1: replaced while it is read": { // by a rename: the old one is still there for those who have it open
			config: func(c *Config[rec]) { c.ChunkBytes, c.After = 100, files.Move },
			life: func(w *world) life {
				return life{BeforeChunk: func(i int) {
					if i == 2 {
						w.Put("a.csv", row1(7))
					}
				}}
			},
			run: func(r *running) {
				r.Put("a.csv", manyRows)
				r.pass(5 * every)
				require.Len(r.T, r.have(), 1001)
			},
			statuses: []string{"a.csv ok", "a.csv ok processed/a.csv"},
			log:      []string{"a finished file is gone"},
		},
		"D3-1: vanished between scan and read": {
			life: func(w *world) life {
				return life{BeforeChunk: func(i int) {
					if i == 0 {
						require.NoError(w.T, os.Remove(w.Path("b.csv")))
					}
				}}
			},
			run: func(r *running) {
				r.Put("a.csv", ab)
				r.Put("b.csv", row1(7))
				r.pass(3 * every)
				require.ElementsMatch(r.T, []string{"a.csv ok", "b.csv failed"}, r.Told())
				r.Put("b.csv", row1(7)) // it comes again
				r.pass(3 * every)
			},
			ids: []int64{1, 2, 7}, statuses: []string{"a.csv ok", "b.csv failed", "b.csv ok"},
			errors: map[int]string{1: "it can't be opened: statat b.csv: no such file or directory; nothing of it was delivered"},
			log:    []string{"a file can't be read"},
		},
		"D5: what must not be read is refused once": {
			run: func(r *running) {
				if runtime.GOOS == "windows" {
					r.T.Skip("no such files")
				}
				require.NoError(r.T, os.WriteFile(r.Beside("secret.csv"), []byte(ab), 0o644))
				require.NoError(r.T, os.Symlink("../secret.csv", r.Path("a-out.csv")))
				require.NoError(r.T, mkfifo(r.Path("b-pipe.csv")))
				short, err := os.MkdirTemp("", "s") // a socket's path must be short
				require.NoError(r.T, err)
				defer os.RemoveAll(short)
				l, err := net.Listen("unix", filepath.Join(short, "s"))
				require.NoError(r.T, err)
				defer l.Close()
				require.NoError(r.T, os.Rename(filepath.Join(short, "s"), r.Path("c-socket.csv")))
				require.NoError(r.T, os.WriteFile(r.Path("d-bad\xffname.csv"), []byte(ab), 0o644))
				r.Put("e-\x1b[31m\n.csv", row1(5)) // control characters are no reason
				r.Put("g.csv", row1(6))
				require.NoError(r.T, os.Symlink("g.csv", r.Path("h-in.csv")))
				r.pass(20 * every)
				require.ElementsMatch(r.T, []string{
					"a-out.csv failed", "b-pipe.csv failed", "c-socket.csv failed", `"d-bad\xffname.csv" failed`,
					"e-\x1b[31m\n.csv ok", "g.csv ok", "h-in.csv skipped",
				}, r.Told())
				require.Equal(r.T, 4, r.says("a file is refused"))
				require.Equal(r.T, 4, r.src.Stats().Refused)
			},
			ids: []int64{5, 6},
			statuses: []string{
				"a-out.csv failed", "b-pipe.csv failed", "c-socket.csv failed", `"d-bad\xffname.csv" failed`,
				"e-\x1b[31m\n.csv ok", "g.csv ok", "h-in.csv skipped",
			},
			errors: map[int]string{
				0: "it is a symbolic link that can't be followed inside the folder", 1: "not a regular file but a named pipe",
				2: "not a regular file but a socket", 3: "its name is not valid UTF-8",
			},
		},
		"D5: a refused name becomes a file": {
			run: func(r *running) {
				require.NoError(r.T, os.Symlink("later.csv", r.Path("a.csv")))
				r.pass(3 * every)
				require.Equal(r.T, []string{"a.csv failed"}, r.Told())
				r.Put("later.csv", ab)
				r.pass(3 * every)
			},
			ids: []int64{1, 2}, statuses: []string{"a.csv failed", "a.csv ok", "later.csv skipped"},
		},
		"D3: names of 255 bytes, twice": {
			config: func(c *Config[rec]) { c.After = files.Move },
			run: func(r *running) {
				long := strings.Repeat("ä", 125) + "x.csv"
				require.Len(r.T, long, 255)
				for i := range 3 {
					require.NoError(r.T, os.WriteFile(r.Path(long), []byte(row1(i)), 0o644))
					r.pass(3 * every)
				}
				stem := strings.Repeat("ä", 124)
				require.ElementsMatch(r.T, []string{long, stem + ".2.csv", stem + ".3.csv"}, r.inDir(r.Beside("processed")))
			},
			ids: []int64{0, 1, 2},
		},
		"D3: processed/ can't be written, and can again": {
			config: func(c *Config[rec]) { c.After = files.Move },
			run: func(r *running) {
				require.NoError(r.T, os.Remove(r.Beside("processed")))
				require.NoError(r.T, os.WriteFile(r.Beside("processed"), nil, 0o644))
				for i := range 20 {
					r.Put(fmt.Sprintf("a%d.csv", i), row1(i))
				}
				r.pass(100 * every)
				require.Len(r.T, r.have(), 20)
				require.Equal(r.T, 1, r.says("level=ERROR"), "said once, not at each scan")
				require.Equal(r.T, 1, r.says("finished files can't be moved; later scans try again"))
				require.Less(r.T, r.says("still can't be moved"), 15, "and tried less and less often")
				require.NoError(r.T, os.Remove(r.Beside("processed")))
				r.Put("b.csv", row1(20))
				r.pass(100 * every)
				require.Len(r.T, r.inDir(r.Beside("processed")), 21)
				require.Empty(r.T, r.inDir(r.Dir))
			},
			log: []string{"files that could not be moved are moved now"},
		},
		"D5: the folder is removed and made again": {
			config: func(c *Config[rec]) { c.After = files.Move },
			run: func(r *running) {
				r.Put("a.csv", ab)
				r.pass(3 * every)
				require.NoError(r.T, os.RemoveAll(r.Dir))
				r.pass(20 * every)
				require.Equal(r.T, 1, r.says("the watched folder can't be read"), "said once")
				require.NoError(r.T, os.Mkdir(r.Dir, 0o755))
				r.Put("b.csv", row1(7))
				r.pass(3 * every)
				require.Equal(r.T, []int64{1, 2, 7}, r.have())

				other := New(Config[rec]{Dir: r.Dir, Name: "src", After: files.Move})
				ctx, cancel := context.WithTimeout(r.T.Context(), time.Second)
				defer cancel()
				in := &plainIntake[rec]{env: r.f.Env()}
				in.env.StateDir = r.T.TempDir()
				require.ErrorIs(r.T, other.Drive(ctx, in), context.DeadlineExceeded)
				require.NoError(r.T, other.Close())
				require.Equal(r.T, 1, r.says("the folder is locked by another process"), "its lock was taken again")
			},
			ids: []int64{1, 2, 7}, statuses: []string{"a.csv ok processed/a.csv", "b.csv ok processed/b.csv"},
			log: []string{"the watched folder was made again"},
		},
		"D5: another process takes the folder that was made again": {
			config: func(c *Config[rec]) { c.After = files.Move },
			run: func(r *running) {
				require.NoError(r.T, os.RemoveAll(r.Dir))
				require.NoError(r.T, os.Mkdir(r.Dir, 0o755))
				other := New(Config[rec]{Dir: r.Dir, Name: "src", After: files.Move})
				in := &plainIntake[rec]{env: r.f.Env()}
				in.env.StateDir = r.T.TempDir()
				require.NoError(r.T, other.Drive(r.T.Context(), in))
				r.Put("b.csv", row1(7))
				r.pass(10 * every)
				require.Empty(r.T, r.have())
				require.Equal(r.T, 1, r.says("it is locked by another reader (rule D5)"))
				require.NoError(r.T, other.Close())
				r.pass(3 * every)
			},
			ids: []int64{7}, statuses: []string{"b.csv ok processed/b.csv"},
		},
		"D6: new folders below, with Recursive": {
			config: func(c *Config[rec]) { c.Recursive = true },
			run: func(r *running) {
				r.Put("x/y/a.csv", ab)
				r.Put("x/.hidden/b.csv", row1(3))
				r.pass(3 * every)
				r.Put("z/c.csv.gz", filetest.Gzip(row1(4)))
				r.pass(3 * every)
			},
			ids: []int64{1, 2, 4}, statuses: []string{"x/y/a.csv ok", "z/c.csv.gz ok"},
		},
		"a file without rows is done although nothing is sent": {
			config: func(c *Config[rec]) { c.After = files.Move },
			run: func(r *running) {
				r.Put("a.csv", "id,text\n")
				r.Put("b.csv", "nothing\n")
				r.pass(3 * every)
				require.Equal(r.T, []string{"b.csv failed", "a.csv ok"}, r.Told())
				require.Equal(r.T, 1, r.f.Caught, "CaughtUp is said when there is news")
			},
			ids: []int64{}, statuses: []string{"a.csv ok processed/a.csv", "b.csv failed failed/b.csv"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.config()
				if tc.config != nil {
					tc.config(&c)
				}
				var l life
				if tc.life != nil {
					l = tc.life(w)
				}
				r := w.watch(c, l)
				defer func() {
					if !r.over { // a failed assertion must not leave a deadlock behind
						_ = r.end(true)
					}
				}()
				tc.run(r)
				require.ErrorIs(t, r.end(true), context.Canceled)
				if tc.ids != nil {
					require.Equal(t, tc.ids, append([]int64{}, w.IDs()...))
				}
				if tc.statuses != nil {
					require.Equal(t, tc.statuses, w.Statuses())
				}
				for i, text := range tc.errors {
					require.Contains(t, w.Ledger()[i].Error, text)
				}
				for _, text := range tc.log {
					require.Contains(t, w.Log.String(), text)
				}
				for _, text := range tc.silent {
					require.NotContains(t, w.Log.String(), text)
				}
				before := len(w.Rows)
				c.Watch, c.MaxScans, c.PollOnly, c.Settle = 0, 0, false, 0
				w.must(c)
				require.Len(t, w.Rows, before, "a run later finds nothing more")
			})
		})
	}
}

// What is not seen: bytes that change while size and modification time do not,
// between two runs.
func TestD2SameSizeAndTimeBetweenRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", row1(1))
	w.old("a.csv")
	info, err := os.Stat(w.Path("a.csv"))
	require.NoError(t, err)
	w.must(w.config())
	w.Put("a.csv", row1(2))
	require.NoError(t, os.Chtimes(w.Path("a.csv"), info.ModTime(), info.ModTime()))
	w.must(w.config())
	require.Equal(t, []int64{1}, w.IDs(), "as make and rsync see it: unchanged")
}

func TestMaxScans(t *testing.T) {
	t.Parallel()
	t.Run("ends after so many", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			begin := time.Now()
			c := w.config()
			c.MaxScans = 3
			r := w.watch(c, life{})
			require.NoError(t, r.end(false))
			require.Equal(t, 2*every, time.Since(begin))
			require.Equal(t, 1, r.f.Caught)
		})
	})
	t.Run("files of the last scan get one more look", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Put("a.csv", ab)
			c := w.config()
			c.MaxScans = 1
			begin := time.Now()
			require.NoError(t, w.watch(c, life{}).end(false))
			require.Equal(t, 2*time.Second, time.Since(begin))
			require.Equal(t, []int64{1, 2}, w.IDs())
		})
	})
	t.Run("what still changes is left for the next run", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Put("a.csv", ab)
			c := w.config()
			c.MaxScans = 1
			r := w.watch(c, life{})
			r.pass(time.Second)
			w.add("a.csv", "3,c\n")
			require.NoError(t, r.end(false))
			require.Empty(t, w.IDs())
			require.Contains(t, w.Log.String(), "files are still being written and are left for the next run")
			require.Empty(t, w.Told())
		})
	})
	t.Run("one pass with Settle", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Put("a.csv", ab)
			w.Put("b.csv", row1(3))
			c := w.config()
			c.Settle = 5 * time.Second
			go func() {
				time.Sleep(time.Second)
				w.add("b.csv", "4,x\n")
			}()
			begin := time.Now()
			w.must(c)
			require.Equal(t, 5*time.Second, time.Since(begin))
			require.Equal(t, []int64{1, 2}, w.IDs())
			require.Contains(t, w.Log.String(), "left for the next run")
		})
	})
}

// rule D5: two processes on one folder; the second one waits, then finds what is left.
func TestD5TwoWatchers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.After = files.Move
		first := w.watch(c, life{})
		w.Put("a.csv", ab)
		first.pass(3 * every)
		second := w.watch(c, life{})
		second.pass(3 * every)
		require.Equal(t, 1, w.says("waiting for it to end"))
		require.ErrorIs(t, first.end(true), context.Canceled)
		w.Put("b.csv", row1(3))
		second.pass(3 * every)
		require.Equal(t, []int64{3}, second.have())
		require.ErrorIs(t, second.end(true), context.Canceled)
		require.Equal(t, []string{"a.csv ok processed/a.csv", "b.csv ok processed/b.csv"}, w.Statuses())
	})
}

// rule E8: a rewind while watching runs the source again, with what it has seen.
func TestWatchRewinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.Watch, c.PollOnly = every, true
		src := New(c)
		boom := errors.New("boom")
		f := w.Engine(src, life{CaughtUp: func(int) {}, BeforeChunk: func(i int) {
			if i == 1 {
				panic(boom)
			}
		}})
		w.Put("a.csv", ab)
		run := func(ctx context.Context) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = p.(error)
				}
			}()
			return src.Drive(ctx, f)
		}
		go func() {
			time.Sleep(3 * every)
			w.Put("b.csv", row1(3))
		}()
		require.ErrorIs(t, run(t.Context()), boom)
		n := len(f.Sent)
		w.Held = leat.Position{Next: f.Sent[n-1].Next, Resume: f.Sent[n-1].Resume, Log: f.Log}
		f.Life.BeforeChunk = nil
		ctx, cancel := context.WithTimeout(t.Context(), 3*every)
		defer cancel()
		require.ErrorIs(t, run(ctx), context.DeadlineExceeded)
		require.NoError(t, src.Close())
		require.Equal(t, []string{"a.csv ok", "b.csv ok"}, w.Statuses())
		require.Len(t, f.Rows, 2)
	})
}

// A folder that is away while its file is needed for the rest of its rows: the engine
// is told to try again, since it may come back.
func TestD5FolderIsAwayInTheMiddleOfAFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := "id,text\n" + strings.Repeat("1,aaaaaaaaaa\n", 100)
	w.Put("a.csv", text)
	c := w.config()
	c.ChunkBytes = 100
	require.ErrorIs(t, w.live(c, life{StopAfter: 5, Commit: 2, Hear: true}), filetest.ErrKilled)
	c.Watch, c.MaxScans, c.Settle, c.PollOnly = time.Hour, 1, -1, true
	src := New(c)
	in := &plainIntake[rec]{env: w.Env(), at: w.Held, onRun: func() { require.NoError(t, os.RemoveAll(w.Dir)) }}
	err := src.Drive(t.Context(), in)
	require.True(t, leat.IsTransient(err), "%v", err)
	require.ErrorContains(t, err, "read a.csv (attempt 2): it can't be opened")
	require.Equal(t, 1, w.says("the watched folder can't be read"))
	in.onRun = func() { w.Put("a.csv", text) }
	require.NoError(t, src.Drive(t.Context(), in))
	require.NoError(t, src.Close())
	require.Equal(t, 1, w.says("the watched folder was made again"))
	require.NotEmpty(t, in.rows)
}

// The file system's notifications make it quicker, also for new folders.
func TestHintsShortenTheWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config()
	c.Watch, c.Settle, c.Recursive = time.Hour, -1, true
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ready, heard := make(chan struct{}), make(chan string, 10)
	c.OnFile = func(e files.Event) { heard <- e.Name }
	src := New(c)
	f := w.Engine(src, life{CaughtUp: func(n int) {
		if n == 1 {
			close(ready)
		}
	}})
	done := make(chan error, 1)
	go func() { done <- src.Drive(ctx, f) }()
	<-ready
	for i, name := range []string{"a.csv", "new/b.csv", "new/er/c.csv", "new/d.csv"} {
		w.Put(name, row1(i))
		select {
		case got := <-heard:
			require.Equal(t, name, got)
		case <-ctx.Done():
			t.Fatal("no notification came for ", name)
		}
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, src.Close())
}

// Many heard at once, while watching; then scan after scan finds nothing.
func TestWatchTenThousandFiles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("10,000 heard")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const n = 10_000
		c := w.config()
		r := w.watch(c, life{})
		for i := range n {
			require.NoError(t, os.WriteFile(w.Path(fmt.Sprintf("f%05d.csv", i)), []byte(row1(i)), 0o644))
		}
		r.pass(2 * every)
		require.Len(t, r.f.Sent, n)
		for range 20 {
			r.pass(every)
		}
		require.ErrorIs(t, r.end(true), context.Canceled)
		require.Equal(t, n, w.Stats.OK)
		require.Len(t, w.Told(), n)
	})
}
