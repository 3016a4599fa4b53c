package leat

import (
	"time"

	"github.com/leatgo/leat/internal/engine"
)

// Event tells Config.Observe that something happened. It is per batch or rarer,
// never per row.
type Event struct {
	Kind      EventKind
	Time      time.Time
	Node      string // source, stage or sink; "" when it is about the whole pipeline
	Partition string
	Rows      int           // that passed, or were written
	Rejected  int           //
	Bytes     int64         // in flight now
	Duration  time.Duration // of the step; of the wait before a Retry
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
}

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
	In       int64            // rows read by the sources
	Out      map[string]int64 // by sink: rows it holds now that this process has come by, those it held before included
	Rejected map[string]int64 // by class/column/rule
	Filtered map[string]int64 // by stage
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
		Run:       RunStats(s.Run),
		Positions: map[string]Position{},
	}
	for _, n := range s.Nodes {
		out.Nodes = append(out.Nodes, NodeStats(n))
	}
	for name, at := range s.Positions {
		out.Positions[name] = Position(at)
	}
	return out
}
