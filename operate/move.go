package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/leatgo/leat/internal/statefile"
	"github.com/leatgo/leat/internal/store"
)

// StatePlace is where positions and the state of stages are kept: a [StateFolder], or what
// state.PostgresArchive names.
type StatePlace interface{ statefile.Place }

// StateFolder is the place that leat.Config.StateDir names. The pipeline must be stopped.
func StateFolder(stateDir string) StatePlace { return folderPlace(stateDir) }

// StateMoved is how much was exported or imported.
type StateMoved struct {
	Pipeline   string // as the file says; "" from a state folder
	Partitions int
	Pieces     int
	Bytes      int64 // of state
}

// ExportState writes positions, counters and the state of stages from a place to a file,
// with a checksum at its end. With a stage, state of that stage only: to look at, not to
// be imported. The file holds what stages remember of rows.
func ExportState(ctx context.Context, from StatePlace, to io.Writer, stage string) (StateMoved, error) {
	var out StateMoved
	w := statefile.NewWriter(to, stage)
	err := from.ReadState(ctx, w)
	if err == nil {
		out.Partitions, out.Pieces, out.Bytes, err = w.End()
	}
	if err != nil {
		return out, fmt.Errorf("export the state: %w", err)
	}
	return out, nil
}

// ImportState puts what ExportState wrote into a place that holds no positions yet; all of
// it, or nothing when the file is damaged or cut off. A shared place has no counters: they
// are left behind. What sinks hold stays with them, so the file must be of the
// pipeline's last stop.
func ImportState(ctx context.Context, from io.Reader, to StatePlace) (StateMoved, error) {
	r, err := statefile.NewReader(from)
	if err == nil {
		if stage := r.Head().Stage; stage != "" {
			err = fmt.Errorf("the file holds the state of stage %q alone: export all of it", stage)
		} else {
			err = to.WriteState(ctx, r)
		}
	}
	if err != nil {
		return StateMoved{}, fmt.Errorf("import the state: %w", err)
	}
	out := StateMoved{Pipeline: r.Head().Pipeline}
	out.Partitions, out.Pieces, out.Bytes = r.Given()
	return out, nil
}

type folderPlace string

func (d folderPlace) ReadState(ctx context.Context, w *statefile.Writer) error {
	return alone(string(d), func(s *store.Store) error {
		saved, err := s.Load()
		if err != nil {
			return err
		}
		if err := w.Head(statefile.Head{Seq: saved.Seq, Counters: saved.Counters}); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(saved.Positions)) {
			if err := w.Partition(statefile.Partition{Name: name, Position: saved.Positions[name], Note: saved.Notes[name]}); err != nil {
				return err
			}
		}
		return s.Pieces(func(d store.Delta) error { return errors.Join(ctx.Err(), w.Piece(d)) })
	})
}

func (d folderPlace) WriteState(ctx context.Context, r *statefile.Reader) (err error) {
	s, err := store.OpenNow(filepath.Join(string(d), storeFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Fill(func(add func(store.Delta) error) (store.Saved, error) {
		h := r.Head()
		saved := store.Saved{Seq: h.Seq, Counters: h.Counters, Positions: map[string]store.Position{}, Notes: map[string]store.Note{}}
		for ctx.Err() == nil {
			next, err := r.Next()
			if err == io.EOF {
				return saved, nil
			}
			if err != nil {
				return saved, err
			}
			if p := next.Partition; p != nil {
				saved.Positions[p.Name] = p.Position
				saved.Notes[p.Name] = p.Note
			} else if err := add(*next.Piece); err != nil {
				return saved, err
			}
		}
		return saved, ctx.Err()
	})
}
