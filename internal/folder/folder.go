package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/failpoint"
)

// Folder is an open folder: locked, with its ledger. Commit, Stats and the
// methods of a Reading may be called concurrently; everything else by one
// goroutine.
type Folder struct {
	c     Config
	log   *slog.Logger
	root  *os.Root    // nil with Files
	is    fs.FileInfo // what root is
	locks []io.Closer
	dir   io.Closer // the lock of Dir; nil with Files, and while it is away
	hints *hints    // nil: none

	moving  sync.Mutex // held over the moves of one batch; taken before mu
	telling sync.Mutex // held over OnFinal; taken before mu

	mu        sync.Mutex
	led       *ledger
	known     bool             // of the position given to Start
	start     int64            // that position's Next
	ahead     int64            // some sink holds everything before it
	committed int64            // a complete checkpoint covers everything before it; -1: nothing
	sent      int64            // Next of the last chunk sent; -1: none
	readings  []*Reading       // in the order of the log, until final
	verdicts  []*Entry         // final without a checkpoint, to be synced before the next row is sent
	faults    bool             // there are such of files that are not final
	toMove    []*Entry         // final, not yet moved
	news      []final          // OnFinal has not heard of them
	entered   []final          // as news, but not durable yet
	skipped   []*Entry         // duplicates that stay until the content they are skipped for was read
	orphans   bool             // one was skipped for a content that was not read after all
	briefs    map[int64]string // why a file failed, by Seq, without what it quotes of the file
	stats     Stats
	unchanged int
	failures  map[int64]int     // failed readings, by Seq
	numbers   map[string]int    // under moving: the last number that a moved name got
	said      map[string]string // refusals that were said, by name

	unmoved   []*Entry // could not be moved
	moveAgain time.Time
	moveWait  time.Duration

	// Scans. Not all are used under mu, but by the goroutine that runs.
	seen          map[string]*sighting
	scans         int
	unsettled     int // files that the last scan left alone because they changed
	unsettledName string
	due, lastDue  time.Time
	watching      watching
}

// Stats counts files since Open.
type Stats struct {
	OK        int // read, and all rows durable
	Failed    int // refused, or given up part way
	Skipped   int // duplicates
	Refused   int // not even entered: special files, links out of the folder, unreadable ones
	Unchanged int // seen before, and left alone
}

// BeyondError is a position that the ledger knows nothing of (rule A2-1).
type BeyondError struct {
	Ledger    string
	Next, End int64
}

func (e *BeyondError) Error() string {
	return fmt.Sprintf("folder: rule A2-1: the pipeline stands at offset %d, but the ledger %s ends at %d: it is an older copy than the checkpoints. "+
		"Put back the newest ledger, or remove the whole state folder together with what the sinks keep of this pipeline to read everything again",
		e.Next, e.Ledger, e.End)
}

// Open locks the folder and reads its ledger. It waits while another process has
// the lock (rule D5).
func Open(ctx context.Context, c Config) (_ *Folder, err error) {
	f := &Folder{
		c: c, log: c.Logger, committed: -1, sent: -1,
		failures: map[int64]int{}, numbers: map[string]int{}, said: map[string]string{}, seen: map[string]*sighting{},
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
		if durable.Full(err) {
			err = engine.Transient(err) // rule B8: when there is room again, it goes on
		}
	}()
	if err := durable.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	lock, err := waitLock(ctx, f.log, c.StateDir, func() (io.Closer, error) { return tryLock(filepath.Join(c.StateDir, lockFile)) })
	if err != nil {
		return nil, err
	}
	f.locks = append(f.locks, lock)
	if c.Dir != "" {
		if f.root, err = os.OpenRoot(c.Dir); err != nil {
			return nil, fmt.Errorf("folder: %w", err)
		}
		if f.is, err = f.root.Stat("."); err != nil {
			return nil, fmt.Errorf("folder: %w", err)
		}
		if f.dir, err = waitLock(ctx, f.log, c.Dir, func() (io.Closer, error) { return tryLockDir(c.Dir, c.Move, c.Globs) }); err != nil {
			return nil, err
		}
	}
	if c.Move { // better now than after the first file
		for _, to := range []Place{ToProcessed, ToFailed} {
			if err := os.MkdirAll(c.moveDir(to), 0o755); err != nil {
				return nil, fmt.Errorf("folder: %w", err)
			}
		}
	}
	f.led, err = openLedger(c.StateDir)
	return f, err
}

// Close releases the locks.
func (f *Folder) Close() error {
	var errs []error
	f.hints.close()
	if f.dir != nil {
		errs = append(errs, f.dir.Close())
	}
	if f.led != nil {
		errs = append(errs, f.led.close())
	}
	if f.root != nil {
		errs = append(errs, f.root.Close())
	}
	for _, l := range f.locks {
		errs = append(errs, l.Close())
	}
	f.led, f.root, f.locks, f.dir, f.hints = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// Log is the id of the space of offsets (rule A2-1).
func (f *Folder) Log() string { return f.led.log }

// Stats gives the counts so far.
func (f *Folder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Start begins a life at a position; known is false when nothing is held. ahead is
// where the sink stands that holds most, which may be further (rule E7). What an
// earlier life did not finish moving is moved now (rule D3).
func (f *Folder) Start(ctx context.Context, next int64, known bool, ahead int64) error {
	f.mu.Lock()
	if known && next > f.led.end() {
		defer f.mu.Unlock()
		return &BeyondError{Ledger: f.led.path, Next: next, End: f.led.end()}
	}
	// rule D3: what a life has decided that ended before it was durable.
	if err := errors.Join(f.led.sync(), f.syncVerdicts()); err != nil {
		f.mu.Unlock()
		return err
	}
	f.news, f.entered = append(f.news, f.entered...), nil
	f.known, f.start, f.ahead, f.readings, f.toMove, f.unmoved, f.unchanged = known, next, ahead, nil, nil, nil, 0
	f.skipped = nil
	f.committed, f.sent = -1, -1
	if known {
		f.committed, f.sent = next, next
	}
	f.watching.extra = false
	var moves []*Entry
	for _, e := range f.led.entries {
		switch {
		case !e.Final() || e.Settled:
		case e.Status == Skipped:
			f.skipped = append(f.skipped, e)
		case f.c.Move:
			moves = append(moves, e)
		}
	}
	moves = append(moves, f.skippedLocked()...)
	f.watching.fresh = true
	f.mu.Unlock()
	f.announce()
	f.dropCopies()
	f.moveAll(ctx, moves)
	return ctx.Err()
}

// Entries makes a scan and gives the files to read, in the order of the log. The
// first time after Start, those come first that the ledger knows and whose rows are
// not all held. Scanning and hashing run ahead of reading.
func (f *Folder) Entries(ctx context.Context) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		here := f.begin()
		var old []*Entry
		if f.watching.fresh {
			f.watching.fresh = false
			f.mu.Lock()
			for _, e := range f.led.entries {
				if e.wanted(f.start, f.known) {
					old = append(old, e)
				}
			}
			f.mu.Unlock()
		}
		f.retryMoves(ctx)

		ctx, cancel := context.WithCancel(ctx)
		groups := make(chan []*Entry, 1)
		failed := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(groups)
			if !here {
				failed <- nil
				return
			}
			failed <- f.enterAll(ctx, func(g []*Entry) error {
				select {
				case groups <- g:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
		defer wg.Wait()
		defer cancel()

		for _, e := range old {
			if !yield(e, nil) {
				return
			}
		}
		for g := range groups {
			for _, e := range g {
				if !yield(e, nil) {
					return
				}
			}
		}
		if err := <-failed; err != nil {
			yield(nil, err)
			return
		}
		f.mu.Lock()
		n := f.unchanged
		f.unchanged = 0
		f.mu.Unlock()
		f.watching.end(time.Now())
		if n > 0 {
			f.log.Info("files that were read before are skipped", "files", n, "rule", "D2")
		}
	}
}

// Commit says that everything before next is durable everywhere (rule A3). It
// writes the final status of the files that this covers (rule D3) and then moves
// them. It may be repeated.
func (f *Folder) Commit(ctx context.Context, next int64) error {
	if err := failpoint.Hit("folder/commit"); err != nil {
		return err
	}
	f.mu.Lock()
	f.committed = max(f.committed, next)
	err := f.finishLocked()
	f.mu.Unlock()
	if err == nil {
		err = f.Settle(ctx)
	}
	return err
}

// Settle moves files that became final without a Commit: those without rows.
func (f *Folder) Settle(ctx context.Context) error {
	f.mu.Lock()
	err := f.syncVerdicts()
	moves := append(f.toMove, f.skippedLocked()...)
	f.toMove = nil
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.announce()
	f.moveAll(ctx, moves)
	return nil
}

// announce calls OnFinal for what has become final. The status is durable, so a
// crash from here on loses the call at most.
func (f *Folder) announce() {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.mu.Lock()
	news := f.news
	f.news = nil
	f.mu.Unlock()
	if f.c.OnFinal == nil {
		return
	}
	for _, n := range news {
		f.tell(n)
	}
}

// final is an entry whose status is final, and why as logs may show it.
type final struct {
	Entry
	reason string
}

func (f *Folder) tell(n final) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("OnFile panicked; the file's status stands", "file", n.Name, "panic", fmt.Sprint(p))
		}
	}()
	f.c.OnFinal(n.Entry, n.reason)
}

// brieflyLocked remembers a fault without what it quotes of the file, for OnFinal.
func (f *Folder) brieflyLocked(e *Entry, fault error) {
	if f.briefs == nil {
		f.briefs = map[int64]string{}
	}
	f.briefs[e.Seq] = forLog(fault)
}

// newsLocked has OnFinal hear of e.
func (f *Folder) newsLocked(e *Entry) { f.news = append(f.news, f.finalOf(e)) }

func (f *Folder) finalOf(e *Entry) final {
	n := final{*e, e.Error}
	if e.Status == Failed {
		n.reason = f.briefs[e.Seq]
		delete(f.briefs, e.Seq)
	}
	return n
}

// finishLocked writes what the committed position makes final.
func (f *Folder) finishLocked() error {
	var events []event
	var final []*Reading
	for _, r := range f.readings {
		r.cover(f.committed)
		if !r.done || f.committed < r.doneAt {
			if ev, ok := r.progressEvent(); ok {
				events = append(events, ev)
			}
			break
		}
		final = append(final, r)
		if r.replay {
			continue
		}
		ev := event{Event: "status", Seq: r.Entry.Seq, Status: r.outcome, Error: r.fault, Rows: r.rows, Rejected: r.rejected}
		ev.Next = r.reached()
		events = append(events, ev)
	}
	if len(events) == 0 {
		f.readings = f.readings[len(final):]
		return nil
	}
	if err := f.led.append(events...); err != nil {
		return err
	}
	if len(final) > 0 {
		if err := failpoint.Hit("folder/status-written"); err != nil {
			return err
		}
		// rule D3: done is durable before the file is moved.
		if err := f.led.sync(); err != nil {
			return err
		}
		if err := failpoint.Hit("folder/status-synced"); err != nil {
			return err
		}
	}
	f.readings = f.readings[len(final):]
	for _, r := range final {
		if r.replay {
			continue
		}
		if r.outcome == OK {
			f.stats.OK++
			f.log.Debug("a file is done", "file", r.Entry.Name, "rows", r.rows, "rejected", r.rejected)
		} else {
			f.stats.Failed++
		}
		f.finalLocked(r.Entry)
	}
	return nil
}

// finalLocked is what follows a final status that is durable.
func (f *Folder) finalLocked(e *Entry) {
	f.toMove = append(f.toMove, e)
	f.newsLocked(e)
	delete(f.failures, e.Seq)
}

// syncVerdicts makes durable what was decided about files without a checkpoint. That
// must be before a row behind them is sent: when a later life starts behind them,
// only the ledger tells it that they were not read whole.
func (f *Folder) syncVerdicts() error {
	if len(f.verdicts) == 0 && !f.faults {
		return nil
	}
	if err := f.led.sync(); err != nil {
		return err
	}
	for _, e := range f.verdicts {
		f.stats.Failed++
		f.finalLocked(e)
	}
	f.verdicts, f.faults = nil, false
	return nil
}

// reached is the offset behind the last record that was sent, in this life or an
// earlier one.
func (r *Reading) reached() int64 {
	next := max(r.last, r.Entry.Base)
	if r.From > r.Entry.Base {
		next = max(next, r.From)
	}
	if r.Entry.Faulted {
		next = min(next, r.Entry.Sent)
	}
	return next
}

// cover adds up the chunks before committed.
func (r *Reading) cover(committed int64) {
	n := 0
	for _, m := range r.marks {
		if m.next > committed {
			break
		}
		r.rows += m.count.rows.Load()
		r.rejected += m.count.rejected.Load()
		r.covered, r.coveredLine = m.next, m.line
		n++
	}
	r.marks = r.marks[n:]
}

// progressEvent keeps the count, so that a crash does not lose more than what is
// read again anyway.
func (r *Reading) progressEvent() (event, bool) {
	if r.replay || r.covered <= r.noted {
		return event{}, false
	}
	r.noted = r.covered
	return event{Event: "progress", Seq: r.Entry.Seq, Next: r.covered, Line: r.coveredLine, Rows: r.rows, Rejected: r.rejected}, true
}
