package state

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leatgo/leat"
)

const columns = "epoch, version, next_offset, resume, log, state, sum"

// newEpoch is above all epochs before, also those that the tables do not know of any more: of rows
// that somebody has deleted, or that a failover to a standby has lost.
const newEpoch = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

// taking makes somebody the owner of a partition, and fences the one before.
const taking = "INSERT INTO {partitions} AS p (pipeline, partition, epoch, version, owner, resume, log, state, sum) VALUES ($1, $2, " + newEpoch + ", 0, $3, '', '', '', 0) " +
	"ON CONFLICT (pipeline, partition) DO UPDATE SET epoch = greatest(p.epoch + 1, excluded.epoch), owner = $3, updated_at = now() "

// Take makes this process the owner of partitions (rule E2). It waits for a commit of the
// owner before that is under way.
func (s *PostgresStore) Take(ctx context.Context, partitions []string) (map[string]leat.StateHeld, error) {
	partitions = slices.Sorted(slices.Values(partitions)) // one order of locks for all
	partitions = slices.Compact(partitions)
	var out map[string]leat.StateHeld
	err := s.do(ctx, "take partitions", func(ctx context.Context, conn *pgx.Conn) error {
		out = map[string]leat.StateHeld{}
		taken := map[string]*owned{}
		for _, p := range partitions {
			if err := name("partition", p); err != nil {
				return err
			}
			delete(s.owned, p)
		}
		err := s.tx(ctx, conn, func(tx pgx.Tx) error {
			version := 0
			if err := s.readVersion(ctx, tx, &version); err != nil {
				return err
			}
			if version != s.schema.version { // upgraded since
				return s.newer(version)
			}
			batch := &pgx.Batch{}
			for _, p := range partitions {
				batch.Queue(s.sql(taking+"RETURNING "+columns), s.pipeline, p, owner()).
					QueryRow(func(r pgx.Row) error {
						own, rec, err := s.scan(r, p)
						if err != nil {
							return err
						}
						taken[p] = own
						if rec.begun {
							out[p] = s.held(p, own.epoch, rec)
						}
						return nil
					})
			}
			return tx.SendBatch(ctx, batch).Close()
		})
		if err == nil {
			maps.Copy(s.owned, taken)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *PostgresStore) scan(r pgx.Row, partition string) (*owned, *record, error) {
	var own owned
	var have row
	if err := r.Scan(&own.epoch, &own.version, &have.next, &have.resume, &have.log, &have.state, &have.sum); err != nil {
		return nil, nil, err
	}
	rec, err := have.decode(s.pipeline, partition, own.version)
	if err != nil {
		return nil, nil, s.corrupt(fmt.Sprintf("%s, partition %q", s.table("partitions"), partition), err)
	}
	own.extents = rec.extents
	return &own, rec, nil
}

func (s *PostgresStore) held(partition string, epoch int64, rec *record) leat.StateHeld {
	h := leat.StateHeld{Position: rec.at, Note: rec.note, Sizes: map[string]leat.StateExtent{}}
	extents := maps.Clone(rec.extents)
	for stage, e := range extents {
		h.Sizes[stage] = e.size()
	}
	h.Pieces = func(ctx context.Context, stage string) (pieces [][]byte, err error) {
		e, ok := extents[stage]
		if !ok {
			return nil, nil
		}
		err = s.do(ctx, "read state", func(ctx context.Context, conn *pgx.Conn) error {
			pieces, err = s.read(ctx, conn, partition, stage, epoch, e)
			return err
		})
		return pieces, err
	}
	return h
}

// read gives the pieces of e, as long as nobody else has taken the partition: then they may
// be replaced already.
func (s *PostgresStore) read(ctx context.Context, conn *pgx.Conn, partition, stage string, epoch int64, e extent) ([][]byte, error) {
	tx, err := s.begin(ctx, conn, oneMoment)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var now int64
	if err := tx.QueryRow(ctx, s.sql("SELECT epoch FROM {partitions} WHERE pipeline = $1 AND partition = $2"), s.pipeline, partition).Scan(&now); err != nil && err != pgx.ErrNoRows {
		return nil, err
	}
	if now != epoch {
		return nil, leat.Fenced(partition)
	}
	return s.pieces(ctx, tx, partition, stage, e)
}

func (s *PostgresStore) pieces(ctx context.Context, tx pgx.Tx, partition, stage string, e extent) ([][]byte, error) {
	rows, err := tx.Query(ctx, s.sql("SELECT n, part, parts, data, sum FROM {pieces} WHERE pipeline = $1 AND partition = $2 AND stage = $3 AND n >= $4 AND n < $5 ORDER BY n, part"),
		s.pipeline, partition, stage, e.First, e.Next)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	where := fmt.Sprintf("%s, partition %q, stage %q", s.table("pieces"), partition, stage)
	var j joiner
	for rows.Next() {
		k := pieceKey{pipeline: s.pipeline, partition: partition, stage: stage}
		var part, parts int
		var data []byte
		var stored int64
		if err := rows.Scan(&k.n, &part, &parts, &data, &stored); err != nil {
			return nil, err
		}
		if want := e.First + int64(len(j.pieces)); k.n != want {
			return nil, s.corrupt(where, fmt.Errorf("piece %d is missing", want))
		}
		if err := j.add(k, part, parts, data, stored); err != nil {
			return nil, s.corrupt(where, err)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if err := j.end(e); err != nil {
		return nil, s.corrupt(where, err)
	}
	return j.pieces, nil
}
