package leat

import (
	"strings"
	"time"

	"github.com/leatgo/leat/internal/engine"
)

// Event tells Config.Observe that something happened. It is per batch or rarer,
// never per row.
type Event struct {
	Kind      EventKind
	Pipeline  string
	Time      time.Time
	Node      string // source, stage or sink; "" when it is about the whole pipeline
	Partition string
	Rows      int           // that passed, or were written
	Rejected  int           //
	Bytes     int64         // in flight now
	Duration  time.Duration // of the step, its retries included; of a Checkpoint from the barrier on; of the wait before a Retry
	Seq       uint64        // of the checkpoint
	Err       error         // why, for Retry, Rewind and Stopped
}

// EventKind says what an Event is about.
type EventKind = string

// The kinds of events.
const (
	EventBatch      EventKind = engine.EventBatch      // a batch left the stages, in order (Node: the source)
	EventWrite      EventKind = engine.EventWrite      // a sink took a batch
	EventCommit     EventKind = engine.EventCommit     // a sink committed
	EventCheckpoint EventKind = engine.EventCheckpoint // a checkpoint is complete
	EventRetry      EventKind = engine.EventRetry      // a transient failure will be retried
	EventRewind     EventKind = engine.EventRewind     // the pipeline goes back to its last checkpoint
	EventStarted    EventKind = engine.EventStarted    // the sources run
	EventStopped    EventKind = engine.EventStopped    // the pipeline has ended
)

// Stats counts rows. Counts are those since the pipeline's first start (they are
// part of the checkpoint, rule A8), or since this start when it began elsewhere than
// where its state folder stands. Rows that are read again after a reset of all
// positions count again. Run holds those of this process alone.
type Stats struct {
	Nodes     []NodeStats      // in the order of building
	Rejected  map[string]int64 // by class/column/rule; "-" where there is none
	Run       RunStats
	InFlight  int64               // bytes between sources and sinks
	Batches   int                 // the same in batches
	Committed uint64              // number of the last complete checkpoint
	Positions map[string]Position // of that checkpoint

	Started, Stopped time.Time // of this run; zero: not yet
	Err              error     // with which it stopped, as Run returns it
	Checkpointed     time.Time // when Committed was; zero: not in this run

	// Uncommitted is since when something that was read is not committed, or since when
	// the pipeline tries to open its sinks; zero while there is no such thing. It is what
	// tells a pipeline that is stuck from one that has nothing to do.
	Uncommitted time.Time

	Lag   map[string]int64     // records that are not read yet, by partition with its source's name; of sources that are a Lagger
	State map[string]StateSize // by stage; of stages that are Sized
}

// StateSize is how much a stage remembers.
type StateSize struct{ Keys, Bytes int64 }

// NodeStats counts the rows of one node: In + Added = Out + Rejected + Filtered
// (rule A8). For a sink, In counts the rows that its sources read, and Added,
// Rejected and Filtered those of the whole way.
type NodeStats struct {
	Name                               string
	Kind                               string // "source", "stage", "merge" or "sink"
	In, Out, Rejected, Filtered, Added int64
}

// RunStats counts what this process has done.
type RunStats struct {
	Nodes    []NodeStats      // each node's own counts: for a sink, In are the rows that it took or refused
	In       int64            // rows read by the sources
	Out      map[string]int64 // by sink: rows it holds now that this process has come by, those it held before included
	Rejected map[string]int64 // by class/column/rule
	Letters  map[Class]int64  // of those, the ones that are kept in the dead letters
	Rewinds  int
}

// Stats may be called at any time, also before and after Run.
func (p *Pipeline) Stats() Stats {
	p.mu.Lock()
	e := p.engine
	p.mu.Unlock()
	if e == nil {
		return Stats{}
	}
	s := e.Stats()
	out := Stats{
		Rejected: s.Rejected, InFlight: s.InFlight, Batches: s.Batches, Committed: s.Committed,
		Run: RunStats{
			In: s.Run.In, Out: s.Run.Out, Rejected: s.Run.Rejected, Rewinds: s.Run.Rewinds,
			Letters: map[Class]int64{},
		},
		Positions: map[string]Position{},
		Started:   s.Started, Stopped: s.Stopped, Err: p.publicError(s.Err),
		Checkpointed: s.Checkpointed, Uncommitted: s.Uncommitted,
		Lag: map[string]int64{}, State: map[string]StateSize{},
	}
	for i, n := range s.Nodes {
		out.Nodes = append(out.Nodes, NodeStats(n))
		out.Run.Nodes = append(out.Run.Nodes, NodeStats(s.Run.Nodes[i]))
	}
	for name, at := range s.Positions {
		out.Positions[name] = Position(at)
	}
	for why, rows := range s.Run.Rejected {
		class, _, _ := strings.Cut(why, "/")
		if p.config.OnReject[Class(class)] != SkipRow {
			out.Run.Letters[Class(class)] += rows
		}
	}
	for _, n := range p.nodes {
		n.measure(&out)
	}
	return out
}

// measure asks a node what only it knows. One that panics says nothing (rule A9).
func (n *node) measure(s *Stats) {
	defer func() { _ = recover() }()
	if l, ok := n.impl.(Lagger); ok {
		for partition, records := range l.Lag() {
			s.Lag[n.engine.Partition(partition)] = records
		}
	}
	if z, ok := n.impl.(Sized); ok {
		keys, bytes := z.StateSize()
		s.State[n.engine.Name] = StateSize{keys, bytes}
	}
}
