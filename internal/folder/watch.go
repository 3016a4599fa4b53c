package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// watching is where the scans stand. It is used by the goroutine that runs.
type watching struct {
	fresh   bool // no Entries since Start
	counted int  // scans that were due by Config.Watch
	next    time.Time
	took    time.Duration // the last scan's listing of the folder
	floor   time.Time     // no hint brings the next scan forward to before this
	extra   bool          // the last look, at what had not settled, is under way
	gone    string        // why the folder is away; "" when it is not
}

// hintGap is the shortest time between a scan and one that a hint asks for, so that a
// thousand files that come one by one do not make a thousand scans. Where a scan
// takes long, it is nine times that.
const hintGap = 100 * time.Millisecond

func (w *watching) begin(now time.Time, every time.Duration) {
	if !now.Before(w.next) {
		w.counted++
		w.next = now.Add(every)
	}
}

// end does not count what reading the files took: that is work, not scanning.
func (w *watching) end(now time.Time) {
	w.floor = now.Add(max(hintGap, 9*w.took))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// begin is the start of a scan. It tells whether the folder is there: it may have
// been removed, and perhaps made again.
func (f *Folder) begin() (here bool) {
	w := &f.watching
	if !w.extra {
		w.begin(time.Now(), f.c.Watch)
	}
	if f.c.Watch == 0 || f.root == nil {
		return true
	}
	if f.hints == nil && !f.c.PollOnly {
		f.hints = newHints(f)
	}
	info, err := os.Stat(f.c.Dir)
	if err == nil && os.SameFile(info, f.is) && f.dir != nil {
		if w.gone != "" {
			f.log.Info("the watched folder is back", "folder", f.c.Dir)
			w.gone = ""
		}
		return true
	}
	if err == nil {
		err = f.enterAnew()
	}
	if err != nil {
		f.away(err)
		return false
	}
	w.gone = ""
	f.log.Info("the watched folder was made again", "folder", f.c.Dir)
	return true
}

// away says, once, that there is nothing to scan.
func (f *Folder) away(why error) {
	msg := why.Error()
	if f.watching.gone != msg {
		f.watching.gone = msg
		f.log.Error("the watched folder can't be read; it is tried again until it can", "folder", f.c.Dir, "error", why)
	}
	f.mu.Lock()
	clear(f.seen)
	f.unsettled = 0
	f.mu.Unlock()
}

// enterAnew takes the folder that has the name now, with its lock (rule D5).
func (f *Folder) enterAnew() error {
	if f.dir != nil {
		if err := f.dir.Close(); err != nil {
			f.log.Debug("unlock the folder that is gone", "error", err)
		}
		f.dir = nil
	}
	f.mu.Lock()
	clear(f.seen)
	f.mu.Unlock()
	f.hints.close()
	f.hints = nil
	root, err := os.OpenRoot(f.c.Dir)
	if err != nil {
		return err
	}
	info, err := root.Stat(".")
	if err != nil {
		return errors.Join(err, root.Close())
	}
	dir, err := tryLockDir(f.c.Dir, f.c.Move, f.c.Globs)
	if err == nil && dir == nil {
		err = errors.New("it is locked by another reader (rule D5)")
	}
	if err != nil {
		return errors.Join(err, root.Close())
	}
	if err := f.root.Close(); err != nil {
		f.log.Debug("close the folder that is gone", "error", err)
	}
	f.root, f.is, f.dir = root, info, dir
	if !f.c.PollOnly {
		f.hints = newHints(f)
	}
	return nil
}

// reachable tells apart a file that is gone from a folder that is.
func (f *Folder) reachable() error {
	if f.c.Dir == "" {
		return nil
	}
	_, err := os.Stat(f.c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder is away: %w", err)
	}
	return err
}

// replaced tells whether the folder that is being read is not the one that has its
// name: it is away, or another one was made, which the next scan takes. It is for
// the goroutine that runs.
func (f *Folder) replaced() bool {
	if f.root == nil {
		return false
	}
	info, err := os.Stat(f.c.Dir)
	return f.watching.gone != "" || err != nil || !os.SameFile(info, f.is)
}

// Wait waits until it is time for the next scan: by Config.Watch, earlier for a file
// that is about to settle or for a hint of the file system. false means that there
// is to be none: after the one pass, or after MaxScans. Files that have not settled
// by then get one look more, Settle later; what still changes is left for the next
// run (rule D1).
func (f *Folder) Wait(ctx context.Context) (bool, error) {
	w := &f.watching
	if f.c.Watch == 0 || f.c.MaxScans > 0 && w.counted >= f.c.MaxScans {
		if f.unsettled == 0 {
			return f.hasOrphans(), nil
		}
		if w.extra {
			f.log.Warn("files are still being written and are left for the next run", "files", f.unsettled, "first", f.unsettledName, "rule", "D1")
			return f.hasOrphans(), nil
		}
		w.extra = true
		return true, sleep(ctx, time.Until(f.lastDue))
	}
	until := w.next
	if f.unsettled > 0 && f.due.Before(until) {
		if f.due.Before(w.floor) {
			until = earlier(w.floor, until)
		} else {
			until = f.due
		}
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-f.hints.come():
	}
	if w.floor.Before(until) {
		until = w.floor
	}
	return true, sleep(ctx, time.Until(until))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
