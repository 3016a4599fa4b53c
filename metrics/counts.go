package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leatgo/leat"
)

// watched is a pipeline that has not ended, and the highest counts seen of it.
type watched struct {
	p *leat.Pipeline
	counts
}

// ended is what is left of pipelines of one name that have ended.
type ended struct {
	counts
	ok, failed int64      // how many of them
	last       leat.Stats // of the last one that was seen

	began, failedAt time.Time // when the last one began, and the last one failed
}

// unwell tells whether one has failed and none has begun since. Members that ran beside it and were
// drained do not make it good.
func (e *ended) unwell() bool { return !e.failedAt.IsZero() && !e.failedAt.Before(e.began) }

// counts are those of one process. leat.RunStats steps back at a rewind, to what is
// committed; a counter must not, or Prometheus takes it for one that began anew at
// zero. So these are high-water marks: after a rewind they stand still until the
// pipeline is there again, and a row that is read twice is counted once.
type counts struct {
	names    []nodeName // in the order of building
	nodes    map[nodeName]*tally
	rejected map[reason]int64
	letters  map[string]int64 // by class
	rewinds  int64
}

type nodeName struct{ name, kind string }

type reason struct{ class, column, rule string }

type tally struct{ in, out, rejected, filtered, added int64 }

func newCounts() counts {
	return counts{nodes: map[nodeName]*tally{}, rejected: map[reason]int64{}, letters: map[string]int64{}}
}

func (c *counts) node(name, kind string) *tally {
	at := nodeName{label(name), kind}
	t := c.nodes[at]
	if t == nil {
		t = &tally{}
		c.nodes[at] = t
		c.names = append(c.names, at)
	}
	return t
}

// raise lifts the marks to what a pipeline has counted.
func (c *counts) raise(run leat.RunStats) {
	for _, n := range run.Nodes {
		t := c.node(n.Name, n.Kind)
		t.in, t.out, t.rejected = max(t.in, n.In), max(t.out, n.Out), max(t.rejected, n.Rejected)
		t.filtered, t.added = max(t.filtered, n.Filtered), max(t.added, n.Added)
	}
	for why, rows := range run.Rejected {
		class, rest, _ := strings.Cut(label(why), "/")
		column, rule, _ := strings.Cut(rest, "/")
		at := reason{class, column, rule}
		c.rejected[at] = max(c.rejected[at], rows)
	}
	for class, rows := range run.Letters {
		c.letters[label(string(class))] = max(c.letters[label(string(class))], rows)
	}
	c.rewinds = max(c.rewinds, int64(run.Rewinds))
}

// plus adds what another pipeline has counted.
func (c *counts) plus(o counts) {
	for _, at := range o.names {
		n, t := o.nodes[at], c.node(at.name, at.kind)
		t.in += n.in
		t.out += n.out
		t.rejected += n.rejected
		t.filtered += n.filtered
		t.added += n.added
	}
	for at, rows := range o.rejected {
		c.rejected[at] += rows
	}
	for class, rows := range o.letters {
		c.letters[class] += rows
	}
	c.rewinds += o.rewinds
}

// reasons lists why rows were rejected, sorted.
func (c *counts) reasons() []reason {
	return slices.SortedFunc(maps.Keys(c.rejected), func(a, b reason) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.column, b.column), cmp.Compare(a.rule, b.rule))
	})
}

// view is all that Stats tells of the pipelines of one name.
type view struct {
	name string
	counts
	ok, failed int64
	up         int  // how many run
	ran        bool // one has begun at least
	lastFailed bool // none runs, and one ended with an error since the last one began

	inFlight     int64
	batches      int
	committed    uint64
	started      time.Time
	checkpointed time.Time // the oldest of those that run
	uncommitted  time.Time // the same
	lag          map[string]int64
	state        map[string]leat.StateSize
}

// read asks every pipeline for its Stats, lets go of those that have ended, and
// returns what there is by name, sorted. Called with the lock.
func (m *Metrics) read() []*view {
	views := map[string]*view{}
	at := func(name string) *view {
		v := views[name]
		if v == nil {
			v = &view{name: name, counts: newCounts(), lag: map[string]int64{}, state: map[string]leat.StateSize{}}
			views[name] = v
		}
		return v
	}
	m.watched = slices.DeleteFunc(m.watched, func(w *watched) bool {
		s := w.p.Stats()
		w.raise(s.Run)
		name := label(w.p.Name())
		if s.Stopped.IsZero() {
			v := at(name)
			v.plus(w.counts)
			v.see(s)
			return false
		}
		e := m.ended[name]
		if e == nil {
			e = &ended{counts: newCounts()}
			m.ended[name] = e
		}
		e.plus(w.counts)
		e.last, e.began = s, later(e.began, s.Started)
		if s.Err == nil {
			e.ok++
		} else {
			e.failed++
			e.failedAt = later(e.failedAt, s.Stopped)
		}
		return true
	})
	for name, e := range m.ended {
		v := at(name)
		v.plus(e.counts)
		v.ok, v.failed, v.ran = e.ok, e.failed, true
		if v.up == 0 {
			v.lastFailed = e.unwell()
			v.started, v.checkpointed, v.committed = e.last.Started, e.last.Checkpointed, e.last.Committed
		}
	}
	return slices.SortedFunc(maps.Values(views), func(a, b *view) int { return cmp.Compare(a.name, b.name) })
}

// see adds a pipeline that has not ended.
func (v *view) see(s leat.Stats) {
	if s.Started.IsZero() {
		return
	}
	v.up++
	v.ran = true
	v.inFlight += s.InFlight
	v.batches += s.Batches
	v.committed = max(v.committed, s.Committed)
	v.started = earlier(v.started, s.Started)
	v.checkpointed = earlier(v.checkpointed, s.Checkpointed)
	v.uncommitted = earlier(v.uncommitted, s.Uncommitted)
	for partition, records := range s.Lag {
		v.lag[label(partition)] = max(v.lag[label(partition)], records)
	}
	for stage, size := range s.State {
		sum := v.state[label(stage)]
		v.state[label(stage)] = leat.StateSize{Keys: sum.Keys + size.Keys, Bytes: sum.Bytes + size.Bytes}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// label makes a name fit for Prometheus, which refuses what is no UTF-8.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
