package state

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// schema is the version of the tables and the way to it from older ones (rule H6).
//
// To change the tables: raise current.version, add the step from the version before, and
// add the statements that made the old tables to the tests. A step that is in a release is
// never changed.
type schema struct {
	version int
	steps   map[int]string // by the version it starts from: makes the next one of it
}

// The first step makes the tables of version 1 out of nothing.
var current = schema{version: 1, steps: map[int]string{0: `
CREATE TABLE {partitions} (
	pipeline    text NOT NULL,
	partition   text NOT NULL,
	epoch       bigint NOT NULL,           -- grows whenever it is taken
	version     bigint NOT NULL,           -- how often it was committed
	owner       text NOT NULL,             -- who took it last, for people
	next_offset bigint,                    -- null: nothing is held yet
	resume      bytea NOT NULL,
	log         bytea NOT NULL,
	state       text NOT NULL,             -- clean, stages with their fingerprints, pieces; as JSON
	sum         bigint NOT NULL,           -- CRC-32C of all but epoch, version and owner
	updated_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (pipeline, partition)
);
CREATE TABLE {pieces} (
	pipeline  text NOT NULL,
	partition text NOT NULL,
	stage     text NOT NULL,
	n         bigint NOT NULL,             -- number of the piece
	part      integer NOT NULL,            -- of so many parts
	parts     integer NOT NULL,
	data      bytea NOT NULL,
	sum       bigint NOT NULL,             -- CRC-32C of the row
	PRIMARY KEY (pipeline, partition, stage, n, part)
)`}}

// prepare makes or upgrades the tables, in one transaction.
func (s *PostgresStore) prepare(ctx context.Context, conn *pgx.Conn) error {
	return s.tx(ctx, conn, func(tx pgx.Tx) error {
		// Of processes that start at once one does it.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('leat_state ' || $1, 0))", s.config.Schema); err != nil {
			return err
		}
		if name := s.config.Schema; name != "" {
			var there bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name).Scan(&there); err != nil {
				return err
			}
			if !there {
				if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{name}.Sanitize()); err != nil {
					return err
				}
			}
		}
		version, there, err := s.found(ctx, tx)
		if err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, s.sql("CREATE TABLE {version} (version integer NOT NULL); INSERT INTO {version} VALUES (0)")); err != nil {
				return err
			}
		}
		if version > s.schema.version {
			return s.newer(version)
		}
		for v := version; v < s.schema.version; v++ {
			step, ok := s.schema.steps[v]
			if !ok {
				return ownError("there is no way from version %d of the tables to %d", v, v+1)
			}
			if _, err := tx.Exec(ctx, s.sql(step)); err != nil {
				return fmt.Errorf("from version %d of the tables to %d: %w", v, v+1, err)
			}
		}
		if version == s.schema.version {
			return nil
		}
		_, err = tx.Exec(ctx, s.sql("UPDATE {version} SET version = $1"), s.schema.version)
		return err
	})
}

// look refuses tables that are missing or of another version, and changes nothing.
func (s *PostgresStore) look(ctx context.Context, conn *pgx.Conn) error {
	return s.tx(ctx, conn, func(tx pgx.Tx) error {
		version, there, err := s.found(ctx, tx)
		switch {
		case err != nil:
			return err
		case !there:
			return ownError("there is no table %s, so no pipeline has kept its state here", s.table("version"))
		case version > s.schema.version:
			return s.newer(version)
		case version < s.schema.version:
			return ownError("the tables have version %d and this program reads version %d: use the program that runs the pipelines", version, s.schema.version)
		}
		return nil
	})
}

// found gives the version of the tables, if there are any.
func (s *PostgresStore) found(ctx context.Context, tx pgx.Tx) (version int, there bool, err error) {
	err = tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.table("version")).Scan(&there)
	if err == nil && there {
		err = s.readVersion(ctx, tx, &version)
	}
	return version, there, err
}

func (s *PostgresStore) newer(version int) error {
	return fmt.Errorf("%w: they have version %d and this program knows up to %d; run the newer program", ErrNewer, version, s.schema.version)
}

func (s *PostgresStore) readVersion(ctx context.Context, tx pgx.Tx, version *int) error {
	rows, err := tx.Query(ctx, s.sql("SELECT version FROM {version}"))
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0] < 0 {
		return s.corrupt(s.table("version"), fmt.Errorf("it has %d rows and should have one", len(all)))
	}
	*version = all[0]
	return nil
}

// tx runs f in a transaction.
func (s *PostgresStore) tx(ctx context.Context, conn *pgx.Conn, f func(tx pgx.Tx) error) error {
	tx, err := s.begin(ctx, conn, readWrite)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback(ctx) // if that fails, the connection is given up
		return err
	}
	return tx.Commit(ctx)
}
