package csvsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/row"
)

// Source reads CSV files. It implements leat.Source, leat.Named, leat.Validator,
// leat.Replayer, leat.FileRejecter, leat.LetterDecoder and io.Closer.
type Source[T any] struct {
	config Config[T]

	mu     sync.Mutex
	folder *folder.Folder // nil until Run, and after Close
	stats  Stats          // of closed folders

	letters letterHeader
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] { return &Source[T]{config: c} }

// Name implements leat.Named.
func (s *Source[T]) Name() string { return s.config.name() }

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error { return s.config.faults() }

// Replay implements leat.Replayer: rows come again at the same offsets.
func (s *Source[T]) Replay() leat.ReplayKind { return leat.ReplayExact }

// CanRejectFiles implements leat.FileRejecter (rule B2).
func (s *Source[T]) CanRejectFiles() bool { return true }

// intake is leat.Intake as far as it is used.
type intake[T any] interface {
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
func (s *Source[T]) Run(ctx context.Context, in leat.Intake[T]) error { return s.run(ctx, in) }

func (s *Source[T]) run(ctx context.Context, in intake[T]) error {
	if err := s.Validate(); err != nil {
		return err
	}
	env := in.Env()
	f, err := s.open(ctx, env)
	if err != nil {
		return wrap(err)
	}
	at, err := in.Assign(leat.Partition{Log: f.Log()})
	if err != nil {
		return err
	}
	pos := at[""]
	if err := f.Start(ctx, pos.Next, pos.Known(), in.Ahead("")); err != nil {
		return wrap(err)
	}
	t, err := row.Of[T]()
	if err != nil {
		return err
	}
	r := &reader[T]{
		folder: f, in: in, log: env.Logger, row: t, dialect: s.config.dialect(),
		start: pos, cutter: csvtext.NewCutter(s.config.dialect(), s.config.chunkBytes()),
		rejectsFiles: in.RejectsFiles(), sent: true,
	}
	for more := true; more; {
		if err := r.scan(ctx); err != nil {
			return wrap(err)
		}
		if r.sent { // nothing new: nothing to say
			in.CaughtUp()
			r.sent = false
		}
		if more, err = f.Wait(ctx); err != nil {
			return wrap(err)
		}
	}
	return nil
}

// wrap gives the folder's errors a name; those of the engine and the context go
// back as they came.
func wrap(err error) error {
	var sent *sendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &sent):
		return sent.err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("csvsource: %w", err)
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
	c.StateDir = filepath.Join(env.StateDir, stateName(env.Node))
	c.Logger = env.Logger
	inspector, err := newInspector(&s.config)
	if err != nil {
		return nil, err
	}
	c.Inspect = inspector.inspect
	if s.config.OnFile != nil {
		c.OnFinal = func(e folder.Entry, reason string) { s.config.OnFile(fileEvent(env.Node, &e, reason)) }
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
		return wrap(err)
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
	s.stats = s.stats.plus(s.folder.Stats())
	err := s.folder.Close()
	s.folder = nil
	return err
}

// Stats counts files since New.
type Stats struct {
	OK        int // read to the end, and all rows durable in every sink
	Failed    int // refused for their header or their rows, or given up part way
	Skipped   int // new files with the content of another one
	Refused   int // not even entered into the ledger: special files, links out of the folder, unreadable ones
	Unchanged int // read by an earlier run, and left alone by this one
}

func (s Stats) plus(f folder.Stats) Stats {
	s.OK += f.OK
	s.Failed += f.Failed
	s.Skipped += f.Skipped
	s.Refused += f.Refused
	s.Unchanged += f.Unchanged
	return s
}

// Stats tells how many files this source has finished. It may be called at any
// time; the last files count once the pipeline's Run has returned.
func (s *Source[T]) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder == nil {
		return s.stats
	}
	return s.stats.plus(s.folder.Stats())
}

// inspector looks at headers before files are entered. It is used by one
// goroutine.
type inspector struct {
	row    *row.Type
	cutter *csvtext.Cutter
}

func newInspector[T any](c *Config[T]) (*inspector, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	return &inspector{row: t, cutter: csvtext.NewCutter(c.dialect(), 4<<10)}, nil
}

func (i *inspector) inspect(_ context.Context, name string, f *os.File, size int64) (width int64, fault, err error) {
	width = extent(name, size)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return width, nil, err
	}
	r, done, err := openText(name, f)
	if err == nil {
		defer done()
		i.cutter.Reset(r)
		_, err = readHeader(i.cutter, i.row)
	}
	if isDamage(err) {
		return width, err, nil
	}
	return width, nil, err
}
