package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/store"
)

// Storage is where positions, counters and the state of stages are kept (rule H1): in the
// state folder, for one process alone, or in a place that several processes share. Its
// methods are called one at a time, but Take, State and Begin may come while Commit runs,
// and Size never waits.
type Storage interface {
	// Shared tells whether other processes see the state too: then partitions have
	// owners, Take is called, and there are no counters.
	Shared() bool

	// Load gives all that there is; of a shared storage nothing.
	Load() (store.Saved, error)

	// Take makes this process the owner of partitions, fences older ones (rules E2, H4),
	// and gives what the storage holds of them. Called in each life before the first use
	// of a partition.
	Take(ctx context.Context, partitions []string) (store.Saved, error)

	// State gives the pieces of a stage's state, oldest first.
	State(ctx context.Context, stage, partition string) ([][]byte, error)
	Size(stage, partition string) store.Size

	// Begin is store.Store's.
	Begin(ctx context.Context, positions map[string]store.Position, notes map[string]store.Note) error

	// Commit makes a checkpoint durable, all or nothing. ErrFenced: another owner has
	// taken partitions (rule E3). Transient may be tried again with the same checkpoint.
	Commit(ctx context.Context, cp store.Checkpoint) error

	Close() error
}

// localStorage is the state folder.
type localStorage struct{ *store.Store }

// LocalStorage is the storage in a file.
func LocalStorage(s *store.Store) Storage { return localStorage{s} }

func (s localStorage) Shared() bool { return false }

func (s localStorage) Take(context.Context, []string) (store.Saved, error) {
	return store.Saved{}, nil
}

func (s localStorage) State(_ context.Context, stage, partition string) ([][]byte, error) {
	return s.Store.State(stage, partition)
}

func (s localStorage) Begin(_ context.Context, positions map[string]store.Position, notes map[string]store.Note) error {
	return s.Store.Begin(positions, notes)
}

func (s localStorage) Commit(_ context.Context, cp store.Checkpoint) error {
	return s.Store.Commit(cp)
}

// StateStore is leat.StateStore with its types hidden.
type StateStore struct {
	Open   func(ctx context.Context, pipeline string) error
	Take   func(ctx context.Context, partitions []string) (map[string]TakenState, error)
	Commit func(ctx context.Context, c StateCommit) error
	Close  func() error
}

// TakenState is what a shared store holds of a partition.
type TakenState struct {
	Position Position
	Note     store.Note
	Sizes    map[string]store.Size // by stage
	Pieces   func(ctx context.Context, stage string) ([][]byte, error)

	known bool // something is held
}

// StateCommit is one commit of a shared store.
type StateCommit struct {
	Partitions map[string]StateChange
	Pieces     []store.Delta
}

// StateChange is what becomes of a partition.
type StateChange struct {
	Position Position
	Note     store.Note
}

// sharedStorage keeps, of the partitions that are this process's, what Commit leaves
// as it is.
type sharedStorage struct {
	StateStore

	mu    sync.Mutex
	taken map[string]*TakenState
}

// SharedStorage is the storage in a place that several processes share.
func SharedStorage(s StateStore) Storage {
	return &sharedStorage{StateStore: s, taken: map[string]*TakenState{}}
}

func (s *sharedStorage) Shared() bool { return true }

func (s *sharedStorage) Close() error { return guard(s.StateStore.Close) }

func (s *sharedStorage) Load() (store.Saved, error) {
	return store.Saved{Positions: map[string]store.Position{}, Counters: map[string]int64{}}, nil
}

func (s *sharedStorage) Take(ctx context.Context, partitions []string) (store.Saved, error) {
	out := store.Saved{Positions: map[string]store.Position{}, Notes: map[string]store.Note{}}
	var held map[string]TakenState
	if err := guard(func() (err error) {
		held, err = s.StateStore.Take(ctx, partitions)
		return err
	}); err != nil {
		return out, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range partitions {
		t, known := held[name]
		if t.known = known; known {
			out.Positions[name] = store.Position(t.Position)
			out.Notes[name] = t.Note
		}
		t.Sizes = maps.Clone(t.Sizes)
		if t.Sizes == nil {
			t.Sizes = map[string]store.Size{}
		}
		s.taken[name] = &t
	}
	return out, nil
}

var errNotTaken = errors.New("the partition was not taken: a bug in leat")

func (s *sharedStorage) State(ctx context.Context, stage, partition string) (blobs [][]byte, err error) {
	s.mu.Lock()
	t := s.taken[partition]
	s.mu.Unlock()
	switch {
	case t == nil:
		return nil, fmt.Errorf("state of %q: %w", partition, errNotTaken)
	case t.Pieces == nil: // nothing is held
		return nil, nil
	}
	err = guard(func() (err error) {
		blobs, err = t.Pieces(ctx, stage)
		return err
	})
	return blobs, err
}

func (s *sharedStorage) Size(stage, partition string) store.Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.taken[partition]; t != nil {
		return t.Sizes[stage]
	}
	return store.Size{}
}

func (s *sharedStorage) Begin(ctx context.Context, positions map[string]store.Position, notes map[string]store.Note) error {
	fresh := map[string]store.Position{}
	s.mu.Lock()
	for name, p := range positions {
		if t := s.taken[name]; t == nil || !t.known {
			fresh[name] = p
		}
	}
	s.mu.Unlock()
	return s.commit(ctx, fresh, notes, nil)
}

// Commit leaves out partitions of which nothing has changed: they would cost a row each.
func (s *sharedStorage) Commit(ctx context.Context, cp store.Checkpoint) error {
	notes := map[string]store.Note{}
	moved := map[string]store.Position{}
	s.mu.Lock()
	changed := map[string]bool{}
	for _, d := range cp.Deltas {
		changed[d.Partition] = true
	}
	for _, name := range cp.Clean {
		if t := s.taken[name]; t != nil {
			notes[name] = store.Note{Clean: true, Stages: t.Note.Stages}
		}
	}
	for name, p := range cp.Positions {
		if t := s.taken[name]; t == nil || t.Position != Position(p) || changed[name] {
			moved[name] = p
		}
	}
	s.mu.Unlock()
	return s.commit(ctx, moved, notes, cp.Deltas)
}

func (s *sharedStorage) commit(ctx context.Context, positions map[string]store.Position, notes map[string]store.Note, deltas []store.Delta) error {
	c := StateCommit{Partitions: map[string]StateChange{}, Pieces: deltas}
	s.mu.Lock()
	name := func(p string) (StateChange, error) {
		if s.taken[p] == nil {
			return StateChange{}, fmt.Errorf("commit of %q: %w", p, errNotTaken)
		}
		if change, ok := c.Partitions[p]; ok {
			return change, nil
		}
		return StateChange{s.taken[p].Position, s.taken[p].Note}, nil
	}
	var errs []error
	for p, at := range positions {
		change, err := name(p)
		change.Position = Position(at)
		c.Partitions[p] = change
		errs = append(errs, err)
	}
	for p, note := range notes {
		change, err := name(p)
		change.Note = note
		c.Partitions[p] = change
		errs = append(errs, err)
	}
	for _, d := range deltas {
		change, err := name(d.Partition)
		c.Partitions[d.Partition] = change
		errs = append(errs, err)
	}
	s.mu.Unlock()
	if err := errors.Join(errs...); err != nil || len(c.Partitions) == 0 {
		return err
	}
	if err := guard(func() error { return s.StateStore.Commit(ctx, c) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, change := range c.Partitions {
		t := s.taken[p]
		t.Position, t.Note, t.known = change.Position, change.Note, true
		for stage := range t.Sizes {
			if _, named := t.Note.Stages[stage]; !named && t.Note.Stages != nil {
				delete(t.Sizes, stage)
			}
		}
	}
	for _, d := range deltas {
		size := s.taken[d.Partition].Sizes[d.Stage]
		size.Add(len(d.Blob), d.Full)
		s.taken[d.Partition].Sizes[d.Stage] = size
	}
	return nil
}

// openStorage opens the state folder; while its disk is full it waits (rule B8). Now: a
// folder that another process has is an error at once. A shared storage is opened
// beside it: the folder then keeps only what is this process's own, and its file says
// that the process has it.
func (e *Engine) openStorage(now bool) error {
	path := filepath.Join(e.cfg.StateDir, "checkpoints.db")
	err := e.retry(e.ctx, "state folder", "", nil, func() (err error) {
		defer func() {
			if durable.NoRoom(err) {
				err = Transient(err)
			}
		}()
		if err := durable.MkdirAll(e.cfg.StateDir, 0o700); err != nil {
			return fmt.Errorf("state folder: %w", err)
		}
		var s *store.Store
		if now {
			s, err = store.OpenNow(path)
		} else {
			s, err = store.Open(e.ctx, path, func() {
				e.log.Warn("another process runs this pipeline; waiting for it to end", "state", e.cfg.StateDir)
				e.mu.Lock()
				e.times.waits()
				e.mu.Unlock()
			})
			e.mu.Lock()
			e.times.opens(time.Now())
			e.mu.Unlock()
		}
		if err == nil {
			e.store = LocalStorage(s)
		}
		return err
	})
	if err != nil || e.cfg.State == nil {
		return err
	}
	e.folder = e.store
	e.store = SharedStorage(*e.cfg.State)
	// Positions that the folder has from a time without a shared storage would be forgotten
	// without a word.
	if own, err := e.folder.Load(); err != nil {
		return err
	} else if len(own.Positions) > 0 {
		return fmt.Errorf("the state folder %s holds positions of a time without Config.State: move them there (leat state export, leat state import), and delete its checkpoints.db behind that", e.cfg.StateDir)
	}
	return e.retry(e.ctx, "state store", "", nil, func() error {
		return guard(func() error { return e.cfg.State.Open(e.ctx, e.plan.Pipeline) })
	})
}

// closeStorage frees what openStorage has opened.
func (e *Engine) closeStorage() error {
	var errs []error
	for _, s := range []*Storage{&e.store, &e.folder} {
		if *s != nil {
			errs = append(errs, (*s).Close())
			*s = nil
		}
	}
	return errors.Join(errs...)
}

// reopenStorage finds out what a state folder that failed holds.
func (e *Engine) reopenStorage() error {
	if err := e.closeStorage(); err != nil {
		return err
	}
	// Not waiting: a process that has taken the folder in this moment may wait for a source's
	// folder, which this one has.
	if err := e.openStorage(true); err != nil {
		return err
	}
	saved, err := e.store.Load()
	if err != nil {
		return err
	}
	e.mu.Lock()
	if saved.Seq == e.saved.Seq {
		saved.Counters = e.saved.Counters // they may have begun anew since
	}
	e.saved = saved
	e.mu.Unlock()
	e.seq = max(e.seq, saved.Seq)
	return nil
}

// storageFailed is what becomes of a storage that can't be written. Of the state folder:
// after an error it must be opened anew. On a full disk that is done, in a rewind;
// anything else, such as an fsync that failed for whatever reason, is for people to
// look at. Of a shared one: partitions that another owner has are given up (rule E3).
func (g *generation) storageFailed(err error) error {
	e := g.e
	if e.store.Shared() {
		err = &Error{Offset: -1, Err: fmt.Errorf("the state store: %w", err)}
		if !errors.Is(err, ErrFenced) {
			return err
		}
		return g.gaveUp(err, nil)
	}
	err = &Error{Offset: -1, Err: fmt.Errorf("the state folder %s can't be written; the sinks keep what they committed, the rest is read again at the next start: %w", e.cfg.StateDir, err)}
	if durable.NoRoom(err) {
		e.reopen.Store(true)
		return &rewind{cause: err}
	}
	return err
}

// gaveUp takes note of the partitions that a shared storage has been taken away, and
// rewinds without them. assigning, if not nil, is one that is no lane yet.
func (g *generation) gaveUp(err error, assigning *lane) error {
	e := g.e
	var named *FencedError
	given := map[string]uint64{}
	g.mu.Lock()
	lanes := g.order
	if assigning != nil {
		lanes = append(slices.Clone(lanes), assigning)
	}
	for _, l := range lanes { // one that does not say which means all
		if !errors.As(err, &named) || slices.Contains(named.Partitions, l.name) {
			given[l.name] = l.given
		}
	}
	g.mu.Unlock()
	e.mu.Lock()
	maps.Copy(e.fenced, given)
	e.mu.Unlock()
	e.log.Warn("another owner has taken partitions over; giving them up", "partitions", slices.Sorted(maps.Keys(given)))
	// Without a partition fewer the next attempt is the same one: back off.
	return &rewind{cause: err, named: len(given) > 0}
}

// takeOver asks a shared storage for partitions, before lanes of theirs are made.
func (g *generation) takeOver(ctx context.Context, names []string) error {
	e := g.e
	if !e.store.Shared() {
		return nil
	}
	var got store.Saved
	err := e.retry(ctx, "state store", "", nil, func() (err error) {
		got, err = e.store.Take(ctx, names)
		return err
	})
	if err != nil {
		return fmt.Errorf("the state store: taking partitions: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.doubt; d != nil && slices.ContainsFunc(names, func(name string) bool {
		at, in := d.Positions[name]
		return in && at != e.saved.Positions[name] && at == got.Positions[name]
	}) {
		// The commit that the last life has not heard about was done (rule E4), so its counters
		// are the ones that belong to the positions (rule A8).
		e.doubt = nil
		e.saved.Seq, e.saved.Counters = d.Seq, d.Counters
		if !g.delivered {
			g.count = e.loadCounters(d.Counters)
		}
	}
	for _, name := range names {
		delete(e.saved.Positions, name)
		delete(e.saved.Notes, name)
	}
	e.rememberLocked(got.Positions, got.Notes)
	return nil
}

// noteStart notes in the store where partitions that are new to it start: if the first
// cut is lost between a sink and the store, reading goes back to here, and the
// counters still belong to it (rule A8). And that they are not at a clean stop any more,
// and which stages see their rows (rule E7-4).
func (g *generation) noteStart(ctx context.Context, fresh map[string]store.Position, notes map[string]store.Note) error {
	e := g.e
	if len(fresh) == 0 && len(notes) == 0 {
		return nil
	}
	err := e.hit("engine/begin-store")
	if err == nil {
		err = e.retry(ctx, "state store", "", nil, func() error { return e.store.Begin(ctx, fresh, notes) })
	}
	if err != nil {
		return g.storageFailed(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rememberLocked(fresh, notes)
	return nil
}

// remember keeps saved what the store holds. Seq and Counters are the checkpoint
// loop's alone; the rest is also read while a source assigns partitions (rule H5).
func (e *Engine) remember(cp store.Checkpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.saved.Seq, e.saved.Counters, e.doubt = cp.Seq, cp.Counters, nil
	notes := map[string]store.Note{}
	for _, name := range cp.Clean {
		notes[name] = store.Note{Clean: true, Stages: e.saved.Notes[name].Stages}
	}
	e.rememberLocked(cp.Positions, notes)
}

func (e *Engine) rememberLocked(positions map[string]store.Position, notes map[string]store.Note) {
	if e.saved.Positions == nil {
		e.saved.Positions = map[string]store.Position{}
	}
	if e.saved.Notes == nil {
		e.saved.Notes = map[string]store.Note{}
	}
	maps.Copy(e.saved.Positions, positions)
	maps.Copy(e.saved.Notes, notes)
}
