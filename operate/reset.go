package operate

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/store"
)

// ResetConfig says which position to reset, and where.
type ResetConfig struct {
	StateDir  string
	Partition string   // qualified, as ReadState names it: the source's name, or source/partition
	Holders   []Holder // of the sinks that are to be reset too
	Pipeline  string   // of the positions in Holders; needed only when several pipelines write there

	// To is where reading goes on: an offset at which a record begins, such as
	// the Offset of a file in the ledger. With Forget, the partition is read as if
	// for the first time, and To is 0.
	To     leat.Offset
	Forget bool
}

// Change is one position that a reset moves.
type Change struct {
	Held
	To leat.Position // zero: it is forgotten
}

// String says it for people.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Holder)
	if c.Sink != "" {
		fmt.Fprintf(&b, ", pipeline %s, sink %s", c.Pipeline, c.Sink)
	}
	fmt.Fprintf(&b, ": %s -> %s", positionText(c.Position), positionText(c.To))
	return b.String()
}

func positionText(p leat.Position) string {
	if !p.Known() {
		return "nothing held"
	}
	return fmt.Sprint(p.Next)
}

// ResetPlan is what a reset does, and what comes of it.
type ResetPlan struct {
	Partition string
	Changes   []Change // what is there already is missing
	Effects   []string // what comes twice, is skipped or lost, for people
}

// PlanReset tells what Reset would do. It changes nothing.
func PlanReset(ctx context.Context, c ResetConfig) (ResetPlan, error) {
	var plan ResetPlan
	err := c.do(func(s *store.Store) (err error) {
		plan, _, err = c.plan(ctx, s)
		return err
	})
	return plan, err
}

// Reset moves a position in the state folder and in the sinks named. The pipeline must
// not be running, also nowhere else. Sinks that are not named keep theirs: what they
// hold is not sent to them again (rule E7). When Reset was cut off, or one place
// failed, call it again: what is done stays, and no start in between loses a row that
// the finished reset would not skip.
func Reset(ctx context.Context, c ResetConfig) (ResetPlan, error) {
	var plan ResetPlan
	err := c.do(func(s *store.Store) error {
		var in []Holder
		var err error
		if plan, in, err = c.plan(ctx, s); err != nil {
			return err
		}
		for i, change := range plan.Changes {
			switch {
			case in[i] != nil:
				err = in[i].Move(ctx, change.Held, change.To)
			case c.Forget:
				err = s.Forget(c.Partition)
			default:
				err = s.Move(c.Partition, store.Position(change.To))
			}
			if err != nil {
				return fmt.Errorf("%s: %w (%d of %d positions are reset; mend that and reset again)", change.Holder, err, i, len(plan.Changes))
			}
		}
		return nil
	})
	return plan, err
}

func (c *ResetConfig) do(f func(*store.Store) error) error {
	switch {
	case c.Partition == "":
		return errors.New("reset: no partition is named")
	case c.Forget && c.To != 0, c.To < 0:
		return errors.New("reset: To must be an offset from 0 on, and 0 with Forget")
	}
	return alone(c.StateDir, f)
}

// plan lists the changes, and in which Holder each is: nil for the state folder, which
// comes last. Until it has been reset too, stages with state refuse to start.
func (c *ResetConfig) plan(ctx context.Context, s *store.Store) (ResetPlan, []Holder, error) {
	plan := ResetPlan{Partition: c.Partition}
	saved, err := s.Load()
	if err != nil {
		return plan, nil, err
	}
	type place struct {
		Held
		in Holder
	}
	var places []place
	for _, h := range c.Holders {
		held, err := h.Positions(ctx)
		if err != nil {
			return plan, nil, err
		}
		var pipelines []string
		n := len(places)
		for _, at := range held {
			if at.Partition != c.Partition || c.Pipeline != "" && at.Pipeline != c.Pipeline {
				continue
			}
			if !slices.Contains(pipelines, at.Pipeline) {
				pipelines = append(pipelines, at.Pipeline)
			}
			places = append(places, place{at, h})
		}
		switch {
		case len(pipelines) > 1:
			return plan, nil, fmt.Errorf("reset: several pipelines hold partition %q in %s: %s; say which one", c.Partition, places[n].Holder, strings.Join(pipelines, ", "))
		case len(pipelines) == 0:
			return plan, nil, fmt.Errorf("reset: no sink holds partition %q in one of the places named; it knows of: %s", c.Partition, partitionsOf(held))
		}
	}
	own := stateHeld(c.StateDir, saved)
	for _, at := range own {
		if at.Partition == c.Partition {
			places = append(places, place{at, nil})
		}
	}
	if len(places) == 0 {
		return plan, nil, fmt.Errorf("reset: nothing holds partition %q; the state folder knows of: %s", c.Partition, partitionsOf(own))
	}
	to := leat.Position{Next: c.To}
	if !c.Forget {
		for _, p := range places { // rule A2-1: the offsets are those of this log
			if p.Position.Log != "" && to.Log != "" && p.Position.Log != to.Log {
				return plan, nil, fmt.Errorf("reset: %s and another place hold positions of different logs: the folder, topic or ledger was replaced; only forgetting the partition brings them together", p.Holder)
			}
			to.Log = max(to.Log, p.Position.Log)
		}
		if to.Log == "" {
			return plan, nil, fmt.Errorf("reset: nothing of partition %q is held yet, so there is no offset to go to", c.Partition)
		}
		// The Resume of another offset is not known; the source finds its way without. Where a place
		// stands there already the others get its own, the state folder's before all, which must be
		// in the very place of the sinks (rule E7-4).
		for _, p := range places {
			if p.Position.Next == to.Next && p.Position.Log == to.Log && (p.in == nil || to.Resume == "") {
				to.Resume = p.Position.Resume
			}
		}
	} else {
		to = leat.Position{}
	}
	if end, known := ledgerEnd(c.StateDir, c.Partition); known && to.Next > end {
		return plan, nil, fmt.Errorf("reset: offset %d is beyond the end of the source's log: its ledger ends at %d", to.Next, end)
	}
	var holders []Holder
	var stages []string // whose state goes with the position in the state folder
	var back, ahead, twice bool
	for _, p := range places {
		if p.Position == to {
			continue
		}
		plan.Changes = append(plan.Changes, Change{p.Held, to})
		holders = append(holders, p.in)
		if p.in == nil {
			stages = s.Stateful(c.Partition)
		}
		if p.Position.Known() && p.Position.Next > to.Next {
			back = true
			twice = twice || p.in != nil
		} else {
			ahead = true
		}
	}
	plan.effects(c, stages, back, ahead, twice)
	return plan, holders, nil
}

func (p *ResetPlan) effects(c *ResetConfig, stages []string, back, ahead, twice bool) {
	say := func(format string, args ...any) { p.Effects = append(p.Effects, fmt.Sprintf(format, args...)) }
	if len(p.Changes) == 0 {
		say("nothing: all places named stand there already")
		return
	}
	from := fmt.Sprintf("from offset %d on", c.To)
	if c.Forget {
		from = "from the beginning"
	}
	switch {
	case back && c.Forget && !twice:
		say("the source starts where the sink stands that holds least of partition %s: from the beginning, when one keeps no positions", c.Partition)
	case back:
		say("the source reads partition %s again %s; what it reads must still be there", c.Partition, from)
	}
	if back && !c.Forget {
		say("offset %d must be one at which a record starts, as letters and the ledger show them: else the source begins in the middle of one", c.To)
	}
	if twice {
		say("the sinks above get rows again that they hold: one with a key replaces them, any other holds them twice")
	}
	if ahead {
		say("rows before offset %d that a place above has not got are skipped: it never gets them", c.To)
	}
	say("sinks with positions of their own that are not listed above keep them: what they hold is not sent to them again; sinks without positions get again what is read again")
	if len(stages) > 0 {
		slices.Sort(stages)
		say("what stages with state remember of this partition is deleted: %s", strings.Join(stages, ", "))
	}
	say("rows that are read again count again; but when the pipeline starts elsewhere than where its state folder stands, its counters begin anew")
}

// ledgerEnd is the end of the log of a source of files. A source has one partition then,
// which has its name.
func ledgerEnd(stateDir, source string) (end int64, known bool) {
	files, err := folder.History(filepath.Join(stateDir, url.PathEscape(source)))
	for _, e := range files {
		end = max(end, e.End())
	}
	return end, err == nil
}

func partitionsOf(held []Held) string {
	var names []string
	for _, h := range held {
		if !slices.Contains(names, h.Partition) {
			names = append(names, h.Partition)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
