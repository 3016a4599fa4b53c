package lake

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/leatgo/leat"
)

// Held is how far one sink of a pipeline holds a partition in a lake.
type Held struct {
	Pipeline, Sink, Partition string
	Position                  leat.Position // zero: nothing is held
	Epoch                     int64         // how often it was taken over
}

// Positions lists what the sinks of all pipelines hold. It may be called while they
// write.
func Positions(dir string) ([]Held, error) {
	l, err := openLake("lake", dir, hooks{})
	if err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	defer l.root.Close()
	st, err := l.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lake: %s holds no lake: %w", dir, err)
	} else if err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	var out []Held
	for o, r := range st.owners {
		for _, p := range slices.Sorted(maps.Keys(r.partitions)) {
			if h := r.of(p); h.some {
				out = append(out, Held{string(o.Pipeline), string(o.Sink), p, h.at, h.epoch})
			}
		}
	}
	slices.SortFunc(out, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Pipeline, b.Pipeline), cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

// Move puts the position of h, as Positions gave it, to another one: an operator's
// reset. The zero Position makes the sink hold nothing. The files stay as they are.
// It is an error when the sink is open in any process, or has moved since.
func Move(dir string, h Held, to leat.Position) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("lake: move the position of partition %q in %s: %w", h.Partition, dir, err)
		}
	}()
	l, err := openLake("lake", dir, hooks{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.root.Close()) }()
	if ok, err := l.exists(leatDir); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("there is no lake: no folder %s: %w", leatDir, fs.ErrNotExist))
	}
	w, err := l.begin(owner{text(h.Pipeline), text(h.Sink)}, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	if err := w.recover(); err != nil { // what was cut off may move the position
		return err
	}
	if w.living > 0 {
		return leat.Transient(fmt.Errorf("it is being written by %s in %d processes or sinks", w.owner, w.living))
	}
	now := w.st.of(w.owner).of(h.Partition)
	if !now.some || now.at != h.Position {
		return fmt.Errorf("it is %d now, and was %d: look again", now.at.Next, h.Position.Next)
	}
	e := w.newEntry(kindCommit)
	e.Positions = []movement{{Partition: text(h.Partition), Epoch: now.epoch, From: positionOf(now.at), To: positionOf(to)}}
	return w.publish(e)
}
