package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/leatgo/leat/internal/store"
)

// sameStages compares the stages with state before a partition's rows with those that the
// saved state is of (rule E7-4). changed tells that they differ, with leave. started: rows
// of the partition have been delivered somewhere.
func (e *Engine) sameStages(partition string, note store.Note, now map[string]string, started bool) (changed bool, _ error) {
	if note.Stages == nil { // written before this was kept, or reset by hand
		return true, nil
	}
	var faults []string
	differs := func(stage, how string) {
		if changed = true; started && !(note.Clean && slices.Contains(e.cfg.Reconfigure, stage)) {
			faults = append(faults, fmt.Sprintf("stage %q %s", stage, how))
		}
	}
	for _, stage := range slices.Sorted(maps.Keys(now)) {
		was, known := note.Stages[stage]
		switch {
		case !known:
			differs(stage, "is new, and has not seen the rows before")
		case was != now[stage]:
			differs(stage, fmt.Sprintf("is configured otherwise: its state was made with %q, and now it is %q", was, now[stage]))
		}
	}
	for _, stage := range slices.Sorted(maps.Keys(note.Stages)) {
		if _, there := now[stage]; !there {
			differs(stage, "is gone, and its state would be deleted")
		}
	}
	if len(faults) == 0 {
		return changed, nil
	}
	how := "name it in Config.Reconfigure"
	if !note.Clean {
		how = "the last stop was not clean, so what the sinks hold beyond the state came of the old configuration: run it with that once more until it stops cleanly, then name the stage in Config.Reconfigure"
	}
	return false, fmt.Errorf("rule E7-4: the saved state of partition %s is of another pipeline: %s. Go back to the old configuration, or %s; or delete the state folder %s, and what the sinks hold, to start from the beginning",
		partition, strings.Join(faults, "; "), how, e.cfg.StateDir)
}

// notesFor checks the stages with state behind src against what is saved of a lane's
// partitions, and gives the notes that have to be written before its first row.
func (e *Engine) notesFor(l *lane, states []*Node) (map[string]store.Note, error) {
	now := map[string]string{}
	for _, n := range states {
		now[n.Name] = ""
		if f := n.Stage.State.Fingerprint; f != nil {
			if err := guard(func() error { now[n.Name] = f(); return nil }); err != nil {
				return nil, fmt.Errorf("stage %s: its fingerprint: %w", n.Name, err)
			}
		}
	}
	out := map[string]store.Note{}
	for _, name := range l.homes() {
		e.mu.Lock()
		note, noted := e.saved.Notes[name]
		at := Position(e.saved.Positions[name])
		e.mu.Unlock()
		if name == l.name || note.Clean { // rows that come back leave their home as they found it
			l.clean = append(l.clean, name)
		}
		wasClean := note.Clean
		if name == l.name && l.behind(at) {
			note.Clean = false // what is saved is an older copy: sinks have gone on since
		}
		changed, err := e.sameStages(name, note, now, at.Known() || l.ahead > 0)
		if err != nil {
			return nil, err
		}
		if changed || wasClean || !noted {
			out[name] = store.Note{Stages: now}
		}
	}
	return out, nil
}
