package folder

import (
	"io/fs"
	"time"
)

// sight is what a file looks like without being opened. Where it stays the same,
// nothing was written; but for a program that keeps size and modification time,
// which is seen on Linux only.
type sight struct {
	mode      fs.FileMode
	size      int64
	sec       int64 // of the modification time
	nano      int32
	changedAt int64
}

func sightOf(info fs.FileInfo) sight {
	t := info.ModTime()
	return sight{info.Mode(), info.Size(), t.Unix(), int32(t.Nanosecond()), changeTime(info)}
}

// sighting is what this process has seen of a name, over its scans. Times are of
// the monotonic clock, so that neither a clock that is set nor a file's own time
// matters (rule D1).
type sighting struct {
	sight
	since time.Time // when it was first seen so
	other bool      // it looked otherwise before, or was not what it looked like
	scan  int       // that saw it last
	done  time.Time // when its content was last looked at; zero: not yet
	entry *Entry    // the entry that has the content; nil: none
}

// known tells whether nothing more need be done about the file: its content was
// looked at, when it had not changed for so long that a later change is sure to
// show.
func (s *sighting) known() bool {
	return !s.done.IsZero() && s.done.Sub(s.since) >= racy && !(s.entry != nil && s.entry.Settled)
}

// look decides, without opening the file, whether this scan is to look into it. Most
// files of a folder are known, so this is all that a scan costs.
func (f *Folder) look(c candidate, now time.Time) (s *sighting, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s = f.seen[c.name]
	if s == nil {
		s = &sighting{sight: c.sight, since: now}
		f.seen[c.name] = s
	} else if s.sight != c.sight {
		*s = sighting{sight: c.sight, since: now, other: true}
	}
	s.scan = f.scans
	switch {
	case s.known():
		return s, false
	case !s.done.IsZero() && !(s.entry != nil && s.entry.Settled) && now.Sub(s.since) < racy:
		return s, false // once more, later
	case c.refuse == nil && c.sight.mode.IsRegular() && now.Sub(s.since) < f.c.Settle:
		f.noteUnsettled(c.name, s)
		return s, false // rule D1
	}
	return s, true
}

// noteUnsettled remembers when the scan after this one has reason to look.
func (f *Folder) noteUnsettled(name string, s *sighting) {
	due := s.since.Add(f.c.Settle)
	if f.unsettled == 0 {
		f.due, f.lastDue, f.unsettledName = due, due, name
	}
	if due.Before(f.due) {
		f.due = due
	}
	if due.After(f.lastDue) {
		f.lastDue = due
	}
	f.unsettled++
}

// settling tells whether the file is seen to change, so that it will be looked at
// soon anyway.
func (f *Folder) settling(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[name]
	return f.c.Settle > 0 && s != nil && s.done.IsZero()
}

// doubtful tells whether this process has seen something else under the entry's name
// than what is there now or what was entered, so that size and modification time
// alone do not prove that it is the same file. After a restart nothing has been seen.
func (f *Folder) doubtful(e *Entry, info fs.FileInfo) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[e.Name]
	return s != nil && (s.sight != sightOf(info) || s.entry == nil && s.other || s.entry != nil && s.entry.hash != e.hash)
}

// suspect makes the next scan look at a name's content.
func (f *Folder) suspect(name string) {
	if s := f.seen[name]; s != nil {
		s.done, s.entry, s.other = time.Time{}, nil, true
	}
}

// forget makes the next scan look at a name as if for the first time.
func (f *Folder) forget(name string) { delete(f.seen, name) }

// forgetVanished drops the names that the last scan did not find.
func (f *Folder) forgetVanished() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, s := range f.seen {
		if s.scan != f.scans {
			delete(f.seen, name)
		}
	}
}
