package filesource

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/source/files"
)

// Source is a source of files of one format. It implements leat.Source, leat.Named,
// leat.Replayer, leat.FileRejecter and io.Closer.
type Source[T any] struct {
	config Config
	format func() (Format[T], error)

	mu     sync.Mutex
	folder *folder.Folder // nil until Run, and after Close
	stats  files.Stats    // of closed folders
}

// New makes a source. format makes a Format, one for inspecting and one for reading; its
// error is a fault of the configuration that Validate has told.
func New[T any](c Config, format func() (Format[T], error)) Source[T] {
	return Source[T]{config: c, format: format}
}

// Name implements leat.Named.
func (s *Source[T]) Name() string { return s.config.name() }

// Faults are the mistakes in the Config, for Validate.
func (s *Source[T]) Faults() []error { return s.config.faults() }

// Replay implements leat.Replayer: rows come again at the same offsets.
func (s *Source[T]) Replay() leat.ReplayKind { return leat.ReplayExact }

// CanRejectFiles implements leat.FileRejecter (rule B2).
func (s *Source[T]) CanRejectFiles() bool { return true }

// Intake is leat.Intake as far as it is used.
type Intake[T any] interface {
	Env() leat.Env
	Assign(partitions ...leat.Partition) (map[string]leat.Position, error)
	Ahead(partition string) leat.Offset
	Send(c leat.Chunk[T]) error
	CaughtUp()
	RejectsFiles() bool
	Try(ctx context.Context, c leat.Chunk[T]) (faults int, first, err error)
}

// Run implements leat.Source. It reads what is there and returns nil or, with
// Watch, goes on looking until MaxScans or the end of ctx. While another process
// has the folder it waits (rule D5).
func (s *Source[T]) Run(ctx context.Context, in leat.Intake[T]) error { return s.Drive(ctx, in) }

// Drive is Run with any intake.
func (s *Source[T]) Drive(ctx context.Context, in Intake[T]) error {
	env := in.Env()
	f, err := s.open(ctx, env)
	if err != nil {
		return s.wrap(err)
	}
	at, err := in.Assign(leat.Partition{Log: f.Log()})
	if err != nil {
		return err
	}
	pos := at[""]
	if err := f.Start(ctx, pos.Next, pos.Known(), in.Ahead("")); err != nil {
		return s.wrap(err)
	}
	format, err := s.format()
	if err != nil {
		return s.wrap(err)
	}
	r := &reader[T]{folder: f, in: in, format: format, start: pos, rejectsFiles: in.RejectsFiles(), sent: true}
	for more := true; more; {
		if err := r.scan(ctx); err != nil {
			return s.wrap(err)
		}
		if r.sent { // nothing new: nothing to say
			in.CaughtUp()
			r.sent = false
		}
		if more, err = f.Wait(ctx); err != nil {
			return s.wrap(err)
		}
	}
	return nil
}

// wrap gives errors the package's name; those of the engine and the context go back as
// they came.
func (s *Source[T]) wrap(err error) error {
	var sent *sendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &sent):
		return sent.err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%s: %w", s.config.Package, err)
}

// open gives the open folder, or opens it. After a rewind (rule E8) it is still
// open, and still locked.
func (s *Source[T]) open(ctx context.Context, env leat.Env) (*folder.Folder, error) {
	s.mu.Lock()
	f := s.folder
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	c := s.config.folder()
	c.StateDir = filepath.Join(env.StateDir, folder.StateName(env.Node))
	c.Logger = env.Logger
	format, err := s.format()
	if err != nil {
		return nil, err
	}
	c.Inspect = format.Inspect
	if s.config.OnFile != nil {
		c.OnFinal = func(e folder.Entry, reason string) { s.config.OnFile(event(env.Node, &e, reason)) }
	}
	f, err = folder.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.folder = f
	s.mu.Unlock()
	return f, nil
}

func event(source string, e *folder.Entry, reason string) files.Event {
	ev := files.Event{
		Source: source, Name: e.Name, Status: e.Status.String(), Error: e.Error, Reason: reason,
		Rows: e.Rows, Rejected: e.Rejected, Finished: e.Finished(),
	}
	if begun := e.Started(); !begun.IsZero() && !ev.Finished.IsZero() {
		ev.Duration = ev.Finished.Sub(begun)
	}
	return ev
}

// Commit implements leat.Source: files whose end is covered get their final status
// in the ledger (rule D3) and are then moved.
func (s *Source[T]) Commit(ctx context.Context, cp leat.Checkpoint) error {
	s.mu.Lock()
	f := s.folder
	s.mu.Unlock()
	pos, ok := cp.Positions[""]
	if f == nil || !ok || !pos.Known() {
		return nil
	}
	if err := f.Commit(ctx, pos.Next); err != nil {
		return s.wrap(err)
	}
	return nil
}

// Close implements io.Closer: it unlocks the folder.
func (s *Source[T]) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder == nil {
		return nil
	}
	s.stats = plus(s.stats, s.folder.Stats())
	err := s.folder.Close()
	s.folder = nil
	return err
}

// Stats tells how many files this source has finished. It may be called at any
// time; the last files count once the pipeline's Run has returned.
func (s *Source[T]) Stats() files.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder == nil {
		return s.stats
	}
	return plus(s.stats, s.folder.Stats())
}

func plus(s files.Stats, f folder.Stats) files.Stats {
	s.OK += f.OK
	s.Failed += f.Failed
	s.Skipped += f.Skipped
	s.Refused += f.Refused
	s.Unchanged += f.Unchanged
	return s
}
