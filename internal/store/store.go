// Package store is the engine's durable memory: where each partition stands, the counters, and the state of the stages, in
// one bbolt file (checkpoints.db in the state folder).
//
// What goes together is committed together: a [Checkpoint] is one transaction, so that after a crash positions, counters
// and state are those of exactly one checkpoint (rules A3, A8, H1); large pieces of state are written before it, and count
// once it names them. State is kept as pieces, oldest first: a snapshot and
// the deltas since; a commit costs what has changed and not what there is.
//
// # What is on disk
//
//	bucket "meta"        key "format"     {"format":2}: the version of all that follows (rule H6)
//	bucket "checkpoint"  key "last"       the head, as JSON: seq, positions, notes, counters, and which pieces of state there are
//	bucket "state"       stage, partition, number, part → (a part of) one piece, as the stage gave it
//
// Every value is a record with a version and a CRC-32C over its place and content. The head names all the rest, and the
// structure of the file is verified when it is opened; so damage of any kind is an error ([ErrCorrupt]) and never a start
// from zero, a partition or a piece less. The file is created under another name and renamed when it is complete, so a
// file that is empty or cut off is damage too and not a crash at the wrong moment.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/leatgo/leat/internal/durable"
)

// Errors that callers tell apart with errors.Is; each comes wrapped with the file, the place and what to do.
var (
	// ErrCorrupt says that the file is damaged. Nothing was changed; it does not go away by itself.
	ErrCorrupt = errors.New("the file is damaged")
	// ErrNewer says that a newer leat wrote the file (rule H6). Nothing was changed.
	ErrNewer = errors.New("the file was written by a newer leat")
	// ErrInUse says that another process, or another part of this one, has the file open.
	ErrInUse = errors.New("a pipeline is running on it")
	// ErrClosed says that the store was closed, or that an earlier error closed it in effect.
	ErrClosed = errors.New("the store is closed")
)

// Position is where a partition stands: the first offset not yet read, what the source needs to seek there, and which
// offset space it is (rule A2-1). Resume and Log may be any bytes.
type Position struct {
	Next        int64
	Resume, Log string
}

// Note is what is remembered of a partition beside its position (rule E7-4).
type Note struct {
	// Clean says that the last run to read the partition stopped with all of it delivered, everywhere.
	Clean bool
	// Stages are the stages with state that see the partition's rows, with their fingerprints; nil when nobody has said.
	Stages map[string]string
}

// Size is how much state of a stage there is for a partition.
type Size struct {
	Pieces   int
	Snapshot int64 // bytes of the snapshot; 0 when there is none
	Deltas   int64 // bytes of the deltas since
}

// Add counts one more piece.
func (s *Size) Add(bytes int, full bool) {
	if full {
		*s = Size{Snapshot: int64(bytes)}
	} else {
		s.Deltas += int64(bytes)
	}
	s.Pieces++
}

// Delta is one piece of the state of a stage for a partition.
type Delta struct {
	Stage, Partition string
	Blob             []byte
	Full             bool // a snapshot: replaces all earlier pieces of this stage and partition
}

// Checkpoint is what one [Store.Commit] makes durable, all or nothing.
type Checkpoint struct {
	Seq       uint64              // greater than that of every checkpoint before; gaps are allowed
	Positions map[string]Position // by partition; replaces only the partitions it names
	Counters  map[string]int64    // replaces all counters
	Deltas    []Delta             // appended in order
	Clean     []string            // partitions of which this is the last checkpoint before a clean stop
}

// Saved is what the store holds, the state apart. The maps belong to the caller and are never nil, but Notes when there are none.
type Saved struct {
	Seq       uint64 // 0: nothing was committed yet
	Positions map[string]Position
	Notes     map[string]Note // by partition
	Counters  map[string]int64
}

// Store is an open file. Its methods are safe for concurrent use; calls that touch the file follow one another.
type Store struct {
	path string
	head atomic.Pointer[head] // what is committed; never changed in place

	mu   sync.Mutex
	db   *bbolt.DB
	file *os.File // db's; closed in its stead after a panic, when db's locks may be held for ever
	err  error    // why the store cannot be used any more
	hurt bool     // db panicked
}

var (
	metaBucket, formatKey     = []byte("meta"), []byte("format")
	checkpointBucket, lastKey = []byte("checkpoint"), []byte("last")
	stateBucket               = []byte("state")
)

// Open opens the store at path and creates it, and its folder (0700, the file 0600), if there is none.
//
// One process at a time has a store open; the operating system frees it when that process dies. While another has it,
// Open calls waiting once (it may be nil) and tries again until it gets it or ctx ends; ctx has no meaning after that.
//
// Open verifies the whole structure of the file ([ErrCorrupt]), refuses formats it does not know ([ErrNewer]) and upgrades
// older ones. What it then holds is durable, also if the process before was killed between a write and its fsync.
func Open(ctx context.Context, path string, waiting func()) (*Store, error) {
	return open(ctx, path, waiting, current)
}

func open(ctx context.Context, path string, waiting func(), sch schema) (*Store, error) {
	if waiting == nil {
		waiting = func() {}
	}
	waiting = sync.OnceFunc(waiting)
	for {
		s, err := tryOpen(path, waiting, sch)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, berrors.ErrTimeout) {
			return nil, err
		}
		// The jitter keeps two that wait from getting in each other's way with their short read locks.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("store: %s: waiting for the process that has it open: %w", path, context.Cause(ctx))
		case <-time.After(20*time.Millisecond + rand.N(30*time.Millisecond)):
		}
	}
}

// tryOpen gives berrors.ErrTimeout when somebody else has the file.
func tryOpen(path string, waiting func(), sch schema) (*Store, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path, sch); err != nil {
			return nil, err
		}
		info, err = os.Stat(path)
	} else if err == nil {
		info, err = os.Stat(path) // follows a link; one that leads nowhere is an error and not a reason to start anew
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("store: %s: not a file (%s)", path, info.Mode().Type())
	case info.Size() == 0:
		// bbolt would take it for a new one. See create: it is never left empty by a crash.
		return nil, corrupt(path, "", errors.New("it is empty"))
	}

	// Look before bbolt does. A read lock keeps writers away meanwhile. Between this and the write lock another process may
	// have it for a moment: one like this, which leaves a good file behind.
	s := &Store{path: path}
	if err := s.lock(true); err != nil {
		if errors.Is(err, berrors.ErrTimeout) {
			waiting()
		}
		return nil, err
	}
	info, err = s.file.Stat()
	if err == nil {
		err = verify(s.file, info.Size())
	}
	_ = s.release()
	if err != nil {
		return nil, corrupt(path, "", err)
	}

	s = &Store{path: path}
	if err := s.lock(false); err != nil {
		return nil, err
	}
	if err := s.start(sch); err != nil {
		_ = s.release()
		return nil, err
	}
	return s, nil
}

// lock opens the file with bbolt, which locks it.
func (s *Store) lock(readOnly bool) error {
	err := s.guard("", func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout:      time.Nanosecond, // one try: bbolt's own waiting does not watch a context
			ReadOnly:     readOnly,
			NoStatistics: true,
			FreelistType: bbolt.FreelistMapType,
			// While the file grows into this, it is not mapped anew, for which bbolt copies all
			// pages that a transaction has touched: the whole state, at each doubling.
			InitialMmapSize: mapped,
			OpenFile: func(name string, flag int, perm fs.FileMode) (_ *os.File, err error) {
				// Without O_CREATE: a file that vanished since is not to come back empty.
				s.file, err = os.OpenFile(name, flag&^os.O_CREATE, perm)
				return s.file, err
			},
		})
		return err
	})
	if err == nil || errors.Is(err, berrors.ErrTimeout) {
		return err
	}
	if s.hurt {
		_ = s.file.Close()
		return err
	}
	if errno := syscall.Errno(0); !errors.As(err, &errno) {
		return corrupt(s.path, "", err) // bbolt did not like the content; it has no error type that says so
	}
	return fmt.Errorf("store: open %s: %w", s.path, err)
}

// start reads what must be read before the store can be used.
func (s *Store) start(sch schema) error {
	// What the process before wrote may be in the page cache only, if it was killed before its fsync. Whoever reads it here
	// acts on it (rule A3), so it must not vanish in a power cut afterwards.
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("store: sync %s: %w", s.path, err)
	}
	if err := s.upgrade(sch); err != nil {
		return err
	}
	h, err := s.readHead()
	if err != nil {
		return err
	}
	s.head.Store(h)
	return nil
}

// create makes a new, empty store under another name and gives it its own when it is complete and durable.
func create(path string, sch schema) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+base+".*.tmp") // 0600
	if err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	tmp := f.Name()
	defer func() { _ = os.Remove(tmp) }() // gone already when all went well
	if err := f.Close(); err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{NoStatistics: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, checkpointBucket, stateBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return errors.Join(putFormat(tx, sch.version), putHead(tx, newHead()))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	// Of two processes that start at once one wins; the other uses its file.
	if err := durable.RenameNoReplace(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	return nil
}

// Load returns what the last commit left. It reads the file.
func (s *Store) Load() (Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Saved{}, s.err
	}
	h, err := s.readHead()
	if err != nil {
		return Saved{}, err
	}
	return h.saved(), nil
}

// State returns the state of a stage for a partition: the snapshot, if there is one, and the deltas since, oldest first; none
// if nothing was committed. The blobs are copies.
func (s *Store) State(stage, partition string) (blobs [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	k := stateKey{stage, partition}
	e, ok := s.head.Load().State[k]
	if !ok {
		return nil, nil
	}
	where := fmt.Sprintf("state/%q/%q", stage, partition)
	err = s.guard(where, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			for n := e.First; n < e.Next; n++ {
				b, err := getPiece(tx, k, n)
				if err != nil {
					return corrupt(s.path, fmt.Sprintf("%s/%d", where, n), err)
				}
				blobs = append(blobs, b)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return blobs, nil
}

// Size tells how much state of a stage for a partition there is. It never waits.
func (s *Store) Size(stage, partition string) Size {
	return s.head.Load().State[stateKey{stage, partition}].Size
}

// Commit makes cp durable: when it returns nil, all of it is on disk (rule A3). cp is not kept.
//
// A checkpoint that is wrong in itself (a Seq that does not grow, a name that is too long) is refused and the store goes on.
// After any other error nobody knows whether cp is on disk, and asking the same file descriptor again could lie; the
// store then refuses all calls, and what another Open and Load give is the truth: either all of cp or nothing of it.
func (s *Store) Commit(cp Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	old := s.head.Load()
	if err := cp.check(old.Seq); err != nil {
		return fmt.Errorf("store: commit: %w", err)
	}
	next := old.clone()
	next.Seq, next.Counters = cp.Seq, maps.Clone(cp.Counters)
	maps.Copy(next.Positions, cp.Positions)
	for _, name := range cp.Clean {
		note := next.Notes[name]
		note.Clean = true
		next.Notes[name] = note
	}
	if err := s.ahead(old, cp.Deltas); err != nil {
		return err
	}
	return s.update(next, func(state *bbolt.Bucket) error {
		for _, d := range cp.Deltas {
			k := stateKey{d.Stage, d.Partition}
			e := next.State[k]
			if len(d.Blob) <= maxAtOnce {
				if err := putPiece(state, k, e.Next, d.Blob); err != nil {
					return err
				}
			}
			if d.Full {
				if err := removePieces(state, k, e); err != nil {
					return err
				}
				e.First = e.Next
			}
			e.Next++
			e.Add(len(d.Blob), d.Full)
			next.State[k] = e
		}
		return nil
	})
}

// Begin durably notes where the first reading of partitions starts; the zero Position means the source's own start. A partition
// that the store knows stays where it is. Seq, counters and state stay too: from here on they tell what has been done since
// that start. notes take the place of older ones, and the state of stages that one with Stages does not name is removed.
// Nothing is written when nothing changes. Errors are those of Commit.
func (s *Store) Begin(positions map[string]Position, notes map[string]Note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	old := s.head.Load()
	if err := (&Checkpoint{Seq: old.Seq + 1, Positions: positions}).check(old.Seq); err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	next, changed := old.clone(), false
	for name, p := range positions {
		if _, known := old.Positions[name]; !known {
			next.Positions[name], changed = p, true
		}
	}
	for name, n := range notes {
		if was, ok := old.Notes[name]; !ok || was.Clean != n.Clean || !maps.Equal(was.Stages, n.Stages) || (was.Stages == nil) != (n.Stages == nil) {
			next.Notes[name], changed = Note{n.Clean, maps.Clone(n.Stages)}, true
		}
	}
	if !changed {
		return nil
	}
	return s.without(next, func(k stateKey) bool {
		n, ok := notes[k.partition]
		_, named := n.Stages[k.stage]
		return ok && n.Stages != nil && !named
	})
}

// Forget durably removes the position, the note and the state of partitions: an operator's reset. Counters and Seq stay.
// Errors are those of Commit.
func (s *Store) Forget(partitions ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	next := s.head.Load().clone()
	for _, name := range partitions {
		delete(next.Positions, name)
		delete(next.Notes, name)
	}
	return s.without(next, func(k stateKey) bool { return slices.Contains(partitions, k.partition) })
}

// without stores next less the state that gone names. The caller holds s.mu.
func (s *Store) without(next *head, gone func(stateKey) bool) error {
	removed := map[stateKey]extent{}
	for k, e := range next.State {
		if gone(k) {
			removed[k] = e
			delete(next.State, k)
		}
	}
	return s.update(next, func(state *bbolt.Bucket) error {
		for k, e := range removed {
			e.Next = math.MaxUint64 // what a crash has left of a piece that came to nothing goes too
			if err := removePieces(state, k, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxAtOnce bounds what one transaction writes of a piece.
const maxAtOnce = 8 << 20

// ahead writes large pieces before the transaction that names them: bbolt keeps all that a transaction
// writes in memory, several times over. Until the head names a piece it is nobody's: one that a crash
// leaves is written over by the next of its number. The caller holds s.mu.
func (s *Store) ahead(old *head, deltas []Delta) error {
	next := map[stateKey]uint64{}
	for _, d := range deltas {
		k := stateKey{d.Stage, d.Partition}
		n, more := next[k]
		if !more {
			n = old.State[k].Next
		}
		next[k] = n + 1
		if len(d.Blob) <= maxAtOnce {
			continue
		}
		const parts = maxAtOnce / partSize
		for first := 0; first*partSize < len(d.Blob); first += parts {
			if err := s.update(nil, func(state *bbolt.Bucket) error { return putParts(state, k, n, d.Blob, first, parts) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// update runs change and stores next, if not nil, in one transaction. The caller holds s.mu.
func (s *Store) update(next *head, change func(state *bbolt.Bucket) error) error {
	err := s.guard("commit", func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			state := tx.Bucket(stateBucket)
			if state == nil {
				return corrupt(s.path, "state", errors.New("the bucket is missing"))
			}
			if err := change(state); err != nil || next == nil {
				return err
			}
			return putHead(tx, next)
		})
	})
	if err != nil {
		return s.broken(err)
	}
	if next != nil {
		s.head.Store(next)
	}
	return nil
}

// broken is the end of the store: from here on it refuses all calls.
func (s *Store) broken(err error) error {
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("store: commit to %s: %w", s.path, err)
	}
	s.err = fmt.Errorf("%w (%w: open it again)", err, ErrClosed)
	return err
}

// Close frees the file for other processes. What was committed is durable without it. Closing twice is harmless.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	s.err = fmt.Errorf("store: %s: %w", s.path, ErrClosed)
	if err := s.release(); err != nil {
		return fmt.Errorf("store: close %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) release() error {
	db := s.db
	s.db = nil
	if s.hurt {
		// bbolt's locks may be held by the transaction that panicked, and its Close would wait for them. Closing the file frees
		// the lock; the mapping stays until the process ends.
		return s.file.Close()
	}
	return db.Close()
}

// guard turns what bbolt does on a file that changes under it, or that the disk cannot read any more, into an error: panics,
// and faults in the mapped memory, which would end the process otherwise. After one, bbolt is not touched again.
func (s *Store) guard(where string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(s.path, where, fmt.Errorf("reading it failed: %v", r))
			s.hurt = true
			s.err = err
		}
	}()
	return f()
}

func (s *Store) readHead() (*head, error) {
	const where = "checkpoint/last"
	var h *head
	err := s.guard(where, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b, err := get(tx, checkpointBucket, lastKey)
			if err == nil {
				h, err = decodeHead(b)
			}
			if err != nil {
				return corrupt(s.path, where, err)
			}
			return nil
		})
	})
	return h, err
}

func (cp *Checkpoint) check(last uint64) error {
	if cp.Seq <= last {
		return fmt.Errorf("checkpoint %d comes after %d: Seq must grow", cp.Seq, last)
	}
	for _, d := range cp.Deltas {
		if n := len(partKey(stateKey{d.Stage, d.Partition}, 0, 0)); n > bbolt.MaxKeySize {
			return fmt.Errorf("state of stage %.40q, partition %.40q: the names have %d bytes, at most %d are possible",
				d.Stage, d.Partition, n, bbolt.MaxKeySize)
		}
	}
	return nil
}

// get returns the payload of a record; it is valid until tx ends.
func get(tx *bbolt.Tx, bucket, key []byte) ([]byte, error) {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil, fmt.Errorf("the bucket %q is missing", bucket)
	}
	rec := b.Get(key)
	if rec == nil {
		return nil, errors.New("the record is missing")
	}
	return decodeRecord(bucket, key, rec)
}

func put(tx *bbolt.Tx, bucket, key, payload []byte) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("%w: the bucket %q is missing", ErrCorrupt, bucket)
	}
	return b.Put(key, encodeRecord(bucket, key, payload))
}

func putHead(tx *bbolt.Tx, h *head) error {
	payload, err := encodeHead(h)
	if err != nil {
		return err
	}
	return put(tx, checkpointBucket, lastKey, payload)
}

// corrupt says what is damaged, where, and what a person can do about it.
func corrupt(path, where string, err error) error {
	if errors.Is(err, ErrCorrupt) {
		return err
	}
	at := path
	if where != "" {
		at += ": " + where
	}
	return fmt.Errorf("store: %s: %w: %w. Restore %s from a copy, or delete the state folder %s to start anew: sinks that keep "+
		"positions of their own go on where they are and take no row twice, other sinks get rows again, "+
		"and what windows and dedupe remember is lost", at, ErrCorrupt, err, filepath.Base(path), filepath.Dir(path))
}
