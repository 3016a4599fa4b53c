package own

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/leatgo/leat"
)

// Journal is a sink of one JSON file that holds the rows and how far they go: both change
// in one rename, so each row is there once (rule E1).
type Journal[T any] struct {
	path string

	epochs map[string]int // of the partitions that this life has taken over
	open   []T
}

// content is what is in the file.
type content[T any] struct {
	Rows      []T
	Positions map[string]leat.Position
	Epochs    map[string]int // grow with each owner (rule E2)
}

// NewJournal makes the sink. The file's folder must exist.
func NewJournal[T any](path string) *Journal[T] { return &Journal[T]{path: path} }

// ReadJournal reads the rows that are committed.
func ReadJournal[T any](path string) ([]T, error) {
	c, err := (&Journal[T]{path: path}).load()
	return c.Rows, err
}

// Name implements leat.Named.
func (j *Journal[T]) Name() string { return filepath.Base(j.path) }

// Guarantee implements leat.Guaranteed.
func (j *Journal[T]) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

// Open implements leat.Sink.
func (j *Journal[T]) Open(context.Context, leat.Env) error {
	j.open, j.epochs = nil, map[string]int{}
	return nil
}

// Restore implements leat.Transactional.
func (j *Journal[T]) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	c, err := j.load()
	if err != nil {
		return nil, err
	}
	held := map[string]leat.Position{}
	for _, p := range partitions {
		c.Epochs[p]++
		j.epochs[p] = c.Epochs[p]
		if at, ok := c.Positions[p]; ok { // rule E7: a missing one is not 0
			held[p] = at
		}
	}
	return held, j.store(c)
}

// Write implements leat.Sink.
func (j *Journal[T]) Write(_ context.Context, b *leat.Batch[T]) error {
	j.open = append(j.open, b.Rows()...) // copied: the batch is the engine's
	return nil
}

// Commit implements leat.Sink.
func (j *Journal[T]) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	c, err := j.load()
	if err != nil {
		return false, err
	}
	var lost []string
	for p := range cp.Positions {
		if c.Epochs[p] != j.epochs[p] { // rule E3
			lost = append(lost, p)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return false, leat.Fenced(lost...)
	}
	c.Rows = append(c.Rows, j.open...)
	maps.Copy(c.Positions, cp.Positions)
	if err := j.store(c); err != nil {
		return false, err
	}
	j.open = nil
	return true, nil
}

// Close implements leat.Sink.
func (j *Journal[T]) Close() error {
	j.open = nil
	return nil
}

func (j *Journal[T]) load() (content[T], error) {
	c := content[T]{Positions: map[string]leat.Position{}, Epochs: map[string]int{}}
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	err = json.Unmarshal(b, &c)
	return c, err
}

func (j *Journal[T]) store(c content[T]) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.Create(j.path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(j.path+".tmp", j.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(j.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
