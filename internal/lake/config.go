package lake

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/row"
)

// Partition is one level of folders, Hive style: name=value.
type Partition[T any] struct {
	Name  string
	Value func(T) string
}

// Roll says when a file is closed. Zero fields have the defaults 128 MiB,
// 1,000,000 rows, 1 minute and 2 seconds; -1 switches that limit off.
type Roll struct {
	Bytes int64         // of the file as written
	Rows  int64         // in the file
	Age   time.Duration // since the first row that is not committed
	Idle  time.Duration // since the last row
}

// Config says where files go and how they are cut.
type Config[T any] struct {
	// Kind is the sink's package name; error texts begin with it.
	Kind string

	// Dir is the lake's root. It is created when it is missing.
	Dir string

	// Format is called by each Open.
	Format func() (Format[T], error)

	// Partition are the levels of folders under Dir, outermost first.
	Partition []Partition[T]

	Roll Roll

	// MaxOpen is the number of files open at once, at most; the least recently
	// used is finished first (rule F4). Defaults to 64.
	MaxOpen int

	// Buffer is the memory that rows may hold in all open files together; past
	// it the file that buffers most is flushed (rule F8). Defaults to 48 MiB.
	Buffer int64

	// EventTime, if set, puts the smallest and largest event time of each file
	// into the manifest (rule F2). The zero time counts as none.
	EventTime func(T) time.Time
}

// The defaults of Config.
const (
	defaultBytes   = 128 << 20
	defaultRows    = 1_000_000
	defaultAge     = time.Minute
	defaultIdle    = 2 * time.Second
	defaultMaxOpen = 64
	defaultBuffer  = 48 << 20
)

// Faults are the mistakes in the fields that users set, for Validate. It does no
// I/O.
func (c *Config[T]) Faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case c.Dir == "":
		fault("Dir is empty: it is the folder that the files go to")
	case strings.Contains(c.Dir, "\x00"):
		fault("Dir %q holds a zero byte", c.Dir)
	case filepath.Base(filepath.Clean(c.Dir)) == leatDir:
		fault("Dir %q: %s is the name of the manifest's folder inside a lake", c.Dir, leatDir)
	}
	seen := map[string]bool{}
	for i, p := range c.Partition {
		if err := checkName(p.Name); err != nil {
			fault("PartitionBy[%d]: the name %q %w", i, p.Name, err)
		} else if seen[strings.ToLower(p.Name)] {
			fault("PartitionBy[%d]: the name %q is there twice (DuckDB and Spark tell none apart by case)", i, p.Name)
		}
		seen[strings.ToLower(p.Name)] = true
		if p.Value == nil {
			fault("PartitionBy[%d] (%s): Value is nil", i, p.Name)
		}
	}
	limit := func(name string, v int64) {
		if v < -1 {
			fault("%s is %d: it is a limit, 0 for the default, or -1 for none", name, v)
		}
	}
	limit("Roll.Bytes", c.Roll.Bytes)
	limit("Roll.Rows", c.Roll.Rows)
	limit("Roll.Age", int64(c.Roll.Age))
	limit("Roll.Idle", int64(c.Roll.Idle))
	if c.MaxOpen < 0 {
		fault("MaxOpen is %d: it is a number of files, or 0 for %d", c.MaxOpen, defaultMaxOpen)
	}
	if c.Buffer < 0 {
		fault("Buffer is %d: it is a number of bytes, or 0 for %d", c.Buffer, defaultBuffer)
	}
	return faults
}

// checkName judges the name of a level. Only what needs no escape is allowed, so
// that every reader of Hive folders shows the column under the same name.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > 64:
		return errors.New("is longer than 64 bytes")
	case !utf8.ValidString(name):
		return errors.New("is not UTF-8")
	case name[0] == '.' || name[0] == '_':
		return errors.New("begins with . or _, and readers skip such folders")
	}
	for i := range len(name) {
		if !safe[name[i]] {
			return fmt.Errorf("holds %q; letters, digits, _, - and . are allowed", name[i])
		}
	}
	return nil
}

// Levels turns the partitions of a sink's own type, which its users can name, into
// the lake's.
func Levels[T any, P interface {
	~struct {
		Name  string
		Value func(T) string
	}
}](own []P) []Partition[T] {
	out := make([]Partition[T], len(own))
	for i, p := range own {
		out[i] = Partition[T](p)
	}
	return out
}

// Columns is the row type as files hold it: without the columns that are folders.
func (c *Config[T]) Columns() (*row.Type, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	inFile := *t
	inFile.Columns = nil
	for _, col := range t.Columns {
		i := slices.IndexFunc(c.Partition, func(p Partition[T]) bool { return strings.EqualFold(p.Name, col.Name) })
		switch {
		case i < 0:
			inFile.Columns = append(inFile.Columns, col)
		case c.Partition[i].Name != col.Name:
			return nil, fmt.Errorf("the column %s and the level %s of PartitionBy are one name to DuckDB and Spark: write them alike, and the column stays out of the files, or rename one", col.Name, c.Partition[i].Name)
		}
	}
	switch {
	case len(t.Columns) == 0:
		return nil, fmt.Errorf("row type %v has no columns", t)
	case len(inFile.Columns) == 0:
		return nil, errors.New("PartitionBy takes all columns, so that none is left for the files")
	}
	return &inFile, nil
}
