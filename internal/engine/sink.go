package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/leatgo/leat/internal/failpoint"
)

// driver works off the queue of one sink, or of several that commit together: all calls
// to them come from here, one at a time.
type driver struct {
	g         *generation
	joined    any // see Sink.Joined
	workers   []*worker
	queue     *queue
	committed time.Time // when the last commit ended
}

// worker is one sink in one generation.
type worker struct {
	g      *generation
	node   *Node
	driver *driver

	breaker *breaker
	refused []Reject // of the item at hand

	// Guarded by generation.mu.
	done     uint64           // the newest cut that the sink holds
	deferred bool             // its last answer was "not yet"
	passed   map[uint64]Tally // what had been counted at each barrier passed
	bad      map[uint64]map[string]int64
}

// item is one entry of a queue.
type item struct {
	w       *worker // whose it is; nil for a barrier and for letters
	batch   Batch   // rows to write, of passage p
	p       *passage
	held    Tally    // rows of p that the sink held before (rule E7)
	letters []Letter // or letters of p that are committed with the rows
	cut     *cut     // or a barrier
	call    func()   // or something else to do between writes
}

func newWorker(g *generation, n *Node) *worker {
	return &worker{g: g, node: n, breaker: newBreaker(g.e.cfg), passed: map[uint64]Tally{}, bad: map[uint64]map[string]int64{}}
}

// seat gives a worker its driver.
func (g *generation) seat(w *worker) {
	if j := w.node.Sink.Joined; j != nil {
		for _, d := range g.drivers {
			if d.joined == j {
				w.driver, d.workers = d, append(d.workers, w)
				return
			}
		}
	}
	w.driver = &driver{g: g, joined: w.node.Sink.Joined, workers: []*worker{w}, queue: &queue{wake: make(chan struct{}, 1)}, committed: time.Now()}
	g.drivers = append(g.drivers, w.driver)
}

// run works off the queue until the generation dies.
func (d *driver) run() {
	g := d.g
	for {
		it, ok := d.queue.pop(g.ctx)
		if !ok {
			return
		}
		who := d.workers[0]
		if it.w != nil {
			who = it.w
		}
		// The guard is for user code that is called on the way: Locate, Release
		// (rule A9).
		err := guard(func() error {
			switch {
			case it.call != nil:
				it.call()
				return nil
			case it.cut != nil:
				return d.barrier(it.cut)
			case it.letters != nil:
				if err := g.e.letters.append(g.ctx, it.p, it.letters); err != nil {
					return err
				}
			default:
				w := it.w
				w.holds(it)
				w.refused = w.refused[:0]
				if err := w.write(it.p, it.batch, true); err != nil {
					return err
				}
				if err := w.watch(it); err != nil {
					return err
				}
			}
			if it.p.refs.Add(-1) == 0 {
				g.release(it.p)
			}
			return nil
		})
		if err != nil {
			g.fail(wrap(who.node, "", asRewind(err)))
			return
		}
	}
}

// write brings all rows of b into the sink, or into the dead letters.
func (w *worker) write(p *passage, b Batch, whole bool) error {
	g, e := w.g, w.g.e
	if whole {
		rest, condemned := e.poison.strain(w.node, p.chunk, b)
		if err := w.reject(p, condemned); err != nil {
			return err
		}
		b = rest
		if e.poison.careful(w.node, p.lane.name, p.chunk.First) {
			for i := range b.Len() {
				if err := w.write(p, b.Slice(i, i+1), false); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for b.Len() > 0 {
		var refused []RowError
		start := time.Now()
		err := e.retry(g.ctx, w.node.Name, p.lane.name, func(waiting bool) {
			if waiting {
				g.hold(p.lane, +1)
			} else {
				g.hold(p.lane, -1)
			}
		}, func() error {
			return guard(func() (err error) {
				refused, err = w.node.Sink.Write(g.ctx, b)
				return err
			})
		})
		var panicked *PanicError
		switch {
		case err == nil:
			w.wrote(p, b.Len(), time.Since(start))
			return nil
		case errors.Is(err, ErrFenced):
			return w.fenced(err)
		case errors.Is(err, ErrAborted):
			// Rule B5: naming the rows cost the sink its open work; they are
			// rejected before the next attempt.
			rows, err2 := rowsAtFault(refused, b.Len())
			if err2 != nil {
				return err2
			}
			for _, r := range rows {
				e.poison.condemn(w.node, p.chunk, rejectOf(b, r.Row, SinkReject, r.Err))
			}
			return &rewind{cause: err, named: len(refused) > 0}
		case IsTransient(err) || g.ctx.Err() != nil:
			return err
		case len(refused) > 0:
			refused, err := rowsAtFault(refused, b.Len())
			if err != nil {
				return err
			}
			rejects := make([]Reject, 0, len(refused))
			rows := make([]int, 0, len(refused))
			for _, r := range refused {
				rejects = append(rejects, rejectOf(b, r.Row, SinkReject, r.Err))
				rows = append(rows, r.Row)
			}
			if err := w.reject(p, rejects); err != nil {
				return err
			}
			b = b.Without(rows)
		case errors.As(err, &panicked):
			// Whether the sink still holds what was written before is unknown, so
			// the row is looked for over a rewind (rule A9).
			if b.Len() == 1 {
				e.poison.condemn(w.node, p.chunk, rejectOf(b, 0, SinkReject, err))
			} else {
				e.poison.beCareful(w.node, p.lane.name, p.chunk.Next)
			}
			return &rewind{cause: err, named: true}
		case b.Len() == 1:
			return w.reject(p, []Reject{rejectOf(b, 0, SinkReject, err)})
		default:
			// Rule B5: halve until the row at fault is alone.
			mid := b.Len() / 2
			if err := w.write(p, b.Slice(0, mid), false); err != nil {
				return err
			}
			b = b.Slice(mid, b.Len())
		}
	}
	return nil
}

// holds counts the rows that need no writing. It is done here and not when the
// batch is handed over, so that each barrier has the counts of what is before it.
func (w *worker) holds(it item) {
	if it.held == (Tally{}) {
		return
	}
	w.g.mu.Lock()
	w.g.count.nodes[w.node.id].add(it.held)
	if it.held.Rejected > 0 { // why is in their letters
		w.g.count.reasons[w.node.name("SinkReject/-/-")] += it.held.Rejected
	}
	w.g.mu.Unlock()
}

// rowsAtFault is what a sink refused of a batch of n, ascending, each row once.
func rowsAtFault(refused []RowError, n int) ([]RowError, error) {
	for _, r := range refused {
		if r.Row < 0 || r.Row >= n {
			return nil, fmt.Errorf("the sink refused row %d of a batch of %d", r.Row, n)
		}
	}
	slices.SortStableFunc(refused, func(a, b RowError) int { return a.Row - b.Row })
	return slices.CompactFunc(refused, func(a, b RowError) bool { return a.Row == b.Row }), nil
}

// wrote counts rows that the sink took (rule B6: rejects never count here).
func (w *worker) wrote(p *passage, rows int, took time.Duration) {
	g := w.g
	g.mu.Lock()
	g.count.nodes[w.node.id].Out += int64(rows)
	g.mu.Unlock()
	g.e.observe(Event{Kind: EventWrite, Node: w.node.Name, Partition: p.lane.name, Rows: rows, Duration: took})
}

// reject sends rows to the dead letters.
func (w *worker) reject(p *passage, rows []Reject) error {
	if len(rows) == 0 {
		return nil
	}
	g := w.g
	if _, err := g.e.letters.refuse(g.ctx, p, w.node, rows, w.driver); err != nil {
		return err
	}
	g.mu.Lock()
	g.count.nodes[w.node.id].Rejected += int64(len(rows))
	g.count.reject(w.node, rows)
	g.mu.Unlock()
	w.refused = append(w.refused, rows...)
	return nil
}

// watch feeds the breaker when a batch is through: rows are refused in an order
// of the sink's own, and the breaker's verdict must depend on theirs (rule B7).
func (w *worker) watch(it item) error {
	bad := make([]int, 0, len(w.refused))
	for _, r := range w.refused {
		first := sort.Search(it.batch.Len(), func(i int) bool { return it.batch.Trace().Record(i) >= r.Record })
		bad = append(bad, first+r.Ordinal)
	}
	slices.Sort(bad)
	if err := w.breaker.rows(it.batch.Len(), slices.Compact(bad)); err != nil {
		return &Error{Node: w.node.Name, Partition: it.p.lane.name, Offset: it.p.chunk.First, Class: SinkReject, Err: err}
	}
	return nil
}

// barrier commits at a cut, or leaves it to a later one.
func (d *driver) barrier(c *cut) error {
	g, e := d.g, d.g.e
	g.mu.Lock()
	for _, w := range d.workers {
		// Every batch before the cut has been written, none after it: these are the
		// cut's counts, whenever it is committed.
		w.passed[c.seq] = g.count.nodes[w.node.id]
		w.bad[c.seq] = reasonsOf(g.count, w.node)
	}
	g.mu.Unlock()
	// Rule E9: a slow sink may leave a cut to a later one, but not for ever. That the
	// sources have caught up is said once.
	if !c.force && !c.caught && d.queue.laterBarrier() && time.Since(d.committed) < e.cfg.CheckpointEvery {
		return nil
	}
	if err := e.letters.sync(g.ctx); err != nil { // rule B3-1
		return err
	}
	if err := failpoint.Hit("engine/before-commit"); err != nil {
		return err
	}
	all := true
	for _, w := range d.workers {
		done, err := w.commit(c)
		d.committed = time.Now()
		if err != nil {
			return wrap(w.node, "", err)
		}
		all = all && done
	}
	g.mu.Lock()
	for _, w := range d.workers {
		if w.deferred = !all; all {
			w.done = c.seq
		}
	}
	g.mu.Unlock()
	if !all {
		return nil
	}
	if err := failpoint.Hit("engine/after-commit"); err != nil {
		return err
	}
	g.poke()
	return nil
}

// commit asks one sink.
func (w *worker) commit(c *cut) (done bool, _ error) {
	g, e := w.g, w.g.e
	g.mu.Lock()
	cp := Checkpoint{Seq: c.seq, Force: c.force, CaughtUp: c.caught, Positions: c.forSink(w.node)}
	g.mu.Unlock()
	start := time.Now()
	err := e.retry(g.ctx, w.node.Name, "", nil, func() error {
		return guard(func() (err error) {
			done, err = w.node.Sink.Commit(g.ctx, cp)
			return err
		})
	})
	switch {
	case errors.Is(err, ErrFenced):
		return false, w.fenced(err)
	case err != nil:
		return false, fmt.Errorf("commit of checkpoint %d: %w", c.seq, asRewind(err))
	case !done && c.force:
		return false, fmt.Errorf("rule E9: the sink answered \"not yet\" to the forced checkpoint %d", c.seq)
	}
	if done {
		e.observe(Event{Kind: EventCommit, Node: w.node.Name, Seq: c.seq, Duration: time.Since(start)})
	}
	return done, nil
}

// fenced gives up the partitions that another owner has taken (rule E3); the
// others go on after a rewind.
func (w *worker) fenced(err error) error {
	var named *FencedError
	e := w.g.e
	var lost []string
	if errors.As(err, &named) {
		lost = named.Partitions
	} else {
		w.g.mu.Lock()
		for _, l := range w.g.order {
			if reaches(l.source, w.node) {
				lost = append(lost, l.name)
			}
		}
		w.g.mu.Unlock()
	}
	e.log.Warn("another owner has taken partitions over; giving them up", "sink", w.node.Name, "partitions", lost)
	given := map[string]uint64{}
	w.g.mu.Lock()
	for _, l := range w.g.order {
		if slices.Contains(lost, l.name) {
			given[l.name] = l.given
		}
	}
	w.g.mu.Unlock()
	e.mu.Lock()
	maps.Copy(e.fenced, given)
	e.mu.Unlock()
	// Without a partition fewer the next attempt is the same one: back off.
	return &rewind{cause: wrap(w.node, "", err), named: len(given) > 0}
}

// queue is a sink's queue. It has no bound of its own: the budget bounds it.
type queue struct {
	mu       sync.Mutex
	items    []item
	barriers int
	wake     chan struct{}
}

func (q *queue) push(it item) {
	q.mu.Lock()
	q.items = append(q.items, it)
	if it.cut != nil {
		q.barriers++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) pop(ctx context.Context) (item, bool) {
	for {
		if ctx.Err() != nil {
			return item{}, false
		}
		q.mu.Lock()
		if len(q.items) > 0 {
			it := q.items[0]
			q.items[0] = item{}
			q.items = q.items[1:]
			if it.cut != nil {
				q.barriers--
			}
			q.mu.Unlock()
			return it, true
		}
		q.items = nil
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return item{}, false
		}
	}
}

func (q *queue) laterBarrier() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.barriers > 0
}
