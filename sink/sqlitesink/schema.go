package sqlitesink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat/internal/row"
)

// quote makes an identifier of any name that holds no zero byte.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func quoteAll(columns []*row.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(c.Name)
	}
	return strings.Join(names, ", ")
}

func sqlType(k row.Kind) string {
	switch k {
	case row.Bool, row.Int, row.Uint, row.Duration:
		return "INTEGER"
	case row.Float:
		return "REAL"
	case row.Bytes:
		return "BLOB"
	}
	return "TEXT"
}

// pageSize is the size of the pages of a database that the sink makes. Rows without a key
// come one behind the other, and there are fewer pages to move from the log to the
// database when they are larger. By key, rows come in any order, and each may cost
// a page: SQLite's own size.
func pageSize(t *row.Type) int {
	if len(t.Keys()) > 0 {
		return 0
	}
	return 16384
}

func createSQL(table string, t *row.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", quote(table))
	for i := range t.Columns {
		c := &t.Columns[i]
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", quote(c.Name), sqlType(c.Kind))
		if !c.Null {
			b.WriteString(" NOT NULL")
		}
	}
	if keys := t.Keys(); len(keys) > 0 {
		fmt.Fprintf(&b, ", PRIMARY KEY (%s)", quoteAll(keys))
	}
	b.WriteString(")")
	return b.String()
}

// insertSQL is the statement that writes a row: parameter i+1 is column i. It names the
// database, because SQLite would else take a table of the image (bulk.go) for one that is gone.
func insertSQL(table string, t *row.Type) string {
	all := make([]*row.Column, len(t.Columns))
	params := make([]string, len(t.Columns))
	var updates []string
	for i := range t.Columns {
		c := &t.Columns[i]
		all[i], params[i] = c, fmt.Sprintf("?%d", i+1)
		if !c.Key {
			updates = append(updates, fmt.Sprintf("%s = excluded.%s", quote(c.Name), quote(c.Name)))
		}
	}
	q := fmt.Sprintf("INSERT INTO main.%s (%s) VALUES (%s)", quote(table), quoteAll(all), strings.Join(params, ", "))
	keys := t.Keys()
	switch {
	case len(keys) == 0:
		return q
	case len(updates) == 0:
		return q + fmt.Sprintf(" ON CONFLICT (%s) DO NOTHING", quoteAll(keys))
	}
	return q + fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s", quoteAll(keys), strings.Join(updates, ", "))
}

// tableColumn is a column of the table as it stands in the database.
type tableColumn struct {
	name      string
	generated bool
	needed    bool // an INSERT that leaves it out fails
}

// ensureTable creates the table, or checks the one that is there. held says that
// positions of earlier rows are stored.
func (s *Sink[T]) ensureTable(d *db, held bool) error {
	c, t := s.config, s.rows
	var kind string
	err := d.query("SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
		func(stmt *sqlite.Stmt) error { kind = stmt.ColumnText(0); return nil }, c.Table)
	switch {
	case err != nil:
		return err
	case kind == "view":
		return fmt.Errorf("%s is a view; the sink writes into tables", c.Table)
	case kind == "" && held:
		// An empty table would pass for one that holds all the rows so far.
		return fmt.Errorf("the table %s is gone, but %s says that rows were written; restore it, or start over with: DELETE FROM %s WHERE pipeline = %s AND sink = %s",
			c.Table, positionsTable, positionsTable, literal(s.env.Pipeline), literal(s.env.Node))
	case kind == "" && c.MustExist:
		return fmt.Errorf("the table %s does not exist, and Config.MustExist is set", c.Table)
	case kind == "":
		return d.exec(createSQL(c.Table, t))
	}
	return s.checkColumns(d)
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// checkColumns compares the table with the row type and adds what it may.
func (s *Sink[T]) checkColumns(d *db) error {
	there, err := s.tableColumns(d)
	if err != nil {
		return err
	}
	var faults []error
	var missing []*row.Column
	mine := make(map[string]bool, len(s.rows.Columns))
	for i := range s.rows.Columns {
		c := &s.rows.Columns[i]
		folded := foldASCII(c.Name)
		mine[folded] = true
		switch col, ok := there[folded]; {
		case !ok:
			missing = append(missing, c)
		case col.generated:
			faults = append(faults, fmt.Errorf("the column %s of %s is generated and can't be written", c.Name, s.config.Table))
		}
	}
	if len(missing) > 0 && !s.config.AddColumns {
		names := make([]string, len(missing))
		for i, c := range missing {
			names[i] = fmt.Sprintf("%s %s", quote(c.Name), sqlType(c.Kind))
		}
		faults = append(faults, fmt.Errorf("the table %s lacks these columns of %v: %s; set Config.AddColumns, or add them yourself",
			s.config.Table, s.rows, strings.Join(names, ", ")))
		missing = nil
	}
	for _, c := range missing {
		if c.Key {
			faults = append(faults, fmt.Errorf("the table %s lacks the key column %s, which can't be added to rows that have none; add it yourself", s.config.Table, c.Name))
		}
	}
	// Such a column would refuse every single row.
	var needed []string
	for folded, c := range there {
		if c.needed && !mine[folded] {
			needed = append(needed, c.name)
		}
	}
	if len(needed) > 0 {
		slices.Sort(needed)
		faults = append(faults, fmt.Errorf("%v lacks these columns of the table %s, which are NOT NULL and have no default: %s",
			s.rows, s.config.Table, strings.Join(needed, ", ")))
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for _, c := range missing {
		// Nullable, whatever the field is: the rows that are there hold nothing.
		if err := d.exec(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", quote(s.config.Table), quote(c.Name), sqlType(c.Kind))); err != nil {
			return err
		}
	}
	return nil
}

// tableColumns lists the columns of the table by folded name.
func (s *Sink[T]) tableColumns(d *db) (map[string]tableColumn, error) {
	const (
		hidden          = 1 // of a virtual table
		firstGenerated  = 2
		queryTableXInfo = `SELECT name, "notnull" AND dflt_value IS NULL, hidden, pk > 0 AND upper(type) = 'INTEGER' FROM pragma_table_xinfo(?1)`
	)
	columns := make(map[string]tableColumn)
	err := d.query(queryTableXInfo, func(stmt *sqlite.Stmt) error {
		c := tableColumn{name: stmt.ColumnText(0)}
		kind := stmt.ColumnInt(2)
		c.generated = kind >= firstGenerated
		// An INTEGER PRIMARY KEY is numbered by SQLite.
		c.needed = stmt.ColumnBool(1) && kind < hidden && !stmt.ColumnBool(3)
		columns[foldASCII(c.name)] = c
		return nil
	}, s.config.Table)
	return columns, err
}

// prepareInsert prepares the INSERT, which is where SQLite tells that the key
// columns have no unique index.
func (s *Sink[T]) prepareInsert(d *db) (*sqlite.Stmt, error) {
	stmt, err := d.conn.Prepare(s.insertSQL)
	if err == nil {
		return stmt, nil
	}
	if strings.Contains(err.Error(), "ON CONFLICT clause does not match") {
		keys := s.rows.Keys()
		return nil, fmt.Errorf("rows are upserted by key, but the table %s has no unique index on exactly the key columns of %v; create one: CREATE UNIQUE INDEX %s ON %s (%s)",
			s.config.Table, s.rows, quote(s.config.Table+"_key"), quote(s.config.Table), quoteAll(keys))
	}
	return nil, err
}
