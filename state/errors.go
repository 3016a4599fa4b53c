package state

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leatgo/leat"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrCorrupt says that a row is damaged, or that one is missing.
	ErrCorrupt = errors.New("the saved state is damaged")
	// ErrNewer says that a newer leat has upgraded the tables (rule H6).
	ErrNewer = errors.New("the tables were made by a newer leat")
)

// readOnly is the code of PostgreSQL for a write where there are none: a standby, for the time of a
// failover.
const readOnly = "25006"

// transient are the codes of PostgreSQL for what goes away by itself (rule B8).
var transient = []string{
	"08",             // the connection
	"40001", "40P01", // serialization failure, deadlock
	"53",                      // no disk, no memory, no connections left
	"55P03", "57014", "57P05", // lock not available, query cancelled, idle too long
	"57P01", "57P02", "57P03", // shutdown, crash, still starting
	readOnly,
	"25P03", // idle in transaction for too long
}

// explain says what failed, and whether to try again.
func (s *PostgresStore) explain(what string, err error) error {
	if errors.Is(err, leat.ErrFenced) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNewer) || errors.Is(err, errOwn) {
		return fmt.Errorf("state: PostgreSQL: %s: %w", what, err)
	}
	again := s.conn == nil // it was cut off, or never came about
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		again = false
		for _, code := range transient {
			again = again || strings.HasPrefix(pg.Code, code)
		}
	}
	// PgError's text leaves out Detail and Where, which quote rows.
	err = fmt.Errorf("state: PostgreSQL: %s: %w", what, err)
	if again {
		return leat.Transient(err)
	}
	return err
}

// errOwn marks errors that are not the database's.
var errOwn = errors.New("")

func ownError(format string, args ...any) error {
	return fmt.Errorf(format+"%w", append(args, errOwn)...)
}

// corrupt says what is damaged and what to do about it.
func (s *PostgresStore) corrupt(where string, err error) error {
	return fmt.Errorf("%w: %s: %w. Restore the tables from a backup, together with what the sinks hold; or delete the rows of pipeline %q in %s and %s to start anew: "+
		"sinks that keep positions of their own go on where they are, others get rows again, and what windows and dedupe remember is lost",
		ErrCorrupt, where, err, s.pipeline, s.table("partitions"), s.table("pieces"))
}
