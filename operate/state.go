package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/internal/store"
	"github.com/leatgo/leat/source/files"
)

// ErrInUse says that a pipeline is running on the state folder.
var ErrInUse = store.ErrInUse

const storeFile = "checkpoints.db"

// State is what a pipeline's state folder says.
type State struct {
	Running    bool      // a pipeline runs on it; what is said here is of a moment ago
	Checkpoint uint64    // number of the last complete checkpoint; 0: none yet
	Written    time.Time // when the store was written last
	Positions  []Held    // by partition
	Nodes      []Node    // by name
}

// Node is the counts of one node since the pipeline's first start. In + Added = Out +
// Rejected + Filtered for sources and stages; sinks have Out, Rejected and Filtered
// of their own only (rule A8).
type Node struct {
	Name                               string
	In, Out, Rejected, Filtered, Added int64
	Reasons                            map[string]int64 // rejects by class/column/rule
}

// ReadState reads a state folder, also while a pipeline runs on it.
func ReadState(stateDir string) (State, error) {
	path := filepath.Join(stateDir, storeFile)
	saved, running, err := store.Peek(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%s is no state folder: it has no %s; a pipeline makes it at its first start: %w", stateDir, storeFile, fs.ErrNotExist)
	}
	if err != nil {
		return State{}, err
	}
	s := State{Running: running, Checkpoint: saved.Seq, Positions: stateHeld(stateDir, saved)}
	if info, err := os.Stat(path); err == nil {
		s.Written = info.ModTime()
	}
	type counts struct {
		engine.Tally
		reasons map[string]int64
	}
	nodes := map[string]*counts{}
	for name, v := range saved.Counters {
		node, count, reason := engine.SplitCounter(name)
		n := nodes[node]
		if n == nil {
			n = &counts{}
			nodes[node] = n
		}
		if count != "" {
			n.Set(count, v)
			continue
		}
		if n.reasons == nil {
			n.reasons = map[string]int64{}
		}
		n.reasons[reason] = v
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		s.Nodes = append(s.Nodes, Node{Name: name, In: n.In, Out: n.Out, Rejected: n.Rejected, Filtered: n.Filtered, Added: n.Added, Reasons: n.reasons})
	}
	return s, nil
}

func stateHeld(stateDir string, saved store.Saved) []Held {
	var out []Held
	for _, p := range slices.Sorted(maps.Keys(saved.Positions)) {
		out = append(out, Held{Holder: "state folder " + stateDir, Partition: p, Position: leat.Position(saved.Positions[p])})
	}
	return out
}

// Held is how far a partition is held in one place.
type Held struct {
	Holder    string // the place, for people
	Pipeline  string // "" in a state folder, which is of one pipeline
	Sink      string // "" in a state folder
	Partition string
	Position  leat.Position // not Known: nothing is held yet, or it was forgotten
	Epoch     int64         // how often a sink was taken over, where it says so
}

// Holder is a place outside the state folder in which sinks keep positions.
type Holder interface {
	// Positions lists them, by pipeline, sink and partition. It changes nothing.
	Positions(ctx context.Context) ([]Held, error)

	// Move puts a position that Positions gave to another one; the zero Position
	// forgets it, so that the sink holds nothing. It fails when the position has
	// moved since, and fences a pipeline that writes (rule E3).
	Move(ctx context.Context, h Held, to leat.Position) error
}

// Lake is the Holder of a folder that lake sinks write.
func Lake(dir string) Holder { return lakeHolder(dir) }

type lakeHolder string

func (d lakeHolder) Positions(context.Context) ([]Held, error) {
	held, err := lake.Positions(string(d))
	if err != nil {
		return nil, err
	}
	out := make([]Held, len(held))
	for i, h := range held {
		out[i] = Held{Holder: "lake " + string(d), Pipeline: h.Pipeline, Sink: h.Sink, Partition: h.Partition, Position: h.Position, Epoch: h.Epoch}
	}
	return out, nil
}

func (d lakeHolder) Move(_ context.Context, h Held, to leat.Position) error {
	return lake.Move(string(d), lake.Held{Pipeline: h.Pipeline, Sink: h.Sink, Partition: h.Partition, Position: h.Position}, to)
}

// Ledger is the history of one source of files.
type Ledger struct {
	Source string
	Files  []files.Entry // in the order in which they were entered
}

// Ledgers reads the ledgers of all sources of files in a state folder, by name of the
// source, also while the pipeline runs.
func Ledgers(stateDir string) ([]Ledger, error) {
	dirs, err := os.ReadDir(stateDir)
	if err != nil {
		return nil, fmt.Errorf("the state folder: %w", err)
	}
	var out []Ledger
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(stateDir, d.Name(), "ledger.jsonl")); err != nil {
			continue
		}
		source, err := url.PathUnescape(d.Name())
		if err != nil {
			continue // no source of ours has such a folder
		}
		files, err := files.Ledger(stateDir, source)
		if err != nil {
			return nil, err
		}
		out = append(out, Ledger{source, files})
	}
	slices.SortFunc(out, func(a, b Ledger) int { return cmp.Compare(a.Source, b.Source) })
	return out, nil
}

// Reprocess makes the next run read a file once more; see files.Reprocess for what
// that means.
func Reprocess(stateDir, source, file string) error {
	return alone(stateDir, func(*store.Store) error {
		err := files.Reprocess(stateDir, source, file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the state folder %s has no ledger of a source %q: %w", stateDir, source, err)
		}
		return err
	})
}

// alone runs f while no pipeline can run on the state folder.
func alone(stateDir string, f func(*store.Store) error) (err error) {
	path := filepath.Join(stateDir, storeFile)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s is no state folder: %w", stateDir, err)
	}
	s, err := store.OpenNow(path)
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("the state folder %s is in use: stop the pipeline first: %w", stateDir, ErrInUse)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(s)
}
