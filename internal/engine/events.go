package engine

import "time"

// The kinds of events; documented in package leat.
const (
	EventBatch      = "batch"
	EventWrite      = "write"
	EventCommit     = "commit"
	EventCheckpoint = "checkpoint"
	EventRetry      = "retry"
	EventRewind     = "rewind"
	EventStarted    = "started"
	EventStopped    = "stopped"
)

// Event is what Config.Observe gets; documented in package leat.
type Event struct {
	Kind      string
	Pipeline  string
	Time      time.Time
	Node      string
	Partition string
	Rows      int
	Rejected  int
	Bytes     int64
	Duration  time.Duration
	Seq       uint64
	Err       error
}

func (e *Engine) observe(ev Event) {
	if e.cfg.Observe == nil {
		return
	}
	ev.Pipeline, ev.Time = e.plan.Pipeline, time.Now()
	if err := guard(func() error { e.cfg.Observe(ev); return nil }); err != nil { // rule A9
		e.log.Error("Config.Observe failed", "event", ev.Kind, "error", err)
	}
}
