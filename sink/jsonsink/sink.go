package jsonsink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/filelock"
	"github.com/leatgo/leat/internal/row"
)

// Sink appends rows of type T to a file. Make one with New. It implements
// leat.Sink, leat.Transactional, leat.Named, leat.Validator and leat.Guaranteed.
type Sink[T any] struct {
	config Config[T]

	// Of one life, from Open to Close.
	env   leat.Env
	rows  *row.Type
	file  *os.File
	size  int64                    // bytes written; more may lie behind after a failed write
	side  *sidecar                 // as it is on disk
	held  map[string]leat.Position // of the last commit; a missing one is not 0 (rule E7)
	lines []byte                   // scratch of Write
	gone  error                    // why what was written is lost; until Close everything returns it

	// doom outlives a life: trouble that Write met and that a rewind can't mend.
	// Write has no way to stop the pipeline (a plain error of it condemns rows),
	// so the Open of the rewind does.
	doom error

	// Set by tests to fail.
	writeAt   func(f *os.File, b []byte, off int64) (int, error)
	sync      func(f *os.File) error
	writeFile func(path string, data []byte, perm fs.FileMode) error
}

// Open locks the file, cuts off what was never committed, and takes it over:
// the commits of an older owner fail from now on (rule E2).
func (s *Sink[T]) Open(_ context.Context, env leat.Env) error {
	if err := s.doom; err != nil {
		s.doom = nil
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if s.file != nil {
		return errors.New("jsonsink: Open of a sink that is open")
	}
	if s.writeAt == nil {
		s.writeAt = (*os.File).WriteAt
	}
	if s.sync == nil {
		s.sync = (*os.File).Sync
	}
	if s.writeFile == nil {
		s.writeFile = durable.WriteFile
	}
	rows, err := row.Of[T]()
	if err != nil {
		return err
	}
	s.env, s.rows, s.gone = env, rows, nil
	f, side, err := openFile(s.config.Path)
	if err != nil {
		return openError(fmt.Errorf("jsonsink: open %s: %w", s.config.Path, err))
	}
	s.file, s.size, s.held = f, side.Length, side.positions(env.Pipeline, env.Node)
	side.Epoch++
	if err := s.save(side); err != nil {
		s.file = nil
		filelock.Unlock(f)
		return openError(fmt.Errorf("jsonsink: take over %s: %w", s.config.Path, errors.Join(err, f.Close())))
	}
	return nil
}

// save replaces the sidecar: the commit point (rule E1).
func (s *Sink[T]) save(c *sidecar) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	if err := s.writeFile(s.config.Path+sidecarSuffix, b, 0o644); err != nil {
		return err
	}
	s.side = c
	return nil
}

// Restore returns the positions of the last commit; Open has taken the file
// over. See leat.Transactional.
func (s *Sink[T]) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	out := make(map[string]leat.Position, len(partitions))
	for _, p := range partitions {
		if at, ok := s.held[p]; ok { // rule E7: a missing position is not 0
			out[p] = at
		}
	}
	return out, nil
}

// Write appends the rows of a batch: see leat.Sink.
func (s *Sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error { return s.write(ctx, b.Rows()) }

func (s *Sink[T]) write(ctx context.Context, rows []T) error {
	if err := s.usable(); err != nil {
		return err
	}
	var refused []leat.RowError
	lines := s.lines[:0]
	for i := range rows {
		const pollEvery = 1024 // rows
		if i%pollEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		out, err := s.appendRow(lines, &rows[i])
		if err != nil {
			refused = append(refused, leat.RowError{Row: i, Err: err})
			continue
		}
		lines = append(out, '\n')
	}
	s.lines = lines
	if len(refused) > 0 {
		return &leat.RowErrors{Rows: refused} // nothing of the batch is written yet
	}
	if len(lines) == 0 {
		return nil
	}
	if _, err := s.writeAt(s.file, lines, s.size); err != nil {
		return s.writeError(err)
	}
	s.size += int64(len(lines))
	return nil
}

// appendRow gives an error only for what is the row's own fault.
func (s *Sink[T]) appendRow(dst []byte, r *T) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil { // rule A9: a user's MarshalJSON may panic
			out, err = dst, &refusal{rule: "panic", err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	out, err = s.rows.AppendJSON(dst, unsafe.Pointer(r))
	if e, ok := errors.AsType[*row.Error](err); ok {
		err = &refusal{e.Column, e.Rule(), err}
	}
	return out, err
}

// refusal is why one row has no JSON form.
type refusal struct {
	column, rule string
	err          error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Field gives column and rule to the statistics.
func (r *refusal) Field() (column, rule string) { return r.column, r.rule }

// Commit syncs the file and replaces the sidecar: see leat.Sink. It is never
// "not yet".
func (s *Sink[T]) Commit(_ context.Context, cp leat.Checkpoint) (done bool, err error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	held, moved := s.move(cp)
	if !moved && s.size == s.side.Length {
		return true, nil
	}
	// Rule E3: still the owner, and still of the file that has this name.
	now, err := readSidecar(s.config.Path + sidecarSuffix)
	switch {
	case leat.IsTransient(openError(err)):
		return false, leat.Transient(s.errorf("commit", err)) // everything is held
	case err != nil:
		return false, s.lost(err)
	case now == nil || now.Epoch != s.side.Epoch || now.Length != s.side.Length:
		s.gone = s.aborted(errors.New("another owner has taken the file over"))
		return false, s.errorf("commit", leat.ErrFenced)
	}
	if err := stillThere(s.file, s.config.Path); err != nil {
		return false, s.lost(err)
	}
	if s.size != s.side.Length {
		// An fsync that failed is never tried again on this file: the kernel may
		// have dropped the pages and would say that all is well.
		if err := s.sync(s.file); err != nil {
			return false, s.abort(err)
		}
	}
	next := s.side.with(s.env.Pipeline, s.env.Node, held)
	next.Length = s.size
	if next.Tail, err = tailOf(s.file, s.size); err != nil {
		return false, s.abort(err)
	}
	if err := s.save(next); err != nil {
		// Rule E4: whether the rename has happened, the rewind finds out. Also
		// when it has, the name may not be durable, so this is no commit yet.
		return false, s.abort(err)
	}
	s.held = held
	return true, nil
}

// move gives the positions after a checkpoint.
func (s *Sink[T]) move(cp leat.Checkpoint) (held map[string]leat.Position, moved bool) {
	held = maps.Clone(s.held)
	for p, to := range cp.Positions {
		from, some := held[p]
		if !to.Known() || some && (from == to || from.Log == to.Log && to.Next < from.Next) {
			// After a crash the sink may be ahead of the others, and the engine
			// drops what it holds (rule E7): it must not step back.
			continue
		}
		held[p], moved = to, true
	}
	return held, moved
}

// Close cuts off what is not committed and closes the file.
func (s *Sink[T]) Close() error {
	if s.file == nil {
		return nil
	}
	var err error
	if s.gone == nil { // else the file is in doubt, and left to the next Open
		err = s.cut()
	}
	filelock.Unlock(s.file)
	err = errors.Join(err, s.file.Close())
	s.file, s.side, s.held, s.lines, s.gone = nil, nil, nil, nil, nil
	if err != nil {
		return s.errorf("close", err)
	}
	return nil
}

// cut takes off what was never committed.
func (s *Sink[T]) cut() error {
	info, err := s.file.Stat()
	if err != nil || info.Size() <= s.side.Length {
		return err
	}
	return s.file.Truncate(s.side.Length)
}

// usable tells why nothing can be done until the next Open.
func (s *Sink[T]) usable() error {
	if s.file == nil {
		return s.aborted(errors.New("the sink is not open"))
	}
	return s.gone
}

func (s *Sink[T]) errorf(doing string, err error) error {
	return fmt.Errorf("jsonsink: %s %s: %w", doing, s.config.Path, err)
}

// aborted is ErrAborted with its cause (rule E8).
func (s *Sink[T]) aborted(cause error) error {
	return s.errorf("write", fmt.Errorf("%w: %w", leat.ErrAborted, cause))
}

// abort asks for a rewind, whose Open brings file and sidecar together again.
func (s *Sink[T]) abort(cause error) error {
	s.gone = s.aborted(cause)
	if passing(cause) {
		s.gone = leat.Transient(s.gone)
	}
	return s.gone
}

// lost ends the pipeline: somebody has laid hands on the files.
func (s *Sink[T]) lost(cause error) error {
	s.gone = s.aborted(cause)
	return s.errorf("commit", cause)
}

// writeError sorts an error of the file system, which is never a row's fault.
func (s *Sink[T]) writeError(err error) error {
	switch {
	case full(err):
		// What was written before is held: the next attempt begins at s.size again.
		_ = s.file.Truncate(s.size)
		return leat.Transient(s.errorf("write", err))
	case passing(err):
		return s.abort(err)
	}
	s.doom = s.errorf("write", err)
	return s.abort(err)
}

// passing tells what may go away by itself.
func passing(err error) bool { return full(err) || errors.Is(err, syscall.EIO) }

// openError marks what Open may be tried again for (rule B8). An I/O error met
// twice, before a rewind and after it, is for people to look at.
func openError(err error) error {
	if full(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return leat.Transient(err)
	}
	return err
}
