package sqlitesink

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// Sink writes rows of type T into a table. Make one with New. It implements
// leat.Sink, leat.Transactional, leat.Named, leat.Validator and leat.Guaranteed.
type Sink[T any] struct {
	config Config[T]

	// Of one life, from Open to Close.
	env       leat.Env
	rows      *row.Type
	db        *db
	insertSQL string
	insert    *sqlite.Stmt
	binder    binder
	bulk      *bulk
	held      map[string]held
	wrote     map[string]struct{} // partitions whose rows are not committed
	gone      error               // why what was written is lost; until Close everything returns it

	// doom outlives a life: trouble that Write met and that a rewind can't mend.
	// Write has no way to stop the pipeline (a plain error of it condemns rows),
	// so the Open of the rewind does.
	doom error

	commitHook func() error // set by tests: stands in for COMMIT
}

// Open opens the database, in WAL mode, and makes sure of both tables.
func (s *Sink[T]) Open(ctx context.Context, env leat.Env) error {
	if err := s.doom; err != nil {
		s.doom = nil
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if s.db != nil {
		return errors.New("sqlitesink: Open of a sink that is open")
	}
	rows, err := row.Of[T]()
	if err != nil {
		return err
	}
	s.env, s.rows, s.insertSQL = env, rows, insertSQL(s.config.Table, rows)
	s.held, s.wrote, s.gone = make(map[string]held), make(map[string]struct{}), nil
	if err := s.open(ctx); err != nil {
		return openError(s.config.Path, fmt.Errorf("sqlitesink: open %s: %w", s.config.Path, err))
	}
	return nil
}

func (s *Sink[T]) open(ctx context.Context) error {
	d, err := openDB(ctx, s.config.Path, s.config.Synchronous, s.config.busyTimeout(), pageSize(s.rows))
	if err != nil {
		return err
	}
	err = d.tx(ctx, func() error {
		if err := ensurePositions(d); err != nil {
			return err
		}
		some := false
		err := d.query(anyPosition, func(*sqlite.Stmt) error { some = true; return nil }, s.env.Pipeline, s.env.Node)
		if err != nil {
			return fmt.Errorf("the table %s is not leat's, or the schema is damaged: %w; rename a table of your own, or restore the database from a backup", positionsTable, err)
		}
		if err := s.ensureTable(d, some); err != nil {
			return err
		}
		s.insert, err = s.prepareInsert(d)
		return err
	})
	if err != nil {
		return errors.Join(err, d.close())
	}
	s.binder = binder{columns: s.rows.Columns, limit: int(d.conn.Limit(sqlite.LimitLength, -1))}
	s.bulk = &bulk{db: d, table: s.config.Table, rows: s.rows, size: unsafe.Sizeof(*new(T)), logger: s.env.Logger.With("sink", s.env.Node, "table", s.config.Table)}
	s.db = d
	return nil
}

// Write inserts the rows of a batch in the open transaction: see leat.Sink.
func (s *Sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	err := s.write(ctx, b.Rows())
	if err == nil && b.Len() > 0 {
		s.wrote[b.Partition()] = struct{}{}
	}
	return err
}

func (s *Sink[T]) write(ctx context.Context, rows []T) error {
	if err := s.usable(); err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	if !s.db.inTx() {
		if err := s.db.begin(ctx); err != nil {
			return s.beginError(ctx, err)
		}
	}
	short := false
	if len(rows) >= bulkFrom {
		var err error
		if short, err = s.bulk.ready(); err != nil {
			return s.abort(err)
		}
	}
	// Rule B5: a savepoint, so that one bad row costs one row.
	if err := s.db.savepoint(); err != nil {
		return s.abort(err)
	}
	refused, err := s.insertBatch(ctx, rows, short)
	switch {
	case err == nil && len(refused) == 0:
		if err := s.db.release(); err != nil {
			return s.abort(err)
		}
		return nil
	case !s.db.inTx():
		// SQLite has rolled back by itself: ON CONFLICT ROLLBACK in the table, or
		// an error that left it no choice. Named rows are condemned all the same.
		if err == nil {
			err = errors.New("the table's own constraint rolled the transaction back")
		}
		err = s.abort(err)
		if len(refused) > 0 {
			return errors.Join(err, &leat.RowErrors{Rows: refused})
		}
		return err
	case err != nil && !isContext(ctx, err):
		return s.abort(err)
	}
	if undoErr := s.db.undo(); undoErr != nil {
		return s.abort(undoErr)
	}
	if err != nil {
		return err
	}
	return &leat.RowErrors{Rows: refused}
}

// insertBatch inserts the rows, the short way if that does it. Rule B5: of a batch that
// it does not take, insertAll finds out which rows are at fault.
func (s *Sink[T]) insertBatch(ctx context.Context, rows []T, short bool) (refused []leat.RowError, err error) {
	if short {
		written, err := s.bulk.write(ctx, unsafe.Pointer(unsafe.SliceData(rows)), len(rows))
		if written || err != nil {
			return nil, err
		}
		if err := s.db.again(); err != nil {
			return nil, err
		}
	}
	return s.insertAll(ctx, rows)
}

// insertAll inserts the rows and goes on behind a refused one, to find all that
// are at fault: a refused row leaves nothing behind, so the verdict on the
// others is the one they would get without it.
func (s *Sink[T]) insertAll(ctx context.Context, rows []T) (refused []leat.RowError, err error) {
	const pollEvery = 256 // rows: well under a millisecond
	schemaFine := false
	for i := range rows {
		if i%pollEvery == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := s.binder.bind(s.insert, unsafe.Pointer(&rows[i]))
		if err == nil {
			if _, err = s.insert.Step(); err == nil {
				err = s.insert.Reset()
			}
			switch {
			case err == nil:
				continue
			case troubleOf(err) == rowsFault:
			case troubleOf(err) == unclear && (schemaFine || s.schemaFits()):
				// A CHECK, a trigger or a generated column that can't be
				// evaluated for this row ("malformed JSON").
				schemaFine = true
			default:
				return refused, err
			}
			err = s.refusalOf(err)
		}
		refused = append(refused, leat.RowError{Row: i, Err: err})
		if !s.db.inTx() {
			return refused, nil
		}
	}
	return refused, nil
}

// schemaFits tells whether the INSERT still compiles.
func (s *Sink[T]) schemaFits() bool {
	stmt, _, err := s.db.conn.PrepareTransient(s.insertSQL)
	if err != nil {
		return false
	}
	return stmt.Finalize() == nil
}

// Commit stores the positions and commits: see leat.Sink. It is never "not yet".
func (s *Sink[T]) Commit(ctx context.Context, cp leat.Checkpoint) (done bool, err error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	moves, err := s.moves(cp)
	if err != nil {
		return false, err
	}
	if !s.db.inTx() {
		if len(moves) == 0 {
			return true, nil
		}
		if err := s.db.begin(ctx); err != nil {
			return false, s.beginError(ctx, err)
		}
	}
	// From here on ctx is not looked at: a commit is never broken off.
	if err := s.db.savepoint(); err != nil {
		return false, s.commitError(err)
	}
	fencedOff, err := s.store(moves)
	if err != nil {
		return false, s.commitError(err)
	}
	if len(fencedOff) > 0 {
		return false, s.fencedOff(fencedOff)
	}
	commit := s.db.commit
	if s.commitHook != nil {
		commit = s.commitHook
	}
	if err := commit(); err != nil {
		return s.commitFailed(err, moves)
	}
	s.moved(moves)
	return true, nil
}

// commitFailed finds out what a COMMIT that returned an error has done.
func (s *Sink[T]) commitFailed(err error, moves []move) (done bool, _ error) {
	what := troubleOf(err)
	if what == busy && s.db.inTx() {
		// The positions are taken back, else the next attempt would compare
		// with its own and fence itself.
		if undoErr := s.db.undo(); undoErr != nil {
			return false, s.abort(undoErr)
		}
		return false, leat.Transient(s.errorf("commit", err))
	}
	s.db.rollback()
	if what != passing && what != busy {
		return false, s.commitError(err)
	}
	// Rule E4: the answer was lost, the database knows.
	now, others, readErr := s.resolve(moves)
	switch {
	case readErr != nil:
		return false, s.abort(errors.Join(err, readErr))
	case now == fenced:
		return false, s.fencedOff(others)
	case now == aborted:
		return false, s.abort(err)
	}
	s.moved(moves)
	// The connection has failed in the middle of a commit: no more of it.
	s.gone = s.aborted(fmt.Errorf("the connection failed at its last commit: %w", err))
	return true, nil
}

func (s *Sink[T]) moved(moves []move) {
	for _, m := range moves {
		s.held[m.partition] = held{m.from.epoch, true, m.to}
	}
	clear(s.wrote)
}

// Close rolls back what is not committed and closes the database.
func (s *Sink[T]) Close() error {
	if s.db == nil {
		return nil
	}
	s.db.rollback()
	err := s.db.close()
	s.bulk.close()
	s.db, s.insert, s.bulk, s.held, s.wrote, s.gone = nil, nil, nil, nil, nil, nil
	if err != nil {
		return s.errorf("close", err)
	}
	return nil
}

// usable tells why nothing can be done until the next Open.
func (s *Sink[T]) usable() error {
	if s.db == nil {
		return s.aborted(errors.New("the sink is not open"))
	}
	return s.gone
}

func (s *Sink[T]) errorf(doing string, err error) error {
	return fmt.Errorf("sqlitesink: %s %s, table %s: %w", doing, s.config.Path, s.config.Table, err)
}

// aborted is ErrAborted with its cause (rule E8).
func (s *Sink[T]) aborted(cause error) error {
	return s.errorf("write", fmt.Errorf("%w: %w", leat.ErrAborted, cause))
}

// abort rolls back and asks for a rewind. It is the answer to all trouble of a
// Write that is not the row's: a plain error would condemn good rows.
func (s *Sink[T]) abort(cause error) error {
	s.db.rollback()
	s.gone = s.aborted(cause)
	switch troubleOf(cause) {
	case passing, busy:
		s.gone = leat.Transient(s.gone) // the disk may have room again after the backoff
	case lasting:
		s.doom = s.errorf("write", advise(cause))
	}
	return s.gone
}

// fencedOff gives the partitions up, and with them the open transaction.
func (s *Sink[T]) fencedOff(partitions []string) error {
	s.db.rollback()
	s.gone = s.aborted(errors.New("another owner has taken partitions over"))
	return s.errorf("commit", leat.Fenced(partitions...))
}

// beginError is for a transaction that did not begin: nothing is lost.
func (s *Sink[T]) beginError(ctx context.Context, err error) error {
	switch {
	case isContext(ctx, err):
		return err
	case troubleOf(err) == busy:
		return leat.Transient(s.errorf("begin", err))
	}
	return s.abort(err)
}

// commitError is for trouble before or at COMMIT whose outcome is known: the
// transaction is lost. What no rewind can mend ends the pipeline.
func (s *Sink[T]) commitError(err error) error {
	if what := troubleOf(err); what == passing || what == busy {
		return s.abort(err)
	}
	s.db.rollback()
	s.gone = s.aborted(err)
	return s.errorf("commit", advise(err))
}

func isContext(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()))
}
