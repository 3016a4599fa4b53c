// Package sqliteholder shows and moves the positions that sinks keep in a SQLite
// database, for package operate.
package sqliteholder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/heldsum"
	"github.com/leatgo/leat/operate"
)

// Holder is the Holder of one database file.
type Holder struct{ path string }

// New names a database file; it is opened by each call.
func New(path string) *Holder { return &Holder{path} }

var _ operate.Holder = (*Holder)(nil)

func (h *Holder) open(ctx context.Context, flags sqlite.OpenFlags) (*sqlite.Conn, error) {
	if _, err := os.Stat(h.path); err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(h.path, flags)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", h.path, err)
	}
	conn.SetBusyTimeout(5 * time.Second)
	conn.SetInterrupt(ctx.Done())
	return conn, nil
}

const listPositions = `SELECT "pipeline", "sink", "partition", "next_offset", "resume", "log", "epoch" FROM leat_positions ORDER BY 1, 2, 3`

// Positions implements operate.Holder.
func (h *Holder) Positions(ctx context.Context) (out []operate.Held, err error) {
	conn, err := h.open(ctx, sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	some, err := hasTable(conn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	if !some {
		return nil, fmt.Errorf("%s has no table leat_positions: no sink of a pipeline has written to it", h.path)
	}
	err = sqlitex.Execute(conn, listPositions, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		held := operate.Held{Holder: "sqlite " + h.path, Pipeline: s.ColumnText(0), Sink: s.ColumnText(1), Partition: s.ColumnText(2), Epoch: s.ColumnInt64(6)}
		if !s.ColumnIsNull(3) { // NULL is nothing held, which is not 0 (rule E7)
			held.Position = leat.Position{Next: s.ColumnInt64(3), Resume: s.ColumnText(4), Log: s.ColumnText(5)}
		}
		out = append(out, held)
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	return out, nil
}

func hasTable(conn *sqlite.Conn) (some bool, err error) {
	err = sqlitex.Execute(conn, `SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'leat_positions'`, &sqlitex.ExecOptions{
		ResultFunc: func(*sqlite.Stmt) error { some = true; return nil },
	})
	return some, err
}

// Rule E3: a sink that still writes is fenced by the epoch.
const movePosition = `UPDATE leat_positions SET "next_offset" = ?1, "resume" = ?2, "log" = ?3, "epoch" = "epoch" + 1, "updated_at" = ?4%s
	WHERE "pipeline" = ?5 AND "sink" = ?6 AND "partition" = ?7 AND "epoch" = ?8 AND "next_offset" IS ?9`

// Move implements operate.Holder.
func (h *Holder) Move(ctx context.Context, held operate.Held, to leat.Position) (err error) {
	conn, err := h.open(ctx, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// What is lost in a power cut must not have been reported: FULL, whatever the
	// database's own setting.
	if err := sqlitex.ExecuteTransient(conn, `PRAGMA synchronous = FULL`, nil); err != nil {
		return fmt.Errorf("%s: %w", h.path, err)
	}
	next := func(p leat.Position) any {
		if !p.Known() {
			return nil
		}
		return p.Next
	}
	args := []any{
		next(to), to.Resume, to.Log, time.Now().UTC().Format(time.RFC3339),
		held.Pipeline, held.Sink, held.Partition, held.Epoch, next(held.Position),
	}
	checksum := "" // a table that no sink of this leat has opened has none
	err = sqlitex.Execute(conn, `SELECT 1 FROM pragma_table_xinfo('leat_positions') WHERE name = 'checksum'`, &sqlitex.ExecOptions{
		ResultFunc: func(*sqlite.Stmt) error { checksum = `, "checksum" = ?10`; return nil },
	})
	if checksum != "" {
		args = append(args, heldsum.Of(held.Pipeline, held.Sink, held.Partition, to.Known(), to.Next, to.Resume, to.Log))
	}
	if err == nil {
		err = sqlitex.Execute(conn, fmt.Sprintf(movePosition, checksum), &sqlitex.ExecOptions{Args: args})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.path, err)
	}
	if conn.Changes() == 0 {
		return fmt.Errorf("%s: the position of partition %q has moved meanwhile: a pipeline is writing to it; look again", h.path, held.Partition)
	}
	return nil
}
