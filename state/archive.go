package state

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/statefile"
	"github.com/leatgo/leat/internal/store"
)

// Archive is what is kept of one pipeline, as operate.ExportState and operate.ImportState
// want it. It connects with a configuration like that of Postgres, and beside it.
type Archive struct {
	config   PostgresConfig
	pipeline string
}

// PostgresArchive is what PostgreSQL keeps of a pipeline.
func PostgresArchive(c PostgresConfig, pipeline string) *Archive { return &Archive{c, pipeline} }

// ReadState may be used while the pipeline runs: it sees one moment, and changes nothing.
func (a *Archive) ReadState(ctx context.Context, w *statefile.Writer) error {
	return a.with(ctx, "export", oneMoment, func(ctx context.Context, s *PostgresStore, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, s.sql("SELECT partition, "+columns+" FROM {partitions} WHERE pipeline = $1 AND next_offset IS NOT NULL ORDER BY partition"), a.pipeline)
		if err != nil {
			return err
		}
		var names []string
		records := map[string]*record{}
		for rows.Next() {
			var p string
			var own owned
			var have row
			if err := rows.Scan(&p, &own.epoch, &own.version, &have.next, &have.resume, &have.log, &have.state, &have.sum); err != nil {
				return err
			}
			rec, err := have.decode(a.pipeline, p, own.version)
			if err != nil {
				rows.Close()
				return s.corrupt(fmt.Sprintf("%s, partition %q", s.table("partitions"), p), err)
			}
			names, records[p] = append(names, p), rec
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if len(names) == 0 {
			return ownError("there is nothing of pipeline %q in %s", a.pipeline, s.table("partitions"))
		}
		if err := w.Head(statefile.Head{Pipeline: a.pipeline}); err != nil {
			return own(err)
		}
		for _, p := range names {
			if err := w.Partition(statefile.Partition{Name: p, Position: toStore(records[p].at), Note: store.Note(records[p].note)}); err != nil {
				return own(err)
			}
		}
		for _, p := range names {
			for _, stage := range sorted(records[p].extents) {
				e := records[p].extents[stage]
				pieces, err := s.pieces(ctx, tx, p, stage, e)
				if err != nil {
					return err
				}
				for i, b := range pieces {
					if err := w.Piece(store.Delta{Stage: stage, Partition: p, Blob: b, Full: i == 0 && e.Whole > 0}); err != nil {
						return own(err)
					}
				}
			}
		}
		return nil
	})
}

// WriteState refuses a pipeline of which something is held. It fences who runs on it, and holds
// nobody else up.
func (a *Archive) WriteState(ctx context.Context, r *statefile.Reader) error {
	return a.with(ctx, "import", readWrite, func(ctx context.Context, s *PostgresStore, tx pgx.Tx) error {
		empty := func() error {
			var held int
			err := tx.QueryRow(ctx, s.sql("SELECT count(*) FROM {partitions} WHERE pipeline = $1 AND next_offset IS NOT NULL"), a.pipeline).Scan(&held)
			if err == nil && held > 0 {
				err = ownError("%s holds %d partitions of pipeline %q already: delete them first, or import under another name", s.table("partitions"), held, a.pipeline)
			}
			return err
		}
		if err := empty(); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql("DELETE FROM {pieces} WHERE pipeline = $1"), a.pipeline); err != nil {
			return err // of partitions that somebody has deleted
		}
		records := map[string]*record{}
		pieces := pieceWriter{s: s, tx: tx}
		for {
			next, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return own(err)
			}
			if p := next.Partition; p != nil {
				if err := name("partition", p.Name); err != nil {
					return err
				}
				var begun bool // since
				err := tx.QueryRow(ctx, s.sql(taking+"RETURNING next_offset IS NOT NULL"), a.pipeline, p.Name, "import, "+owner()).Scan(&begun)
				if err == nil && begun {
					err = empty()
				}
				if err != nil {
					return err // else whoever takes or commits it waits
				}
				records[p.Name] = &record{begun: true, at: fromStore(p.Position), note: leat.StateNote(p.Note), extents: map[string]extent{}}
				continue
			}
			d := next.Piece
			rec := records[d.Partition] // the file gives it before its pieces
			if err := name("stage", d.Stage); err != nil {
				return err
			}
			e := rec.extents[d.Stage]
			if d.Full && e.Next > 0 {
				return ownError("state of stage %q, partition %q: a whole piece comes after others", d.Stage, d.Partition)
			}
			if err := pieces.put(ctx, pieceKey{a.pipeline, d.Partition, d.Stage, e.Next}, d.Blob); err != nil {
				return err
			}
			e.add(len(d.Blob), d.Full)
			rec.extents[d.Stage] = e
		}
		if err := pieces.send(ctx); err != nil {
			return err
		}
		if err := empty(); err != nil { // somebody has begun another partition
			return err
		}
		for _, p := range sorted(records) {
			v, err := records[p].encode(a.pipeline, p)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, s.sql("UPDATE {partitions} SET version = 1, next_offset = $3, resume = $4, log = $5, state = $6, sum = $7, updated_at = now() WHERE pipeline = $1 AND partition = $2"),
				a.pipeline, p, v.next, v.resume, v.log, v.state, v.sum); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *Archive) with(ctx context.Context, what, modes string, f func(context.Context, *PostgresStore, pgx.Tx) error) error {
	s := Postgres(a.config)
	if s.config.Timeout == 0 {
		s.config.Timeout = 24 * 3600e9 // all there is, at whatever speed the other side has
	}
	defer s.Close() // also behind an open that failed, which may have connected
	tables := s.prepare
	if modes == oneMoment {
		tables = s.look
	}
	if err := s.open(ctx, a.pipeline, tables); err != nil {
		return err
	}
	return s.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := s.begin(ctx, conn, modes)
		if err != nil {
			return err
		}
		if err := f(ctx, s, tx); err != nil {
			_ = tx.Rollback(ctx)
			return err
		}
		return tx.Commit(ctx)
	})
}

// own marks an error of the other side as not the database's.
func own(err error) error {
	if err == nil {
		return nil
	}
	return otherError{err}
}

type otherError struct{ error }

func (e otherError) Unwrap() error        { return e.error }
func (e otherError) Is(target error) bool { return target == errOwn }
