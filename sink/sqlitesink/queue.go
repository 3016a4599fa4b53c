package sqlitesink

import (
	"context"
	"errors"
	"os"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat/internal/filelock"
)

// queue lines up writers of several processes. SQLite alone polls for its lock, so that
// one who commits and goes on at once, as a busy member of a consumer group does, keeps all
// others out. Whoever waits for the lock holds that of a file beside the database
// meanwhile, and who wants to begin again has to get that first: so the one that waits is
// served before. The file is made when somebody has to wait for the first time; it
// stays, empty. It is about fairness only: what is right does not depend on it.
type queue struct {
	path string
	file *os.File // nil until it is there
	in   bool     // this one holds its lock
}

// enter waits for the head of the queue, until then at most: who stands there may have been
// stopped. Where there is no queue, one is made only if must.
func (q *queue) enter(ctx context.Context, d *db, until time.Time, must bool) error {
	if q.in {
		return nil
	}
	if q.file == nil {
		flags := os.O_RDWR
		if must {
			flags |= os.O_CREATE
		}
		f, err := os.OpenFile(q.path, flags, 0o644)
		if err != nil { // there is none, or it can't be had
			return nil
		}
		q.file = f
	}
	err := d.whileBusy(ctx, until, func() error {
		err := filelock.Try(q.file, false)
		if errors.Is(err, filelock.ErrLocked) {
			return sqlite.ResultBusy.ToError()
		}
		q.in = err == nil
		return nil
	})
	if ctx.Err() != nil {
		return err
	}
	return nil
}

func (q *queue) leave() {
	if q.in {
		filelock.Unlock(q.file)
		q.in = false
	}
}

func (q *queue) close() {
	q.leave()
	if q.file != nil {
		_ = q.file.Close()
		q.file = nil
	}
}
