package sqlitesink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/failpoint"
)

// db is one connection, with at most one transaction open.
//
// Statements are never interrupted: an INSERT that meets sqlite3_interrupt rolls
// back the whole transaction, and with it what was written before (rule E8).
// Waiting for a lock and the loop over the rows watch the context instead.
type db struct {
	conn *sqlite.Conn
	path string
	wait time.Duration // for another writer
	file string        // the path that turns knows it by
	turn chan struct{} // full while a sink of this process writes to the file
	held bool          // it is this db that filled turn

	queue queue // of other processes
}

// turns holds one channel for each database file that is open. Waiting senders of a
// channel are served in order, so that two sinks on one file alternate; SQLite alone
// polls for its lock, and the one that just committed nearly always wins it. The last
// one to close the file takes the channel away: a channel of one bubble of
// testing/synctest must not be met in another.
var turns = struct {
	sync.Mutex
	of map[string]*turn
}{of: map[string]*turn{}}

type turn struct {
	taken chan struct{}
	users int
}

func joinTurn(file string) chan struct{} {
	turns.Lock()
	defer turns.Unlock()
	t := turns.of[file]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		turns.of[file] = t
	}
	t.users++
	return t.taken
}

func quitTurn(file string) {
	turns.Lock()
	defer turns.Unlock()
	t := turns.of[file]
	if t.users--; t.users == 0 {
		delete(turns.of, file)
	}
}

// openDB opens the file as the sink needs it. If it makes the file, then with pages of
// that size; 0 leaves it to SQLite.
func openDB(ctx context.Context, path string, safety Synchronous, wait time.Duration, pageSize int) (_ *db, err error) {
	_, statErr := os.Stat(path)
	created := errors.Is(statErr, os.ErrNotExist)
	if created {
		if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("the folder %s does not exist", filepath.Dir(path))
		}
	}
	// OpenURI is for what is attached; a path that is a URI itself is refused by Validate.
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenURI)
	if err != nil {
		return nil, err
	}
	d := &db{conn: conn, path: path, wait: wait}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	conn.SetBusyTimeout(0) // begin does the waiting

	file, err := filepath.EvalSymlinks(path)
	if err == nil {
		file, err = filepath.Abs(file)
	}
	if err != nil {
		return nil, err
	}
	d.file, d.turn = file, joinTurn(file)
	d.queue.path = file + "-queue"

	if created && pageSize > 0 {
		// Of a database that somebody else has made in between, it changes nothing.
		if err := d.exec(fmt.Sprintf("PRAGMA page_size=%d", pageSize)); err != nil {
			return nil, err
		}
	}
	if err := d.journal(ctx); err != nil {
		return nil, err
	}
	pragmas := []string{"PRAGMA synchronous=FULL", "PRAGMA fullfsync=1", "PRAGMA checkpoint_fullfsync=1"} // the last two: macOS only
	if safety == Normal {
		pragmas = []string{"PRAGMA synchronous=NORMAL"}
	}
	for _, p := range pragmas {
		if err := d.exec(p); err != nil {
			return nil, err
		}
	}
	// Rule A3: what lies in the write-ahead log may be in memory only: of a process that was
	// killed before its fsync, or whose fsync failed, after which the kernel takes what it
	// has lost for written. So nothing is built on it: it goes into the database, synced.
	if err := d.exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return nil, err
	}
	if created {
		// Rule A3: the file's name must survive a power cut too.
		if err := durable.SyncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// journal makes sure that the journal is a write-ahead log.
func (d *db) journal(ctx context.Context) error {
	var mode string
	read := func(stmt *sqlite.Stmt) error {
		mode = stmt.ColumnText(0)
		return nil
	}
	err := d.whileBusy(ctx, time.Now().Add(d.wait), func() error {
		return sqlitex.ExecuteTransient(d.conn, "PRAGMA journal_mode=WAL", &sqlitex.ExecOptions{ResultFunc: read})
	})
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the journal of %s is %q and can't be made WAL: the sink needs a local file system with shared memory", d.path, mode)
	}
	return nil
}

// exec runs a statement of which nothing is read. It is prepared once.
func (d *db) exec(query string, args ...any) error {
	return sqlitex.Execute(d.conn, query, &sqlitex.ExecOptions{Args: args})
}

// query runs a statement and calls each for every row of the result.
func (d *db) query(query string, each func(stmt *sqlite.Stmt) error, args ...any) error {
	return sqlitex.Execute(d.conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: each})
}

// inTx tells whether a transaction is open. SQLite itself ends one at some errors.
func (d *db) inTx() bool { return !d.conn.AutocommitEnabled() }

// begin opens a transaction that holds the write lock.
func (d *db) begin(ctx context.Context) error {
	until := time.Now().Add(d.wait)
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	err := d.lock(ctx, until)
	if err == nil {
		if err = failpoint.Hit("sqlitesink/begun"); err != nil {
			d.rollback()
		}
	}
	if err != nil {
		d.leaveTurn()
	}
	return err
}

// lock begins a transaction with the write lock, behind those of other processes that wait
// for it already.
func (d *db) lock(ctx context.Context, until time.Time) error {
	begin := func() error { return d.exec("BEGIN IMMEDIATE") }
	defer d.queue.leave()
	if begun, err := d.queue.enter(ctx, d, until, false, begin); begun || err != nil {
		return err
	}
	err := begin()
	if err == nil || troubleOf(err) != busy {
		return err
	}
	if begun, err := d.queue.enter(ctx, d, until, true, begin); begun || err != nil {
		return err
	}
	return d.whileBusy(ctx, until, begin)
}

func (d *db) takeTurn(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		d.held = true
		return nil
	default:
	}
	timer := time.NewTimer(d.wait)
	defer timer.Stop()
	select {
	case d.turn <- struct{}{}:
		d.held = true
		return nil
	case <-timer.C:
		return fmt.Errorf("another sink of this process is writing to %s: %w", d.path, sqlite.ResultBusy.ToError())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *db) leaveTurn() {
	if d.held {
		d.held = false
		<-d.turn
	}
}

// delays between attempts to get the lock; the last one repeats. It is short
// because a writer that commits and goes on leaves the lock free for an instant.
var delays = [...]time.Duration{time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond}

// whileBusy calls f until it gets the lock, or time is up, or ctx ends.
func (d *db) whileBusy(ctx context.Context, until time.Time, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil || troubleOf(err) != busy {
			return err
		}
		left := time.Until(until)
		if left <= 0 {
			return fmt.Errorf("another connection holds the lock of %s: %w", d.path, err)
		}
		timer := time.NewTimer(min(left, delays[min(n, len(delays)-1)]))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// commit ends the transaction, unless it returns an error with inTx still true.
func (d *db) commit() error {
	err := failpoint.Hit("sqlitesink/before-commit")
	if err == nil {
		err = d.exec("COMMIT")
	}
	if !d.inTx() {
		d.leaveTurn()
	}
	return err
}

// rollback ends the transaction, if SQLite has not done so by itself.
func (d *db) rollback() {
	if d.inTx() {
		// An error leaves a connection that is good for nothing but close.
		_ = d.exec("ROLLBACK")
	}
	d.leaveTurn()
}

// savepoint marks a place in the transaction to go back to.
func (d *db) savepoint() error { return d.exec("SAVEPOINT leat") }

// release keeps what was done since the savepoint.
func (d *db) release() error { return d.exec("RELEASE leat") }

// again takes back what was done since the savepoint, which stays.
func (d *db) again() error { return d.exec("ROLLBACK TO leat") }

// undo takes back what was done since the savepoint and removes it.
func (d *db) undo() error {
	if err := d.again(); err != nil {
		return err
	}
	return d.exec("RELEASE leat")
}

// tx runs f in a transaction of its own, or inside the open one under a savepoint.
func (d *db) tx(ctx context.Context, f func() error) error {
	if d.inTx() {
		if err := d.savepoint(); err != nil {
			return err
		}
		if err := f(); err != nil {
			return errors.Join(err, d.undo())
		}
		return d.release()
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = d.commit()
	}
	if err != nil {
		d.rollback()
	}
	return err
}

// close rolls back what is open.
func (d *db) close() error {
	err := d.conn.Close()
	d.queue.close()
	d.leaveTurn()
	if d.turn != nil {
		quitTurn(d.file)
		d.turn = nil
	}
	return err
}
