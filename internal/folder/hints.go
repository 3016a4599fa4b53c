package folder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// hints are the file system's notifications. They only make a scan come earlier: what
// they miss (a network's file system, a full queue, too many folders), the next scan
// finds. A nil *hints gives none.
type hints struct {
	f        *Folder
	w        *fsnotify.Watcher
	patterns [][]string
	c        chan struct{} // one is enough for any number
	done     sync.WaitGroup
	said     bool
}

func newHints(f *Folder) *hints {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Info("no notifications of the file system; new files are found at the next scan", "folder", f.c.Dir, "every", f.c.Watch, "error", err)
		return &hints{f: f}
	}
	h := &hints{f: f, w: w, c: make(chan struct{}, 1)}
	for _, g := range f.c.Globs {
		h.patterns = append(h.patterns, strings.Split(g, "/"))
	}
	h.done.Go(h.run)
	return h
}

// come is ready when there is a hint.
func (h *hints) come() <-chan struct{} {
	if h == nil {
		return nil
	}
	return h.c
}

// watch adds a folder. It is called for each at each scan: to add one again costs
// little, and mends what the removal of a folder took away.
func (h *hints) watch(dir string) {
	if h == nil || h.w == nil {
		return
	}
	if err := h.w.Add(dir); err != nil && !h.said && !errors.Is(err, os.ErrNotExist) {
		h.said = true
		h.f.log.Info("no notifications of the file system for a folder; its new files are found at the next scan", "folder", dir, "every", h.f.c.Watch, "error", err)
	}
}

func (h *hints) close() {
	if h == nil || h.w == nil {
		return
	}
	if err := h.w.Close(); err != nil {
		h.f.log.Debug("end the file system's notifications", "error", err)
	}
	h.done.Wait()
}

func (h *hints) run() {
	events, faults := h.w.Events, h.w.Errors
	for events != nil || faults != nil {
		select {
		case ev, ok := <-events:
			if !ok {
				events = nil
			} else if h.matters(ev) {
				h.give()
			}
		case err, ok := <-faults:
			if !ok {
				faults = nil
				continue
			}
			h.f.log.Debug("the file system's notifications have a gap", "error", err)
			h.give() // rule D1 does not depend on them
		}
	}
}

func (h *hints) give() {
	select {
	case h.c <- struct{}{}:
	default:
	}
}

// matters tells whether a scan would find something: a file that is wanted and not
// seen changing already, or a new folder.
func (h *hints) matters(ev fsnotify.Event) bool {
	if !ev.Has(fsnotify.Create) && !ev.Has(fsnotify.Write) {
		return false
	}
	rel, err := filepath.Rel(h.f.c.Dir, ev.Name)
	if err != nil {
		return true
	}
	name := filepath.ToSlash(rel)
	if wanted(h.patterns, name) {
		return !h.f.settling(name)
	}
	if !ev.Has(fsnotify.Create) {
		return false
	}
	info, err := os.Lstat(ev.Name)
	return err == nil && info.IsDir()
}
