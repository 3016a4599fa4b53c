package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat/internal/cursor"
)

// db is one connection that can't write.
type db struct {
	conn *sqlite.Conn
	path string
	file os.FileInfo // that was opened
}

// openDB opens the file. Statements end when ctx does: to break off a read harms nothing.
func openDB(ctx context.Context, path string, wait time.Duration) (_ *db, err error) {
	file, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("the file does not exist; a source makes no database")
	case err != nil:
		return nil, err
	case file.IsDir():
		return nil, errors.New("it is a folder, not a database")
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	d := &db{conn: conn, path: path, file: file}
	conn.SetBusyTimeout(wait)
	conn.SetInterrupt(ctx.Done())
	if err := d.each("PRAGMA query_only=1", nil, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return d, nil
}

// replaced tells whether another file lies where the open one was.
func (d *db) replaced() bool {
	now, err := os.Stat(d.path)
	return err != nil || !os.SameFile(now, d.file)
}

func (d *db) close() error { return d.conn.Close() }

// each runs a statement once and calls row for every row of its result.
func (d *db) each(query string, args []cursor.Value, row func(stmt *sqlite.Stmt) error) error {
	stmt, trailing, err := d.conn.PrepareTransient(query)
	if err != nil {
		return err
	}
	if trailing > 0 {
		return errors.Join(errors.New("it is more than one statement"), stmt.Finalize())
	}
	bind(stmt, args)
	for {
		more, err := stmt.Step()
		if err == nil && more && row != nil {
			err = row(stmt)
		}
		if err != nil || !more {
			return errors.Join(err, stmt.Finalize())
		}
	}
}

// number runs a statement for one integer.
func (d *db) number(query string, args ...cursor.Value) (n int64, some bool, err error) {
	err = d.each(query, args, func(stmt *sqlite.Stmt) error {
		n, some = stmt.ColumnInt64(0), true
		return nil
	})
	return n, some, err
}

// snapshot runs f in a transaction: all that it reads is of one moment. It ends before
// anything is waited for: while it is open, a write-ahead log can't be reset.
func (d *db) snapshot(f func() error) (err error) {
	if err := sqlitex.Execute(d.conn, "BEGIN", nil); err != nil {
		return err
	}
	defer func() {
		old := d.conn.SetInterrupt(nil) // it has to end whatever has
		endErr := sqlitex.Execute(d.conn, "ROLLBACK", nil)
		d.conn.SetInterrupt(old)
		if err == nil && endErr != nil {
			err = fmt.Errorf("end of the read: %w", endErr)
		}
	}()
	return f()
}

func bind(stmt *sqlite.Stmt, args []cursor.Value) {
	for i, v := range args {
		switch v.Kind {
		case cursor.Null:
			stmt.BindNull(i + 1)
		case cursor.Int:
			stmt.BindInt64(i+1, v.Int)
		case cursor.Float:
			stmt.BindFloat(i+1, v.Float)
		case cursor.Text:
			stmt.BindText(i+1, v.Str)
		case cursor.Blob:
			stmt.BindBytes(i+1, []byte(v.Str))
		}
	}
}

// value reads column i of the row at hand. Text is UTF-8, whatever the database is in.
func value(stmt *sqlite.Stmt, i int) cursor.Value {
	switch stmt.ColumnType(i) {
	case sqlite.TypeInteger:
		return cursor.Value{Kind: cursor.Int, Int: stmt.ColumnInt64(i)}
	case sqlite.TypeText:
		return cursor.Value{Kind: cursor.Text, Str: stmt.ColumnText(i)}
	case sqlite.TypeFloat:
		return cursor.Value{Kind: cursor.Float, Float: stmt.ColumnFloat(i)}
	case sqlite.TypeBlob:
		b := make([]byte, stmt.ColumnLen(i))
		stmt.ColumnBytes(i, b)
		return cursor.Value{Kind: cursor.Blob, Str: string(b)}
	}
	return cursor.Value{}
}
