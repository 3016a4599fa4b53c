package jsonsink

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/internal/lake/textfile"
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
	// None does not compress; the files end in .jsonl.
	None Compression = iota

	// Gzip is read everywhere; the files end in .jsonl.gz.
	Gzip

	// Zstd is faster and smaller; the files end in .jsonl.zst.
	Zstd
)

// String gives the name of the compression.
func (c Compression) String() string { return textfile.Compression(c).String() }

// New returns a sink that writes files of JSON lines. It only remembers c:
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
		faults = append(faults, fmt.Errorf("jsonsink: %w", err))
	}
	if s.config.Compression > Zstd {
		faults = append(faults, fmt.Errorf("jsonsink: Compression %d: there are None, Gzip and Zstd", s.config.Compression))
	}
	if _, err := c.Columns(); err != nil {
		faults = append(faults, fmt.Errorf("jsonsink: %w", err))
	}
	return errors.Join(faults...)
}

func (s *Sink[T]) lakeConfig() lake.Config[T] {
	c := s.config
	return lake.Config[T]{
		Kind: "jsonsink", Dir: c.Dir, Partition: lake.Levels[T](c.PartitionBy), Roll: lake.Roll(c.Roll),
		MaxOpen: c.MaxOpen, EventTime: c.EventTime, Format: s.newFormat,
	}
}

func (s *Sink[T]) newFormat() (lake.Format[T], error) {
	c := s.lakeConfig()
	t, err := c.Columns()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return textfile.New(textfile.Config[T]{
		Ext: ".jsonl", Schema: strings.Join(names, ","), Compression: textfile.Compression(s.config.Compression),
		Append: func(dst []byte, r *T) ([]byte, error) {
			dst, err := t.AppendJSON(dst, unsafe.Pointer(r))
			return append(dst, '\n'), err
		},
	})
}
