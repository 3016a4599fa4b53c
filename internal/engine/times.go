package engine

import "time"

// Times say how a run has been doing; documented in leat.Stats.
type Times struct {
	Started, Stopped time.Time
	Err              error
	Checkpointed     time.Time
	Uncommitted      time.Time
}

// times is what an Engine remembers for Times. Guarded by Engine.mu.
type times struct {
	started, stopped, checkpointed time.Time
	err                            error

	// opening: since when no generation had open sinks and running sources. behind: since
	// when something that was read is not committed; it outlives a generation, whose
	// successor reads the same again.
	opening, behind time.Time
}

// opens is called when a generation begins.
func (t *times) opens(now time.Time) {
	if t.opening.IsZero() {
		t.opening = now
	}
}

func (t *times) public(pending bool) Times {
	out := Times{Started: t.started, Stopped: t.stopped, Err: t.err, Checkpointed: t.checkpointed}
	if !pending || !t.stopped.IsZero() {
		return out
	}
	out.Uncommitted = t.behind
	if out.Uncommitted.IsZero() || !t.opening.IsZero() && t.opening.Before(out.Uncommitted) {
		out.Uncommitted = t.opening
	}
	return out
}

// waits is called when the state folder is another process's: that one runs, and all is well.
func (t *times) waits() { t.opening = time.Time{} }

func (e *Engine) began() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times.started = time.Now()
	e.times.opens(e.times.started)
}

func (e *Engine) ended(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times.stopped, e.times.err = time.Now(), err
}

// opens takes note that the sinks are open and the sources run.
func (g *generation) opens() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	g.e.times.opening = time.Time{}
}

// pendingLocked tells whether something that was read is not committed.
func (g *generation) pendingLocked() bool {
	return g.batches > 0 || g.moved || len(g.cuts) > 0 || g.saving
}

// sendsLocked takes note of a chunk that is let in.
func (g *generation) sendsLocked() {
	if g.sentSome && g.pendingLocked() {
		return // most of the time
	}
	first := !g.sentSome
	g.sentSome = true
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	// The first chunk of a generation is what the one before did not commit.
	if t := &g.e.times; !first || t.behind.IsZero() {
		t.behind = time.Now()
	}
}

// savedLocked takes note that everything up to c is committed.
func (g *generation) savedLocked(c *cut) {
	g.saving = false
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	t := &g.e.times
	t.checkpointed, t.behind = time.Now(), time.Time{}
	if g.pendingLocked() {
		t.behind = c.at
	}
}
