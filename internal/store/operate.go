package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// OpenNow is [Open] that does not wait: when another process, or another part of this one, has the store, the error is
// [ErrInUse]. A store is made when there is none.
func OpenNow(path string) (*Store, error) {
	// One that looks at the file has it for a moment only, so one that runs is told from it by asking again.
	for try := 0; ; try++ {
		s, err := tryOpen(path, func() {}, current)
		if !errors.Is(err, berrors.ErrTimeout) {
			return s, err
		}
		if try == lookTries {
			return nil, fmt.Errorf("store: %s: %w", path, ErrInUse)
		}
		time.Sleep(lookPause)
	}
}

const (
	lookTries = 4
	lookPause = 25 * time.Millisecond
)

// Peek reads what the store at path holds and changes nothing: no file is made, none is upgraded. A running pipeline is not
// disturbed: then a copy of the file is read, and running is true. The error matches [fs.ErrNotExist] when there is no store.
func Peek(path string) (saved Saved, running bool, err error) {
	if _, err := os.Stat(path); err != nil {
		return Saved{}, false, fmt.Errorf("store: %w", err)
	}
	saved, err = peek(path)
	if !errors.Is(err, berrors.ErrTimeout) {
		return saved, false, err
	}
	dir, err := os.MkdirTemp("", "leat-peek-")
	if err != nil {
		return Saved{}, true, fmt.Errorf("store: %w", err)
	}
	defer os.RemoveAll(dir)
	// A commit in the middle of copying leaves a copy that does not fit together, which is found out when it is read.
	copied := filepath.Join(dir, "copy.db")
	for range lookTries {
		if err = copyFile(copied, path); err != nil {
			return Saved{}, true, fmt.Errorf("store: copy %s to look at it: %w", path, err)
		}
		if saved, err = peek(copied); err == nil {
			return saved, true, nil
		}
		time.Sleep(lookPause)
	}
	return Saved{}, true, fmt.Errorf("store: %s: %w, and it changes faster than it can be copied; ask again", path, ErrInUse)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// peek gives berrors.ErrTimeout when somebody writes to the file.
func peek(path string) (Saved, error) {
	s := &Store{path: path}
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		return Saved{}, corrupt(path, "", errors.New("it is empty"))
	}
	if err := s.lock(true); err != nil {
		return Saved{}, err
	}
	defer func() { _ = s.release() }()
	info, err := s.file.Stat()
	if err == nil {
		err = verify(s.file, info.Size())
	}
	if err != nil {
		return Saved{}, corrupt(path, "", err)
	}
	version, err := s.version()
	if err != nil {
		return Saved{}, err
	}
	if version != current.version {
		return Saved{}, fmt.Errorf("store: %s has format %d and this program reads format %d: use the program that runs the pipeline", path, version, current.version)
	}
	h, err := s.readHead()
	if err != nil {
		return Saved{}, err
	}
	return h.saved(), nil
}

// Move durably puts a partition that the store knows to another position and removes its state, which belongs to the old
// one: an operator's reset. Counters and Seq stay. Errors are those of Commit.
func (s *Store) Move(partition string, to Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	old := s.head.Load()
	if _, known := old.Positions[partition]; !known {
		return fmt.Errorf("store: %s holds no position of partition %q", s.path, partition)
	}
	next := old.clone()
	next.Positions[partition] = to
	delete(next.Notes, partition) // it is about the state
	return s.without(next, func(k stateKey) bool { return k.partition == partition })
}

// Stateful lists the stages that have state of a partition, by their names.
func (s *Store) Stateful(partition string) (stages []string) {
	for k := range s.head.Load().State {
		if k.partition == partition {
			stages = append(stages, k.stage)
		}
	}
	return stages
}

// Pieces calls f with all state, oldest pieces first. The blob is valid during the call.
func (s *Store) Pieces(f func(d Delta) error) error {
	h := s.head.Load()
	keys := slices.SortedFunc(maps.Keys(h.State), func(a, b stateKey) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.stage, b.stage))
	})
	for _, k := range keys {
		blobs, err := s.State(k.stage, k.partition)
		if err != nil {
			return err
		}
		for i, b := range blobs {
			if err := f(Delta{k.stage, k.partition, b, i == 0 && h.State[k].Snapshot > 0}); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrNotEmpty says that a store that is to be filled holds something already.
var ErrNotEmpty = errors.New("it holds positions already")

// Fill puts into an empty store what f gives, all or nothing. f calls add for each piece of state. After an error the store
// refuses all calls.
//
// The pieces are written ahead, a bounded number of bytes in each transaction: until the head names them they are nobody's.
func (s *Store) Fill(f func(add func(Delta) error) (Saved, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if h := s.head.Load(); h.Seq > 0 || len(h.Positions) > 0 {
		return fmt.Errorf("store: %s: %w", s.path, ErrNotEmpty)
	}
	if err := s.update(nil, func(state *bbolt.Bucket) error { // what one that came to nothing has left
		if key, _ := state.Cursor().First(); key == nil {
			return nil
		}
		err := state.Tx().DeleteBucket(stateBucket)
		if err == nil {
			_, err = state.Tx().CreateBucket(stateBucket)
		}
		return err
	}); err != nil {
		return err
	}
	next := newHead()
	var puts []func(*bbolt.Bucket) error
	waiting := 0 // bytes of puts
	write := func(h *head) error {
		err := s.update(h, func(state *bbolt.Bucket) error {
			for _, put := range puts {
				if err := put(state); err != nil {
					return err
				}
			}
			return nil
		})
		puts, waiting = nil, 0
		return err
	}
	saved, err := f(func(d Delta) error {
		if err := (&Checkpoint{Seq: 1, Deltas: []Delta{d}}).check(0); err != nil {
			return err
		}
		k := stateKey{d.Stage, d.Partition}
		e := next.State[k]
		if d.Full && e.Next > 0 {
			return fmt.Errorf("state of stage %q, partition %q: a snapshot comes after other pieces", d.Stage, d.Partition)
		}
		const parts = maxAtOnce / partSize
		n := e.Next
		for first := 0; first == 0 || first*partSize < len(d.Blob); first += parts {
			puts = append(puts, func(state *bbolt.Bucket) error { return putParts(state, k, n, d.Blob, first, parts) })
			if waiting += min(len(d.Blob)-first*partSize, maxAtOnce); waiting >= maxAtOnce {
				if err := write(nil); err != nil {
					return err
				}
			}
		}
		e.Next++
		e.Add(len(d.Blob), d.Full)
		next.State[k] = e
		return nil
	})
	if s.err != nil {
		return err // of write
	}
	if err != nil {
		return s.broken(err)
	}
	next.Seq = saved.Seq
	maps.Copy(next.Positions, saved.Positions)
	maps.Copy(next.Notes, saved.Notes)
	next.Counters = maps.Clone(saved.Counters)
	if next.Counters == nil {
		next.Counters = map[string]int64{}
	}
	return write(next)
}
