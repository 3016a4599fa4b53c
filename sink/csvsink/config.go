package csvsink

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/internal/lake/textfile"
	"github.com/leatgo/leat/internal/row"
)

// Config says where the rows of type T go. Dir is needed; the zero value of all
// else is safe.
type Config[T any] struct {
	// Name keys the sink's positions, metrics and dead letters, so it must be
	// stable. Defaults to the name of Dir, without its parents.
	Name string

	// Dir is the folder that the files go to. It is created when it is missing.
	// Several sinks and pipelines may write to one folder, each under its own name.
	Dir string

	// PartitionBy are the levels of folders under Dir, outermost first. A column of
	// the same name stays out of the files: readers take it from the folder.
	// Defaults to none: all files lie in Dir itself.
	PartitionBy []Partition[T]

	// Roll says when a file is closed, which is when its rows become visible.
	Roll Roll

	// Compression of the files. Defaults to None.
	Compression Compression

	// Delimiter separates fields. It is one ASCII character, no letter or digit and
	// none of " + - and the full stop. Defaults to ','.
	Delimiter rune

	// CRLF ends lines with CR LF, as RFC 4180 has it. Defaults to LF, which every
	// reader of CSV takes too, and which tools that go by lines expect.
	CRLF bool

	// GuardFormulas puts an apostrophe before text that a spreadsheet would take for
	// a formula: that begins with = + - @ (full-width ones too), a tab or CR. Numbers
	// are left alone. Set it when people open files with the text of strangers in a spreadsheet; the
	// text is changed for all other readers. Defaults to false.
	GuardFormulas bool

	// MaxOpen is the number of files that are open at once, at most: the least
	// recently used is closed first. Defaults to 64.
	MaxOpen int

	// EventTime, if set, gives a row's event time; the manifest then knows the
	// smallest and the largest of each file. The zero time counts as none.
	EventTime func(T) time.Time
}

// Partition is a level of folders: NAME=VALUE, as Hive names them, so that
// DuckDB, Spark and pyarrow read NAME as a column.
type Partition[T any] struct {
	// Name is the column that readers see. It holds letters, digits and _-. only.
	Name string

	// Value gives the level's value for a row. It is escaped, so it may be any
	// text; the empty one reads as null. It must depend on the row alone.
	Value func(T) string
}

// ByDay is a level of days: NAME=2026-11-27, in UTC, which readers take for dates. The zero time
// is null. It is much faster than a Value that formats each row's time.
func ByDay[T any](name string, at func(T) time.Time) Partition[T] {
	return Partition[T]{Name: name, Value: lake.Day(at)}
}

// Roll says when a file is closed: as soon as one of these is reached, and also
// when the sources have caught up and at shutdown. -1 switches a limit off.
type Roll struct {
	Bytes int64         // of the file, about. Defaults to 128 MiB
	Rows  int64         // in the file; the batch that reaches it stays whole. Defaults to 1,000,000
	Age   time.Duration // since the first row that is not committed. Defaults to 1 min
	Idle  time.Duration // since the last row came. Defaults to 2 s
}

// Compression is how files are compressed.
type Compression uint8

const (
	// None does not compress; the files end in .csv.
	None Compression = iota

	// Gzip is read everywhere; the files end in .csv.gz.
	Gzip

	// Zstd is faster and smaller; the files end in .csv.zst.
	Zstd
)

// String gives the name of the compression.
func (c Compression) String() string { return textfile.Compression(c).String() }

// New returns a sink that writes CSV files. It only remembers c:
// Validate tells what is wrong with it, and Open opens the folder.
func New[T any](c Config[T]) *Sink[T] {
	s := &Sink[T]{config: c}
	s.lake = lake.New(s.lakeConfig())
	return s
}

// Name is Config.Name or the name of the folder.
func (s *Sink[T]) Name() string {
	if s.config.Name != "" || s.config.Dir == "" {
		return s.config.Name
	}
	return filepath.Base(s.config.Dir)
}

// Guarantee is leat.ExactlyOnce.
func (s *Sink[T]) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

// Validate reports all faults of the Config and of the row type, joined.
func (s *Sink[T]) Validate() error {
	var faults []error
	c := s.lakeConfig()
	for _, err := range c.Faults() {
		faults = append(faults, fmt.Errorf("csvsink: %w", err))
	}
	if s.config.Compression > Zstd {
		faults = append(faults, fmt.Errorf("csvsink: Compression %d: there are None, Gzip and Zstd", s.config.Compression))
	}
	if err := checkDelimiter(s.delimiter()); err != nil {
		faults = append(faults, fmt.Errorf("csvsink: %w", err))
	}
	if _, err := s.columns(); err != nil {
		faults = append(faults, fmt.Errorf("csvsink: %w", err))
	}
	return errors.Join(faults...)
}

// columns are those of the files.
func (s *Sink[T]) columns() (*row.Type, error) {
	c := s.lakeConfig()
	t, err := c.Columns()
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, c := range t.Columns {
		if !c.CanValue() {
			faults = append(faults, fmt.Errorf("column %s: a %v has no form in CSV; give it a MarshalText, or leave it out with `leat:\"-\"`", c.Name, c.Type))
		}
	}
	return t, errors.Join(faults...)
}

func (s *Sink[T]) lakeConfig() lake.Config[T] {
	c := s.config
	return lake.Config[T]{
		Kind: "csvsink", Dir: c.Dir, Partition: lake.Levels[T](c.PartitionBy), Roll: lake.Roll(c.Roll),
		MaxOpen: c.MaxOpen, EventTime: c.EventTime, Format: s.newFormat,
	}
}

func (s *Sink[T]) newFormat() (lake.Format[T], error) {
	t, err := s.columns()
	if err != nil {
		return nil, err
	}
	e := newEncoder(t, s.delimiter(), s.config.CRLF, s.config.GuardFormulas)
	header := e.header()
	return textfile.New(textfile.Config[T]{
		Ext: ".csv", Schema: strings.TrimRight(string(header), "\r\n"), Header: header, Compression: textfile.Compression(s.config.Compression),
		Append: func(dst []byte, r *T) ([]byte, error) { return e.row(dst, unsafe.Pointer(r)) },
	})
}

func (s *Sink[T]) delimiter() rune {
	if s.config.Delimiter == 0 {
		return ','
	}
	return s.config.Delimiter
}

// checkDelimiter refuses what the fields that are never quoted may hold.
func checkDelimiter(d rune) error {
	switch {
	case d <= 0 || d >= utf8.RuneSelf || d == '\r' || d == '\n' || strings.ContainsRune("\"+-.", d),
		'0' <= d && d <= '9', 'a' <= d && d <= 'z', 'A' <= d && d <= 'Z':
		return fmt.Errorf("the Delimiter %q: it is one ASCII character, no letter, digit or line end and none of \" + - and full stop", d)
	}
	return nil
}
