package sqlitesink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/row"
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
// for people to look at. What SQLite says of the disk is short, so the system is
// asked what is wrong with the folder.
func openError(path string, err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol, sqlite.ResultNoMem:
		return leat.Transient(err)
	case sqlite.ResultFull, sqlite.ResultIOErr, sqlite.ResultCantOpen:
		full := sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull || sqlite.ErrCode(err) == sqlite.ResultIOErrSHMSize
		if reason := tryFolder(filepath.Dir(path)); reason != nil {
			err, full = fmt.Errorf("%w (%w)", err, reason), full || durable.Full(reason)
		}
		if full {
			return leat.Transient(err)
		}
	case sqlite.ResultReadOnly:
		if reason := tryFolder(filepath.Dir(path)); reason != nil {
			err = fmt.Errorf("%w (%w)", err, reason)
		}
	}
	return advise(err)
}

// advise adds what to do to an error that does not go away by itself.
func advise(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly:
		return fmt.Errorf("%w: give the program the right to write to it, and to its folder; if it has that, the database is damaged: restore it from a backup", err)
	case sqlite.ResultError: // "no such column", "unsupported file format", "malformed database schema"
		return fmt.Errorf("%w: the schema is not as leat has made it: if nobody has changed it, and no newer SQLite has written it, the database is damaged: restore it from a backup", err)
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return fmt.Errorf("%w: the database is damaged; nothing was changed: restore it from a backup, or move it away to load it from the start", err)
	}
	return err
}

// tryFolder gives the system's reason why a file in dir can't be made or written; nil if
// it can.
func tryFolder(dir string) error {
	f, err := os.CreateTemp(dir, ".leat-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 32<<10)) // as much as the index of a write-ahead log begins with
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// refusalOf explains an error of the INSERT that is the row's own fault.
func (s *Sink[T]) refusalOf(err error) error {
	r := &row.Refusal{Err: err}
	switch code := sqlite.ErrCode(err); code {
	case sqlite.ResultConstraintCheck:
		r.Rule = "check"
	case sqlite.ResultConstraintNotNull:
		r.Rule = "not_null"
	case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey, sqlite.ResultConstraintRowID:
		r.Rule = "unique"
	case sqlite.ResultConstraintForeignKey:
		r.Rule = "foreign_key"
	case sqlite.ResultConstraintTrigger:
		r.Rule = "trigger"
	default:
		switch code.ToPrimary() {
		case sqlite.ResultMismatch:
			r.Rule = "type"
		case sqlite.ResultTooBig:
			r.Rule = "size"
		default:
			r.Rule = "constraint"
		}
	}
	// SQLite names a column as table.column at the end of the message.
	msg := err.Error()
	for i := range s.rows.Columns {
		if name := s.rows.Columns[i].Name; strings.HasSuffix(msg, ": "+s.config.Table+"."+name) {
			r.Column = name
			break
		}
	}
	return r
}

func refuse(column, rule, format string, args ...any) error {
	return &row.Refusal{Column: column, Rule: rule, Err: fmt.Errorf("column %s: "+format, append([]any{column}, args...)...)}
}
