package sqlitesource

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

// Config says which rows to read, and in which order. T is a struct; its columns are
// found by name. Path, Cursor, and Table or Query are needed.
type Config[T any] struct {
	// Name keys positions, metrics and dead letters, so it must be stable. Defaults to
	// Table, or "sqlite" for a Query; with a Backfill, "-backfill" is added.
	Name string

	// Path is the database file. It is opened for reading only.
	Path string

	// Table is a table or a view. Either Table or Query must be set.
	Table string

	// Query is a SELECT whose rows are read, without parameters. SQLite is asked for its
	// rows page by page, WHERE the cursor is greater: so it should be one that
	// SQLite can answer from the middle by an index.
	Query string

	// Cursor is the column whose order is the order of reading, and of which rows that
	// are new have greater values than rows that were read: an id, a time of change.
	// Several are separated by commas. It can't be NULL, and all its values must be of
	// one kind: numbers, texts or blobs. See the package comment on late rows.
	Cursor string

	// Key is the column, or the columns, by which rows of equal Cursor are told apart.
	// Defaults to the table's primary key, or the rowid if it has none. A Query and a
	// view have no default: where the Cursor alone is unique, give it here too.
	Key string

	// Extra says what becomes of columns that the row type has not, Missing of those that
	// the table has not. They are looked at when the source starts, and when the schema
	// changes. Default to drift.IgnoreExtra and drift.RefuseMissing. A column tagged
	// `leat:",extra"` keeps the values of extra ones, but for NULL, at the cost of a map for
	// each row.
	Extra   drift.Extra
	Missing drift.Missing

	// Log names what is read, in positions (rule A2-1): a position that was taken under
	// another name is refused. Defaults to the absolute path of the file, the table (or a
	// checksum of the Query) and the cursor; give a name of your own to be free to
	// move the file or to reword the Query.
	Log string

	// Every makes the source look for new rows again and again, so long after it has
	// read all there are. 0, the default, reads what is there and ends.
	Every time.Duration

	// AppendOnly asserts that rows are never changed or inserted below the greatest
	// cursor, and never deleted before all sinks have them. The cursor must be one
	// unique integer. Then a second read gives the same rows at the same offsets
	// (leat.ReplayExact), and sinks that keep positions have each row exactly once.
	// What can be checked is: see the package comment.
	AppendOnly bool

	// Purged says that rows that were read may be deleted, the newest ones too. Without
	// it, it is an error when the table ends before the position that was
	// reached (rule A2-1): it would mean an older copy of the database, or that SQLite
	// will give the ids of deleted rows a second time. Not needed for a key that is
	// AUTOINCREMENT, nor for texts.
	Purged bool

	// Overlap is for rows that commit late: it is how far below the greatest time that
	// was read is looked again, for rows that were not there. The first column
	// of the Cursor must be a time.Time in T. OverlapUnits is the same for a cursor
	// of integers, in its own unit: ids, seconds. Default to 0: at the greatest
	// value only.
	Overlap      time.Duration
	OverlapUnits int64

	// MaxSeen is how many rows within the overlap are remembered; they are part of the
	// position, with some 25 bytes each. Reading ends with an error when there are more.
	// Defaults to 10,000.
	MaxSeen int

	// Backfill, if set, makes the source read the rows of a range once more and end, as
	// a partition of its own: see Range.
	Backfill Range

	// PageRows and PageBytes bound what is read at once, handed on as one batch and held
	// in memory. No transaction is open while the pipeline takes a batch. Default
	// to 4,096 rows and 1 MiB.
	PageRows  int
	PageBytes int

	// BusyTimeout is how long to wait for a writer that has locked the database (not in
	// WAL mode, where readers don't wait) before the engine is told to retry with
	// backoff. Defaults to 5 s; a negative value does not wait at all.
	BusyTimeout time.Duration
}

// Range is a half-open range [From, To) of the cursor's first column: an integer, a float,
// a string, bytes, or a time.Time where T has a time for it.
//
// A range is read as the partition backfill-NAME, with a position of its own; the live
// reading of the same table neither sees nor moves it (rule I1). When it was read to its
// end, another run reads nothing: give it another Name to read it again. To do both in one
// run, give the pipeline two sources and merge them; to do it while the live pipeline
// runs, let a pipeline with another name, and so with its own state, do it.
type Range struct {
	// From is the first value; nil is from the beginning.
	From any

	// To is the first value that is not read any more. It must be set.
	To any

	// Name defaults to From..To.
	Name string
}

func (r Range) set() bool { return r.From != nil || r.To != nil || r.Name != "" }

func (r Range) name() string {
	if r.Name != "" {
		return r.Name
	}
	text := func(v any) string {
		switch v := v.(type) {
		case nil:
			return ""
		case time.Time:
			return v.UTC().Format(time.RFC3339Nano)
		}
		return fmt.Sprint(v)
	}
	return text(r.From) + ".." + text(r.To)
}

const (
	defaultPageRows  = 4096
	defaultPageBytes = 1 << 20
	defaultMaxSeen   = 10_000
	defaultBusy      = 5 * time.Second
)

func (c *Config[T]) name() string {
	name := c.Name
	if name == "" {
		if name = c.Table; name == "" {
			name = "sqlite"
		}
		if c.Backfill.set() {
			name += "-backfill"
		}
	}
	return name
}

func orDefault[N int | time.Duration](v, def N) N {
	if v == 0 {
		return def
	}
	return v
}

// names splits a list of columns.
func names(list string) []string {
	if strings.TrimSpace(list) == "" {
		return nil
	}
	out := strings.Split(list, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}

// log is the name of what is read; how says what its offsets are.
func (c *Config[T]) log(how string) (string, error) {
	name := c.Log
	if name == "" {
		path, err := filepath.Abs(c.Path)
		if err != nil {
			return "", err
		}
		what := "table " + c.Table
		if c.Query != "" {
			what = "query " + checksum(c.Query)
		}
		name = fmt.Sprintf("%s, %s, by %s", path, what, strings.Join(names(c.Cursor), ", "))
	}
	if c.Backfill.set() {
		name += ", range " + c.Backfill.name()
	}
	return name + ", " + how, nil
}

// bound is a value of a Range as the database has it.
func bound(t *row.Type, column string, v any) (cursor.Value, error) {
	at, isTime := v.(time.Time)
	if !isTime {
		return cursor.Of(v)
	}
	col := t.Column(column)
	if col == nil || col.Kind != row.Time {
		return cursor.Value{}, fmt.Errorf("the row type has no time.Time for %s, so that its layout is not known: give a string", column)
	}
	return cursor.Value{Kind: cursor.Text, Str: string(col.AppendTime(nil, at))}, nil
}

func (c *Config[T]) faults() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("sqlitesource: "+format, args...))
	}
	switch {
	case c.Path == "":
		fault("Path is empty: it is the database file")
	case c.Path == ":memory:" || strings.HasPrefix(c.Path, "file:"):
		fault("Path %q: give the path of a file", c.Path)
	case strings.Contains(c.Path, "\x00"):
		fault("Path %q holds a zero byte", c.Path)
	}
	switch {
	case c.Table == "" && strings.TrimSpace(c.Query) == "":
		fault("there is no Table, and no Query")
	case c.Table != "" && c.Query != "":
		fault("there are a Table and a Query: one of them")
	case strings.Contains(c.Table+c.Query, "\x00"):
		fault("Table or Query holds a zero byte")
	}
	columns, keys := names(c.Cursor), names(c.Key)
	if len(columns) == 0 {
		fault("Cursor is empty: it is the column in whose order rows are read, such as an id or a time of change")
	}
	for field, list := range map[string][]string{"Cursor": columns, "Key": keys} {
		for i, name := range list {
			if name == "" || slices.Contains(list[:i], name) || strings.Contains(name, "\x00") {
				fault("%s %q: a name is empty or there twice", field, strings.Join(list, ", "))
				break
			}
		}
	}
	if c.Query != "" && len(keys) == 0 {
		fault("a Query needs a Key, the columns by which rows of equal Cursor are told apart; if the Cursor is unique, give it as Key too")
	}
	overlap := c.Overlap != 0 || c.OverlapUnits != 0
	switch {
	case c.Overlap < 0 || c.OverlapUnits < 0:
		fault("Overlap or OverlapUnits is negative")
	case c.Overlap != 0 && c.OverlapUnits != 0:
		fault("Overlap is for times, OverlapUnits for integers: one of them")
	case overlap && c.AppendOnly:
		fault("AppendOnly says that no row comes late, Overlap is for rows that do")
	case overlap && c.Backfill.set():
		fault("a Backfill has no Overlap: it reads its range once")
	}
	if c.AppendOnly && len(columns) > 1 {
		fault("AppendOnly needs a Cursor of one column, a unique integer")
	}
	if c.AppendOnly && c.Query != "" && len(columns) == 1 && !slices.Equal(columns, keys) {
		fault("AppendOnly of a Query needs a unique Cursor: give it as Key too")
	}
	if c.Extra > drift.RefuseExtra {
		fault("Extra %d: there are drift.IgnoreExtra and drift.RefuseExtra", c.Extra)
	}
	if c.Missing > drift.ZeroMissing {
		fault("Missing %d: there are drift.RefuseMissing, drift.NullMissing and drift.ZeroMissing", c.Missing)
	}
	if c.Every < 0 {
		fault("Every %v is negative", c.Every)
	}
	if c.MaxSeen < 0 || c.PageRows < 0 || c.PageBytes < 0 {
		fault("MaxSeen, PageRows or PageBytes is negative")
	}
	t, err := row.Of[T]()
	switch {
	case err != nil:
		faults = append(faults, fmt.Errorf("sqlitesource: %w", err))
		return errors.Join(faults...)
	case len(t.Columns) == 0:
		fault("the row type %v has no columns", t)
	}
	for i := range t.Columns {
		if col := &t.Columns[i]; !col.CanParse() && !col.Extra {
			fault("column %s: a %v can't be read from a column of SQLite; give its type an UnmarshalText method, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
		}
	}
	if c.Overlap > 0 && len(columns) > 0 {
		if col := t.Column(columns[0]); col == nil || col.Kind != row.Time {
			fault("Overlap needs a time.Time in the row type for %s, so that its layout is known; for a cursor of integers there is OverlapUnits", columns[0])
		}
	}
	if c.Backfill.set() {
		if c.Every != 0 {
			fault("a Backfill ends when its range is read: it has no Every")
		}
		if c.Backfill.To == nil {
			fault("Backfill.To must be set: to where the live reading has come, or further")
		}
		for what, v := range map[string]any{"From": c.Backfill.From, "To": c.Backfill.To} {
			if v == nil || len(columns) == 0 {
				continue
			}
			if _, err := bound(t, columns[0], v); err != nil {
				fault("Backfill.%s: %w", what, err)
			}
		}
	}
	return errors.Join(faults...)
}
