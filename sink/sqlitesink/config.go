package sqlitesink

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// Config says where the rows of type T go. Path and Table are needed; the zero
// value of all else is safe.
type Config[T any] struct {
	// Name keys the sink's positions, metrics and dead letters, so it must be
	// stable. Defaults to Table.
	Name string

	// Path is the database file. It is created when it is missing (the package comment
	// tells with pages of which size); its folder must exist. A database in memory
	// is refused: it would forget its rows at the first rewind.
	Path string

	// Table is created from the row type when it is missing.
	Table string

	// MustExist makes a missing table an error instead.
	MustExist bool

	// AddColumns adds the columns that the table lacks (ALTER TABLE ADD COLUMN).
	// They accept NULL, which is what the rows already there hold. Without it,
	// the default, Open fails and lists them. Key columns are never added.
	AddColumns bool

	// Synchronous is what a commit waits for. Defaults to Full.
	Synchronous Synchronous

	// BusyTimeout is how long to wait for another writer before the engine is
	// told to retry with backoff. Nothing is lost by waiting or by giving up.
	// Defaults to 5 s; a negative value does not wait at all.
	BusyTimeout time.Duration
}

// Synchronous is when SQLite calls fsync.
type Synchronous uint8

const (
	// Full syncs the write-ahead log at every commit: what is committed
	// survives a power cut.
	Full Synchronous = iota

	// Normal syncs only when the log is copied into the database. A crash of the
	// process costs nothing. A power cut may undo the last commits, rows and
	// positions together, after the source was told that they are durable: the
	// source must be able to read those rows again (files kept, a Kafka topic
	// with retention), and a pipeline whose stages keep state refuses to start
	// until that state is cleared (rule E7-4).
	Normal
)

// New returns a sink that writes into an SQLite table. It only remembers c:
// Validate tells what is wrong with it, and Open opens the database.
func New[T any](c Config[T]) *Sink[T] { return &Sink[T]{config: c} }

// Name is Config.Name or the table's name.
func (s *Sink[T]) Name() string {
	if s.config.Name != "" {
		return s.config.Name
	}
	return s.config.Table
}

// Guarantee is leat.ExactlyOnce.
func (s *Sink[T]) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

// Validate reports all faults of the Config and of the row type, joined.
func (s *Sink[T]) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("sqlitesink: "+format, args...))
	}
	c := s.config
	switch {
	case c.Path == "":
		fault("Path is empty: it is the database file")
	case c.Path == ":memory:":
		fault("Path :memory: would forget its rows at the first rewind; give a file")
	case strings.HasPrefix(c.Path, "file:"):
		fault("Path %q is a URI; give the path of the file", c.Path)
	case strings.Contains(c.Path, "\x00"):
		fault("Path %q holds a zero byte", c.Path)
	}
	switch table := foldASCII(c.Table); {
	case c.Table == "":
		fault("Table is empty")
	case table == positionsTable:
		fault("Table %q is where leat keeps its positions; choose another name", c.Table)
	case strings.HasPrefix(table, "sqlite_"):
		fault("Table %q: SQLite keeps names that begin with sqlite_ for itself", c.Table)
	case strings.Contains(c.Table, "\x00") || !utf8.ValidString(c.Table):
		fault("Table %q is no name: it holds a zero byte or is not UTF-8", c.Table)
	}
	if c.Synchronous > Normal {
		fault("Synchronous %d: there are Full and Normal", c.Synchronous)
	}
	t, err := row.Of[T]()
	if err != nil {
		return errors.Join(append(faults, fmt.Errorf("sqlitesink: %w", err))...)
	}
	if len(t.Columns) == 0 {
		fault("row type %v has no columns", t)
	}
	seen := make(map[string]string, len(t.Columns))
	for i := range t.Columns {
		col := &t.Columns[i]
		if col.Kind == row.Other {
			fault("column %s: a %v has no SQL type; give it a MarshalText, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
		} else if !col.CanValue() {
			fault("column %s: a %v cannot be written, it has no MarshalText", col.Name, col.Type)
		}
		if col.Key && col.Null {
			fault("column %s: a key can't be null, and NULLs never conflict in SQLite; use a plain type", col.Name)
		}
		// Column names of SQLite differ by more than the case of ASCII letters.
		folded := foldASCII(col.Name)
		if first, ok := seen[folded]; ok {
			fault("columns %s and %s are the same name to SQLite; rename one with a `leat` tag", first, col.Name)
		}
		seen[folded] = col.Name
	}
	return errors.Join(faults...)
}

func (c Config[T]) busyTimeout() time.Duration {
	switch {
	case c.BusyTimeout == 0:
		return 5 * time.Second
	case c.BusyTimeout < 0:
		return 0
	}
	return c.BusyTimeout
}

// foldASCII lowers ASCII letters only: SQLite compares names like this.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
