package sqlitesink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unsafe"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/internal/sqlitepage"
)

const (
	// bulkSchema is the name that the image is attached by.
	bulkSchema = "leat_bulk"

	// bulkFrom is from how many rows on the short way is the shorter one.
	bulkFrom = 16

	// bulkPause is the most batches that go the long way after a conflict.
	bulkPause = 64
)

// bulk is the short way of many rows into a table that has nothing but columns: they are
// laid out as pages of a database in memory (internal/sqlitepage), and one INSERT …
// SELECT lets SQLite copy the records as they are. It writes what insertAll would
// write, or nothing: whatever is out of the ordinary is left to insertAll, which
// also knows the words for it.
//
// It is SQLite that decides whether the table is plain enough, and it is asked again when
// the schema has changed. Only what SQLite does not compare is looked at here: that
// the columns are ours, in our order.
type bulk struct {
	db     *db
	table  string
	rows   *row.Type
	size   uintptr // of a row
	logger *slog.Logger

	asked  bool
	schema int64  // the PRAGMA schema_version that slow was found out for
	slow   string // why rows go the long way: "" when they do not
	broken bool   // SQLite has read something else than the image: never again in this life

	image    *sqlitepage.Image
	attached bool
	shape    []bulkColumn // of the table in the image
	insert   *sqlite.Stmt

	pause, after int // batches to leave out now, and after the next conflict

	batches int  // that went the short way
	stale   bool // set by tests: SQLite keeps what it has cached
}

// bulkColumn is a column of the table as the image has to know it.
type bulkColumn struct {
	column *row.Column
	rowid  bool // it is the INTEGER PRIMARY KEY
}

// ready finds out whether the next batch is to go the short way. The transaction has to be
// open: as long as it is, nobody changes the schema. An error means that SQLite has
// ended the transaction; of all others the long way is to tell.
func (b *bulk) ready() (ready bool, err error) {
	switch {
	case b.broken:
		return false, nil
	case b.pause > 0:
		b.pause--
		return false, nil
	}
	var version int64
	err = b.db.query("PRAGMA main.schema_version", func(stmt *sqlite.Stmt) error { version = stmt.ColumnInt64(0); return nil })
	if err == nil && (!b.asked || version != b.schema) {
		b.asked, b.schema = true, version
		if b.slow, err = b.look(); err != nil {
			b.slow = err.Error()
		}
		if b.slow != "" {
			b.logger.Debug("rows are written one by one", "because", b.slow)
		}
	}
	if !b.db.inTx() {
		return false, err
	}
	return err == nil && b.slow == "", nil
}

// querySchemaFormat reads the schema format from the header of the database. Below 4 there are
// no types for the integers 0 and 1, which the records of the image have; SQLite
// copies them all the same.
const querySchemaFormat = "SELECT hex(substr(data, 45, 4)) FROM sqlite_dbpage('main') WHERE pgno = 1"

// look gives the reason why the table can't, or "".
func (b *bulk) look() (slow string, err error) {
	format := ""
	err = b.db.query(querySchemaFormat, func(stmt *sqlite.Stmt) error { format = stmt.ColumnText(0); return nil })
	if err != nil {
		return "", err
	}
	if format != "00000004" {
		return "the database has the file format of an SQLite before 3.7.10", nil
	}
	shape, slow, err := b.tableShape()
	if slow != "" || err != nil {
		return slow, err
	}
	if b.image == nil {
		if err := b.makeImage(shape); err != nil {
			return "", err
		}
	} else if !slices.Equal(b.shape, shape) {
		return "its columns have changed", nil
	}
	if !b.attached {
		if err := b.image.Attach(b.db.conn, bulkSchema); err != nil {
			return "", err
		}
		b.attached = true
	}
	return b.explain()
}

// tableShape gives the columns in the order of the table. SQLite does not compare names
// when it copies records, so a table that has others is out.
func (b *bulk) tableShape() (shape []bulkColumn, slow string, err error) {
	mine := make(map[string]*row.Column, len(b.rows.Columns))
	for i := range b.rows.Columns {
		mine[foldASCII(b.rows.Columns[i].Name)] = &b.rows.Columns[i]
	}
	keys := 0
	err = b.db.query("SELECT name, pk, upper(type) = 'INTEGER' FROM pragma_table_xinfo(?1, 'main')", func(stmt *sqlite.Stmt) error {
		c := bulkColumn{column: mine[foldASCII(stmt.ColumnText(0))]}
		if c.column == nil {
			slow = fmt.Sprintf("the rows have no column %s", stmt.ColumnText(0))
		}
		if stmt.ColumnInt(1) > 0 {
			keys++
			c.rowid = stmt.ColumnBool(2)
		}
		shape = append(shape, c)
		return nil
	}, b.table)
	switch {
	case err != nil || slow != "":
		return nil, slow, err
	case len(shape) != len(mine):
		return nil, "the table lacks columns", nil
	case keys > 1:
		return nil, "its primary key has more than one column", nil
	}
	return shape, "", nil
}

// makeImage makes the image with the types that columns have in a table of ours.
func (b *bulk) makeImage(shape []bulkColumn) (err error) {
	columns, key := make([]*row.Column, len(shape)), -1
	defs := make([]string, len(shape))
	for i, c := range shape {
		columns[i] = c.column
		defs[i] = quote(c.column.Name) + " " + sqlType(c.column.Kind)
		if c.rowid {
			key = i
			defs[i] += " PRIMARY KEY"
		}
		if !c.column.Null {
			defs[i] += " NOT NULL"
		}
	}
	b.image, err = sqlitepage.New(fmt.Sprintf("CREATE TABLE %s (%s)", sqlitepage.Table, strings.Join(defs, ", ")), columns, key, b.size)
	b.shape = shape
	return err
}

// explain asks SQLite how it would run the statement. OR ABORT: whatever the table wants done
// at a conflict (it may say ROLLBACK, or REPLACE), it is the long way that does it.
func (b *bulk) explain() (slow string, err error) {
	query := fmt.Sprintf("INSERT OR ABORT INTO main.%s SELECT * FROM %s.%s", quote(b.table), bulkSchema, sqlitepage.Table)
	stmt, _, err := b.db.conn.PrepareTransient("EXPLAIN " + query)
	if err != nil {
		return "", err
	}
	defer func() { _ = stmt.Finalize() }()
	copied, made := false, false
	for {
		more, err := stmt.Step()
		if err != nil {
			return "", err
		}
		if !more {
			break
		}
		switch stmt.ColumnText(1) {
		case "RowData", "RowCell": // of the image, as it is
			copied = true
		case "MakeRecord": // from its values, on the way of every INSERT
			made = true
		}
	}
	if !copied || made {
		return "SQLite does not copy records into a table like this", nil
	}
	b.insert, err = b.db.conn.Prepare(query)
	return "", err
}

// write writes n rows, or says that it did not and that what it did must be
// undone. An error means that SQLite has ended the transaction, or that ctx has ended.
func (b *bulk) write(ctx context.Context, rows unsafe.Pointer, n int) (written bool, err error) {
	for done := 0; done < n; {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		taken, fine := b.image.Fill(unsafe.Add(rows, uintptr(done)*b.size), n-done)
		if !fine {
			return false, nil
		}
		// SQLite forgets what it has cached of the image, and with it whatever it has cached
		// in this process and can read again.
		if !b.stale {
			err = b.db.exec("PRAGMA shrink_memory")
		}
		if err == nil {
			_, err = b.insert.Step()
		}
		if err == nil {
			err = b.insert.Reset()
		}
		if err != nil {
			if !b.db.inTx() {
				return false, err
			}
			// A conflict, most likely with an earlier row: then there are more to come.
			b.after = min(max(1, 2*b.after), bulkPause)
			b.pause = b.after
			return false, nil
		}
		// Each page read once: the records are those of the image as it is now. As many
		// as there are rows: they are all of them.
		if !b.image.Seen() || b.db.conn.Changes() != taken {
			b.broken = true
			b.logger.Warn("SQLite did not read the rows as they were handed to it; until the sink is opened again they are written one by one")
			return false, nil
		}
		done += taken
	}
	b.after = 0
	b.batches++
	return true, nil
}

// close forgets the image. The connection must be closed.
func (b *bulk) close() {
	if b.image != nil {
		b.image.Close()
	}
}
