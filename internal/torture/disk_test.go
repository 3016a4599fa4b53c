package torture

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

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
	if f.err == syscall.ENOSPC {
		return strings.Contains(text, "SQLITE_FULL") || strings.Contains(text, "database or disk is full") || strings.Contains(text, "unable to open database file")
	}
	return strings.Contains(text, "disk I/O error") || strings.Contains(text, "SQLITE_IOERR")
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
		every = 24
	}
	var mu sync.Mutex
	table := map[string]*faultRow{}
	t.Run("each", func(t *testing.T) {
		for _, snk := range sinks {
			t.Run(snk.name, func(t *testing.T) {
				t.Parallel()
				rows := faultEach(t, snk, every)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(table, rows)
			})
		}
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "sink\tfolder\tfault\tmet\twent on\tstopped, next start went on\tno matter\trows\tlost\ttwice\t")
	for _, key := range slices.Sorted(maps.Keys(table)) {
		r := table[key]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.sink, r.folder, r.fault, r.met, r.alone, r.next, r.calm, r.rows, r.lost, r.twice)
	}
	_ = w.Flush()
	t.Logf("faults:\n%s", b.String())
}

func faultEach(t *testing.T, snk sink, every int) map[string]*faultRow {
	set := settings{Source: "csvsource", Sink: snk.name, ChunkBytes: 600, RollRows: 60, Checkpoint: 2 * time.Millisecond, RetryFirst: time.Millisecond}
	make := func() *world { return fill(t, filepath.Join(t.TempDir(), "w"), set, 3, 50, 10) }
	table := map[string]*faultRow{}
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
				table[row.sink+row.folder+row.fault] = row
			}
		}
	}
	return table
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
