package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leatgo/leat"
)

// Commit writes one checkpoint in one transaction. Each partition's row must be as this
// process left it, by epoch and version (rule E3).
func (s *PostgresStore) Commit(ctx context.Context, c leat.StateCommit) error {
	return s.do(ctx, "commit", func(ctx context.Context, conn *pgx.Conn) error {
		names := slices.Sorted(maps.Keys(c.Partitions)) // one order of locks for all
		doubt := false
		for _, p := range names {
			if s.owned[p] == nil {
				return ownError("partition %q was not taken", p)
			}
			doubt = doubt || s.owned[p].doubt
		}
		next, err := s.after(names, c)
		if err != nil {
			return err
		}
		if doubt {
			if done, err := s.resolve(ctx, conn, names); err != nil || done {
				if done {
					s.moved(next)
				}
				return err
			}
		}
		tx, err := s.begin(ctx, conn, readWrite)
		if err != nil {
			return err
		}
		if err := s.write(ctx, tx, names, next, c); err != nil {
			_ = tx.Rollback(ctx) // if that fails, the connection is given up
			return err
		}
		if err := tx.Commit(ctx); err != nil {
			if errors.Is(err, pgx.ErrTxCommitRollback) {
				return err
			}
			for _, p := range names { // rule E4: the next call finds out
				s.owned[p].doubt = true
			}
			return err
		}
		s.moved(next)
		return nil
	})
}

// after computes what the partitions are behind the commit.
func (s *PostgresStore) after(names []string, c leat.StateCommit) (map[string]*record, error) {
	next := map[string]*record{}
	for _, p := range names {
		change := c.Partitions[p]
		rec := &record{begun: true, at: change.Position, note: change.Note, extents: maps.Clone(s.owned[p].extents)}
		for stage := range rec.note.Stages {
			if err := name("stage", stage); err != nil {
				return nil, err
			}
		}
		for stage := range rec.extents {
			if _, named := rec.note.Stages[stage]; !named && rec.note.Stages != nil {
				delete(rec.extents, stage)
			}
		}
		next[p] = rec
	}
	for _, piece := range c.Pieces {
		rec := next[piece.Partition]
		if rec == nil {
			return nil, ownError("a piece of state of partition %q, which is not in the commit", piece.Partition)
		}
		if err := name("stage", piece.Stage); err != nil {
			return nil, err
		}
		if _, named := rec.note.Stages[piece.Stage]; !named && rec.note.Stages != nil {
			return nil, ownError("a piece of state of stage %q, which the note of partition %q does not name", piece.Stage, piece.Partition)
		}
		e := rec.extents[piece.Stage]
		e.add(len(piece.Data), piece.Whole)
		rec.extents[piece.Stage] = e
	}
	return next, nil
}

// moved takes note of a commit that was done.
func (s *PostgresStore) moved(next map[string]*record) {
	for p, rec := range next {
		own := s.owned[p]
		own.version++
		own.extents, own.doubt = rec.extents, false
	}
}

// resolve finds out whether the last commit was done (rule E4). It waits for the transaction
// of the connection that was lost, if the server still has it: that one holds the rows.
func (s *PostgresStore) resolve(ctx context.Context, conn *pgx.Conn, names []string) (done bool, _ error) {
	var lost []string
	err := s.tx(ctx, conn, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		done, lost = false, nil
		for _, p := range names {
			batch.Queue(s.sql("SELECT "+columns+" FROM {partitions} WHERE pipeline = $1 AND partition = $2 FOR UPDATE"), s.pipeline, p).QueryRow(func(r pgx.Row) error {
				now, _, err := s.scan(r, p)
				if errors.Is(err, pgx.ErrNoRows) {
					lost = append(lost, p)
					return nil
				}
				if err != nil {
					return err
				}
				switch was := s.owned[p]; {
				case now.epoch == was.epoch && now.version == was.version+1:
					done = true
				case now.epoch != was.epoch || now.version != was.version:
					lost = append(lost, p)
				}
				return nil
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	switch {
	case err != nil:
		return false, err
	case len(lost) > 0:
		return false, s.fenced(lost)
	}
	for _, p := range names {
		s.owned[p].doubt = false
	}
	return done, nil
}

func (s *PostgresStore) fenced(partitions []string) error {
	return fmt.Errorf("another process has taken partitions over: %w", leat.Fenced(partitions...))
}

// write sends all statements of a commit at once.
func (s *PostgresStore) write(ctx context.Context, tx pgx.Tx, names []string, next map[string]*record, c leat.StateCommit) error {
	batch := &pgx.Batch{}
	lost := map[string]bool{}
	for _, p := range names {
		was, rec := s.owned[p], next[p]
		r, err := rec.encode(s.pipeline, p)
		if err != nil {
			return err
		}
		batch.Queue(s.sql("UPDATE {partitions} SET version = version + 1, next_offset = $5, resume = $6, log = $7, state = $8, sum = $9, updated_at = now() "+
			"WHERE pipeline = $1 AND partition = $2 AND epoch = $3 AND version = $4 RETURNING 1"),
			s.pipeline, p, was.epoch, was.version, r.next, r.resume, r.log, r.state, r.sum).Query(func(rows pgx.Rows) error {
			n := 0
			for rows.Next() {
				n++
			}
			if rows.Err() == nil && n == 0 {
				lost[p] = true
			}
			return rows.Err()
		})
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if len(lost) > 0 {
		return s.fenced(slices.Sorted(maps.Keys(lost)))
	}
	// From here on the rows are ours until the end of the transaction.
	w := pieceWriter{s: s, tx: tx}
	for _, p := range names {
		for stage, e := range s.owned[p].extents {
			to := e.Next // all, when the stage is no more
			if now, ok := next[p].extents[stage]; ok {
				to = min(to, now.First)
			}
			if to > e.First {
				w.batch.Queue(s.sql("DELETE FROM {pieces} WHERE pipeline = $1 AND partition = $2 AND stage = $3 AND n < $4"), s.pipeline, p, stage, to)
			}
		}
	}
	numbers := map[[2]string]int64{}
	for _, piece := range c.Pieces {
		k := pieceKey{pipeline: s.pipeline, partition: piece.Partition, stage: piece.Stage}
		n, seen := numbers[[2]string{k.partition, k.stage}]
		if !seen {
			e, held := s.owned[k.partition].extents[k.stage]
			if n = e.Next; !held { // of a partition whose row alone somebody has deleted
				w.batch.Queue(s.sql("DELETE FROM {pieces} WHERE pipeline = $1 AND partition = $2 AND stage = $3"), s.pipeline, k.partition, k.stage)
			}
		}
		k.n = n
		numbers[[2]string{k.partition, k.stage}] = n + 1
		if n < next[k.partition].extents[k.stage].First {
			continue // a later one of this commit replaces it
		}
		if err := w.put(ctx, k, piece.Data); err != nil {
			return err
		}
	}
	return w.send(ctx)
}

// pieceWriter sends pieces, several statements at once. The driver encodes in memory, two or
// three times over, what it is given at once: so that is bounded, also within a piece.
type pieceWriter struct {
	s     *PostgresStore
	tx    pgx.Tx
	batch pgx.Batch
	bytes int
}

// maxSent bounds the bytes of a batch.
const maxSent = 8 << 20

func (w *pieceWriter) put(ctx context.Context, k pieceKey, data []byte) error {
	parts := max(1, (len(data)+partSize-1)/partSize)
	for part := range parts {
		chunk := data[part*partSize : min(len(data), (part+1)*partSize)]
		if chunk == nil {
			chunk = []byte{}
		}
		w.batch.Queue(w.s.sql("INSERT INTO {pieces} (pipeline, partition, stage, n, part, parts, data, sum) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"),
			k.pipeline, k.partition, k.stage, k.n, part, parts, chunk, k.sum(part, parts, chunk))
		if w.bytes += len(chunk); w.bytes >= maxSent {
			if err := w.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *pieceWriter) send(ctx context.Context) error {
	if w.batch.Len() == 0 {
		return nil
	}
	err := w.tx.SendBatch(ctx, &w.batch).Close()
	w.batch, w.bytes = pgx.Batch{}, 0
	return err
}
