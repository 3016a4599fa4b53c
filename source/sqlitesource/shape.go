package sqlitesource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

// shape is a table or a query as this source reads it: which columns, in which order. It is
// immutable; another one is made when the schema has changed.
type shape struct {
	from    string        // the FROM clause; its rows are called t
	table   string        // "" for a query
	names   []string      // of the columns that are read
	exprs   []string      // the same, as SQL
	rowid   []bool        // which of them is the rowid, which each index has at its end
	columns []*row.Column // the first of them: what goes into the fields
	extra   *row.Column   // keeps what others names; nil: nothing does
	own     bool          // the first of others is the extra column's own, as sinks write it
	others  []int         // which of them are columns that the row type has not
	origins []*row.Column
	at, key []int  // which of them are the cursor, and what of the key is not in it
	keys    bool   // offsets are the cursor's values, not numbers
	seq     string // the name of the table in sqlite_sequence, if it counts the cursor
	width   int    // len(names)
}

// tableInfo is what SQLite tells of a table.
type tableInfo struct {
	name    string // as it was created
	kind    string // table, view, virtual, shadow
	noRowid bool
	columns []columnInfo
	sql     string
	primary []string   // folded, in order
	rowid   string     // a name of the rowid that no column has; "" if there is none
	alias   string     // the INTEGER PRIMARY KEY, folded
	unique  [][]string // the columns of unique indexes, folded
}

type columnInfo struct {
	name, declared string
}

func (i *tableInfo) column(name string) *columnInfo {
	for k := range i.columns {
		if fold(i.columns[k].name) == fold(name) {
			return &i.columns[k]
		}
	}
	return nil
}

// isRowid tells whether name means the rowid, by that name or as the INTEGER PRIMARY KEY.
func (i *tableInfo) isRowid(name string) bool {
	if i.rowid == "" && i.alias == "" {
		return false
	}
	if fold(name) == i.alias && i.alias != "" {
		return true
	}
	return i.column(name) == nil && slices.Contains([]string{"rowid", "_rowid_", "oid"}, fold(name)) && !i.noRowid && i.kind == "table"
}

// inspect finds out how to read what the Config names.
func (c *Config[T]) inspect(d *db) (*shape, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	var info tableInfo
	s := &shape{}
	if c.Query != "" {
		s.from = "(" + c.Query + "\n) AS t"
		info, err = queryInfo(d, s.from)
	} else {
		info, err = readTableInfo(d, c.Table)
		s.table = info.name
		s.from = "main." + quote(info.name) + " AS t"
	}
	if err != nil {
		return nil, err
	}

	if err := c.bindColumns(s, &info, t); err != nil {
		return nil, err
	}
	for i := range t.Origins {
		s.origins = append(s.origins, &t.Origins[i])
	}

	at, key := names(c.Cursor), names(c.Key)
	for what, list := range map[string][]string{"Cursor": at, "Key": key} {
		for _, name := range list {
			if info.column(name) == nil && !info.isRowid(name) {
				return nil, fmt.Errorf("%s has no column %q, which is in the %s; it has %s", c.what(), name, what, info.list())
			}
		}
	}
	told := info.kind != "table" // a query, a view: nobody but the Config knows what is unique
	unique := told && sameNames(at, key) || info.isUnique(at)
	switch {
	case unique:
		key = nil
	case len(key) > 0:
		if !told && !info.isUnique(append(slices.Clone(at), key...)) {
			return nil, fmt.Errorf("no unique index of %s says that Cursor and Key tell all rows apart, and of two that are the same one would be lost: take the primary key (leave Key empty), or CREATE UNIQUE INDEX %s ON %s (%s)",
				c.what(), quote(info.name+"_cursor"), quote(info.name), quoteAll(append(slices.Clone(at), key...)))
		}
	case len(info.primary) > 0:
		for _, k := range info.primary {
			key = append(key, info.column(k).name)
		}
	case info.rowid != "":
		key = []string{info.rowid}
	default:
		return nil, fmt.Errorf("%s has no primary key and no rowid: give a Key, the columns by which rows of equal Cursor are told apart", c.what())
	}
	for _, name := range at {
		s.at = append(s.at, s.add(&info, name))
	}
	for _, name := range key {
		if i := s.add(&info, name); !slices.Contains(s.at, i) {
			s.key = append(s.key, i)
		}
	}
	s.width = len(s.names)

	// What is called the offset: see the package comment.
	integer := c.AppendOnly && c.Query != ""
	if len(at) == 1 && c.Query == "" {
		col := info.column(at[0])
		integer = info.isRowid(at[0]) || col != nil && strings.Contains(strings.ToUpper(col.declared), "INT")
	}
	s.keys = integer && len(s.key) == 0 && len(s.at) == 1 && c.Overlap == 0 && c.OverlapUnits == 0
	if c.AppendOnly && !s.keys {
		return nil, fmt.Errorf("AppendOnly needs a cursor of unique integers, and by the schema of %s %q is none: take the INTEGER PRIMARY KEY, or an INTEGER column with a unique index", c.what(), c.Cursor)
	}
	if s.keys && info.isRowid(at[0]) && strings.Contains(strings.ToUpper(info.sql), "AUTOINCREMENT") {
		s.seq = info.name
	}
	return s, nil
}

// bindColumns finds the columns of the row type, and says what becomes of others.
func (c *Config[T]) bindColumns(s *shape, info *tableInfo, t *row.Type) error {
	var missing, extra []string
	s.extra = t.Extra()
	for i := range t.Columns {
		col := &t.Columns[i]
		switch {
		case col == s.extra:
		case info.column(col.Name) != nil || info.isRowid(col.Name):
			s.add(info, col.Name)
			s.columns = append(s.columns, col)
		case c.Missing == drift.ZeroMissing || c.Missing == drift.NullMissing && col.Null:
		default:
			missing = append(missing, quote(col.Name))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks columns of the row type %v: %s; it has %s", c.what(), t, strings.Join(missing, ", "), info.list())
	}
	if s.extra != nil && info.column(s.extra.Name) != nil {
		s.own, s.others = true, append(s.others, s.add(info, s.extra.Name))
	}
	named := foldAll(append(names(c.Cursor), names(c.Key)...)) // these are known
	for _, col := range info.columns {
		if n := len(s.names); s.add(info, col.name) == n {
			if !slices.Contains(named, fold(col.name)) {
				extra = append(extra, quote(col.name))
			}
			if s.extra == nil { // not read after all
				s.names, s.exprs, s.rowid = s.names[:n], s.exprs[:n], s.rowid[:n]
				continue
			}
			s.others = append(s.others, n)
		}
	}
	if len(extra) > 0 && c.Extra == drift.RefuseExtra {
		return fmt.Errorf("%s has columns that the row type %v has not, which Extra refuses: %s", c.what(), t, strings.Join(extra, ", "))
	}
	return nil
}

func sameNames(a, b []string) bool {
	a, b = foldAll(a), foldAll(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func foldAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fold(s)
	}
	return out
}

func quoteAll(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = quote(s)
	}
	return strings.Join(out, ", ")
}

// what names table or query in messages.
func (c *Config[T]) what() string {
	if c.Query != "" {
		return "the query"
	}
	return "the table " + c.Table
}

// add gives the number of a column that is read, which it becomes if it is not one yet.
func (s *shape) add(info *tableInfo, name string) int {
	for i, n := range s.names {
		if fold(n) == fold(name) {
			return i
		}
	}
	// With the t a name that is gone is an error, and no text of the same letters.
	expr := "t." + quote(name)
	if info.column(name) == nil {
		expr = "t." + fold(name) // the rowid
	}
	s.names = append(s.names, name)
	s.exprs = append(s.exprs, expr)
	s.rowid = append(s.rowid, info.isRowid(name))
	return len(s.names) - 1
}

// isUnique tells whether the schema makes these columns tell all rows apart.
func (i *tableInfo) isUnique(columns []string) bool {
	has := foldAll(columns)
	all := func(list []string) bool {
		for _, name := range list {
			if !slices.Contains(has, name) {
				return false
			}
		}
		return len(list) > 0
	}
	return slices.ContainsFunc(columns, i.isRowid) || all(i.primary) || slices.ContainsFunc(i.unique, all)
}

func (i *tableInfo) list() string {
	const most = 30
	var out []string
	for k, c := range i.columns {
		if k == most {
			out = append(out, "…")
			break
		}
		out = append(out, quote(c.name))
	}
	return strings.Join(out, ", ")
}

// queryInfo knows the names of a query's columns.
func queryInfo(d *db, from string) (tableInfo, error) {
	stmt, _, err := d.conn.PrepareTransient("SELECT * FROM " + from + " LIMIT 0")
	if err != nil {
		return tableInfo{}, fmt.Errorf("the query can't be read as a table: %w", err)
	}
	info := tableInfo{kind: "query"}
	for i := range stmt.ColumnCount() {
		info.columns = append(info.columns, columnInfo{name: stmt.ColumnName(i)})
	}
	return info, stmt.Finalize()
}

func readTableInfo(d *db, table string) (info tableInfo, err error) {
	name := []cursor.Value{{Kind: cursor.Text, Str: table}}
	err = d.each("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE", name, func(stmt *sqlite.Stmt) error {
		info.name, info.kind, info.noRowid = stmt.ColumnText(0), stmt.ColumnText(1), stmt.ColumnBool(2)
		return nil
	})
	if err != nil {
		return info, err
	}
	if info.name == "" {
		return info, fmt.Errorf("there is no table %s", table)
	}
	name[0].Str = info.name
	type key struct {
		at   int
		name string
	}
	var primary []key
	err = d.each("SELECT name, type, pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1", name, func(stmt *sqlite.Stmt) error {
		info.columns = append(info.columns, columnInfo{stmt.ColumnText(0), stmt.ColumnText(1)})
		if at := stmt.ColumnInt(2); at > 0 {
			primary = append(primary, key{at, fold(stmt.ColumnText(0))})
		}
		return nil
	})
	if err != nil {
		return info, err
	}
	slices.SortFunc(primary, func(a, b key) int { return a.at - b.at })
	for _, k := range primary {
		info.primary = append(info.primary, k.name)
	}
	err = d.each("SELECT sql FROM main.sqlite_schema WHERE name = ?1", name, func(stmt *sqlite.Stmt) error { info.sql = stmt.ColumnText(0); return nil })
	if err != nil {
		return info, err
	}
	if info.kind == "table" && !info.noRowid {
		for _, r := range []string{"rowid", "_rowid_", "oid"} {
			if info.column(r) == nil {
				info.rowid = r
				break
			}
		}
		// Not with DESC, which SQLite takes for an index of its own: then it is in the list below.
		if len(info.primary) == 1 && strings.EqualFold(info.column(info.primary[0]).declared, "INTEGER") {
			n, _, err := d.number("SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'", name...)
			if err != nil {
				return info, err
			}
			if n == 0 {
				info.alias = info.primary[0]
			}
		}
	}
	var indexes []cursor.Value
	err = d.each("SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND NOT partial", name, func(stmt *sqlite.Stmt) error {
		indexes = append(indexes, cursor.Value{Kind: cursor.Text, Str: stmt.ColumnText(0)})
		return nil
	})
	for _, index := range indexes {
		var columns []string
		err = errors.Join(err, d.each("SELECT ifnull(name, '') FROM pragma_index_info(?1, 'main')", []cursor.Value{index}, func(stmt *sqlite.Stmt) error {
			columns = append(columns, fold(stmt.ColumnText(0))) // "": an expression, which no column is
			return nil
		}))
		info.unique = append(info.unique, columns)
	}
	return info, err
}

// vector is columns as one side of a comparison. Texts are compared byte by byte, whatever
// collation the column has: texts that are not the same must not be equal.
func (s *shape) vector(columns []int) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = s.exprs[c]
		if strings.HasPrefix(out[i], `t."`) {
			out[i] += " COLLATE BINARY"
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// marks are as many parameters.
func marks(columns []int) string {
	if len(columns) == 1 {
		return "?"
	}
	return "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
}

func (s *shape) order() string {
	out := make([]string, 0, len(s.at)+len(s.key))
	for _, c := range append(slices.Clone(s.at), s.key...) {
		out = append(out, s.vector([]int{c}))
	}
	return " ORDER BY " + strings.Join(out, ", ")
}

// query is a SELECT under construction.
type query struct {
	where []string
	args  []cursor.Value
}

func (q *query) and(condition string, args ...cursor.Value) {
	q.where = append(q.where, condition)
	q.args = append(q.args, args...)
}

func (q *query) clause() string {
	if len(q.where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(q.where, " AND ")
}

// within adds the bounds of a range.
func (s *shape) within(q *query, r bounds) {
	if r.from.Kind != cursor.Null {
		q.and(s.vector(s.at[:1])+" >= ?", r.from)
	}
	if r.to.Kind != cursor.Null {
		q.and(s.vector(s.at[:1])+" < ?", r.to)
	}
}

// bounds are those of a Backfill; Null is none.
type bounds struct{ from, to cursor.Value }

// rows is the SELECT of rows that q says, in order.
func (s *shape) rows(q *query, limit int) string {
	return "SELECT " + strings.Join(s.exprs, ", ") + " FROM " + s.from + q.clause() + s.order() + fmt.Sprintf(" LIMIT %d", limit)
}

// behind is all rows behind a place: those of its value (two queries in one would make
// SQLite look at all of that value again and again), then those of greater ones.
func (s *shape) behind(high cursor.Place, r bounds) (same, after *query) {
	after = &query{}
	s.within(after, r)
	switch {
	case high.At == nil:
	case len(s.key) > 0 && len(high.Key) == 0: // from the first row of that value
		after.and(s.vector(s.at)+" >= "+marks(s.at), high.At...)
	default:
		after.and(s.vector(s.at)+" > "+marks(s.at), high.At...)
		if len(s.key) > 0 {
			same = &query{}
			same.and(s.vector(s.at)+" = "+marks(s.at), high.At...)
			same.and(s.vector(s.key)+" > "+marks(s.key), high.Key...)
		}
	}
	return same, after
}

// before is the rows up to a place that are looked at once more.
func (s *shape) before(high cursor.Place, lower cursor.Value) *query {
	q := &query{}
	if lower.Kind == cursor.Null {
		q.and(s.vector(s.at)+" = "+marks(s.at), high.At...)
		q.and(s.vector(s.key)+" <= "+marks(s.key), high.Key...)
		return q
	}
	q.and(s.vector(s.at[:1])+" >= ?", lower)
	if len(s.key) == 0 {
		q.and(s.vector(s.at)+" <= "+marks(s.at), high.At...)
		return q
	}
	all := append(slices.Clone(s.at), s.key...)
	q.and(s.vector(all)+" <= "+marks(all), append(slices.Clone(high.At), high.Key...)...)
	return q
}
