package jsonsink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// Config says where the rows of type T go. Path is needed.
type Config[T any] struct {
	// Name keys the sink's positions, metrics and dead letters, so it must be
	// stable. Defaults to the file's name, without its folder.
	Name string

	// Path is the file that the rows are appended to. It is created when it is
	// missing; its folder must exist. A file that has content and no sidecar is
	// refused: leat has not written it.
	Path string
}

// New returns a sink that appends JSON lines to a file. It only remembers c:
// Validate tells what is wrong with it, and Open opens the file.
func New[T any](c Config[T]) *Sink[T] { return &Sink[T]{config: c} }

// Name is Config.Name or the file's name.
func (s *Sink[T]) Name() string {
	if s.config.Name != "" || s.config.Path == "" {
		return s.config.Name
	}
	return filepath.Base(s.config.Path)
}

// Guarantee is leat.ExactlyOnce.
func (s *Sink[T]) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

// Validate reports all faults of the Config and of the row type, joined.
func (s *Sink[T]) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("jsonsink: "+format, args...))
	}
	path := s.config.Path
	switch {
	case path == "":
		fault("Path is empty: it is the file that rows are appended to")
	case strings.Contains(path, "\x00"):
		fault("Path %q holds a zero byte", path)
	case os.IsPathSeparator(path[len(path)-1]) || path == "." || path == "..":
		fault("Path %q is a folder; give a file", path)
	case strings.HasSuffix(path, sidecarSuffix):
		fault("Path %q: names that end in %s are those of sidecars", path, sidecarSuffix)
	}
	if t, err := row.Of[T](); err != nil {
		faults = append(faults, fmt.Errorf("jsonsink: %w", err))
	} else if len(t.Columns) == 0 {
		fault("row type %v has no columns", t)
	}
	return errors.Join(faults...)
}
