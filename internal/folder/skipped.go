package folder

import "time"

// A duplicate is skipped for the sake of another file, which may be read later, or not
// at all: it goes away, or can't be read. Then the duplicate is all there is of the
// content (rule D2). So it stays where it is until the other one's status is final, and
// is entered anew if that was not read.

// skippedLocked gives the skipped files that are to be moved by now, and finds out
// whether there are orphans: skipped for a content that was not read after all.
func (f *Folder) skippedLocked() (moves []*Entry) {
	left := f.skipped[:0]
	for _, e := range f.skipped {
		o := f.led.read(e.hash)
		switch {
		case e.Settled: // it was entered anew
		case o == nil:
			f.orphans = true
			left = append(left, e)
		case !o.Final():
			left = append(left, e)
		case f.c.Move:
			moves = append(moves, e)
		}
	}
	clear(f.skipped[len(left):])
	f.skipped = left
	return moves
}

// adoptOrphansLocked makes the scan that begins look at the first orphan of each
// content as at a new file; the others wait for it. Its own entry ends here: the new
// one sees to the move.
func (f *Folder) adoptOrphansLocked() error {
	if !f.orphans {
		return nil
	}
	f.orphans = false
	first := map[[32]byte]bool{}
	left := f.skipped[:0]
	var events []event
	for _, e := range f.skipped {
		if e.Settled {
			continue
		}
		if first[e.hash] || f.led.read(e.hash) != nil {
			left = append(left, e)
			continue
		}
		first[e.hash] = true
		events = append(events, staysEvent(e))
		if s := f.seen[e.Name]; s != nil {
			s.done, s.entry = time.Time{}, nil
		}
	}
	clear(f.skipped[len(left):])
	f.skipped = left
	return f.led.append(events...)
}

// staysEvent says that the entry has no move to come.
func staysEvent(e *Entry) event { return event{Event: "moved", Seq: e.Seq, To: InFolder} }

func (f *Folder) hasOrphans() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.orphans
}
