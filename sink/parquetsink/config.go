package parquetsink

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/internal/row"
)

// Config says where the rows of type T go. Dir is needed; the zero value of all
// else is safe.
type Config[T any] struct {
	// Name keys the sink's positions, metrics and dead letters, so it must be
	// stable. Defaults to the name of Dir, without its parents.
	Name string

	// Dir is the root of the lake. It is created when it is missing. Several
	// sinks and pipelines may write to one lake, each under its own name.
	Dir string

	// PartitionBy are the levels of folders under Dir, outermost first. A column
	// of the same name stays out of the files: readers take it from the folder.
	// Defaults to none: all files lie in Dir itself.
	PartitionBy []Partition[T]

	// Roll says when a file is closed, which is when its rows become visible.
	Roll Roll

	// Compression of the pages. Defaults to Snappy.
	Compression Compression

	// RowGroupRows is the number of rows in a row group, at most; fewer when
	// many files are open and memory is short. Larger groups need more memory
	// here and where they are read. Defaults to 65,536; at most 1,048,576
	// (rule F8).
	RowGroupRows int

	// MaxOpen is the number of files that are open at once, at most: the least
	// recently used is closed first. Defaults to 64.
	MaxOpen int

	// EventTime, if set, gives a row's event time; the manifest then knows the
	// smallest and the largest of each file. The zero time counts as none.
	EventTime func(T) time.Time

	// Engine encodes the files. Defaults to this package's own, which is the fast
	// one.
	Engine Engine
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

// Compression is how pages are compressed.
type Compression uint8

const (
	// Snappy is fast, and read everywhere.
	Snappy Compression = iota

	// Zstd makes files of about half the size and costs about twice the time.
	Zstd

	// None does not compress.
	None
)

// String gives the name that Parquet has for it.
func (c Compression) String() string {
	switch c {
	case Snappy:
		return "SNAPPY"
	case Zstd:
		return "ZSTD"
	case None:
		return "UNCOMPRESSED"
	}
	return fmt.Sprintf("compression(%d)", uint8(c))
}

const (
	defaultGroup   = 64 << 10
	maxGroup       = 1 << 20
	defaultMaxOpen = 64
)

// New returns a sink that writes Parquet files. It only remembers c: Validate
// tells what is wrong with it, and Open opens the lake.
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
	c := s.lakeConfig()
	var faults []error
	for _, err := range c.Faults() {
		faults = append(faults, fmt.Errorf("parquetsink: %w", err))
	}
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("parquetsink: "+format, args...))
	}
	if s.config.Compression > None {
		fault("Compression %d: there are Snappy, Zstd and None", s.config.Compression)
	}
	if n := s.config.RowGroupRows; n < 0 || n > maxGroup {
		fault("RowGroupRows is %d: it is a number of rows up to %d, or 0 for %d", n, maxGroup, defaultGroup)
	}
	t, err := s.compile()
	if err != nil {
		for _, err := range flatten(err) {
			fault("%w", err)
		}
		return errors.Join(faults...)
	}
	if err := s.engine().Check(t.columns, s.fileOptions(t)); err != nil {
		for _, err := range flatten(err) {
			fault("engine %s: %w", s.engine().Name(), err)
		}
	}
	return errors.Join(faults...)
}

// flatten takes apart what errors.Join has joined.
func flatten(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return []error{err}
}

func (s *Sink[T]) compile() (*table, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	levels := make([]string, len(s.config.PartitionBy))
	for i, p := range s.config.PartitionBy {
		levels[i] = p.Name
	}
	return compile(t, reflect.TypeFor[T]().Size(), levels)
}

func (s *Sink[T]) engine() Engine {
	if s.config.Engine != nil {
		return s.config.Engine
	}
	return newEngine()
}

// The size of a page of the default engine before it is compressed.
const (
	mostPage = 1 << 20 // what other writers have

	// manyPage is for files that others may be open beside. Nobody knows how large
	// their row groups become, and buffers of this size fit all of them.
	manyPage = 128 << 10
)

// fileOptions chooses the size of pages so that all files that may be open at
// once fit the memory they have together, with room for what is encoded.
func (s *Sink[T]) fileOptions(t *table) FileOptions {
	if s.config.Engine == nil { // pages take the memory that is in them, and no more
		o := FileOptions{Compression: s.config.Compression, PageBytes: mostPage}
		if len(s.config.PartitionBy) > 0 {
			o.PageBytes = manyPage
		}
		return o
	}
	const (
		most, least = 128 << 10, 8 << 10
		memory      = 24 << 20 // half of what lake.Config.Buffer defaults to
	)
	files := 1
	if len(s.config.PartitionBy) > 0 {
		files = defaultMaxOpen
		if s.config.MaxOpen > 0 {
			files = s.config.MaxOpen
		}
	}
	return FileOptions{Compression: s.config.Compression, PageBytes: max(least, min(most, memory/files/len(t.columns)))}
}

// What the rows of all open files may hold that are not written yet (rule F8). A
// file that is open alone bounds itself: there are a row group that is gathered, one
// that is encoded, and their buffers are not quite full.
const (
	ownBuffer   = 24 << 20
	aloneBuffer = 3 * groupBytes
)

func (s *Sink[T]) lakeConfig() lake.Config[T] {
	c := s.config
	buffer := int64(ownBuffer)
	if len(c.PartitionBy) == 0 {
		buffer = aloneBuffer
	}
	return lake.Config[T]{
		Kind: "parquetsink", Dir: c.Dir, Partition: lake.Levels[T](c.PartitionBy), Roll: lake.Roll(c.Roll),
		MaxOpen: c.MaxOpen, EventTime: c.EventTime, Format: s.newFormat, Buffer: buffer,
	}
}

func (s *Sink[T]) newFormat() (lake.Format[T], error) {
	t, err := s.compile()
	if err != nil {
		return nil, err
	}
	group := s.config.RowGroupRows
	if group == 0 {
		group = defaultGroup
	}
	f := newFormat[T](t, s.engine(), s.fileOptions(t), int64(group))
	if len(s.config.PartitionBy) == 0 {
		f.likely = f.group
	}
	return f, nil
}
