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

// asleep is after how long somebody at the head of the queue who leaves the lock of the
// database, which he asks for a hundred times a second, must have been stopped.
const asleep = 500 * time.Millisecond

// enter waits for the head of the queue, until then at most. Now and then it tries begin
// too: who stands there may have been stopped. begun tells that this was it. Where there is no
// queue, one is made only if must.
func (q *queue) enter(ctx context.Context, d *db, until time.Time, must bool, begin func() error) (begun bool, err error) {
	if q.in {
		return false, nil
	}
	if q.file == nil {
		flags := os.O_RDWR
		if must {
			flags |= os.O_CREATE
		}
		f, err := os.OpenFile(q.path, flags, 0o644)
		if err != nil { // there is none, or it can't be had
			return false, nil
		}
		q.file = f
	}
	try := time.Now().Add(asleep)
	err = d.whileBusy(ctx, until, func() error {
		err := filelock.Try(q.file, false)
		switch {
		case !errors.Is(err, filelock.ErrLocked):
			q.in = err == nil
			return nil
		case time.Now().Before(try):
			return sqlite.ResultBusy.ToError()
		}
		try = time.Now().Add(asleep)
		err = begin()
		begun = err == nil
		return err
	})
	if ctx.Err() == nil && troubleOf(err) == busy { // time is up: without the queue
		err = nil
	}
	return begun, err
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
