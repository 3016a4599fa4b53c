package sqlitesink

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
)

// trouble says whose fault an error of SQLite is, and so what becomes of it.
type trouble uint8

const (
	rowsFault trouble = iota // the row will never be taken
	unclear                  // bad SQL: of the row (a CHECK that fails to evaluate) or of the schema
	busy                     // another connection has the lock; nothing happened
	passing                  // disk full, I/O, memory: worth another try after a rewind
	lasting                  // corrupt, read-only, not a database: trying again is no use
)

func troubleOf(err error) trouble {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultConstraint, sqlite.ResultMismatch, sqlite.ResultTooBig:
		return rowsFault
	case sqlite.ResultError:
		return unclear
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol:
		return busy
	case sqlite.ResultFull, sqlite.ResultIOErr, sqlite.ResultNoMem, sqlite.ResultInterrupt:
		return passing
	}
	return lasting
}

// openError marks what Open and Restore may be tried again for (rule B8). An
// I/O error is not among them: met twice, before a rewind and after it, it is
// for people to look at.
func openError(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol, sqlite.ResultFull, sqlite.ResultNoMem:
		return leat.Transient(err)
	}
	return err
}

// refusal is why SQLite, or the binder, will not take one row.
type refusal struct {
	column string // "" when it is not about one column
	rule   string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Field gives column and rule to the statistics.
func (r *refusal) Field() (column, rule string) { return r.column, r.rule }

// refusalOf explains an error of the INSERT that is the row's own fault.
func (s *Sink[T]) refusalOf(err error) error {
	r := &refusal{err: err}
	switch code := sqlite.ErrCode(err); code {
	case sqlite.ResultConstraintCheck:
		r.rule = "check"
	case sqlite.ResultConstraintNotNull:
		r.rule = "not_null"
	case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey, sqlite.ResultConstraintRowID:
		r.rule = "unique"
	case sqlite.ResultConstraintForeignKey:
		r.rule = "foreign_key"
	case sqlite.ResultConstraintTrigger:
		r.rule = "trigger"
	default:
		switch code.ToPrimary() {
		case sqlite.ResultMismatch:
			r.rule = "type"
		case sqlite.ResultTooBig:
			r.rule = "size"
		default:
			r.rule = "constraint"
		}
	}
	// SQLite names a column as table.column at the end of the message.
	msg := err.Error()
	for i := range s.rows.Columns {
		if name := s.rows.Columns[i].Name; strings.HasSuffix(msg, ": "+s.config.Table+"."+name) {
			r.column = name
			break
		}
	}
	return r
}

func refuse(column, rule, format string, args ...any) error {
	return &refusal{column, rule, fmt.Errorf("column %s: "+format, append([]any{column}, args...)...)}
}
