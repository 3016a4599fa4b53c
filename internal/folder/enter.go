package folder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/failpoint"
)

// A group of files is entered with one sync: large enough that ten thousand small
// files are quick, small enough that the first rows need not wait for the last
// file's hash.
const (
	groupFiles = 1000
	groupBytes = 64 << 20
)

// racy is how recently a file may have changed before its size and time stop
// telling whether it changed since: file systems keep times as coarse as 2 s.
const racy = 2 * time.Second

// enterAll scans and enters, group by group. Each group is durable in the ledger
// before give gets it (rule D6).
func (f *Folder) enterAll(ctx context.Context, give func([]*Entry) error) error {
	f.mu.Lock()
	f.scans++
	f.unsettled = 0
	err := f.adoptOrphansLocked()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	begun := time.Now()
	found, err := f.scan(ctx)
	f.watching.took = time.Since(begun)
	if err != nil {
		if f.c.Watch > 0 && ctx.Err() == nil {
			f.away(err)
			return nil
		}
		return err
	}
	var group []*Entry
	var moves, skipped []*Entry
	var bytes int64
	files := 0
	flush := func() error {
		f.mu.Lock()
		err := f.led.sync()
		if err == nil {
			f.news, f.entered = append(f.news, f.entered...), nil
			f.skipped = append(f.skipped, skipped...)
			moves = append(moves, f.skippedLocked()...)
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if err := failpoint.Hit("folder/entries-synced"); err != nil {
			return err
		}
		f.announce()
		f.moveAll(ctx, moves)
		if len(group) > 0 {
			if err := give(group); err != nil {
				return err
			}
		}
		group, moves, skipped, bytes, files = nil, nil, nil, 0, 0
		return nil
	}
	for _, c := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, ok := f.look(c, time.Now())
		if !ok {
			continue
		}
		e, hashed, err := f.enter(ctx, c, s)
		if err != nil {
			return err
		}
		bytes += hashed
		if e != nil {
			files++
			switch {
			case e.Status == Skipped:
				skipped = append(skipped, e)
			case e.Final():
				moves = append(moves, e)
			default:
				group = append(group, e)
			}
		}
		if files >= groupFiles || bytes >= groupBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	f.forgetVanished()
	return flush()
}

// errBusy is why a file that is still being written is not entered now.
var errBusy = refusal("it is still being written; put files into the folder by renaming them, or run again later")

// enter looks into one file. It returns the new entry, if it got one.
func (f *Folder) enter(ctx context.Context, c candidate, s *sighting) (e *Entry, hashed int64, err error) {
	begun := time.Now()
	x, err := f.examine(ctx, c, s.other)
	if cerr := ctx.Err(); cerr != nil {
		return nil, 0, cerr
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.forget(c.name)
		f.log.Info("a file went away before it was entered", "file", c.name)
		return nil, 0, nil
	case errors.Is(err, errBusy) && (f.c.Watch > 0 || f.c.Settle > 0): // rule D1
		s.since = time.Now()
		f.noteUnsettled(c.name, s)
		return nil, 0, nil
	case err != nil:
		return nil, 0, f.refuse(c.name, err)
	}
	again := !s.done.IsZero() // this process knows it; it only had to look once more
	s.done = begun
	delete(f.said, printable(c.name))
	old := f.led.version(c.name, x.hash)
	if s.entry = old; old != nil && old.Settled && !f.exists(c.name) {
		// It was finished and moved between the scan and now: no new arrival.
		f.forget(c.name)
		return nil, x.hashed, nil
	}
	if again && old != nil && (!old.Settled || !f.c.Move) {
		return nil, x.hashed, nil
	}
	ev := event{
		Event: "file", Seq: int64(len(f.led.entries)) + 1, Name: c.name, Hash: hex.EncodeToString(x.hash[:]), Size: x.size, ModTime: x.modTime,
		Base: f.led.end(), Extent: x.look.Extent, Status: Pending,
	}
	switch {
	case old != nil && !old.Final():
		return nil, x.hashed, nil // its own entry will read it
	case old != nil && old.Unread() && (!old.Judged || old.Settled):
		// It was refused before. Only a reason that is gone makes a new entry, or the
		// ledger would grow with each start; a verdict (rule B2) stands until the file
		// is put here once more.
		if x.look.Fault != nil && !old.Settled {
			f.log.Warn("a file is still refused", "file", c.name, "reason", forLog(x.look.Fault))
			f.stats.Unchanged++
			return nil, x.hashed, nil
		}
		ev.Attempt = old.Attempt
	case old != nil && !(old.Status == Skipped && f.led.read(x.hash) == nil):
		if !f.c.Move || old.Moved == InFolder {
			// rule D2: same name, same content is skipped, and said so.
			s.entry = nil
			f.stats.Unchanged++
			f.logUnchanged(c.name, old)
			return nil, x.hashed, nil
		}
		ev.Status = Skipped
		ev.Error = fmt.Sprintf("same name and content as file %d, entered %s", old.Seq, old.Entered().Format(time.RFC3339))
	default:
		if f.c.ReadDuplicates {
			break
		}
		if o := f.led.read(x.hash); o != nil {
			// rule D2: same content under a new name.
			ev.Status = Skipped
			ev.Error = fmt.Sprintf("same content as %s (file %d)", o.Name, o.Seq)
		}
	}
	if ev.Status == Pending && x.look.Fault != nil {
		ev.Status, ev.Error = Failed, x.look.Fault.Error()
	}
	if ev.Extent < 0 || ev.Base+ev.Extent < ev.Base {
		return nil, 0, fmt.Errorf("folder: the log of %s is full: %d + %d is beyond what an offset can count", f.c.Dir, ev.Base, ev.Extent)
	}
	events := []event{ev}
	if old != nil && old.Status == Skipped && !old.Settled {
		events = append(events, staysEvent(old))
	}
	if change, ok := f.led.drift(x.look.Schema); ok && ev.Status == Pending {
		events = append(events, event{Event: "schema", Seq: ev.Seq, Columns: x.look.Schema, Change: change})
	}
	if err := f.led.append(events...); err != nil {
		s.done, s.entry = time.Time{}, nil // rule D4: it is not entered, so the next scan must look again
		return nil, 0, err
	}
	if err := failpoint.Hit("folder/entry-written"); err != nil {
		return nil, 0, err
	}
	e = f.led.entries[len(f.led.entries)-1]
	s.entry = e
	if x.look.Fault != nil {
		f.brieflyLocked(e, x.look.Fault)
	}
	if e.Drift != "" {
		f.log.Info("the columns are others than those of the file before", "file", e.Name, "change", e.Drift)
	}
	if e.Final() {
		f.entered = append(f.entered, f.finalOf(e))
	}
	switch e.Status {
	case Failed:
		f.stats.Failed++
		f.log.Error("a file is refused; the ledger has the details", "file", e.Name, "error", forLog(x.look.Fault))
	case Skipped:
		f.stats.Skipped++
		f.log.Info("a file is skipped", "file", e.Name, "reason", e.Error, "rule", "D2")
	}
	return e, x.hashed, nil
}

func (f *Folder) exists(name string) bool {
	var err error
	if f.root != nil {
		_, err = f.root.Lstat(name)
	} else {
		_, err = os.Lstat(filepath.FromSlash(name))
	}
	return err == nil
}

// logUnchanged says the first few by name and leaves the rest to the sum at the end.
func (f *Folder) logUnchanged(name string, old *Entry) {
	const most = 10
	if f.unchanged++; f.unchanged <= most {
		f.log.Info("a file was read before and is skipped", "file", name, "status", old.Status, "rule", "D2")
	}
}

// refuse notes a file that gets no place in the log, once for each reason (rule D5).
func (f *Folder) refuse(name string, reason error) error {
	msg := fmt.Sprintf("%s is refused: %v", printable(name), reason)
	if f.said[printable(name)] == msg {
		return nil
	}
	// First the ledger: what could not be written is said and written by the next scan.
	if old := f.led.refused[printable(name)]; old == nil || old.reason != msg {
		ev := event{Event: "refused", Time: now(), Name: printable(name), Error: msg}
		if err := f.led.append(ev); err != nil {
			return err
		}
		f.entered = append(f.entered, final{refusedEntry(ev.Name, msg, ev.Time), msg})
	}
	f.said[printable(name)] = msg
	f.stats.Refused++
	f.log.Error("a file is refused", "file", name, "error", reason, "rule", "D5")
	return nil
}

func printable(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return fmt.Sprintf("%q", name)
}

// exam is what examine found out.
type exam struct {
	hash    [32]byte
	size    int64
	modTime time.Time
	hashed  int64 // bytes read for the hash
	look    Look
}

// examine looks into a file. changed says that this process has seen it change, so
// that what the ledger knows of its size and time is not enough.
func (f *Folder) examine(ctx context.Context, c candidate, changed bool) (x exam, err error) {
	if c.refuse != nil {
		return x, c.refuse
	}
	if !utf8.ValidString(c.name) {
		return x, refusal("its name is not valid UTF-8")
	}
	file, info, err := f.open(c.name)
	if err != nil {
		return x, err
	}
	defer file.Close()
	if f.c.Settle > 0 && sightOf(info) != c.sight { // rule D1: changed since the scan saw it
		return x, errBusy
	}
	x.size, x.modTime = info.Size(), writable(info.ModTime())

	f.mu.Lock()
	last := f.led.latest(c.name)
	f.mu.Unlock()
	if last != nil && !changed && last.Size == x.size && last.ModTime().Equal(x.modTime) && last.Entered().Sub(x.modTime) > racy {
		x.hash = last.hash // unchanged since it was hashed: as make and rsync see it
		if last.Status == OK && !f.c.Move {
			return x, nil
		}
	} else {
		if x.hash, x.hashed, err = hashAll(ctx, file); err != nil {
			return x, err
		}
		after, err := file.Stat()
		if err != nil {
			return x, err
		}
		if x.hashed != x.size || after.Size() != x.size || !after.ModTime().Equal(info.ModTime()) {
			// rule D1: only complete files are read.
			return x, errBusy
		}
	}
	x.look, err = f.c.Inspect(ctx, c.name, file, x.size)
	return x, err
}

// writable is a time as JSON can hold it: some file systems know later ones.
func writable(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}

// forLog is a fault as logs may show it: without any of the file's text.
func forLog(fault error) string {
	var brief interface{ ForLog() string }
	if errors.As(fault, &brief) {
		return brief.ForLog()
	}
	return fault.Error()
}
