package sqlitesink

import (
	"errors"
	"math"
	"runtime/debug"
	"unsafe"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// binder binds the columns of one row to the parameters of the INSERT.
type binder struct {
	columns []row.Column
	limit   int    // most bytes of one value
	scratch []byte // for the text of a time
}

// bind binds the row at p. An error is always the row's own fault.
func (b *binder) bind(stmt *sqlite.Stmt, p unsafe.Pointer) (err error) {
	defer func() {
		// Rule A9: a user's MarshalText that panics costs its row, and not the
		// transaction with the savepoint open.
		if v := recover(); v != nil {
			err = &row.Refusal{Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	for i := range b.columns {
		c := &b.columns[i]
		v, err := c.Value(p)
		if err != nil {
			return valueRefusal(c, err)
		}
		if v.Null {
			stmt.BindNull(i + 1)
			continue
		}
		switch v.Kind {
		case row.String:
			if len(v.Str) > b.limit {
				return tooBig(c, len(v.Str), b.limit)
			}
			stmt.BindText(i+1, v.Str)
		case row.Int, row.Bool, row.Duration:
			stmt.BindInt64(i+1, v.Int)
		case row.Uint:
			if v.Uint > math.MaxInt64 {
				return refuse(c.Name, row.RuleRange, "%d is out of range: an SQLite integer ends at %d", v.Uint, int64(math.MaxInt64))
			}
			stmt.BindInt64(i+1, int64(v.Uint))
		case row.Float:
			if math.IsNaN(v.Float) {
				// SQLite would make NULL of it, without a word.
				return refuse(c.Name, row.RuleRange, "SQLite can't store NaN")
			}
			stmt.BindFloat(i+1, v.Float)
		case row.Time:
			if y := v.Time.UTC().Year(); y < 0 || y > 9999 {
				return refuse(c.Name, row.RuleRange, "the year %d is outside 0 to 9999: its text could be neither sorted nor read", y)
			}
			b.scratch = c.AppendTime(b.scratch[:0], v.Time)
			// BindText copies the text before it returns.
			stmt.BindText(i+1, unsafe.String(unsafe.SliceData(b.scratch), len(b.scratch)))
		case row.Bytes:
			if len(v.Bytes) > b.limit {
				return tooBig(c, len(v.Bytes), b.limit)
			}
			stmt.BindBytes(i+1, v.Bytes)
		default:
			return refuse(c.Name, row.RuleType, "a %v has no SQL type", c.Type)
		}
	}
	return nil
}

// tooBig comes before the binding: SQLite takes lengths as int32 and would read
// beyond a text of 2 GiB.
func tooBig(c *row.Column, size, limit int) error {
	return refuse(c.Name, "size", "%d bytes are more than the %d that SQLite takes", size, limit)
}

func valueRefusal(c *row.Column, err error) error {
	r := &row.Refusal{Column: c.Name, Rule: row.RuleType, Err: err}
	if e, ok := errors.AsType[*row.Error](err); ok {
		r.Rule = e.Rule()
	}
	return r
}
