package sqlitesink

import (
	"context"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/heldsum"
)

const positionsTable = "leat_positions"

// next_offset is NULL while nothing is held, which is not 0 (rule E7).
const createPositions = `CREATE TABLE IF NOT EXISTS leat_positions (
	"pipeline" TEXT NOT NULL,
	"sink" TEXT NOT NULL,
	"partition" TEXT NOT NULL,
	"next_offset" INTEGER,
	"resume" TEXT NOT NULL DEFAULT '',
	"log" TEXT NOT NULL DEFAULT '',
	"epoch" INTEGER NOT NULL,
	"updated_at" TEXT NOT NULL,
	"checksum" TEXT,
	PRIMARY KEY ("pipeline", "sink", "partition")
) WITHOUT ROWID`

// A table that an older leat has made gets the column when it is opened. NULL is a row that
// has not been written since, or that was changed by hand.
const addChecksum = `ALTER TABLE leat_positions ADD COLUMN "checksum" TEXT`

const takeEpoch = `INSERT INTO leat_positions ("pipeline", "sink", "partition", "epoch", "updated_at", "checksum") VALUES (?1, ?2, ?3, 1, ?4, ?5)
	ON CONFLICT ("pipeline", "sink", "partition") DO UPDATE SET "epoch" = "epoch" + 1, "updated_at" = excluded."updated_at"
	RETURNING "epoch", "next_offset", "resume", "log"`

// Rule E3: compare and set on the sink's own last position and its epoch.
const movePosition = `UPDATE leat_positions SET "next_offset" = ?1, "resume" = ?2, "log" = ?3, "updated_at" = ?4, "checksum" = ?10
	WHERE "pipeline" = ?5 AND "sink" = ?6 AND "partition" = ?7 AND "epoch" = ?8 AND "next_offset" IS ?9`

const readPosition = `SELECT "epoch", "next_offset", "resume", "log" FROM leat_positions
	WHERE "pipeline" = ?1 AND "sink" = ?2 AND "partition" = ?3`

const anyPosition = `SELECT 1 FROM leat_positions WHERE "pipeline" = ?1 AND "sink" = ?2 AND "next_offset" IS NOT NULL LIMIT 1`

// held is a partition as the sink last knew it in the database.
type held struct {
	epoch int64
	some  bool // rows are held; else at means nothing
	at    leat.Position
}

// scanHeld reads the columns epoch, next_offset, resume and log.
func scanHeld(stmt *sqlite.Stmt) held {
	h := held{epoch: stmt.ColumnInt64(0), some: !stmt.ColumnIsNull(1)}
	if h.some {
		h.at = leat.Position{Next: stmt.ColumnInt64(1), Resume: stmt.ColumnText(2), Log: stmt.ColumnText(3)}
	}
	return h
}

// next is h's next_offset as a parameter.
func (h held) next() any {
	if !h.some {
		return nil
	}
	return h.at.Next
}

// ensurePositions makes the table, or gives an older one its checksums.
func ensurePositions(d *db) error {
	// A schema in which a bit has flipped may have it under another name. To make a new one
	// would be to hold nothing.
	const sameElsewhere = `SELECT tbl_name FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE '%"sink" TEXT%"epoch" INTEGER%'
		AND NOT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1)`
	other := ""
	err := d.query(sameElsewhere, func(stmt *sqlite.Stmt) error { other = stmt.ColumnText(0); return nil }, positionsTable)
	if err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("the schema is damaged, or a table was renamed: there is no table %s, but one that looks like it, in the place of %q; nothing was changed: restore the database from a backup, or give the table its name back", positionsTable, other)
	}
	if err := d.exec(createPositions); err != nil {
		return err
	}
	some := false
	err = d.query("SELECT 1 FROM pragma_table_xinfo(?1, 'main') WHERE name = 'checksum'", func(*sqlite.Stmt) error { some = true; return nil }, positionsTable)
	if err != nil || some {
		return err
	}
	return d.exec(addChecksum)
}

// checkPositions makes sure that the positions are those that were written: all of the
// table, for a row whose name is damaged is missing where it should be, and "nothing is
// held" would write all rows again.
func checkPositions(d *db) error {
	const wayOut = "restore the whole database from a backup; or, if the position was changed by hand and is right, SET checksum = NULL there; " +
		"or delete the position together with the table's rows, to load it from the start"
	bad := ""
	err := d.query("PRAGMA main.integrity_check("+positionsTable+")", func(stmt *sqlite.Stmt) error {
		if text := stmt.ColumnText(0); text != "ok" && bad == "" {
			bad = text
		}
		return nil
	})
	if err != nil {
		return err
	}
	if bad != "" {
		return fmt.Errorf("the table %s is damaged: %s; nothing was changed: %s", positionsTable, bad, wayOut)
	}
	return d.query(`SELECT "pipeline", "sink", "partition", "epoch", "next_offset", "resume", "log", "checksum" FROM leat_positions`, func(stmt *sqlite.Stmt) error {
		if stmt.ColumnIsNull(7) {
			return nil
		}
		types := true // a name that has become a blob is another one
		for i, want := range []sqlite.ColumnType{sqlite.TypeText, sqlite.TypeText, sqlite.TypeText, sqlite.TypeInteger, sqlite.TypeInteger, sqlite.TypeText, sqlite.TypeText, sqlite.TypeText} {
			types = types && (stmt.ColumnType(i) == want || i == 4 && stmt.ColumnIsNull(i))
		}
		next, some := stmt.ColumnInt64(4), !stmt.ColumnIsNull(4)
		pipeline, sink, partition := stmt.ColumnText(0), stmt.ColumnText(1), stmt.ColumnText(2)
		if !types || heldsum.Of(pipeline, sink, partition, some, next, stmt.ColumnText(5), stmt.ColumnText(6)) != stmt.ColumnText(7) {
			return fmt.Errorf("the table %s is damaged: the checksum of the position of pipeline %q, sink %q, partition %q does not match; nothing was changed: %s",
				positionsTable, pipeline, sink, partition, wayOut)
		}
		return nil
	})
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

// Restore takes the partitions over: the commits of an older owner fail from now
// on (rule E2). See leat.Transactional.
func (s *Sink[T]) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	taken := make(map[string]held, len(partitions))
	written := s.db.inTx()
	// With rows written and not committed the epochs are part of that commit:
	// until then this connection has the write lock, so nobody else can commit.
	err := s.db.tx(ctx, func() error {
		if err := checkPositions(s.db); err != nil {
			return err
		}
		for _, p := range partitions {
			err := s.db.query(takeEpoch, func(stmt *sqlite.Stmt) error {
				taken[p] = scanHeld(stmt)
				return nil
			}, s.env.Pipeline, s.env.Node, p, now(), heldsum.Of(s.env.Pipeline, s.env.Node, p, false, 0, "", ""))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && written {
		return nil, s.abort(err) // the rows are in doubt
	}
	if err != nil {
		return nil, openError(s.config.Path, fmt.Errorf("sqlitesink: take over the positions in %s: %w", s.config.Path, err))
	}
	out := make(map[string]leat.Position, len(partitions))
	for p, h := range taken {
		s.held[p] = h
		if h.some { // rule E7: a missing position is not 0
			out[p] = h.at
		}
	}
	return out, nil
}

// move is a partition whose position a commit changes.
type move struct {
	partition string
	from      held
	to        leat.Position
}

// moves lists what of a checkpoint is news to this sink.
func (s *Sink[T]) moves(cp leat.Checkpoint) ([]move, error) {
	var out []move
	for p, to := range cp.Positions {
		if !to.Known() {
			continue
		}
		from, ok := s.held[p]
		if !ok {
			return nil, fmt.Errorf("sqlitesink: commit of partition %q, which was never restored", p)
		}
		if from.some && (from.at == to || from.at.Log == to.Log && to.Next < from.at.Next) {
			// After a crash the sink may be ahead of the others, and the engine
			// drops what it holds (rule E7): it must not step back.
			if _, rows := s.wrote[p]; !rows {
				continue
			}
			// Unless the source is only similar (rule A2-2): then rows come again, and are
			// written again. The position stays, and its epoch guards them.
			to = from.at
		}
		out = append(out, move{p, from, to})
	}
	slices.SortFunc(out, func(a, b move) int {
		if a.partition < b.partition {
			return -1
		}
		return 1
	})
	return out, nil
}

// store writes the moved positions and names the partitions that another owner
// has: no row changed means fenced (rule E3).
func (s *Sink[T]) store(moves []move) (fenced []string, err error) {
	at := now()
	for _, m := range moves {
		err := s.db.exec(movePosition, m.to.Next, m.to.Resume, m.to.Log, at,
			s.env.Pipeline, s.env.Node, m.partition, m.from.epoch, m.from.next(),
			heldsum.Of(s.env.Pipeline, s.env.Node, m.partition, true, m.to.Next, m.to.Resume, m.to.Log))
		if err != nil {
			return nil, err
		}
		if s.db.conn.Changes() == 0 {
			fenced = append(fenced, m.partition)
		}
	}
	return fenced, nil
}

// outcome is what became of a commit whose answer was lost.
type outcome uint8

const (
	aborted outcome = iota
	committed
	fenced
)

// resolve finds out on a connection of its own what a failed COMMIT has done
// (rule E4): the new positions mean committed, the old ones aborted, anything
// else fenced.
func (s *Sink[T]) resolve(moves []move) (outcome, []string, error) {
	conn, err := sqlite.OpenConn(s.config.Path, sqlite.OpenReadWrite)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	conn.SetBusyTimeout(s.config.busyTimeout())
	d := &db{conn: conn}
	isNew, isOld := 0, 0
	var other []string
	for _, m := range moves {
		var h held
		err := d.query(readPosition, func(stmt *sqlite.Stmt) error {
			h = scanHeld(stmt)
			return nil
		}, s.env.Pipeline, s.env.Node, m.partition)
		switch {
		case err != nil:
			return 0, nil, err
		case h == m.from && m.to == m.from.at: // it stays where it is, which tells nothing
		case h == held{m.from.epoch, true, m.to}:
			isNew++
		case h == m.from:
			isOld++
		default:
			other = append(other, m.partition)
		}
	}
	switch {
	case len(other) > 0:
		return fenced, other, nil
	case isNew > 0 && isOld == 0:
		return committed, nil, nil
	}
	// Also when nothing moved, so that nothing can be told: the rewind reads the
	// positions again and is right either way.
	return aborted, nil, nil
}
