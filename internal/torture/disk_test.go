package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/killtest"
)

// fault is what the kernel answers to one system call.
type fault struct {
	name  string
	err   syscall.Errno
	meets func(c killtest.Call) bool
}

var faults = []fault{
	{"fsync EIO", syscall.EIO, killtest.Call.Syncs},
	{"write EIO", syscall.EIO, killtest.Call.Writes},
	{"write ENOSPC", syscall.ENOSPC, killtest.Call.Writes},
	{"rename EIO", syscall.EIO, func(c killtest.Call) bool {
		return strings.HasPrefix(c.Name, "rename") || strings.HasPrefix(c.Name, "link")
	}},
	{"create ENOSPC", syscall.ENOSPC, func(c killtest.Call) bool {
		return strings.HasPrefix(c.Name, "open") || strings.HasPrefix(c.Name, "mkdir")
	}},
	{"truncate EIO", syscall.EIO, func(c killtest.Call) bool { return c.Name == "ftruncate" }},
}

// said tells whether a text has a cause as people read it; SQLite has words of its own.
func (f fault) said(text string) bool {
	if strings.Contains(text, f.err.Error()) {
		return true
	}
	if f.err == syscall.ENOSPC && (strings.Contains(text, "database or disk is full") || strings.Contains(text, "unable to open database file")) {
		return true
	}
	return strings.Contains(text, "disk I/O error")
}

// faultRow is a line of the table that is printed.
type faultRow struct {
	sink, folder, fault    string
	met, alone, next, calm int // went on by itself, or at the next start, or need not care
	damage
}

// rules A3, B3, B8, E8, F1: at each system call by which a folder is changed, the sink's, the
// state's and the dead letters', each alone, the kernel answers with an error. The
// pipeline goes on by itself, or it stops with an error that names the file and the
// cause, and the next start goes on. Each row is there once. After an fsync that failed
// no file is synced again as if nothing had been.
func TestFaults(t *testing.T) {
	every := 3 // a third of all
	switch {
	case os.Getenv("LEAT_LONG") == "1":
		every = 1
	case testing.Short():
		t.Skip("runs without -short")
	}
	table := newTable("sink", "folder", "fault", "met", "went on", "stopped, next start went on", "no matter", "rows", "lost", "twice")
	t.Run("each", func(t *testing.T) {
		for _, snk := range sinks {
			t.Run(snk.name, func(t *testing.T) {
				t.Parallel()
				for _, r := range faultEach(t, snk, every) {
					table.add(r.sink, r.folder, r.fault, r.met, r.alone, r.next, r.calm, r.rows, r.lost, r.twice)
				}
			})
		}
	})
	table.log(t, "faults")
}

func faultEach(t *testing.T, snk sink, every int) (rows []*faultRow) {
	make := func() *world { return fill(t, filepath.Join(t.TempDir(), "w"), quick(snk.name), 3, 50, 10) }
	turn := 0
	for _, f := range faults {
		for _, folder := range []string{"out", "state", "dead"} {
			if folder == "state" && snk.name != "csvsink" && every > 1 || folder == "dead" && snk.name != "dead letters" && every > 1 {
				continue // the sink does not matter much there
			}
			row := &faultRow{sink: snk.name, folder: folder, fault: f.name}
			for n := 1; ; n++ {
				if turn++; turn%every != 0 && n > 1 {
					if n > 100 {
						break
					}
					continue
				}
				w := make()
				if !faultAt(t, w, f, folder, n, row) {
					_ = os.RemoveAll(w.base)
					break
				}
				_ = os.RemoveAll(w.base)
			}
			if row.met > 0 {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// faultAt lives a life in which the n-th call that the fault meets in a folder fails.
func faultAt(t *testing.T, w *world, f fault, folder string, n int, row *faultRow) bool {
	t.Helper()
	dir := filepath.Join(w.base, folder)
	var hit killtest.Call
	met := 0
	var again []string // synced again after an fsync that failed
	failed := ""       // the file
	l := w.life()
	l.Patience = 30 * time.Second
	l.Decide = func(c killtest.Call) killtest.Answer {
		if failed != "" && c.Path == failed {
			switch {
			case c.Syncs():
				again = append(again, c.Path)
			case !c.Writes():
				failed = "" // made anew, replaced, deleted, or cut back
				if strings.HasSuffix(c.Path, "-wal") {
					// SQLite syncs the log once more when it closes, after it has taken the failed
					// frames out of its index, and then deletes it: nothing is built on that.
					again = nil
				}
			}
		}
		if !c.Under(dir) || !f.meets(c) {
			return killtest.Answer{}
		}
		if met++; met != n {
			return killtest.Answer{}
		}
		hit = c
		if info, err := os.Stat(c.Path); c.Syncs() && err == nil && info.Mode().IsRegular() {
			failed = c.Path
		}
		return killtest.Answer{Err: f.err}
	}
	retried := false
	l.Line = func(line string, _ func()) { retried = retried || line == "retry" || line == "rewind" }
	e := l.Run(t)
	if hit.Name == "" {
		return false
	}
	when := fmt.Sprintf("%s, %s at %s of %s (call %d there)", w.Sink, f.name, hit.Name, hit.Path, n)
	row.met++
	if len(again) > 0 {
		t.Errorf("%s: after an fsync that failed, it is synced again: %q\n%s", when, again, e.Stderr)
	}
	switch e.Code {
	case 0:
		if retried {
			row.alone++
			if !f.said(e.Stderr) {
				t.Errorf("%s: it went on, and the log does not say why it had to: %s", when, e.Stderr)
			}
		} else {
			row.calm++
			if !f.said(e.Stderr) {
				t.Logf("%s: nobody minds", when)
			}
		}
	case 1:
		row.next++
		_, why, _ := strings.Cut(e.Stderr, "\nstopped: ")
		if !f.said(why) || !strings.Contains(why, dir) {
			t.Errorf("%s: the error does not name the file and the cause: %s", when, why)
		}
	default:
		t.Fatalf("%s: exit code %d: %s", when, e.Code, e.Stderr)
	}
	d := w.finish(t, when)
	row.rows, row.lost, row.twice = row.rows+d.rows, row.lost+d.lost, row.twice+d.twice
	return true
}

// mount mounts something for the length of the test, whatever that needs.
func mount(t *testing.T, args ...string) {
	t.Helper()
	remount(t, args...)
	dir := args[len(args)-1]
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", dir, err, out)
		}
	})
}

func remount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		killtest.Unable(t, fmt.Sprintf("mount %v: %v: %s", args, err, out))
	}
}

// rules B3, B8: a folder, the sink's, the state's, the dead letters', each alone, is on a file
// system that has no room left at some moment. The pipeline waits, says so, and goes on by
// itself when there is room again.
func TestDiskFull(t *testing.T) {
	killtest.NeedRoot(t, "mount", "umount")
	sizes := []int{24, 48}
	switch {
	case os.Getenv("LEAT_LONG") == "1":
		sizes = []int{4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 112, 128}
	case testing.Short():
		sizes = []int{32}
	}
	table := newTable("sink", "folder", "KB free", "waited", "went on", "lost", "twice")
	t.Run("each", func(t *testing.T) {
		for _, snk := range sinks {
			for _, folder := range []string{"out", "state", "dead"} {
				if folder == "state" && snk.name != "csvsink" || folder == "dead" && snk.name != "dead letters" {
					continue // the sink does not matter there
				}
				t.Run(snk.name+" "+folder, func(t *testing.T) {
					t.Parallel()
					for _, kb := range sizes {
						set := quick(snk.name)
						set.RetryFirst = 4 * time.Millisecond
						w := fill(t, filepath.Join(t.TempDir(), "w"), set, 4, 100, 500)
						dir := filepath.Join(w.base, folder)
						// With the filler gone there must be room for all that the role writes: a log of
						// SQLite takes three pages of 16 KiB for each commit, and a slow role commits often.
						const mib = 16
						mount(t, "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "leat", dir)
						filler := filepath.Join(dir, ".filler")
						require.NoError(t, os.WriteFile(filler, make([]byte, mib<<20-kb<<10), 0o600))
						waits := 0
						l := w.life()
						l.Line = func(line string, _ func()) {
							if line == "retry" || line == "rewind" {
								if waits++; waits == 4 {
									_ = os.Remove(filler)
								}
							}
						}
						e := l.Run(t)
						if waits < 4 {
							_ = os.Remove(filler)
						}
						when := fmt.Sprintf("%s, %d KB free in %s", snk.name, kb, folder)
						require.Equalf(t, 0, e.Code, "%s: it does not go on by itself: %s", when, e.Stderr)
						if waits > 0 {
							require.Regexp(t, "no space left on device|database or disk is full", e.Stderr, when)
						}
						d := w.whole()
						d.require(t, when)
						table.add(snk.name, folder, kb, waits, waits > 0, d.lost, d.twice)
					}
				})
			}
		}
	})
	table.log(t, "disk full")
	require.Greater(t, table.count("went on", "true"), len(table.rows)/2, "the disks were not full")
}

// rule B8: a folder that can't be written is for people: the pipeline stops at once, says which
// folder and why, and goes on at its next start when that is mended. From the start it
// is a mount that is read-only; in the middle, all calls that would change a file fail.
func TestReadOnly(t *testing.T) {
	killtest.NeedRoot(t, "mount", "umount")
	table := newTable("sink", "folder", "since", "stopped", "rows", "lost", "twice")
	t.Run("each", func(t *testing.T) {
		for _, snk := range sinks {
			for _, folder := range []string{"out", "state", "dead"} {
				if folder != "out" && snk.name != "csvsink" && snk.name != "dead letters" {
					continue // the sink does not matter there
				}
				t.Run(snk.name+" "+folder, func(t *testing.T) {
					t.Parallel()
					for _, since := range []int{0, 3, 8, 15} {
						if testing.Short() && since != 0 {
							break
						}
						w := fill(t, filepath.Join(t.TempDir(), "w"), quick(snk.name), 3, 50, 10)
						dir := filepath.Join(w.base, folder)
						l := w.life()
						if since == 0 {
							mount(t, "--bind", dir, dir)
							remount(t, "-o", "remount,bind,ro", dir)
						} else {
							met := 0
							l.Decide = func(c killtest.Call) killtest.Answer {
								if !c.Under(dir) || c.Syncs() || c.Name == "ftruncate" {
									return killtest.Answer{}
								}
								if met++; met < since {
									return killtest.Answer{}
								}
								return killtest.Answer{Err: syscall.EROFS}
							}
						}
						e := l.Run(t)
						when := fmt.Sprintf("%s, %s read-only since call %d", snk.name, folder, since)
						if e.Code == 0 && since > 0 { // there were not so many
							w.whole().require(t, when)
							continue
						}
						require.Equal(t, 1, e.Code, when+": "+e.Stderr)
						_, why, _ := strings.Cut(e.Stderr, "\nstopped: ")
						require.Contains(t, why, dir, when)
						require.Regexp(t, "read-only file system|attempt to write a readonly database|unable to open database file|disk I/O error", why, when)
						if since == 0 {
							require.Contains(t, why, "read-only file system", when)
							remount(t, "-o", "remount,bind,rw", dir)
						}
						d := w.finish(t, when)
						table.add(snk.name, folder, fmt.Sprint("call ", since), e.Code == 1, d.rows, d.lost, d.twice)
					}
				})
			}
		}
	})
	table.log(t, "read-only")
}

// After an fsync that failed the kernel takes what it has lost for written: the file says in
// memory what the disk does not have. So the logs are cut back to what was durable; the
// next process, which reads them from memory, must not believe more (rules B3, D6).
func TestNothingIsLeftOfAFailedSync(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short")
	}
	for _, name := range []string{"state/entrada/ledger.jsonl", "dead/letters.jsonl"} {
		for n := 2; ; n++ { // the first is the one of opening
			w := fill(t, filepath.Join(t.TempDir(), "w"), quick("dead letters"), 3, 50, 10)
			file := filepath.Join(w.base, name)
			durable, met := "", 0
			l := w.life()
			l.Decide = func(c killtest.Call) killtest.Answer {
				if c.Path != file || !c.Syncs() {
					return killtest.Answer{}
				}
				if met++; met == n {
					return killtest.Answer{Err: syscall.EIO}
				}
				text, _ := os.ReadFile(file)
				durable = string(text)
				return killtest.Answer{}
			}
			e := l.Run(t)
			if met < n {
				require.Greater(t, n, 2, "nothing was tested")
				break
			}
			require.Equal(t, 1, e.Code, e.Stderr)
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, durable, string(text), "%s after fsync %d failed", name, n)
			w.finish(t, name)
		}
	}
}

// rule D6: a process that was killed between writing the ledger and its fsync leaves lines that
// the next one reads from memory. They are synced before anything is built on them.
func TestLedgerIsSyncedBeforeUse(t *testing.T) {
	t.Parallel()
	w := fill(t, filepath.Join(t.TempDir(), "w"), quick("csvsink"), 3, 50, 10)
	ledger := filepath.Join(w.state, "entrada", "ledger.jsonl")
	wrote := false
	l := w.life()
	l.Decide = func(c killtest.Call) killtest.Answer {
		wrote = wrote || c.Path == ledger && c.Writes()
		return killtest.Answer{Kill: wrote && c.Path == ledger && c.Syncs()}
	}
	require.True(t, l.Run(t).Killed)
	first := ""
	l.Decide = func(c killtest.Call) killtest.Answer {
		if c.Path == ledger && first == "" {
			first = c.Name
		}
		return killtest.Answer{}
	}
	e := l.Run(t)
	require.Equal(t, 0, e.Code, e.Stderr)
	require.Equal(t, "fsync", first, "what is done first to the ledger")
	w.whole().require(t, "after that")
}

// quick are settings for many short lives.
func quick(sink string) settings {
	return settings{Source: "csvsource", Sink: sink, ChunkBytes: 600, RollRows: 60, Checkpoint: 2 * time.Millisecond, RetryFirst: time.Millisecond}
}
